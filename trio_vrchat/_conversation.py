"""Requests and answers over one connection of a client.

The protocol has no numbers for requests. System requests are answered in the order in which they were made; a join is
answered by a message of that room that lists this user, or by an error that names the room. So calls wait in queues,
and one that was cancelled stays in its queue and takes its answer along.

A conversation ends with its connection: whatever waits for an answer then will never know.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from ._client_rooms import ClientRooms, Entry
from ._errors import ERROR_BY_CODE, Conflict, ConnectionLost, InternalError, InvalidStructure, RequestError
from ._event_queue import EventQueue
from ._events import Refused
from ._link import Link
from ._messages import JOIN


class Call:
    """A request that waits for its answer. `at_once` sees the answer before the next message is looked at."""

    def __init__(self, kind: str, at_once: Callable[[Any], None] | None = None) -> None:
        self.kind = kind
        self._at_once = at_once
        self._done = trio.Event()
        self._result: Any = None
        self._error: Exception | None = None

    def answer(self, result: Any) -> None:
        """The server has answered."""
        self._result = result
        if self._at_once is not None:
            self._at_once(result)
        self._done.set()

    def fail(self, error: Exception) -> None:
        """The server has refused, or will not answer."""
        self._error = error
        self._done.set()

    async def wait(self) -> Any:
        """The answer. Raises what the call failed with."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Conversation:
    """What is asked and answered, and heard, over one link."""

    def __init__(self, link: Link, rooms: ClientRooms, events: EventQueue) -> None:
        self._link = link
        self._rooms = rooms
        self._events = events
        # System requests, and joins and lists by room, each in the order in which they were sent.
        self._calls: deque[Call] = deque()
        self._room_calls: defaultdict[str, deque[Call]] = defaultdict(deque)
        self._lost: ConnectionLost | None = None
        self._ended = trio.Event()

    @property
    def alive(self) -> bool:
        """Whether there is any use in asking."""
        return self._lost is None and self._link.alive

    async def read(self) -> None:
        """Take messages until the connection ends. A task of its own."""
        try:
            while True:
                data = (await self._link.receive()).encode()
                message = msgspec.json.decode(data)
                if message["info"] == "user":
                    self._take_payload(message["room"], message["payload"], len(data))
                else:
                    self._take_response(message["info"], message["response"])
        except ConnectionLost as lost:
            self._lost = lost
            for calls in (self._calls, *self._room_calls.values()):
                for call in calls:
                    call.fail(lost)
                calls.clear()
            self._ended.set()

    async def end(self) -> ConnectionLost:
        """Wait until the connection has ended and everything that came over it was taken; returns how it ended."""
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    # Asking

    async def system(
        self, name: str, options: dict[str, Any] | None = None, at_once: Callable[[Any], None] | None = None
    ) -> dict[str, Any]:
        """The `response` to a system request. Raises RequestError or ConnectionLost."""
        text = encoded({"system": name} | ({"options": options} if options else {}))
        call = Call(name, at_once)
        self._add(self._calls, call)
        await self._link.send(text)
        response: dict[str, Any] = await call.wait()
        return response

    async def ask(self, room: str, kind: str) -> tuple[str, ...]:
        """Join a room or ask for its list: the names of its members. Raises RequestError or ConnectionLost."""
        text = encoded({"room": room, "type": kind, "data": ""})
        call = self.expect(room, kind)
        await self._link.send(text)
        names: tuple[str, ...] = await call.wait()
        return names

    def expect(self, room: str, kind: str = JOIN) -> Call:
        """The next list of this room is the answer to this call."""
        call = Call(kind)
        self._add(self._room_calls[room], call)
        return call

    def _add(self, calls: deque[Call], call: Call) -> None:
        if self._lost is not None:
            call.fail(self._lost)
        else:
            calls.append(call)

    async def tell(self, room: str, kind: str) -> None:
        """Ask for what the server answers only where it refuses it; returns when it has taken it.

        Raises RequestError or ConnectionLost. It may be the refusal of something that was said in that room before.
        """
        call = self.expect(room, kind)
        await self._link.send(encoded({"room": room, "type": kind, "data": ""}))
        # Whatever the answer to this is, that to the one before would have come first.
        with contextlib.suppress(RequestError):
            await self.system("ping")
        calls = self._room_calls.get(room)
        if calls is None or call not in calls:
            await call.wait()
            return
        calls.remove(call)
        if not calls:
            del self._room_calls[room]

    async def send(self, text: str) -> None:
        """Say what the protocol does not answer. Raises ConnectionLost."""
        await self._link.send(text)

    # Being answered

    def _take_response(self, info: str, response: dict[str, Any]) -> None:
        if info == "system":
            if self._calls:
                self._calls.popleft().answer(response)
            return
        detail = dict(response["detail"])
        error = ERROR_BY_CODE.get(response["code"], InternalError)(detail.pop("reason", ""))
        error.detail |= detail
        room = detail.get("room")
        calls = self._room_calls.get(room) if room is not None else None
        if calls:
            calls.popleft().fail(error)
            if not calls:
                del self._room_calls[detail["room"]]
        elif self._calls and room is None and not isinstance(error, InvalidStructure):
            self._calls.popleft().fail(error)
        elif not isinstance(error, Conflict):
            self._events.put(Refused(error))
        # Else a join has crossed the list of a room that the server had us in: the list was its answer.

    def _take_payload(self, name: str, entries: list[Entry], size_bytes: int) -> None:
        own_join = self._rooms.own_join(entries)
        if own_join is None:
            self._rooms.heard(name, entries, size_bytes)
            return
        # The answer to the oldest join or list of this room; where nobody asked, the server has us in it already.
        calls = self._room_calls.get(name)
        call = calls.popleft() if calls else None
        if call is None or call.kind == JOIN:
            self._rooms.welcomed(name, own_join, entries)
        if call is not None:
            call.answer(tuple(entry["user"] for entry in entries))
        if not calls:
            self._room_calls.pop(name, None)


class Line:
    """The conversation under way, or the wait for the next one."""

    def __init__(self) -> None:
        self._conversation: Conversation | None = None
        self._end: ConnectionLost | None = None
        self._changed = trio.lowlevel.ParkingLot()

    async def conversation(self) -> Conversation:
        """The conversation under way; waits until there is one. Raises ConnectionLost when there will be none.

        A caller that is cancelled asks nothing: there is no checkpoint between this and the first byte of its request.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._conversation is None or not self._conversation.alive:
            if self._end is not None:
                raise self._end
            await self._changed.park()
        return self._conversation

    def open(self, conversation: Conversation) -> None:
        """From now on this one is under way; when it is no longer alive, everybody waits for the next."""
        self._conversation = conversation
        self._changed.unpark_all()

    def end(self, error: ConnectionLost) -> None:
        """There will be no more."""
        self._end = error
        self._conversation = None
        self._changed.unpark_all()


def encoded(message: dict[str, Any]) -> str:
    """A message as JSON. Raises ValueError or TypeError, before anything is sent or waited for."""
    text = json.dumps(message, allow_nan=False, ensure_ascii=False)
    text.encode()
    return text
