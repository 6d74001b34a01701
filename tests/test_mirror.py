"""A room that servers share, as one of them shows it: what the engine says, and what is made up where it cannot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_vrchat import TooMuch
from trio_vrchat._backplane import Event, Snapshot
from trio_vrchat._codec import encode
from trio_vrchat._follower import View
from trio_vrchat._members import Heard, Join, Leave, Member, Replace, Say
from trio_vrchat._mirror import Mirror
from trio_vrchat._movements import Moved, read_movements
from trio_vrchat._outbox import Outbox
from trio_vrchat._presence import Presence

HERE, THERE = "here", "there"


class Node:
    """A node with one room, where the room's task would be."""

    def __init__(self) -> None:
        self.presence = Presence("den", history=50, history_limit_bytes=1 << 20, stamp=float)
        self.id = HERE
        self.mirror = Mirror(self.presence, lambda: self.id, lambda event: event.node.startswith(HERE))
        self.settled: list[object] = []

    def see(self, *events: Event | View) -> list[tuple[Any, ...]]:
        """What this changes: (what, who or what, time in microseconds)."""
        shown: list[tuple[Any, ...]] = []
        for each in events:
            shown += self.apply(self.mirror.see(each))
        return shown

    def apply(self, events: list[Any]) -> list[tuple[Any, ...]]:
        self.presence.apply(events)
        return [told(event) for event in events]

    def want(self, name: str) -> Member:
        """Have a member of this node join, as far as it can without the engine."""
        outbox = Outbox(limit_frames=100, limit_bytes=1 << 20, write=lambda frame: 0, on_frames=int, on_overflow=int)
        member = Member(name, outbox)
        self.mirror.join(Join(member, settled=self.settled.append))
        return member

    def members(self) -> list[tuple[str, bool]]:
        return sorted((member.name, member.here) for member in self.presence.members())


def told(event: Any) -> tuple[Any, ...]:
    match event:
        case Join(member):
            return ("join", member.name, round(event.time * 1e6))
        case Leave(member):
            return ("leave", member.name, round(event.time * 1e6))
        case Replace(_, member, time):
            return ("replace", member.name, round(time * 1e6))
        case Heard(time, entry):
            return ("said", msgspec.json.decode(entry)["data"], round(time * 1e6))
    raise AssertionError(event)


def join(at: int, user: str, node: str = THERE) -> Event:
    return Event(at, node, at, "join", user.lower(), user)


def leave(at: int, user: str, node: str = THERE) -> Event:
    return Event(at, node, at, "leave", user.lower(), user)


def said(at: int, user: str, data: str, node: str = THERE) -> Event:
    return Event(at, node, at, "say", user.lower(), user, f'"type":"msg","data":"{data}"')


def view(last: int, *events: Event, complete: bool = True, forgotten_until: int = 0) -> View:
    members = tuple(event for event in events if event.kind == "join")
    history = tuple(event for event in events if event.kind == "say")
    return View(Snapshot(last=last, members=members, history=history, forgotten_until=forgotten_until), complete)


@pytest.fixture
def node() -> Node:
    """With somebody elsewhere, somebody here, and something said."""
    node = Node()
    node.see(view(10, join(5, "Anna"), said(10, "Anna", "old")))
    node.want("Tibi")
    node.see(join(20, "Tibi", HERE))
    return node


def test_a_room_begins_as_the_engine_has_it(node: Node) -> None:
    assert node.members() == [("Anna", False), ("Tibi", True)]
    assert [msgspec.json.decode(entry)["data"] for entry in node.presence.history.entries()] == ["old"]
    assert node.settled == [None]
    assert node.mirror.strangers == 1
    assert [member.name for member in node.presence.audience()] == ["Tibi"]


def test_what_is_said_is_what_was_said(node: Node) -> None:
    member = node.presence.audience()[0]
    happening = node.mirror.say(Say(member, "emote", encode({"é": [1.50, "\n"]})))
    assert happening is not None
    event = Event(30, HERE, 1, "say", happening.key, happening.user, happening.body)
    [heard] = node.mirror.see(event)
    assert isinstance(heard, Heard)
    entry = {"time": 30e-6, "user": "Tibi", "type": "emote", "data": {"é": [1.50, "\n"]}}
    assert msgspec.json.decode(heard.entry) == entry


def test_who_is_here_stays_though_the_engine_has_lost_it(node: Node) -> None:
    assert node.mirror.missing() == []
    assert node.see(leave(30, "Tibi", HERE), leave(31, "Anna")) == [("leave", "Anna", 31)]
    [happening] = node.mirror.missing()
    assert (happening.kind, happening.user) == ("join", "Tibi")
    assert node.mirror.missing() == [], "it is under way"
    assert node.see(join(40, "Tibi", HERE)) == []
    node.mirror.answered(happening)
    assert node.mirror.missing() == []
    assert node.members() == [("Tibi", True)]


def test_a_node_with_a_new_id_tells_of_all_who_are_here(node: Node) -> None:
    node.id = f"{HERE}, again"
    assert [happening.user for happening in node.mirror.missing()] == ["Tibi"]
    assert node.see(join(40, "Tibi", node.id), leave(41, "Tibi", HERE)) == [], "what was the old one's has no effect"
    assert node.mirror.missing() == []


def test_who_leaves_before_the_engine_has_been_told_again_is_gone(node: Node) -> None:
    node.see(leave(30, "Tibi", HERE))
    node.mirror.lose_name("tibi")
    assert node.mirror.missing() == []
    [member] = node.presence.audience()
    assert node.mirror.leave(member) is None
    assert node.apply(node.mirror.part(member)) == [("leave", "Tibi", 21)]
    assert node.members() == [("Anna", False)]


def test_what_came_before_a_join_is_no_reason_to_lose_who_has_joined(node: Node) -> None:
    """The engine's answer may be faster than what the node has to catch up with."""
    node.see(leave(30, "Tibi", HERE))
    [happening] = node.mirror.missing()
    node.mirror.told(happening)
    assert node.see(join(35, "Tibi"), leave(36, "Tibi"), join(40, "Tibi", HERE)) == []
    assert node.members() == [("Anna", False), ("Tibi", True)]
    assert node.mirror.missing() == []
    # What was told, and is not in a view, was lost with the engine's memory.
    node.see(leave(50, "Tibi", HERE))
    [happening] = node.mirror.missing()
    node.mirror.told(happening)
    node.see(view(60, join(5, "Anna")))
    assert node.mirror.missing() == [happening]


def test_who_left_while_the_engine_was_away_leaves_once(node: Node) -> None:
    [member] = node.presence.audience()
    assert node.mirror.leave(member) is not None
    assert node.apply(node.mirror.lose()) == [("leave", "Tibi", 21)]
    assert node.mirror.leave(member) is None
    # Said before it left, and given only now.
    assert node.see(said(25, "Tibi", "bye", HERE), leave(26, "Tibi", HERE)) == [("said", "bye", 25)]
    assert node.mirror.missed == 1


def test_a_takeover_from_elsewhere_shows_nothing_to_the_others(node: Node) -> None:
    tibi = node.presence.audience()[0]
    assert node.see(join(30, "Tibi")) == [("replace", "Tibi", 30)]
    assert node.members() == [("Anna", False), ("Tibi", False)]
    assert node.mirror.missing() == [], "it is not taken back"
    assert node.mirror.leave(tibi) is None
    again = node.want("Tibi")
    assert node.see(join(40, "Tibi", HERE)) == [("replace", "Tibi", 40)]
    assert node.presence.audience() == (again,)
    assert node.mirror.strangers == 1


def test_a_join_that_is_under_way_is_not_given_up_for_one_before_it(node: Node) -> None:
    bea = node.want("Bea")
    assert node.see(join(30, "Bea")) == [("join", "Bea", 30)]
    assert node.see(join(31, "Bea", HERE)) == [("replace", "Bea", 31)]
    assert bea in node.presence.audience()


def test_another_of_the_same_name_is_another(node: Node) -> None:
    assert node.see(join(30, "ANNA")) == [("leave", "Anna", 21), ("join", "ANNA", 30)]
    node.see(leave(40, "Tibi", HERE))
    assert node.see(join(41, "Tibi")) == [("leave", "Tibi", 31), ("join", "Tibi", 41)], "the name had been free"
    assert node.members() == [("ANNA", False), ("Tibi", False)]


def test_a_new_view_is_compared_with_what_was(node: Node) -> None:
    node.mirror.lose()
    shown = node.see(view(60, join(40, "Carla"), said(10, "Anna", "old"), said(50, "Carla", "new")))
    assert shown == [("leave", "Anna", 21), ("join", "Carla", 40), ("said", "new", 50)]
    assert node.members() == [("Carla", False), ("Tibi", True)]
    assert [happening.user for happening in node.mirror.missing()] == ["Tibi"]
    assert (node.mirror.missed, node.mirror.missed_all) == (1, True)
    node.mirror.lose()
    node.see(view(90, said(80, "Carla", "newer"), forgotten_until=70))
    assert (node.mirror.missed, node.mirror.missed_all) == (1, False)
    assert node.mirror.last == 90


def test_a_view_that_is_not_complete_says_nothing_of_who_is_gone(node: Node) -> None:
    assert node.see(view(30, complete=False)) == []
    assert node.see(join(40, "Anna")) == [], "which has come back"
    assert node.see(view(50, join(40, "Anna"))) == []
    assert node.members() == [("Anna", False), ("Tibi", True)]


def test_times_increase_though_the_engines_clock_was_set_back(node: Node) -> None:
    assert node.see(said(15, "Anna", "a"), said(16, "Anna", "b"), said(40, "Anna", "c")) == [
        ("said", "a", 21),
        ("said", "b", 22),
        ("said", "c", 40),
    ]


def test_a_join_that_is_refused(node: Node) -> None:
    bea = node.want("Bea")
    error = TooMuch("full")
    assert node.mirror.refuse(bea, error) == []
    assert node.settled == [None, error]
    assert node.mirror.refuse(bea, error) == []
    tibi = node.presence.audience()[0]
    assert node.apply(node.mirror.refuse(tibi, error)) == [("leave", "Tibi", 21)]


def test_movements_are_of_those_who_are_at_the_node_that_sends_them(node: Node) -> None:
    anna, tibi = node.presence.members()
    assert node.mirror.find("anna", THERE) is anna
    assert node.mirror.find("anna", "elsewhere") is None
    assert node.mirror.find("tibi", HERE) is None
    moved = Moved()
    assert moved.take(HERE) == b""
    for time in (1.0, 2.0):
        tibi.move(time, b'{"pos":{}}')
        moved.add("den", [tibi])
    movements = read_movements(moved.take(HERE))
    assert movements.node == HERE
    [(room, [movement])] = movements.rooms.items()
    assert (room, movement.key, movement.time, movement.data) == ("den", "tibi", 2.0, b'{"pos":{}}')
    assert moved.take(HERE) == b""
    for garbage in (b"", b"\xff", msgspec.msgpack.encode(["x"])):
        with pytest.raises(msgspec.DecodeError) as caught:
            read_movements(garbage)
        assert isinstance(caught.value, ValueError)
