"""What one client may say, and what comes of it: the login, the rooms it is in, the order of the checks.

`Requests` decodes a message, checks it in the protocol's order (406, 403, 400, then what the request itself needs:
chapter 1), answers through the outbox, and hands room events to the rooms. Whatever a client sends ends in an answer;
nothing that it sends raises out of `handle`. It knows neither sockets nor tasks; a room is all that it waits for.
"""

from __future__ import annotations

import logging
from typing import Any

import attrs

from . import _messages as messages
from ._clock import WallClock
from ._codec import (
    ROOM_NAME_LIMIT,
    check_name,
    encode_answer,
    parse,
    read_login,
    read_room_message,
    read_system_request,
    read_transform,
)
from ._config import Config
from ._directory import LOBBY, Directory, Entrance
from ._errors import AccessDenied, Conflict, InternalError, NotInRoom, RequestError, TooMuch, UnknownCommand
from ._frames import text_frame
from ._messages import RoomMessage, SystemRequest
from ._outbox import Outbox
from ._presence import Join, List, Member, Say
from ._statistics import Statistics

_BEFORE_LOGIN = ("ping", "login")

_log = logging.getLogger("trio_vrchat.connection")
_room_log = logging.getLogger("trio_vrchat.room")


@attrs.define(eq=False)
class _Membership:
    member: Member
    entrance: Entrance


@attrs.define(eq=False)
class Requests:
    """The state of one client, from its connection to its end."""

    peer: str
    outbox: Outbox
    config: Config
    clock: WallClock
    directory: Directory
    # The names of everybody who is logged in to the server; a session puts its own in and takes it out.
    users: set[str]
    statistics: Statistics
    user: str | None = None
    _memberships: dict[str, _Membership] = attrs.field(init=False, factory=dict)
    _ended: bool = attrs.field(init=False, default=False)

    async def handle(self, text: str) -> None:
        """Let one text message have its effect, and answer it."""
        tree: dict[str, Any] = {}
        try:
            tree = parse(text)
            if self.user is None and tree.get("system") not in _BEFORE_LOGIN:
                raise AccessDenied("not logged in")
            if "system" in tree:
                await self._system_request(read_system_request(tree))
            else:
                await self._room_message(read_room_message(text))
        except RequestError as error:
            self._refuse(error, tree)
        except Exception:  # noqa: BLE001  (a bug of ours must not end the connection; the log has it)
            _log.exception("%s: a message could not be handled", self.peer, extra=self.who())
            self._refuse(InternalError(), tree)

    def refuse(self, error: RequestError) -> None:
        """Answer what was no text message."""
        self._refuse(error, {})

    def _refuse(self, error: RequestError, tree: dict[str, Any]) -> None:
        room = tree.get("room")
        if "system" not in tree and isinstance(room, str):
            error.detail["room"] = room
        _log.info("%s: %s", self.peer, error, extra=self.who() | {"code": error.code})
        self._answer((error.code, error.text), error.detail)

    def _answer(self, code_and_text: tuple[int, str], detail: dict[str, Any]) -> None:
        self.outbox.offer(text_frame(encode_answer(self.clock.now(), *code_and_text, detail)))

    def who(self) -> dict[str, Any]:
        """Peer and user, for a log line's `extra`."""
        return {"peer": self.peer, "user": self.user}

    # System requests

    async def _system_request(self, request: SystemRequest) -> None:
        match request.system:
            case "ping":
                self._answer(messages.PONG, {})
            case "login":
                await self._login(request.options)
            case "rooms":
                self._answer(messages.LISTING, self.directory.titles())
            case _:
                raise UnknownCommand("no system request has that name")

    async def _login(self, options: dict[str, Any]) -> None:
        user, _password = read_login(options)
        if self.user is not None:
            raise Conflict("already logged in")
        if user in self.users:
            raise Conflict(f"the name {user!r} is taken")
        self.users.add(user)
        self.user = user
        self.statistics.logins += 1
        _log.info("%s: %s has logged in", self.peer, user, extra=self.who())
        self._answer(messages.ACCESS_GRANTED, {})
        await self._join(LOBBY)

    # Room messages

    async def _room_message(self, message: RoomMessage) -> None:
        name = message.room
        membership = self._memberships.get(name)
        if membership is None:
            check_name(name, ROOM_NAME_LIMIT, "room")
        if message.type == messages.TRANSFORM:
            data = read_transform(bytes(message.data))
            if membership is not None:
                self.statistics.events_in += 1
                membership.entrance.move(membership.member, self.clock.now(), data)
                return
        _room_log.debug("%s: a message to room %.70r", self.peer, name, extra=self.who() | {"room": name})
        if message.type == messages.JOIN:
            if membership is not None:
                raise Conflict("already in that room")
            if len(self._memberships) >= self.config.rooms_per_user:
                limit = self.config.rooms_per_user
                raise TooMuch(f"in {limit} rooms already", limit="rooms_per_user", value=limit)
            self.statistics.events_in += 1
            await self._join(name)
            return
        if membership is None:
            raise NotInRoom(f"not in room {name!r}")
        self.statistics.events_in += 1
        if message.type == messages.LEAVE:
            await self._leave(name)
        elif message.type == messages.LIST:
            await membership.entrance.send(List(membership.member))
        else:
            await membership.entrance.send(Say(membership.member, message.type, bytes(message.data)))

    async def _join(self, name: str) -> None:
        assert self.user is not None
        member = Member(self.user, self.outbox)
        # Noted before the room is told: if the connection ends while it waits, the leave still follows.
        self._memberships[name] = membership = _Membership(member, self.directory.enter(name))
        _room_log.info("%s: %s joins %r", self.peer, self.user, name, extra=self.who() | {"room": name})
        await membership.entrance.send(Join(member))

    async def _leave(self, name: str) -> None:
        membership = self._memberships.pop(name)
        _room_log.info("%s: %s leaves %r", self.peer, self.user, name, extra=self.who() | {"room": name})
        await membership.entrance.leave(membership.member)

    async def end(self) -> None:
        """Leave all rooms and give the name back, in this order: whoever takes the name next joins after our leave.

        Does nothing the second time.
        """
        while self._memberships:
            await self._leave(next(iter(self._memberships)))
        if self.user is not None and not self._ended:
            self.users.discard(self.user)
        self._ended = True
