"""A user's stay on the server, from the login to the last leave. It outlives the connections that speak for it.

- A name is one user's: names are compared by their keys, and a name that looks like one in use is refused.
- A session has at most one *link*: the connection that speaks for it now. A new one takes the session over (the same
  user logs in again) or resumes it (its client has the session's token); the one before is closed with 4009. The rooms
  keep the member, and nobody sees a leave or a join.
- A session that can be resumed stays for the grace period when its link is lost. Then it ends as if its user had left.
- A session ends once: its leaves go out first, then the name is free. Who wants the name meanwhile waits for that:
  whoever takes a name next joins after its leave.

State changes are synchronous. Only leaves wait, for the rooms they are sent to.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import random
import secrets
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from ._account_rules import ADMIN, Standing
from ._admission import Peer
from ._config import Config
from ._directory import Directory, Entrance
from ._errors import Conflict, TooMuch
from ._members import Member
from ._messages import TAKEN_OVER
from ._names import are_look_alikes, name_key, skeleton
from ._outbox import Outbox
from ._statistics import Statistics

_SALT_BYTES = 16
# Who has come back on another server joins its rooms there before leaving them here: so nobody sees anything of it.
_MOVE_S = 0.5

_log = logging.getLogger("trio_vrchat.connection")
_room_log = logging.getLogger("trio_vrchat.room")


class Link(Protocol):
    """The connection that speaks for a session, as far as the session knows it."""

    @property
    def number(self) -> int:
        """Greater than that of each connection before it."""
        ...

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        ...

    @property
    def outbox(self) -> Outbox:
        """What goes to the client."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection with this close code. Does not wait."""


@attrs.define(eq=False)
class Membership:
    """A session's place in one room."""

    member: Member
    entrance: Entrance


class Verifier:
    """Whether a password is the one it was made from. For names that are held, in memory only: fast, and salted."""

    __slots__ = ("_digest", "_salt")

    def __init__(self, password: str) -> None:
        self._salt = secrets.token_bytes(_SALT_BYTES)
        self._digest = self._of(password)

    @classmethod
    def from_text(cls, text: str) -> Verifier:
        """What `text` made, on whichever server. Raises ValueError."""
        verifier = cls("")
        both = bytes.fromhex(text)
        verifier._salt, verifier._digest = both[:_SALT_BYTES], both[_SALT_BYTES:]
        return verifier

    def text(self) -> str:
        """For other servers: who can read it can try passwords on it, fast."""
        return (self._salt + self._digest).hex()

    def _of(self, password: str) -> bytes:
        # (A password from JSON can hold no lone surrogate: 406.)
        return hashlib.blake2b(password.encode(), salt=self._salt).digest()

    def accepts(self, password: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._digest, self._of(password))


class Names(Protocol):
    """What keeps names for all servers that share rooms."""

    async def claim(self, user: str, secret: str, accepts: Callable[[str], bool]) -> object | None:
        """A lease of this name, taken from a session on another server where `accepts` says so to its secret.

        None where it does not. Raises Conflict (409) where the name looks like another's, Unavailable (503).
        """
        ...

    def release(self, lease: object) -> None:
        """Give a lease back. Does not wait."""


@attrs.define(eq=False)
class Session:
    """One user's stay. Made and ended by `Sessions`."""

    user: str
    key: str
    verifier: Verifier | None
    link: Link | None
    # Of the newest link that it has had.
    link_number: int = attrs.field(init=False)
    # What resumes it; None where its client did not ask for that.
    token: str | None = None
    # Its name, where that is kept for several servers; None once somebody else has it.
    lease: object | None = None
    # Whether the name is somebody else's now.
    lost: bool = False
    # Whether its client is to be told when the engine of shared rooms goes, and comes back.
    notices: bool = False
    memberships: dict[str, Membership] = attrs.field(init=False, factory=dict)
    # Of the account that it stands on, where there are accounts.
    standing: Standing | None = attrs.field(init=False, default=None)
    ending: bool = attrs.field(init=False, default=False)
    ended: trio.Event = attrs.field(init=False, factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        assert self.link is not None
        self.link_number = self.link.number

    @property
    def is_admin(self) -> bool:
        """Whether the account that it stands on is an admin's."""
        return self.standing is not None and self.standing.role == ADMIN

    def set_notices(self, notices: bool) -> None:
        """Whether its client is to be told of the engine, from now on."""
        self.notices = notices
        for membership in self.memberships.values():
            membership.member.notices = notices

    def who(self) -> dict[str, str | None]:
        """User and peer, for a log line's `extra`."""
        return {"user": self.user, "peer": self.link.peer.text if self.link is not None else None}

    async def join(self, room: str, directory: Directory, rooms_limit: int) -> None:
        """Become a member of a room. Raises TooMuch (413) and Unavailable (503)."""
        assert self.link is not None
        if rooms_limit and len(self.memberships) >= rooms_limit:
            raise TooMuch(f"in {rooms_limit} rooms already", limit="rooms_per_user", value=rooms_limit)
        member = Member(self.user, self.link.outbox, notices=self.notices)
        membership = Membership(member, directory.enter(room))

        def refused() -> None:
            if self.memberships.get(room) is membership:
                del self.memberships[room]
                membership.entrance.give_back()

        # Noted before the room is told: if the connection ends while it waits, the leave still follows.
        self.memberships[room] = membership
        _room_log.info("%s joins %r", self.user, room, extra=self.who() | {"room": room})
        await membership.entrance.join(member, refused)

    async def leave(self, room: str) -> None:
        """Leave a room that the user is in, whatever is being cancelled."""
        membership = self.memberships.pop(room)
        _room_log.info("%s leaves %r", self.user, room, extra=self.who() | {"room": room})
        # No checkpoint before the leave is in the room's channel, or in line for it: whoever joins under this name
        # from now on comes after it.
        await membership.entrance.leave(membership.member)


class Sessions:
    """The sessions of one server, by name and by token."""

    def __init__(self, config: Config, statistics: Statistics, names: Names | None = None) -> None:
        self.names = names
        # Of each name that is being claimed, what is set when it was.
        self._claims: dict[str, trio.Event] = {}
        # Those who have lost their names, until they are ended.
        self._lost: list[Session] = []
        self._grace_s = config.resume_grace_s
        self._statistics = statistics
        self._seeded = None if config.seed is None else random.Random(config.seed)
        self._by_key: dict[str, Session] = {}
        # Keys by what the names look like.
        self._look: dict[str, set[str]] = {}
        self._by_token: dict[str, Session] = {}
        # Those without a link, and until when each stays: in the order in which they end. No more than there can be
        # connections, the oldest ends first.
        self._waiting: dict[Session, float] = {}
        self._waiting_limit = config.connections_limit
        self._changed = trio.lowlevel.ParkingLot()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._by_key)

    async def held_by(self, user: str) -> Session | None:
        """The session that holds this name, once none that is ending does. No checkpoint follows the look."""
        key = name_key(user)
        while (session := self._by_key.get(key)) is not None and session.ending:
            await session.ended.wait()
        return session

    async def held_or_claimed(
        self, user: str, verifier: Verifier | None, password: str
    ) -> tuple[Session | None, object | None]:
        """The session that holds this name here; or, where nobody does, its lease. No checkpoint follows.

        Neither: somebody holds it on another server, by another password. Raises Conflict (409), Unavailable (503).
        """
        key = name_key(user)
        while True:
            session = await self.held_by(user)
            if session is not None or self.names is None:
                return session, None
            if (claim := self._claims.get(key)) is None:
                break
            await claim.wait()

        def accepts(secret: str) -> bool:
            if verifier is None:
                return True
            try:
                return Verifier.from_text(secret).accepts(password)
            except ValueError:
                return False  # of a server that has other rules

        self._claims[key] = trio.Event()
        try:
            return None, await self.names.claim(user, "" if verifier is None else verifier.text(), accepts)
        finally:
            self._claims.pop(key).set()

    def open(
        self, user: str, verifier: Verifier | None, link: Link, *, resumable: bool, lease: object | None = None
    ) -> Session:
        """A session for a name that nobody holds. Raises Conflict (409) if it looks like one that somebody does."""
        key = name_key(user)
        look = skeleton(user)
        for other in self._look.get(look, ()):
            if are_look_alikes(user, self._by_key[other].user):
                self._release(lease)
                raise Conflict(f"the name {user!r} looks like {self._by_key[other].user!r}, which is in use")
        session = Session(user, key, verifier, link, lease=lease)
        self._by_key[key] = session
        self._statistics.sessions += 1
        self._look.setdefault(look, set()).add(key)
        self._renew_token(session, resumable)
        return session

    def with_token(self, token: str) -> Session | None:
        """The session that this token resumes."""
        session = self._by_token.get(token)
        return None if session is None or session.ending else session

    def take_over(self, session: Session, link: Link, *, resumable: bool) -> None:
        """Let `link` speak for the session from now on; the rooms MUST be told of it next.

        Raises Conflict (409) where a newer one has spoken for it meanwhile: the newest wins, whoever is slower to pass.
        """
        if link.number < session.link_number:
            link.close(TAKEN_OVER, "the same user came back on another connection")
            raise Conflict("a newer connection of the same user was faster")
        session.link_number = link.number
        before, session.link = session.link, link
        self._waiting.pop(session, None)
        self._renew_token(session, resumable)
        if before is not None:
            before.close(TAKEN_OVER, "the same user came back on another connection")

    def _renew_token(self, session: Session, resumable: bool) -> None:
        """Each token is good for one use."""
        if session.token is not None:
            del self._by_token[session.token]
        session.token = self._new_token() if resumable else None
        if session.token is not None:
            self._by_token[session.token] = session

    def _new_token(self) -> str:
        return secrets.token_urlsafe(32) if self._seeded is None else f"{self._seeded.getrandbits(256):064x}"

    async def let_go(self, session: Session, link: Link, *, lost: bool) -> None:
        """The link has ended; `lost` where its client may come back and resume. Does nothing the second time."""
        if session.link is not link or session.lost:
            return  # somebody else speaks for it, or `run` ends it
        if lost and session.token is not None and self._grace_s and not (session.ending or self._stopped):
            session.link = None
            self._waiting[session] = trio.current_time() + self._grace_s
            _log.info("%s has lost the connection, and may resume", session.user, extra={"user": session.user})
            if self._waiting_limit and len(self._waiting) > self._waiting_limit:
                self._waiting[next(iter(self._waiting))] = trio.current_time()
            self._changed.unpark_all()
            return
        await self.end(session)

    async def end(self, session: Session) -> None:
        """Leave all rooms, then give the name back. Does nothing the second time."""
        session.ending = True
        self._waiting.pop(session, None)
        if session.token is not None:
            self._by_token.pop(session.token, None)
        while session.memberships:
            await session.leave(next(iter(session.memberships)))
        if self._by_key.get(session.key) is session:
            del self._by_key[session.key]
            self._statistics.sessions -= 1
            look = skeleton(session.user)
            keys = self._look[look]
            keys.discard(session.key)
            if not keys:
                del self._look[look]
            self._statistics.round_trips_s.pop(session.user, None)
            lease, session.lease = session.lease, None
            self._release(lease)
        session.ended.set()

    def _release(self, lease: object | None) -> None:
        if lease is not None:
            assert self.names is not None
            self.names.release(lease)

    def lose(self, lease: object) -> None:
        """Somebody else has this name now, on another server: its session here ends (4009). Does not wait."""
        for session in self._by_key.values():
            if session.lease is lease:
                break
        else:
            return
        _log.info("%s has come back on another server", session.user, extra=session.who())
        session.lease = None
        session.lost = session.ending = True
        self._waiting.pop(session, None)
        if session.link is not None:
            session.link.close(TAKEN_OVER, "the same user came back on another server")
        self._lost.append(session)
        self._changed.unpark_all()

    async def _end_lost(self, session: Session) -> None:
        await trio.sleep(_MOVE_S)
        await self.end(session)

    async def run(self) -> None:
        """End those whose grace is over, and those who have lost their names, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._lost:
                    session = self._lost.pop()
                    nursery.start_soon(self._end_lost, session, name=f"the end of {session.user!r}")
                if not self._waiting:
                    await self._changed.park()
                    continue
                session, until = next(iter(self._waiting.items()))
                if until > trio.current_time():
                    with trio.move_on_at(until):
                        await self._changed.park()
                    continue
                del self._waiting[session]
                session.ending = True
                _log.info("%s has not resumed", session.user, extra={"user": session.user})
                nursery.start_soon(self.end, session, name=f"the end of {session.user!r}")

    async def stop(self) -> None:
        """End all that are left: nobody can come back any more."""
        self._stopped = True
        for session in list(self._by_key.values()):
            await self.end(session)
