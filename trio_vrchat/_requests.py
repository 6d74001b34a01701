"""What one client may say, and what comes of it: the order of the checks, the limits on rates, the rooms.

`Requests` decodes a message, checks it in the protocol's order (406, 403, 400, then what the request itself needs:
chapter 1), answers through the outbox, and hands room events to the rooms. Whatever a client sends ends in an answer;
nothing that it sends raises out of `begin` or `finish`. It knows neither sockets nor tasks; a room is all that it waits
for, and what looks at passwords. `begin` is all of nearly every message: what waits for something is its remainder.

Everything but a transform counts as an event, whatever becomes of it: a refusal costs the server as much as an effect.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from . import _messages as messages
from ._account_rules import ADMIN
from ._admin_requests import ADMIN_REQUESTS, Desk
from ._admission import Peer
from ._clock import WallClock
from ._codec import (
    ROOM_NAME_LIMIT,
    check_name,
    encode_answer,
    parse,
    read_clock,
    read_login,
    read_plain_transform,
    read_resume,
    read_room_message,
    read_system_request,
    read_transform,
)
from ._config import Config
from ._directory import LOBBY, Directory
from ._errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    InternalError,
    InvalidStructure,
    NotInRoom,
    RequestError,
    SlowDown,
    UnknownCommand,
)
from ._frames import text_frame
from ._history import Held
from ._login import Login
from ._members import Event, List, Resume, Say
from ._messages import RoomMessage, SystemRequest
from ._observer import Observation
from ._rate import ClientRates
from ._session import Link, Membership, Session, Sessions
from ._statistics import Statistics

_BEFORE_LOGIN = ("ping", "login", "resume")
# For a welcome to come out of a room and through to the client: a room that is stuck on a store, or a client that
# reads too slowly, has deadlines of its own.
_WELCOME_TIMEOUT_S = 10.0

_log = logging.getLogger("trio_vrchat.connection")
_room_log = logging.getLogger("trio_vrchat.room")


@attrs.define(eq=False)
class House:
    """What all connections of one server have in common."""

    config: Config
    clock: WallClock
    directory: Directory
    sessions: Sessions
    login: Login
    statistics: Statistics
    observation: Observation
    desk: Desk
    # The rooms that are open on any server, where servers share them.
    rooms_elsewhere: Callable[[], Awaitable[Sequence[str]]] | None = None


@attrs.frozen
class Remainder:
    """What a message still needs after `begin`, and must wait for; `tree` is the message."""

    tree: dict[str, Any]
    run: Callable[[], Awaitable[None]]


class Requests:
    """What one client asks for, from its connection to its end.

    `time_to_log_in` has the deadline for that, none once it is done; `drained` waits until little is left in the link's
    outbox; `refused` is called for each message over a rate, `dropped` for each transform, with its size; `talked` for
    what is no transform and keeps to them, with when it came.
    """

    def __init__(
        self,
        peer: Peer,
        link: Link,
        house: House,
        *,
        time_to_log_in: trio.CancelScope,
        drained: Callable[[], Awaitable[None]],
        refused: Callable[[], object],
        dropped: Callable[[int], object],
        talked: Callable[[float], object],
    ) -> None:
        self.session: Session | None = None
        self._peer = peer
        self._link = link
        self._outbox = link.outbox
        self._house = house
        self._directory = house.directory
        self._statistics = house.statistics
        self._clock = house.clock
        self._time_to_log_in = time_to_log_in
        self._drained = drained
        self._refused = refused
        self._dropped = dropped
        self._talked = talked
        self._rates = ClientRates(house.config, trio.current_time())

    @property
    def _taken_over(self) -> bool:
        return self.session is not None and self.session.link is not self._link

    def who(self) -> dict[str, Any]:
        """Peer and user, for a log line's `extra`."""
        return {"peer": self._peer.text, "user": self.session and self.session.user}

    def begin(self, message: bytes | None, now: float) -> Remainder | None:
        """Let one message have its effect, and answer it; returns what must wait for something.

        It is a text as UTF-8, or a binary one (None), and came at `now`, on trio's clock. `finish` MUST be called with
        the remainder before the next message begins.
        """
        session = self.session
        if message is None:
            self._refuse_binary(now)
            return None
        if session is not None:
            if session.link is not self._link:
                return None  # taken over
            if (transform := read_plain_transform(message)) is not None:
                room, data = transform
                membership = session.memberships.get(room)
                if membership is not None:
                    over_s = self._rates.count_bytes(len(message), now)
                    if over_s:
                        self._drop_transform(over_s, now, room, len(message))
                    else:
                        self._statistics.events_in += 1
                        membership.entrance.move(membership.member, self._clock.at(now), data)
                    return None
        text = message.decode()
        tree: dict[str, Any] = {}
        try:
            over_s = self._rates.count_bytes(len(message), now)
            try:
                tree = parse(text)
            except InvalidStructure:
                self._rates.count_event(over_s, now)
                raise
            if "system" not in tree and self.session is not None:
                run = self._room_message(text, len(message), over_s, now)
            else:
                self._rates.count_event(over_s, now)
                if self.session is None and tree.get("system") not in _BEFORE_LOGIN:
                    raise AccessDenied("not logged in")
                run = self._system_request(read_system_request(tree))
        except Exception as error:  # noqa: BLE001  (as in `finish`)
            self._answer_failure(error, tree)
            return None
        return None if run is None else Remainder(tree, run)

    async def finish(self, remainder: Remainder) -> None:
        """Wait for what a message needs, let it have its effect, and answer it."""
        if self._taken_over:
            return
        try:
            await remainder.run()
        except Exception as error:  # noqa: BLE001  (a bug of ours: the client is told, and goes on)
            self._answer_failure(error, remainder.tree)

    def _answer_failure(self, error: Exception, tree: dict[str, Any]) -> None:
        if not isinstance(error, RequestError):
            _log.error("%s: a message could not be handled", self._peer, exc_info=error, extra=self.who())
            error = InternalError()
        self._refuse(error, tree)

    def _refuse_binary(self, now: float) -> None:
        try:
            self._rates.count_event(0.0, now)
            raise InvalidStructure("a binary frame: messages are JSON in text frames")
        except RequestError as error:
            self._refuse(error, {})

    def _drop_transform(self, wait_s: float, now: float, room: str, size: int) -> None:
        """Drop a transform of so many bytes that is over a rate; the client is told unless it was lately."""
        self._dropped(size)
        try:
            self._rates.drop_transform(wait_s, now)
        except SlowDown as error:
            self._refuse(error, {"room": room})
        else:
            self._statistics.rate_limited += 1

    # Answers

    def _refuse(self, error: RequestError, tree: dict[str, Any]) -> None:
        room = tree.get("room")
        # Inside a system request, a room's name means nothing (protocol, chapter 1).
        if "system" not in tree and isinstance(room, str):
            error.detail["room"] = room
        if isinstance(error, SlowDown):
            # Not a line each: whoever sends too much would fill the log.
            _log.debug("%s: %s", self._peer, error, extra=self.who() | {"code": error.code})
            self._statistics.rate_limited += 1
            self._refused()
        else:
            _log.info("%s: %s", self._peer, error, extra=self.who() | {"code": error.code})
        self._answer((error.code, error.text), error.detail)

    def _answer(self, code_and_text: tuple[int, str], detail: dict[str, Any]) -> None:
        self._outbox.offer(text_frame(encode_answer(self._clock.now(), *code_and_text, detail)))

    # System requests

    def _system_request(self, request: SystemRequest) -> Callable[[], Awaitable[None]] | None:
        match request.system:
            case "ping":
                options = request.options
                self._answer(messages.PONG, {"echo": options["echo"]} if "echo" in options else {})
            case "login":
                return partial(self._login, request.options)
            case "resume":
                return partial(self._resume, request.options)
            case "rooms":
                if self._house.rooms_elsewhere is not None:
                    return partial(self._list_rooms, self._house.rooms_elsewhere)
                self._answer(messages.LISTING, self._directory.titles())
            case "clock":
                self._note_clock(request.options)
            case name if name in ADMIN_REQUESTS:
                assert self.session is not None  # (403 before the login)
                if not self.session.is_admin:
                    raise AccessDenied(f"{name} is for admins")
                return partial(self._administer, name, request.options)
            case _:
                raise UnknownCommand("no system request has that name")
        return None

    async def _list_rooms(self, elsewhere: Callable[[], Awaitable[Sequence[str]]]) -> None:
        titles = dict.fromkeys(await elsewhere(), "") | self._directory.titles()
        if not self._taken_over:
            self._answer(messages.LISTING, titles)

    async def _administer(self, name: str, options: dict[str, Any]) -> None:
        code_and_text, detail = await ADMIN_REQUESTS[name](self._house.desk, options)
        # Nobody who was taken over meanwhile is answered.
        if not self._taken_over:
            self._answer(code_and_text, detail)

    def _note_clock(self, options: dict[str, Any]) -> None:
        clock = read_clock(options)
        assert self.session is not None  # (403 before the login)
        if (observer := self._house.observation.observer) is not None:
            observer.clock_offset(self.session.user, clock["offset"], clock["bound"])
        self._answer(messages.OK, {})

    def _check_not_logged_in(self) -> None:
        if self.session is not None:
            raise Conflict("already logged in")

    async def _login(self, options: dict[str, Any]) -> None:
        asked = read_login(options)
        self._check_not_logged_in()
        # However long others' passwords take that come before this one, the client has done its part: what the server
        # takes is not counted, up to the same time again.
        asked_at, timeout_s = trio.current_time(), self._house.config.login_timeout_s
        self._time_to_log_in.deadline += timeout_s
        try:
            granted = await self._house.login.log_in(asked, self._peer, self._link)
        except Exception:
            self._time_to_log_in.deadline += trio.current_time() - asked_at - timeout_s
            raise
        # No checkpoint since the session was given to our link.
        self.session = session = granted.session
        self._time_to_log_in.deadline = math.inf
        self._statistics.logins += 1
        _log.info("%s: %s has logged in", self._peer, session.user, extra=self.who())
        self._answer(messages.ACCESS_GRANTED, self._session_detail() if granted.resumable else {})
        if granted.taken_over:
            self._statistics.takeovers += 1
            await self._come_back({})
        if LOBBY not in session.memberships:
            try:
                await self._join(LOBBY)
            except RequestError as error:
                error.detail["room"] = LOBBY
                raise

    async def _resume(self, options: dict[str, Any]) -> None:
        asked = read_resume(options)
        self._check_not_logged_in()
        self.session = session = await self._house.login.resume(asked["session"], self._link)
        self._time_to_log_in.deadline = math.inf
        self._statistics.resumes += 1
        _log.info("%s: %s has resumed", self._peer, session.user, extra=self.who())
        seen = asked.get("seen", {})
        held = {
            room: membership.entrance.hold_for(membership.member, seen.get(room))
            for room, membership in session.memberships.items()
        }
        complete = {room: each.complete for room, each in held.items()}
        self._answer(messages.ACCESS_GRANTED, self._session_detail() | {"complete": complete})
        entrances = {room: membership.entrance for room, membership in session.memberships.items()}
        try:
            await self._come_back(held)
        finally:
            for room, each in held.items():
                entrances[room].drop(each)

    def _session_detail(self) -> dict[str, Any]:
        assert self.session is not None
        role = {"role": ADMIN} if self.session.is_admin else {}
        return {
            "session": self.session.token,
            "grace_s": self._house.config.resume_grace_s,
            "user": self.session.user,
        } | role

    async def _come_back(self, held: dict[str, Held]) -> None:
        """Let the rooms of a session that was taken over or resumed send here, one after the other.

        Each welcome may be as large as a history: the next waits until the client has taken most of it.
        """
        assert self.session is not None
        for room, membership in list(self.session.memberships.items()):
            reached = trio.Event()

            def resumed(all_there: bool, reached: trio.Event = reached) -> None:
                reached.set()
                if not all_there:
                    # Of a room of which we said that nothing would be missing: the client's next try is told.
                    self._link.close(messages.TOO_SLOW, "too much was said meanwhile")

            await membership.entrance.send(Resume(membership.member, self._outbox, held.get(room), resumed))
            with trio.move_on_after(_WELCOME_TIMEOUT_S):
                await reached.wait()
                await self._drained()

    # Room messages

    def _room_message(self, text: str, size: int, over_s: float, now: float) -> Callable[[], Awaitable[None]] | None:
        assert self.session is not None
        try:
            message = read_room_message(text)
        except BadRequest:
            self._rates.count_event(over_s, now)
            raise
        if message.type == messages.TRANSFORM:
            self._transform(message, size, over_s, now)
            return None
        self._rates.count_event(over_s, now)
        self._talked(now)
        membership = self._membership(message)
        if _room_log.isEnabledFor(logging.DEBUG):
            _room_log.debug(
                "%s: a message to room %.70r", self._peer, message.room, extra=self.who() | {"room": message.room}
            )
        if message.type == messages.JOIN:
            if membership is not None:
                raise Conflict(f"already in room {message.room!r}")
            self._statistics.events_in += 1
            return partial(self._join, message.room)
        if membership is None:
            raise NotInRoom(f"not in room {message.room!r}")
        if message.type == messages.LEAVE:
            self._statistics.events_in += 1
            return partial(self.session.leave, message.room)
        event: Event
        if message.type == messages.LIST:
            event = List(membership.member)
        else:
            membership.entrance.count(len(message.data))
            event = Say(membership.member, message.type, bytes(message.data))
        self._statistics.events_in += 1
        if membership.entrance.offer(event):
            return None
        return partial(membership.entrance.send, event)

    def _membership(self, message: RoomMessage) -> Membership | None:
        """The user's place in that room. Raises BadRequest (400) where no room can have that name."""
        assert self.session is not None
        membership = self.session.memberships.get(message.room)
        if membership is None:
            check_name(message.room, ROOM_NAME_LIMIT, "room")
        return membership

    def _transform(self, message: RoomMessage, size: int, over_s: float, now: float) -> None:
        try:
            membership = self._membership(message)
            data = read_transform(message.data)
            if membership is None:
                raise NotInRoom(f"not in room {message.room!r}")
        except RequestError:
            # One that is refused is an event like any other: it has an answer.
            if wait_s := self._rates.event_wait_s(now):
                self._drop_transform(wait_s, now, message.room, size)
                return
            raise
        if over_s:
            self._drop_transform(over_s, now, message.room, size)
            return
        self._statistics.events_in += 1
        membership.entrance.move(membership.member, self._clock.at(now), data)

    async def _join(self, room: str) -> None:
        assert self.session is not None
        await self.session.join(room, self._directory, self._house.config.rooms_per_user)

    # The end

    async def end(self, *, lost: bool) -> None:
        """The connection has ended: the session goes on without it if its client may come back, or it ends.

        Does nothing the second time.
        """
        if self.session is not None:
            await self._house.sessions.let_go(self.session, self._link, lost=lost)
