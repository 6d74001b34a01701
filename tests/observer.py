"""A client that holds the server to the protocol's promises about joining, order and leaving (chapter 2)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import attrs

TRANSFORM = "transform"


class Client(Protocol):
    """What an observer speaks through: a RawClient, or what a simulated network leaves of one."""

    def send(self, message: dict[str, Any], /) -> None:
        """Send one message."""

    def messages(self) -> list[dict[str, Any]]:
        """The messages that have come since the last time."""
        ...


@attrs.define(eq=False)
class SeenRoom:
    """What one member has seen of a room since its join, or since it came back on another connection."""

    joined_at: float
    # The time of the list: what is older is history.
    shown_at: float
    members: set[str]
    # The greatest time of an entry that is no transform: what a client says in `seen` when it resumes.
    latest: float
    events: list[dict[str, Any]] = attrs.field(factory=list)
    transforms: dict[str, Any] = attrs.field(factory=dict)
    # The welcome's messages come in this order, and only once: list, history, transforms.
    history: list[dict[str, Any]] | None = None
    live: bool = False
    # What came after the list of somebody who came back while others acted: history or not, until `sort` says so.
    unsorted: list[dict[str, Any]] | None = None


@attrs.define(eq=False)
class Observer:
    """Reads what a user is sent and checks each message as it comes."""

    user: str
    client: Client
    rooms: dict[str, SeenRoom] = attrs.field(factory=dict)
    # Rooms in which this user's stay is over, as it saw them.
    past: list[tuple[str, SeenRoom]] = attrs.field(factory=list)
    answers: list[dict[str, Any]] = attrs.field(factory=list)
    # Where this user is once the server has handled what was sent, and stays that are over then.
    inside: set[str] = attrs.field(factory=lambda: {"lobby"})
    leaving: Counter[str] = attrs.field(factory=Counter)
    # When the last login or resume was granted, and the rooms that are not yet shown since.
    granted_at: float = 0.0
    returning: set[str] = attrs.field(factory=set)
    crowded: bool = False

    def come_back(self, client: Client, inside: set[str], *, crowded: bool = False) -> None:
        """The session goes on over another connection: the rooms it is in are shown again, joins keep their times.

        `crowded`: others act in the same instant, so that times do not tell history from what came later.
        """
        self.client, self.crowded = client, crowded
        self.returning, self.inside = set(inside), set(inside)
        for room in set(self.rooms) - inside:
            self.past.append((room, self.rooms.pop(room)))

    def send(self, room: str, kind: str, data: Any = "") -> None:
        """Send a room message."""
        self.will(room, kind)
        self.client.send({"room": room, "type": kind, "data": data})

    def will(self, room: str, kind: str) -> None:
        """A room message is about to be sent."""
        if kind == "join":
            self.inside.add(room)
        elif kind == "leave" and room in self.inside:
            self.inside.discard(room)
            self.leaving[room] += 1

    def settled(self) -> None:
        """The server has handled everything: check what came; of a room that was left nothing may come any more."""
        self.take()
        assert set(self.rooms) >= self.inside
        for room in set(self.rooms) - self.inside:
            self._end_stay(room)
        assert not +self.leaving, "each stay is over"

    def _end_stay(self, room: str) -> None:
        assert self.leaving[room], f"{self.user} is shown in {room} a second time"
        self.leaving[room] -= 1
        self.past.append((room, self.rooms.pop(room)))

    def take(self) -> None:
        """Check everything that has come since the last time."""
        for message in self.client.messages():
            if message["info"] == "user":
                self._payload(message["room"], message["payload"])
            else:
                answer = message["response"]
                if answer["code"] == 202:
                    self.granted_at = answer["time"]
                self.answers.append(answer)

    def _payload(self, name: str, payload: Sequence[dict[str, Any]]) -> None:
        assert payload, "a payload holds something"
        own = [entry for entry in payload if entry["type"] == "join" and entry["user"] == self.user]
        if own:
            self._list(name, payload, own)
            return
        assert name in self.rooms, f"{self.user} sees {name} before its join list or after its leave: {payload}"
        room = self.rooms[name]
        kinds = {entry["type"] for entry in payload}
        if kinds == {TRANSFORM}:
            users = [entry["user"] for entry in payload]
            assert len(users) == len(set(users)), "one entry for each member"
            for entry in payload:
                assert entry["user"] in room.members, f"{entry['user']} has left {name}, or has not come"
                room.transforms[entry["user"]] = entry["data"]
            return
        assert TRANSFORM not in kinds, "transforms are messages of their own"
        assert name not in self.returning, f"{self.user} sees {name} before its list on the new connection: {payload}"
        if room.unsorted is not None:
            room.unsorted += payload
            return
        if payload[0]["time"] < room.shown_at:
            assert room.history is None, "history comes once"
            assert not room.live, "history comes before everything later"
            times = [entry["time"] for entry in payload]
            assert times == sorted(set(times)), "oldest first"
            # (Its end may be younger than the answer: what is said until the room comes to it is shown with it.)
            assert not kinds & {"join", "leave"}, "joins and leaves are not history"
            room.history = list(payload)
            room.latest = max(room.latest, times[-1])
            return
        room.live = True
        for entry in payload:
            self._event(name, room, entry)

    def sort(self, name: str, history: int) -> None:
        """So many of the unsorted entries are history."""
        room = self.rooms[name]
        entries, room.unsorted = room.unsorted or [], None
        if history:
            room.history = entries[:history]
            room.latest = max(room.latest, entries[history - 1]["time"])
        for entry in entries[history:]:
            self._event(name, room, entry)

    def _list(self, name: str, payload: Sequence[dict[str, Any]], own: list[dict[str, Any]]) -> None:
        users = [entry["user"] for entry in payload]
        assert len(own) == 1
        assert {entry["type"] for entry in payload} == {"join"}
        assert users == sorted(users, key=lambda user: (user.casefold(), user))
        assert len(users) == len(set(users))
        room = self.rooms.get(name)
        joined_at = own[0]["time"]
        # Those who came after us but in the same moment are in our list: what follows is later than all of them.
        latest = latest_listed = max(entry["time"] for entry in payload)
        if room is not None and room.joined_at == joined_at:
            if name not in self.returning:
                assert set(users) == room.members, "a list shows who is there at its place in the order"
                return
            self.past.append((name, room))
            latest = max(latest, room.latest)
        elif room is not None:
            self._end_stay(name)
        shown_at = max(joined_at, self.granted_at)
        # (What happens in the moment of the login, after it, can have the same time.)
        begins = [{"time": max(latest, math.nextafter(shown_at, 0))}]
        seen = self.rooms[name] = SeenRoom(joined_at, shown_at, set(users), latest, begins)
        if self.crowded and name in self.returning:
            seen.unsorted, seen.events = [], [{"time": latest_listed}]
        self.returning.discard(name)

    def _event(self, name: str, room: SeenRoom, entry: dict[str, Any]) -> None:
        assert entry["time"] > room.events[-1]["time"], "each event is later than the one before"
        room.events.append(entry)
        room.latest = entry["time"]
        user = entry["user"]
        match entry["type"]:
            case "join":
                assert user not in room.members, f"{user} joins {name} twice"
                room.members.add(user)
            case "leave":
                assert user in room.members, f"{user} leaves {name} and was not there"
                room.members.discard(user)
                room.transforms.pop(user, None)
            case _:
                assert user in room.members, f"{user} talks in {name} and is not there"


def check_agreement(observers: Sequence[Observer]) -> None:
    """A room and a time name one event; whoever saw two of them saw them in one order (their times increase)."""
    events: dict[tuple[str, float], dict[str, Any]] = {}
    for observer in observers:
        for name, room in [*observer.past, *observer.rooms.items()]:
            for entry in [*(room.history or []), *room.events[1:]]:
                assert events.setdefault((name, entry["time"]), entry) == entry
    for observer in observers:
        for name, room in [*observer.past, *observer.rooms.items()]:
            if len(room.events) > 1:
                first, last = room.events[0]["time"], room.events[-1]["time"]
                between = sum(1 for (of, time) in events if of == name and first < time <= last)
                assert between == len(room.events) - 1, f"{observer.user} missed an event of {name}"
