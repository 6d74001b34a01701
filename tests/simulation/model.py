"""Who is where, and what may come: the server as it must be, in as few words as it can be said.

The model is told what has reached the server, at the moment at which it does. Of a user whose connection is sound it
appends what comes of that to the room's log at once. Of any other it keeps what has been asked, and lets it come in the
order in which it was asked, or not at all.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import attrs
import trio

from .log import Entry, Happened, Log
from .network import Link

LOBBY = "lobby"
# A steward sits here, from the first second to the last, and everybody may come in.
WATCHED = (LOBBY, "den", "hall")
# These close when the last leaves. Only for people whose connection is sound.
PRIVATE = ("attic", "cellar", "loft", "shed")
# What follows a deadline may come so much later: a moment, for leaves that a room's task has to take.
MOMENT_S = 0.01
# The server's deadline for a write that stands still.
WRITE_S = 5.0


@attrs.frozen(eq=False)
class Start:
    """Where a user's view of a room begins: at its join, or at its coming back on another connection."""

    log: Log
    # In the log. Who comes back in a hurry begins there or later.
    position: int
    join: Happened
    # What the client has said in `seen` of this room, where it resumed and said something.
    seen: float | None = None


@attrs.define(eq=False)
class User:
    """What the model knows of one user."""

    name: str
    # It keeps the protocol, so that the server must keep all of it, too. The others can be refused anything.
    honest: bool
    link: Link | None = None
    # A small socket buffer: a burst may be more than the server keeps.
    tight: bool = False
    # It acts together with others, so that nobody but the server knows what comes first.
    hurries: bool = False
    # Until when its session stays, if nothing happens; and by when at the latest all its leaves must have come.
    session_until: float = 0.0
    gone_by: float | None = None
    # What has reached the server and need not have happened: lines for each room, in order; rooms to be joined.
    asked: dict[str, deque[tuple[str, object]]] = attrs.field(factory=lambda: defaultdict(deque))
    # The rooms it is in if all that has reached the server has happened.
    meant: set[str] = attrs.field(factory=set)
    starts: dict[str, deque[Start]] = attrs.field(factory=lambda: defaultdict(deque))

    @property
    def sound(self) -> bool:
        """Whether the server has no reason to end this user's connection, so that all it says happens."""
        return self.honest and not self.tight and self.link is not None and self.link.trusted and not self.link.lost

    @property
    def sees_all(self) -> bool:
        """Whether it has seen everything that it must."""
        return self.sound and self.link is not None and self.link.caught_up


# More than any history here.
_KEPT_EVENTS = 100
# The longest chat of a flooder that may be under way; what is older has been refused.
_ASKED_LIMIT = 5000


@attrs.define(eq=False)
class Model:
    """All users and all rooms."""

    grace_s: float
    # Whether what was said outlives its room.
    stores: bool = False
    users: dict[str, User] = attrs.field(factory=dict)
    rooms: dict[str, Log] = attrs.field(factory=dict)
    # Where the members' heads are: the last transform of each of whom that is known.
    heads: dict[str, dict[str, int]] = attrs.field(factory=lambda: defaultdict(dict))
    _kept: dict[str, list[Happened]] = attrs.field(factory=dict)

    # What is known

    def rooms_of(self, user: User) -> list[Log]:
        return [log for log in self.rooms.values() if user.name in log.members]

    def alive(self, user: User) -> bool:
        """Whether the user has a session, so that a login takes it over."""
        return bool(self.rooms_of(user)) or user.session_until > trio.current_time()

    def members(self) -> int:
        return sum(len(log.members) for log in self.rooms.values())

    # What has reached the server

    def logged_in(self, user: User, link: Link, seen: dict[str, float] | None = None) -> None:
        """A login, or with `seen` a resume, of a user who is let in."""
        alive = self.alive(user)
        user.starts.clear()
        user.asked.clear()
        user.link = link
        user.gone_by = None
        user.session_until = float("inf") if user.sound else 0.0
        if not alive:
            user.meant = {LOBBY}
            if user.honest:
                self._join(user, LOBBY)
            else:
                user.asked[LOBBY].append(("join", ""))
            return
        user.meant = {log.room for log in self.rooms_of(user)}
        for log in self.rooms_of(user):
            join = log.events[log.joined[user.name]]
            seen_here = None if seen is None else seen.get(log.room)
            user.starts[log.room].append(Start(log, len(log.events), join, seen_here))
        if seen is None and LOBBY not in user.meant:
            # Whoever logs in is in the lobby then.
            user.meant.add(LOBBY)
            if user.honest:
                self._join(user, LOBBY)
            else:
                user.asked[LOBBY].append(("join", ""))

    def sent(self, user: User, room: str, kind: str, data: object = "") -> None:
        """A room message."""
        if kind == "transform":
            assert isinstance(data, int)
            if user.sound and user.name in self.rooms[room].members:
                self.heads[room][user.name] = data
            else:
                self.heads[room].pop(user.name, None)
            return
        if kind == "list" or (kind not in ("join", "leave") and room not in user.meant and user.honest):
            return  # nobody else sees anything of it: of a line after the leave only a 401
        if kind == "join":
            user.meant.add(room)
        elif kind == "leave":
            user.meant.discard(room)
        if user.hurries or not user.sound:
            asked = user.asked[room]
            asked.append((kind, data))
            if len(asked) > _ASKED_LIMIT:
                asked.popleft()
        elif kind == "join":
            self._join(user, room)
        elif kind == "leave":
            self._leave(self.rooms[room], user)
        else:
            self.rooms[room].append(user.name, kind, data)

    def lost(self, user: User, *, session_stays: bool) -> None:
        """The connection has ended, and the server knows it."""
        sound, user.link = user.sound, None
        now = trio.current_time()
        # Where a write stands still, the answer to a close frame waits behind it, and the server does not read on.
        noticed_by = now if sound else now + WRITE_S
        user.gone_by = noticed_by + self.grace_s if session_stays else noticed_by
        # A session whose connection was in doubt may have lost it before.
        user.session_until = user.gone_by if sound and session_stays else 0.0
        if sound and not session_stays:
            for log in self.rooms_of(user):
                self._leave(log, user)

    def doubted(self, user: User, gone_by: float | None = None) -> None:
        """From now on the connection may end at any time; where nothing is heard of it any more, it must until then."""
        user.session_until = 0.0
        user.gone_by = gone_by

    def _join(self, user: User, room: str) -> None:
        log = self.rooms.get(room)
        if log is None:
            log = self.rooms[room] = Log(room, self._learn, self._kept.pop(room, []))
        log.append(user.name, "join")
        join = log.events[-1]
        user.starts[room].append(Start(log, len(log.events), join))

    def _leave(self, log: Log, user: User) -> None:
        log.append(user.name, "leave")
        self.heads[log.room].pop(user.name, None)
        if not log.members:
            if self.stores:
                self._kept[log.room] = log.history(len(log.events))[-_KEPT_EVENTS:]
            del self.rooms[log.room]
            del self.heads[log.room]

    # What is seen

    def _learn(self, log: Log, entry: Entry, viewer: str) -> None:
        """Somebody sees what nobody has seen: it must be something that may happen now."""
        kind, data = entry["type"], entry["data"]
        assert viewer in log.members, f"{viewer} sees {entry} and is not in {log.room}"
        user = self.users.get(entry["user"])
        assert user is not None, f"{viewer} sees {entry} of a user whom nobody knows"
        if kind == "leave":
            assert user.name in log.members, f"{user.name} leaves {log.room} and is not there"
            asked = user.asked[log.room]
            if asked and asked[0] == ("leave", ""):
                asked.popleft()
                self._leave(log, user)
                return
            assert not user.sound, f"{user.name} leaves {log.room} for no reason: {entry}"
            if user.session_until:
                early = user.session_until - trio.current_time()
                assert early <= MOMENT_S, f"{user.name} leaves {log.room} {early} s before its time"
            self._leave(log, user)
            return
        known = user.sound and not user.hurries
        assert not known, f"{viewer} sees {entry} in {log.room}, which is not what {user.name} has said"
        assert (user.name in log.members) != (kind == "join"), f"{entry} in {log.room}: members are {log.members}"
        self._find(user, log.room, (kind, data))
        if kind == "join":
            self._join(user, log.room)
        else:
            log.append(user.name, kind, data)

    def _find(self, user: User, room: str, said: tuple[str, object]) -> None:
        """It must be the next that was asked; what a user who keeps no limits has asked before it was refused."""
        asked = user.asked[room]
        while asked:
            first = asked.popleft()
            if first == said:
                return
            assert not user.honest, f"{user.name}: {first} is missing in {room} before {said}"
        raise AssertionError(f"{user.name} has not said {said} in {room}, or it was shown before")

    # After a step

    def pass_deadlines(self) -> None:
        """Everybody whose time is over must have left; where nobody watches, they now have."""
        now = trio.current_time()
        overdue = [user for user in self.users.values() if user.gone_by is not None and now > user.gone_by + MOMENT_S]
        for user in sorted(overdue, key=lambda user: user.gone_by or 0.0):
            user.gone_by = None
            for log in self.rooms_of(user):
                seen_by = [name for name in log.members if self.users[name].sees_all and name != user.name]
                assert not seen_by, f"{user.name} is a ghost in {log.room}: {seen_by[0]} saw no leave"
                self._leave(log, user)

    def in_doubt(self) -> int:
        """Memberships of those whose time is over at just this moment, so that they may have left or not."""
        now = trio.current_time()
        users = [user for user in self.users.values() if user.gone_by is not None and now >= user.gone_by - MOMENT_S]
        return sum(len(list(self.rooms_of(user))) for user in users)

    def check_sound(self, user: User) -> None:
        """Of a user whose connection is sound, and whose bytes are all handled, nothing is open."""
        user.session_until = float("inf")
        late = {room: list(asked) for room, asked in user.asked.items() if asked}
        assert not late, f"{user.name}: the server has not let happen what was sent: {late}"
        inside = {log.room for log in self.rooms_of(user)}
        assert inside == user.meant, f"{user.name} is in {inside} and means to be in {user.meant}"

    def describe(self) -> dict[str, Any]:
        return {name: sorted(log.members) for name, log in self.rooms.items()}
