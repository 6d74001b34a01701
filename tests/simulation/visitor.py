"""Somebody who visits any of several servers, and what each of the visitor's connections has been shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_vrchat import testing
from trio_vrchat.testing import RawClient

from .harm import RECOVERED_S, Host
from .ledger import Entry, Stay

if TYPE_CHECKING:
    from .town import Town

ROOMS = ("lobby", "den", "hall")
# A request to the engine is given up after 3 s, a join after 15 s; both may have to be repeated.
_ANSWERED_S = 20.0
# An engine that hangs is found out by a call's deadline and a beat.
_TOLD_S = 5.0


@attrs.define(eq=False)
class Connection:
    """One connection of a visitor, and all that came over it."""

    visitor: Visitor
    host: Host
    raw: RawClient
    notices: bool
    opened_at: float
    number: int
    stays: dict[str, Stay] = attrs.field(factory=dict)
    # What has been asked and not been answered: "login", "pong", rooms to be joined; and how many lines.
    waits_for: set[str] = attrs.field(factory=set)
    says: int = 0
    asked_at: float = 0.0
    logged_in: bool = False
    # Why the server may close it.
    replaced: bool = False
    ended: bool = False
    # Where its visitor was before.
    comes_from: Host | None = None

    @property
    def rooms(self) -> list[str]:
        """Where it is."""
        return [room for room, stay in self.stays.items() if not stay.left_at]

    @property
    def idle(self) -> bool:
        return not self.waits_for and not self.says

    def ask(self, message: dict[str, Any], waits_for: str = "") -> None:
        """Send this, and expect something to come of it."""
        self.asked_at = trio.current_time()
        if waits_for:
            self.waits_for.add(waits_for)
        self.raw.send(message)

    def take(self, town: Town) -> None:
        """Check all that has come."""
        for message in self.raw.messages():
            town.note_frame(self.number, message)
            if message["info"] == "user":
                self._payload(town, message["room"], message["payload"])
            elif message["info"] == "notice":
                self._notice(message["room"], message["notice"])
            else:
                self._answer(town, message["response"])
        late = trio.current_time() - self.asked_at
        name = self.visitor.name
        assert self.idle or late < _ANSWERED_S, f"{name} is not answered for {late} s: {self.waits_for}, {self.says}"
        code = self.raw.close_code
        if not self.ended and (code is not None or self.raw.ended):
            expected = {4009} if self.replaced or self in self.visitor.older or self.visitor.is_split else set()
            if not self.host.runs:
                expected.add(1001)
            assert code in expected, f"{name}: server {self.host.number} has closed the connection with {code}"
            self.end(town)

    def end(self, town: Town) -> None:
        """It is over, on whichever side."""
        self.raw.reset()
        self.ended = True
        self.visitor.act_at(self.host)
        for stay in self.stays.values():
            town.past.append(stay)
        self.stays.clear()
        if self.logged_in and self.visitor.connection is self:
            self.visitor.places.clear()
        if self.visitor.connection is self:
            self.visitor.connection = None

    def _answer(self, town: Town, answer: dict[str, Any]) -> None:
        code, detail = answer["code"], answer["detail"]
        room = detail.get("room")
        if code == 503:
            self._check_away()
        if code == 202:
            self.waits_for.discard("login")
            self.logged_in = True
            self.visitor.logged_in(self)
        elif code == 220:
            self.waits_for.discard("pong")
        elif code == 503 and room in self.waits_for:
            self.waits_for.discard(room)
            self.visitor.act_at(self.host)
        elif code in (503, 401) and room is not None and self.says:
            self.says -= 1
        elif code == 503 and "login" in self.waits_for:
            self.waits_for.clear()
            self.end(town)
            self.visitor.stay()
        else:
            raise AssertionError(f"{self.visitor.name} is answered {answer}, and waits for {self.waits_for}")

    def _check_away(self) -> None:
        """Nothing else is a reason to be refused."""
        assert not self.host.is_well, (
            f"{self.visitor.name} gets a 503 on server {self.host.number}, which has the engine"
        )

    def _payload(self, town: Town, room: str, entries: list[Entry]) -> None:
        name = self.visitor.name
        own = [entry for entry in entries if entry["type"] == "join" and entry["user"] == name]
        stay = self.stays.get(room)
        if own:
            self._list(town, room, [entry["user"] for entry in entries], stay)
            return
        assert stay is not None, f"{name} sees {room} and is not in it: {entries}"
        # (What comes before its leave may come after the leave is sent.)
        settled = stay.left_at and trio.current_time() > self.host.settles_at(stay.left_at)
        assert not settled, f"{name} still sees {room}, which it has left: {entries}"
        if entries[0]["type"] == "transform":
            for entry in entries:
                assert entry["user"] in stay.members, f"{name} sees {entry['user']} move in {room}, who is not there"
                stay.transforms[entry["user"]] = entry["data"]["pos"]["x"]
            return
        for entry in entries:
            stay.note(entry)
            if entry["type"] in ("join", "leave"):
                continue
            town.ledger.note(stay, entry)
            # (Of a room whose memory was lost, what was said is shown, but not who came to say it.)
            if self.host.is_well and entry["time"] > stay.opened_at:
                assert entry["user"] in stay.members, f"{name} hears {entry['user']} in {room}, who is not there"
            if entry["user"] == name and entry["data"] in self.visitor.unheard:
                self.visitor.unheard.discard(entry["data"])
                self.says = max(0, self.says - 1)

    def _list(self, town: Town, room: str, users: list[str], stay: Stay | None) -> None:
        name = self.visitor.name
        assert len(users) == len(set(users)), f"{name} sees somebody twice in {room}: {users}"
        if stay is not None and stay.left_at:
            town.past.append(self.stays.pop(room))
        elif stay is not None:
            assert set(users) == stay.members, f"{name} has seen {stay.members} come to {room}; the list is {users}"
            self.waits_for.discard("list")
            return
        opened_at = testing.START_TIME + trio.current_time()
        self.stays[room] = Stay(room, name, self.host, set(users), opened_at)
        self.waits_for.discard(room)
        self.visitor.act_at(self.host)

    def _notice(self, room: str, notice: dict[str, Any]) -> None:
        assert self.notices, f"{self.visitor.name} is told of the engine, and has not asked for it"
        stay = self.stays[room]
        seen = len(stay.said)
        if notice["engine"] == "back" and stay.notice:
            assert stay.notice == "gone", f"{self.visitor.name} is told twice that the engine is back"
            missed = seen - stay.seen_at_notice
            assert notice["missed"] == missed, f"{self.visitor.name} was shown {missed} events in {room}: {notice}"
            if notice["complete"]:
                stay.complete.append((stay.seen_at_notice, seen))
        stay.notice, stay.seen_at_notice = notice["engine"], seen

    def check_notices(self) -> None:
        """Who wants to know whether the engine is there knows it."""
        lost_at = self.host.lost_at
        for stay in [self.stays[room] for room in self.rooms]:
            if self.host.is_well:
                assert stay.notice != "gone", (
                    f"{self.visitor.name} is not told that the engine is back in {stay.room} on {self.host.number}"
                )
                continue
            must_know = self.notices and not self.host.in_touch and trio.current_time() > self.host.changed_at + _TOLD_S
            if must_know and stay.opened_at < testing.START_TIME + lost_at:
                assert stay.notice == "gone", f"{self.visitor.name} is not told that the engine is gone in {stay.room}"


@attrs.define(eq=False)
class Visitor:
    """A user, with one connection, or with an older one beside it that no server has closed yet."""

    name: str
    connection: Connection | None = None
    older: list[Connection] = attrs.field(factory=list)
    number: int = 0
    # What it has said and not heard.
    unheard: set[object] = attrs.field(factory=set)
    # By room, where it is.
    places: dict[str, int] = attrs.field(factory=dict)
    # When it did something last on each server that matters to others.
    acts: dict[Host, float] = attrs.field(factory=dict)

    def act_at(self, host: Host) -> None:
        """It comes or goes on this server."""
        self.acts[host] = trio.current_time()

    def logged_in(self, connection: Connection) -> None:
        """The name is this connection's."""
        self.act_at(connection.host)
        for older in self.older:
            older.replaced = True
        if connection.comes_from is not connection.host:
            self.places.clear()
        self.unheard.clear()

    def stay(self) -> None:
        """Another login was refused: the connection before goes on."""
        if self.older and not self.older[-1].ended:
            self.connection = self.older.pop()

    @property
    def is_split(self) -> bool:
        """Whether servers have let it in that did not know of each other: the engine decides for one of them."""
        hosts = {*self.acts, *(older.host for older in self.older)}
        return len(hosts) > 1 and any(not host.is_well for host in hosts)

    def forget_acts(self) -> None:
        """What all have known for some time; a server that has not the engine may still come back with it."""
        now = trio.current_time()
        if any(host.runs and not host.is_well for host in self.acts):
            # Nor does that one know of the others: the lease of one that has died since may be the newer one.
            return
        self.acts = {host: at for host, at in self.acts.items() if now < host.settles_at(at) + RECOVERED_S}

    @property
    def in_doubt(self) -> bool:
        """Whether not all servers may know yet where it is."""
        now = trio.current_time()
        if any(not older.ended for older in self.older):
            return True
        return any(now < host.settles_at(at) for host, at in self.acts.items())
