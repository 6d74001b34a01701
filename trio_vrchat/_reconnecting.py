"""Being connected, and coming back: the task behind a client.

    connect ─▶ login ─▶ be connected ─▶ lost ─▶ pause ─▶ connect ─▶ resume, or login and joins ─▶ be connected …

- A lost connection is no end. The client comes back until it is closed, another connection of the same user takes its
  place (close code 4009), or the server refuses its login.
- It resumes: the server kept its place and goes on where it was. Where the server did not (403), the client logs in
  anew and joins the rooms it was in.
- One connection is over, and all that came over it was taken, before the next is begun: so nothing is heard twice or
  out of order.
- Callers wait until the way back is behind it, rooms included: what they ask cannot cross what is asked here.
- Pauses double and are random from nothing to their limit ("full jitter"), so that the people of a server that was
  restarted do not come back all at once. The random numbers are given: in virtual time every run is the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from ._background import open_background
from ._client_rooms import ClientRooms
from ._clock_report import report_clock
from ._conversation import Call, Conversation, Line, encoded
from ._errors import (
    CannotConnect,
    Conflict,
    ConnectionLost,
    InternalError,
    RequestError,
    SlowDown,
    Unavailable,
)
from ._event_queue import EventQueue
from ._events import Disconnected, Reconnected, Refused
from ._link import Link
from ._messages import JOIN, LEAVE

# Most lost connections are a Wi-Fi that changed its channel: half a second is short for a person and long for a server.
_FIRST_PAUSE_S = 0.5
# Well within the 30 s for which a server keeps a place. NATS waits 2 s always, Discord's clients a minute and more.
_LONGEST_PAUSE_S = 10.0
# A connection that held so long was a good one: the next pause is a first one again.
_STEADY_S = 10.0
# Dialing and handshake, 10 s each, and a server that hashes the passwords of everybody who comes back with us.
_ATTEMPT_TIMEOUT_S = 30.0
# The windows in which a server counts are a minute long: what asks for more is broken.
_LONGEST_RETRY_AFTER_S = 60.0

LOBBY = "lobby"
_NORMAL, _ABNORMAL, _REPLACED = 1000, 1006, 4009
# Refusals that say nothing about us: the same request may do later.
_NOT_NOW = (SlowDown, InternalError, Unavailable)


class Connecting:
    """Keeps one user connected to one server."""

    def __init__(
        self,
        user: str,
        password: str,
        open_link: Callable[[], AbstractAsyncContextManager[Link]],
        *,
        reconnect: bool,
        dice: random.Random,
        wall_clock: Callable[[], float],
        transforms: bool,
    ) -> None:
        self.events = EventQueue()
        self.rooms = ClientRooms(user, self.events.put, transforms=transforms)
        self.line = Line()
        self._login = {"user": user, "pass": password} | ({"resume": True} if reconnect else {})
        self._open_link = open_link
        self._reconnect = reconnect
        self._dice = dice
        self._wall_clock = wall_clock
        self._longest_pause_s = _FIRST_PAUSE_S
        self._session: str | None = None
        # Whether a login was ever granted; whether the last thing that the program was told is that we are connected.
        self._known = False
        self._told_connected = False
        # Where the server has us, as its last 202 says, and the lists of those rooms that are still to come.
        self._inside: set[str] = set()
        self._lists: list[Call] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, and be connected as long as it can be. `started` once this user is in the lobby.

        Until then raises CannotConnect, RequestError (the login was refused) or ConnectionLost, afterwards nothing.
        """
        lost = ConnectionLost(_NORMAL, "closed by this client")
        try:
            was_lost = await self._be_connected(task_status.started)
            while self._reconnect and was_lost.code != _REPLACED:
                was_lost = await self._come_back(was_lost)
            lost = was_lost
        except _NoWayBack as refused:
            lost = refused.lost
        finally:
            self.line.end(lost)
            self.events.end(lost)

    async def _come_back(self, lost: ConnectionLost) -> ConnectionLost:
        """Try until we are connected again; returns how that connection was lost. Raises _NoWayBack."""
        retry_after_s = 0.0
        while True:
            if self._told_connected:
                self._told_connected = False
                self.events.put(Disconnected(lost.code))
            await trio.sleep(retry_after_s + self._pause_s())
            retry_after_s = 0.0
            try:
                return await self._be_connected()
            except CannotConnect as error:
                lost = ConnectionLost(_ABNORMAL, str(error))
            except ConnectionLost as error:
                lost = error
                if lost.code == _REPLACED:
                    return lost
            except _NOT_NOW as error:
                retry_after_s = pause_asked_for_s(error)
            except RequestError as error:
                raise _NoWayBack(lost, error) from error

    def _pause_s(self) -> float:
        pause_s = self._dice.random() * self._longest_pause_s
        self._longest_pause_s = min(_LONGEST_PAUSE_S, self._longest_pause_s * 2)
        return pause_s

    async def _be_connected(self, connected: Callable[[], None] = lambda: None) -> ConnectionLost:
        """One connection, from dialing to its loss; returns how it was lost. Raises what kept us from getting in."""
        with trio.move_on_after(_ATTEMPT_TIMEOUT_S) as attempt:
            async with self._open_link() as link, open_background() as nursery:
                conversation = Conversation(link, self.rooms, self.events)
                nursery.start_soon(conversation.read, name=f"reader of {self.rooms.user}")
                await self._get_in(conversation)
                attempt.deadline = math.inf
                self.line.open(conversation)
                connected()
                nursery.start_soon(report_clock, conversation, self._wall_clock)
                since = trio.current_time()
                lost = await conversation.end()
                if trio.current_time() - since >= _STEADY_S:
                    self._longest_pause_s = _FIRST_PAUSE_S
                return lost
        raise CannotConnect(f"the server did not let {self.rooms.user!r} in within {_ATTEMPT_TIMEOUT_S:g} s")

    async def _get_in(self, conversation: Conversation) -> None:
        """Resume or log in, and be in the rooms that we were in, and in no others."""
        await self._be_granted_access(conversation)
        for call in self._lists:
            await call.wait()
        wanted = set(self.rooms.names())
        # Sorted, so that every run is the same.
        for room in sorted(self._inside - wanted):
            await conversation.send(encoded({"room": room, "type": LEAVE, "data": ""}))
            self.rooms.forget(room)
        for room in sorted(wanted - self._inside):
            await self._join_again(conversation, room)

    async def _be_granted_access(self, conversation: Conversation) -> None:
        granted = partial(self._granted, conversation)
        if self._session is not None:
            options = {"session": self._session, "seen": self.rooms.seen()}
            try:
                await conversation.system("resume", options, granted)
            except _NOT_NOW:
                raise
            except RequestError:
                # Too late, or the server was restarted.
                self._session = None
            else:
                return
        await conversation.system("login", self._login, granted)

    def _granted(self, conversation: Conversation, response: dict[str, Any]) -> None:
        # Before the first list is looked at: this says what it means.
        detail = response["detail"]
        kept = "complete" in detail
        complete: dict[str, bool] = detail.get("complete", {LOBBY: False})
        self._session = detail.get("session")
        self._inside = set(complete)
        self._lists = [conversation.expect(room) for room in complete]
        self.rooms.be_called(detail.get("user", self._login["user"]))
        if self._known:
            wanted = self.rooms.names()
            self.rooms.come_back(response["time"], kept=kept, unwanted=self._inside.difference(wanted))
            self.events.put(Reconnected({room: complete.get(room, False) for room in wanted}))
        self._known = self._told_connected = True

    async def _join_again(self, conversation: Conversation, room: str) -> None:
        while True:
            try:
                await conversation.ask(room, JOIN)
            except (SlowDown, Unavailable) as error:
                await trio.sleep(pause_asked_for_s(error))
                continue
            except Conflict:
                pass  # our place was kept after all: the list came, or comes, unasked
            except RequestError as error:
                self.rooms.forget(room)
                self.events.put(Refused(error))
            return


class _NoWayBack(Exception):
    """The server has refused the login of a client that was connected before."""

    def __init__(self, lost: ConnectionLost, refusal: RequestError) -> None:
        super().__init__(lost, refusal)
        self.lost = ConnectionLost(lost.code, f"and on the way back the login was refused: {refusal}")
        self.lost.__cause__ = refusal


def pause_asked_for_s(error: RequestError) -> float:
    """How long the server asks to wait, within reason."""
    retry_after_s = error.detail.get("retry_after", 0.0)
    return min(float(retry_after_s), _LONGEST_RETRY_AFTER_S)
