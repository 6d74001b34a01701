"""A client for bots and tests: what it asks, what it is answered, what it hears.

One task reads: it answers the calls that wait and puts events into a bounded queue, so that a bot which never looks at
its events neither grows nor stands still. Calls that the protocol answers wait for the answer; `say`, `move` and
`leave` do not, because the protocol does not answer them.

The protocol has no numbers for requests. System requests are answered in the order in which they were made; a join is
answered by a message of that room that lists this user, or by an error that names the room.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from typing import Any

import attrs
import msgspec
import trio
import trio_websocket

from ._errors import (
    ERROR_BY_CODE,
    ConnectionLost,
    InternalError,
    InvalidStructure,
    NotInRoom,
)
from ._events import Event, Joined, Left, Missed, Moved, Refused, Said, Transform, Vector
from ._messages import JOIN, LEAVE, LIST, MESSAGE, TRANSFORM

# Some seconds of a large, lively room.
_EVENTS_LIMIT = 4096
# As long as the server waits for us.
_SEND_TIMEOUT_S = 5.0
_ABNORMAL = 1006


class _Call:
    """A request that waits for its answer. One that was cancelled stays in its queue, and takes its answer along."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._done = trio.Event()
        self._result: Any = None
        self._error: Exception | None = None

    def answer(self, result: Any) -> None:
        self._result = result
        self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    async def wait(self) -> Any:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Client:
    """A user who is logged in. Made by `open_client`.

    Every method raises ConnectionLost once the connection has ended. An answer that is an error is raised as the
    RequestError class of its code; what JSON cannot say (NaN, an object of your own, half a surrogate pair) is a
    ValueError or TypeError, and nothing is sent. `say`, `move`, `leave` and `members` look up for themselves whether
    this user is in the room.

    A call may be cancelled; a request that is on its way is sent to its end first. Where the server takes nothing for
    five seconds, the connection is lost.
    """

    def __init__(self, user: str, websocket: trio_websocket.WebSocketConnection) -> None:
        self.user = user
        self._websocket = websocket
        # System requests, and joins and lists by room, each in the order in which they were sent.
        self._calls: deque[_Call] = deque()
        self._room_calls: defaultdict[str, deque[_Call]] = defaultdict(deque)
        # The rooms that this user is in, and since when.
        self._joined_at: dict[str, float] = {}
        self._events: deque[Event] = deque()
        self._missed = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._lost: ConnectionLost | None = None

    # For `open_client`

    async def log_in(self, password: str) -> None:
        """Log in, and wait until the lobby has shown itself. Raises AccessDenied, BadRequest or Conflict."""
        lobby = _Call(JOIN)
        self._room_calls["lobby"].append(lobby)
        await self._system("login", {"user": self.user, "pass": password})
        await lobby.wait()

    async def read(self) -> None:
        """Take messages until the connection ends. A task of its own."""
        while True:
            try:
                text = await self._websocket.get_message()
            except trio_websocket.ConnectionClosed:
                self._lose()
                return
            message = msgspec.json.decode(text)
            if message["info"] == "user":
                self._take_payload(message["room"], message["payload"])
            else:
                self._take_response(message["info"], message["response"])

    # System requests

    async def ping(self) -> float:
        """Ask for a sign of life; returns the server's time, in seconds since the Unix epoch."""
        return float((await self._system("ping"))["time"])

    async def rooms(self) -> dict[str, str]:
        """The open rooms' names, and the title of each ("" where it has none)."""
        detail: dict[str, str] = (await self._system("rooms"))["detail"]
        return detail

    async def _system(self, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        text = _encoded({"system": name} | ({"options": options} if options else {}))
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(name)
        self._calls.append(call)
        await self._send(text)
        response: dict[str, Any] = await call.wait()
        return response

    # Rooms

    async def join(self, room: str) -> tuple[str, ...]:
        """Join a room; returns the names of its members, this user's included, sorted without regard to case.

        Raises Conflict (already in it), BadRequest (not a name for a room), TooMuch (a limit).
        """
        if not isinstance(room, str):
            raise TypeError(f"a room is named by a str, not {room!r}")
        return await self._ask(room, JOIN)

    async def members(self, room: str) -> tuple[str, ...]:
        """The names of a room's members, sorted without regard to case. Raises NotInRoom."""
        self._check_joined(room)
        return await self._ask(room, LIST)

    async def _ask(self, room: str, kind: str) -> tuple[str, ...]:
        text = _encoded({"room": room, "type": kind, "data": ""})
        await trio.lowlevel.checkpoint_if_cancelled()
        call = _Call(kind)
        self._room_calls[room].append(call)
        await self._send(text)
        names: tuple[str, ...] = await call.wait()
        return names

    async def leave(self, room: str) -> None:
        """Leave a room; no event of it comes after this. Raises NotInRoom."""
        self._check_joined(room)
        text = _encoded({"room": room, "type": LEAVE, "data": ""})
        await trio.lowlevel.checkpoint_if_cancelled()
        del self._joined_at[room]
        await self._send(text)

    async def say(self, room: str, data: Any, type: str = MESSAGE) -> None:  # noqa: A002  (the protocol's word)
        """Say something in a room, or send an application's own event by its `type`. Raises NotInRoom.

        It comes back as a Said event like everybody's: that is the acknowledgement.
        """
        if type in (JOIN, LEAVE, LIST, TRANSFORM):
            raise ValueError(f"{type!r} is not something to say: use the method for it")
        self._check_joined(room)
        text = _encoded({"room": room, "type": type, "data": data})
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._send(text)

    async def move(self, room: str, transform: Transform) -> None:
        """Be at `transform` in this room. It goes out with the next batch. Raises NotInRoom."""
        self._check_joined(room)
        coordinates = (*attrs.astuple(transform.pos), *attrs.astuple(transform.rot))
        if not all(isinstance(coordinate, int | float) for coordinate in coordinates):
            raise TypeError(f"coordinates are numbers, not {coordinates!r}")
        data = transform.more | {"pos": attrs.asdict(transform.pos), "rot": attrs.asdict(transform.rot)}
        text = _encoded({"room": room, "type": TRANSFORM, "data": data})
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._send(text)

    def _check_joined(self, room: str) -> None:
        if room not in self._joined_at:
            raise NotInRoom(f"not in room {room!r}: join it first", room=room)

    async def _send(self, text: str) -> None:
        if self._lost is not None:
            raise self._lost
        # Whatever is cancelled: of half a message the server could not read on.
        with trio.move_on_after(_SEND_TIMEOUT_S, shield=True) as sending:
            try:
                await self._websocket.send_message(text)
            except trio_websocket.ConnectionClosed:
                raise self._lose() from None
        if sending.cancelled_caught:
            raise self._lose()

    # Events

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ConnectionLost when the connection has ended and all events were taken."""
        while not self._events and not self._missed:
            if self._lost is not None:
                raise self._lost
            await self._changed.park()
        if self._missed:
            missed, self._missed = self._missed, 0
            return Missed(missed)
        await trio.lowlevel.checkpoint()
        return self._events.popleft()

    def _lose(self) -> ConnectionLost:
        if self._lost is None:
            closed = self._websocket.closed
            self._lost = ConnectionLost(closed.code if closed else _ABNORMAL, (closed and closed.reason) or "")
            for calls in (self._calls, *self._room_calls.values()):
                for call in calls:
                    call.fail(self._lost)
                calls.clear()
            self._changed.unpark_all()
        return self._lost

    def _take_response(self, info: str, response: dict[str, Any]) -> None:
        if info == "system":
            if self._calls:
                self._calls.popleft().answer(response)
            return
        detail = dict(response["detail"])
        error = ERROR_BY_CODE.get(response["code"], InternalError)(detail.pop("reason", ""))
        error.detail |= detail
        calls = self._room_calls.get(detail.get("room", ""))
        if calls:
            calls.popleft().fail(error)
            if not calls:
                del self._room_calls[detail["room"]]
        elif self._calls and "room" not in detail and not isinstance(error, InvalidStructure):
            self._calls.popleft().fail(error)
        else:
            self._put(Refused(error))

    def _take_payload(self, name: str, payload: list[dict[str, Any]]) -> None:
        own_join = next((entry for entry in payload if entry["type"] == JOIN and entry["user"] == self.user), None)
        if own_join is not None:
            # Only a list shows us ourselves: the answer to the oldest join or list of this room.
            calls = self._room_calls[name]
            call = calls.popleft() if calls else None
            if call is not None and call.kind == JOIN:
                self._joined_at[name] = own_join["time"]
            if call is not None:
                call.answer(tuple(entry["user"] for entry in payload))
            if not calls:
                del self._room_calls[name]
            return
        joined_at = self._joined_at.get(name)
        if joined_at is None:
            return  # said before the room's task had our leave
        for entry in payload:
            self._put(_event(name, entry, joined_at))

    def _put(self, event: Event) -> None:
        if len(self._events) >= _EVENTS_LIMIT:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self._changed.unpark_all()


def _encoded(message: dict[str, Any]) -> str:
    # Before anything is sent or waited for: what cannot be said is the caller's error, and no loss.
    text = json.dumps(message, allow_nan=False, ensure_ascii=False)
    text.encode()
    return text


def _event(room: str, entry: dict[str, Any], joined_at: float) -> Event:
    user, time, kind, data = entry["user"], entry["time"], entry["type"], entry["data"]
    match kind:
        case "join":
            return Joined(room, user, time)
        case "leave":
            return Left(room, user, time)
        case "transform":
            more = dict(data)
            pos, rot = more.pop("pos"), more.pop("rot")
            return Moved(room, user, time, Transform(_vector(pos), _vector(rot), more))
    return Said(room, user, time, kind, data, from_history=time < joined_at)


def _vector(coordinates: dict[str, float]) -> Vector:
    return Vector(coordinates["x"], coordinates["y"], coordinates["z"])
