"""A room's state: what each member sees (protocol, chapter 2: Joining, Transforms, Order)."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_vrchat._codec import encode
from trio_vrchat._members import Event, Join, Leave, List, Member, Say
from trio_vrchat._outbox import Outbox
from trio_vrchat._presence import Presence

ROOM = "hall"
NOON = 1.8e9

Entry = dict[str, Any]
Message = list[Entry]


def frames_in(data: bytes) -> list[bytes]:
    """The payloads of a server's text frames."""
    payloads = []
    position = 0
    while position < len(data):
        assert data[position] == 0x81
        length, position = data[position + 1], position + 2
        extra = {126: 2, 127: 8}.get(length, 0)
        if extra:
            length, position = int.from_bytes(data[position : position + extra], "big"), position + extra
        payloads.append(data[position : position + length])
        position += length
    assert position == len(data)
    return payloads


def entries_of(frame: bytes) -> Message:
    message = json.loads(frame)
    assert set(message) == {"info", "room", "payload"}
    assert (message["info"], message["room"]) == ("user", ROOM)
    payload: Message = message["payload"]
    assert payload
    for entry in payload:
        assert set(entry) == {"time", "user", "type", "data"}
        if entry["type"] in ("join", "leave"):
            assert entry["data"] == ""
    return payload


class Guest:
    """A user with an outbox whose writer writes when the test says so."""

    def __init__(self, name: str, limit_frames: int = 10_000) -> None:
        self.outbox = Outbox(
            limit_frames=limit_frames, limit_bytes=1 << 30, write=len, on_frames=lambda: None, on_overflow=lambda: None
        )
        self.member = Member(name, self.outbox)
        self.name = name

    def receive(self) -> list[bytes]:
        """Let the writer write everything that waits."""
        data = bytearray()
        while chunk := self.outbox.take():
            data += chunk
            self.outbox.written()
        return frames_in(bytes(data))

    def see(self) -> list[Message]:
        return [entries_of(frame) for frame in self.receive()]

    def seen(self) -> Message:
        """All entries since the last look, in whatever messages they came."""
        return list(itertools.chain.from_iterable(self.see()))

    def say(self, data: object = "hello", kind: str = "msg") -> Say:
        return Say(self.member, kind, encode(data))


class Hall:
    """A room, and the deliveries as its task makes them."""

    def __init__(self, history: int = 50, history_limit_bytes: int = 1 << 20) -> None:
        self.stamps = (NOON + number * 0.5 for number in itertools.count())
        self.presence = Presence(
            ROOM, history=history, history_limit_bytes=history_limit_bytes, stamp=lambda: next(self.stamps)
        )
        # What the last tick offered to whom.
        self.batch: dict[Member, tuple[bytes, bool]] = {}

    def apply(self, *events: Event) -> None:
        for delivery in self.presence.apply(events):
            (payload,) = frames_in(delivery.frame)
            assert len(entries_of(payload)) == delivery.entries
            assert delivery.members
            for member in delivery.members:
                member.outbox.offer(delivery.frame)

    def tick(self) -> bool:
        """Send a batch; says whether somebody missed it."""
        batch = self.presence.take_batch()
        self.batch = {}
        for member in batch.members:
            offered = batch.frame_for(member)
            if offered is None:
                member.missed = False
                continue
            frame, entries = offered
            (payload,) = frames_in(frame)
            assert len(entries_of(payload)) == entries
            taken = member.outbox.offer_batch(frame)
            self.batch[member] = (frame, taken)
            member.missed = not taken
        return any(member.missed for member in batch.members)

    def admit(self, *guests: Guest) -> None:
        """Let them in, one after the other, and have them look around."""
        for guest in guests:
            self.apply(Join(guest.member))
        for guest in guests:
            guest.receive()


def users(message: Message, kind: str) -> list[str]:
    assert {entry["type"] for entry in message} == {kind}
    return [entry["user"] for entry in message]


def said(message: Message) -> list[object]:
    assert all(entry["type"] not in ("join", "leave", "transform") for entry in message)
    return [entry["data"] for entry in message]


def guests(*names: str) -> list[Guest]:
    return [Guest(name) for name in names]


def transform(x: float) -> bytes:
    return encode({"pos": {"x": x, "y": 0.0, "z": 0.0}, "rot": {"x": 0.0, "y": 0.0, "z": 0.0}})


def places(message: Message) -> dict[str, float]:
    """Who is where, in a message of transforms."""
    assert len(set(users(message, "transform"))) == len(message)
    return {entry["user"]: entry["data"]["pos"]["x"] for entry in message}


# --- joining --------------------------------------------------------------------------------------------------


def test_the_first_to_join_sees_a_list_of_itself_and_nothing_else() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.apply(Join(ann.member))
    assert ann.see() == [[{"time": NOON, "user": "ann", "type": "join", "data": ""}]]
    assert len(hall.presence) == 1


def test_a_list_is_sorted_without_regard_to_case_and_has_everybodys_own_join_time() -> None:
    hall = Hall()
    crowd = guests("bob", "Émile", "Ann", "ann", "Carl", "ANNA", "émile", "Strasst", "straße", "Zoe")
    for guest in crowd:
        hall.apply(Join(guest.member))
    (listing, *_) = crowd[-1].see()
    names = users(listing, "join")
    assert names == ["Ann", "ann", "ANNA", "bob", "Carl", "straße", "Strasst", "Zoe", "Émile", "émile"]
    joined = {guest.name: NOON + 0.5 * number for number, guest in enumerate(crowd)}
    assert {entry["user"]: entry["time"] for entry in listing} == joined


def test_the_others_see_one_join_entry_with_the_time_of_the_list() -> None:
    hall, (ann, bob, carl) = Hall(), guests("ann", "bob", "carl")
    hall.admit(ann, bob)
    hall.apply(Join(carl.member))
    expected = {"time": NOON + 1.0, "user": "carl", "type": "join", "data": ""}
    assert ann.see() == bob.see() == [[expected]]
    assert expected in carl.see()[0]


def test_the_welcome_is_the_list_then_the_history_then_the_transforms() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    hall.apply(ann.say("one"), ann.say({"two": 2}, "emote"))
    ann.member.move(NOON + 0.25, transform(7.5))
    hall.apply(Join(bob.member), ann.say("three"))
    listing, history, transforms, later = bob.see()
    assert users(listing, "join") == ["ann", "bob"]
    assert [(entry["type"], entry["data"]) for entry in history] == [("msg", "one"), ("emote", {"two": 2})]
    assert transforms == [
        {"time": NOON + 0.25, "user": "ann", "type": "transform", "data": json.loads(transform(7.5))},
    ]
    assert said(later) == ["three"]


def test_a_welcome_has_no_empty_messages() -> None:
    hall, (ann, bob, carl, dora) = Hall(), guests("ann", "bob", "carl", "dora")
    hall.apply(Join(ann.member))
    hall.apply(Join(bob.member))
    assert len(bob.see()) == 1
    bob.member.move(NOON, transform(1.0))
    hall.apply(Join(carl.member))
    assert [message[0]["type"] for message in carl.see()] == ["join", "transform"]
    hall.apply(Leave(bob.member), ann.say("hello"), Join(dora.member))
    assert [message[0]["type"] for message in dora.see()] == ["join", "msg"]


def test_a_newcomer_sees_nothing_before_its_list() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    hall.apply(ann.say("before"), ann.say("before, too"), Join(bob.member), ann.say("after"))
    listing, history, after = bob.see()
    assert users(listing, "join") == ["ann", "bob"]
    assert said(history) == ["before", "before, too"]
    assert said(after) == ["after"]
    assert [entry["data"] for entry in ann.seen()] == ["before", "before, too", "", "after"]


def test_joins_that_follow_each_other_share_one_list() -> None:
    hall, (ann, *crowd) = Hall(), guests("ann", *(f"guest {number:03}" for number in range(200)))
    hall.admit(ann)
    hall.apply(ann.say("hello"))
    ann.receive()
    hall.apply(*(Join(guest.member) for guest in crowd))
    (joins,) = ann.see()
    assert users(joins, "join") == [guest.name for guest in crowd]
    received = [guest.receive() for guest in crowd]
    assert all(frames == received[0] for frames in received)
    listing, history = map(entries_of, received[0])
    assert users(listing, "join") == ["ann", *(guest.name for guest in crowd)]
    assert said(history) == ["hello"]


@pytest.mark.parametrize("between", ["say", "leave", "list"])
def test_joins_with_something_between_them_do_not_share(between: str) -> None:
    hall, (ann, bob, carl, dora) = Hall(), guests("ann", "bob", "carl", "dora")
    hall.admit(ann, dora)
    events_between: dict[str, Event] = {"say": dora.say(), "leave": Leave(dora.member), "list": List(dora.member)}
    hall.apply(Join(bob.member), events_between[between], Join(carl.member))
    assert "carl" not in users(bob.see()[0], "join")
    assert {"ann", "bob", "carl"} <= set(users(carl.see()[0], "join"))


def test_a_join_and_a_leave_at_once_are_seen_by_the_others_as_both() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    hall.apply(Join(bob.member), Leave(bob.member))
    assert [(entry["type"], entry["user"]) for entry in ann.seen()] == [("join", "bob"), ("leave", "bob")]
    assert users(bob.seen(), "join") == ["ann", "bob"]
    assert len(hall.presence) == 1


def test_a_leave_directly_after_a_join_comes_after_the_list() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    ann.outbox.close()
    hall.apply(Join(bob.member), Leave(ann.member))
    listing, leave = bob.see()
    assert users(listing, "join") == ["ann", "bob"]
    assert users(leave, "leave") == ["ann"]


def test_whoever_comes_back_is_somebody_new() -> None:
    hall, (ann, bob, again) = Hall(), guests("ann", "bob", "bob")
    hall.admit(ann, bob)
    bob.member.move(NOON, transform(1.0))
    hall.apply(Leave(bob.member), Join(again.member), bob.say("late"), Leave(bob.member), List(bob.member))
    assert users(ann.seen()[-1:], "join") == ["bob"]
    (listing,) = again.see()
    assert {entry["user"]: entry["time"] for entry in listing} == {"ann": NOON, "bob": NOON + 1.5}
    assert bob.see() == []
    assert [member.name for member in hall.presence.members()] == ["ann", "bob"]


def test_what_a_stranger_does_happens_to_nobody() -> None:
    hall, (ann, stranger) = Hall(), guests("ann", "stranger")
    hall.admit(ann)
    hall.apply(stranger.say(), List(stranger.member), Leave(stranger.member))
    assert ann.see() == stranger.see() == []


# --- leaving and listing --------------------------------------------------------------------------------------


def test_the_leaver_sees_what_came_before_and_nothing_after() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    hall.apply(ann.say("before"), Leave(bob.member), ann.say("after"), bob.say("a word from outside"))
    assert said(bob.seen()) == ["before"]
    assert [entry["type"] for entry in ann.seen()] == ["msg", "leave", "msg"]
    hall.apply(ann.say("later"))
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    assert bob.see() == []


def test_the_last_to_leave_leaves_an_empty_room() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.admit(ann)
    hall.apply(Leave(ann.member))
    assert ann.see() == []
    assert len(hall.presence) == 0
    assert hall.presence.members() == ()
    assert not hall.tick()


def test_a_list_is_for_whoever_asked_and_has_its_place_in_the_order() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    hall.apply(ann.say("before"), List(ann.member), Join(bob.member), ann.say("after"))
    before, listing, *after = ann.see()
    assert said(before) == ["before"]
    assert listing == [{"time": NOON, "user": "ann", "type": "join", "data": ""}]
    assert [entry["type"] for entry in itertools.chain(*after)] == ["join", "msg"]
    hall.apply(List(bob.member))
    assert ann.see() == []
    assert users(bob.see()[-1], "join") == ["ann", "bob"]


# --- history --------------------------------------------------------------------------------------------------


def history_after(hall: Hall, *events: Event) -> Message:
    """What a newcomer is shown of these events."""
    hall.apply(*events)
    newcomer = Guest("newcomer")
    hall.apply(Join(newcomer.member))
    _, *history = newcomer.see()
    hall.apply(Leave(newcomer.member))
    assert len(history) <= 1
    return history[0] if history else []


def test_the_history_is_the_last_events_oldest_first() -> None:
    hall, ann = Hall(history=50), Guest("ann")
    hall.admit(ann)
    history = history_after(hall, *(ann.say(number) for number in range(70)))
    assert said(history) == list(range(20, 70))
    assert history == ann.seen()[20:70]


@pytest.mark.parametrize("history", [1, 2, 3])
def test_the_history_has_at_most_as_many_events_as_set(history: int) -> None:
    hall, ann = Hall(history=history), Guest("ann")
    hall.admit(ann)
    for number in range(5):
        hall.apply(ann.say(number))
    assert said(history_after(hall)) == list(range(5 - history, 5))


def test_a_history_of_zero_is_none() -> None:
    hall, ann = Hall(history=0), Guest("ann")
    hall.admit(ann)
    assert history_after(hall, ann.say("one"), ann.say("two")) == []


def test_joins_leaves_lists_and_transforms_are_not_history() -> None:
    hall, (ann, bob) = Hall(history=2), guests("ann", "bob")
    hall.admit(ann)
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    ann.member.move(NOON, transform(2.0))
    hall.apply(ann.say("one"), bob.say("nobody hears this"), Join(bob.member), ann.say("two", "emote"))
    hall.apply(List(ann.member), Leave(bob.member), Join(Guest("carl").member))
    hall.tick()
    newcomer = Guest("newcomer")
    hall.apply(Join(newcomer.member))
    assert said(newcomer.see()[1]) == ["one", "two"]


def test_the_history_outlives_those_who_made_it() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.admit(ann)
    assert said(history_after(hall, ann.say("one"), Leave(ann.member))) == ["one"]


def test_the_oldest_events_go_where_the_history_has_too_many_bytes() -> None:
    hall, ann = Hall(history_limit_bytes=900), Guest("ann")
    hall.admit(ann)
    events = [ann.say("x" * size) for size in (300, 200, 250, 10, 300)]
    history = history_after(hall, *events)
    # 300 + 10 + 250 with what stands around each; 200 more would be too many.
    assert [len(entry["data"]) for entry in history] == [250, 10, 300]
    # A smaller one, later, does not bring back what went.
    assert [len(entry["data"]) for entry in history_after(hall, ann.say(""))] == [250, 10, 300, 0]


def test_what_has_left_the_history_takes_none_of_its_bytes() -> None:
    hall, ann = Hall(history=3, history_limit_bytes=500), Guest("ann")
    hall.admit(ann)
    for number in range(100):
        hall.apply(ann.say(number))
    assert said(history_after(hall)) == [97, 98, 99]


@pytest.mark.parametrize("slack", [-1, 0])
def test_the_limit_of_the_history_in_bytes_is_exact(slack: int) -> None:
    ann = Guest("ann")
    entry = json.dumps({"time": NOON, "user": "ann", "type": "msg", "data": "x"}, separators=(",", ":"))
    hall = Hall(history_limit_bytes=2 * len(entry) + slack)
    hall.admit(ann)
    assert len(history_after(hall, *(ann.say("x") for _ in range(5)))) == (2 if slack == 0 else 1)


def test_an_event_larger_than_the_history_leaves_it_empty_and_later_ones_fill_it_again() -> None:
    hall, ann = Hall(history=3, history_limit_bytes=500), Guest("ann")
    hall.admit(ann)
    assert history_after(hall, ann.say("one"), ann.say("x" * 1000)) == []
    hall.apply(*(ann.say(number) for number in range(5)))
    latecomer = Guest("latecomer")
    hall.apply(Join(latecomer.member))
    assert said(latecomer.see()[1]) == [2, 3, 4]


# --- order ----------------------------------------------------------------------------------------------------


def test_what_happens_at_one_moment_goes_out_as_one_message_encoded_once() -> None:
    hall, (ann, bob, carl) = Hall(), guests("ann", "bob", "carl")
    hall.admit(ann, bob)
    ann.receive()
    deliveries = hall.presence.apply([ann.say(1), bob.say(2), Join(carl.member), ann.say(3)])
    first, welcome, *_ = deliveries
    assert [member.name for member in first.members] == ["ann", "bob"]
    assert [entry["data"] for entry in entries_of(*frames_in(first.frame))] == [1, 2, ""]
    assert [member.name for member in welcome.members] == ["carl"]
    assert [member.name for member in deliveries[-1].members] == ["ann", "bob", "carl"]


def test_data_and_type_are_relayed_as_they_are() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.admit(ann)
    data = b'{ "a":[1.10, 1E2],"\\u00e9":"\\u00e9"}'
    hall.apply(Say(ann.member, 'em"ote', data))
    (frame,) = ann.receive()
    assert data in frame
    assert entries_of(frame)[0]["type"] == 'em"ote'


def test_the_sender_hears_its_own_message_in_the_same_place_as_everybody() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    hall.apply(ann.say(1), bob.say(2))
    hall.apply(bob.say(3), ann.say(4))
    heard = ann.see()
    assert heard == bob.see()
    assert said(list(itertools.chain(*heard))) == [1, 2, 3, 4]


def test_nothing_to_apply_is_nothing_to_send() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.admit(ann)
    assert hall.presence.apply([]) == []


def test_a_long_run_is_cut_and_nothing_of_it_is_lost() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    hall.apply(*(ann.say([number, "x" * 10_000]) for number in range(40)))
    frames = ann.receive()
    assert frames == bob.receive()
    assert 5 <= len(frames) < 10
    assert all(len(frame) < 64 * 1024 + 11_000 for frame in frames)
    entries = itertools.chain.from_iterable(map(entries_of, frames))
    assert [entry["data"][0] for entry in entries] == list(range(40))


def test_a_run_of_joins_that_is_cut_shows_everybody_to_everybody_once() -> None:
    hall, (ann, *crowd) = Hall(), guests("ann", *(f"{number:04}" + "é" * 28 for number in range(2000)))
    hall.admit(ann)
    hall.apply(*(Join(guest.member) for guest in crowd))
    everybody = sorted(guest.name for guest in [ann, *crowd])
    joins = ann.see()
    assert len(joins) > 1
    assert users(list(itertools.chain(*joins)), "join") == [guest.name for guest in crowd]
    for guest in (crowd[0], crowd[len(crowd) // 2], crowd[-1]):
        assert sorted(users(guest.seen(), "join")) == everybody


def test_those_who_are_gone_already_leave_in_one_message() -> None:
    hall, (ann, *crowd) = Hall(), guests("ann", *(f"guest {number}" for number in range(20)))
    hall.admit(ann, *crowd)
    ann.receive()
    for guest in crowd:
        guest.outbox.close()
    hall.apply(ann.say("hello?"), *(Leave(guest.member) for guest in crowd))
    (message,) = ann.see()
    assert [entry["type"] for entry in message] == ["msg"] + ["leave"] * 20


def test_times_are_what_the_clock_stamped_one_for_each_event() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    hall.apply(ann.say(1), Join(bob.member), List(ann.member), ann.say(2), Leave(bob.member))
    seen = [entry["time"] for entry in ann.seen() if (entry["type"], entry["user"]) != ("join", "ann")]
    assert seen == [NOON + 0.5, NOON + 1.0, NOON + 1.0, NOON + 1.5, NOON + 2.0]


# --- transforms -----------------------------------------------------------------------------------------------


def test_a_batch_holds_the_latest_of_each_who_moved_and_goes_to_all() -> None:
    hall, (ann, bob, carl) = Hall(), guests("ann", "bob", "carl")
    hall.admit(ann, bob, carl)
    for guest in (ann, bob):
        guest.receive()
    ann.member.move(NOON + 1, transform(1.0))
    bob.member.move(NOON + 2, transform(2.0))
    ann.member.move(NOON + 3, transform(3.0))
    assert not hall.tick()
    assert len({id(frame) for frame, _ in hall.batch.values()}) == 1
    (batch,) = ann.see()
    assert [batch] == bob.see() == carl.see()
    assert places(batch) == {"ann": 3.0, "bob": 2.0}
    assert {entry["user"]: entry["time"] for entry in batch} == {"ann": NOON + 3, "bob": NOON + 2}


def test_a_room_in_which_nobody_moved_sends_nothing() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    assert not hall.tick()
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    assert len(ann.see()) == 1
    for _ in range(3):
        assert not hall.tick()
        assert hall.batch == {}
    assert ann.see() == []


def test_whoever_moved_again_is_in_the_next_batch_alone() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    ann.member.move(NOON, transform(1.0))
    bob.member.move(NOON, transform(2.0))
    hall.tick()
    ann.receive()
    bob.member.move(NOON, transform(2.0))  # the same place again is a transform, too
    hall.tick()
    assert [places(message) for message in ann.see()] == [{"bob": 2.0}]


def test_a_transform_is_relayed_as_it_was_written() -> None:
    hall, ann = Hall(), Guest("ann")
    hall.admit(ann)
    data = b'{ "pos":{"x":1.10,"y":1E2,"z":0},"rot":{"x":0,"y":0,"z":0},"quat" : [1.0] }'
    ann.member.move(NOON, data)
    hall.tick()
    (frame,) = ann.receive()
    assert data in frame


def test_whoever_missed_a_batch_gets_everybodys_transform_next_though_nobody_moves() -> None:
    hall, (ann, bob, carl) = Hall(), guests("ann", "bob", "carl")
    hall.admit(ann, bob, carl)
    ann.receive()
    bob.receive()
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    hall.apply(ann.say("hello"))  # waits for carl, and bob reads it
    for guest in (ann, bob):
        guest.receive()
    bob.member.move(NOON, transform(2.0))
    assert hall.tick()
    assert hall.tick()  # still waiting
    assert [places(message) for message in bob.see()] == [{"bob": 2.0}]
    carl.receive()
    assert not hall.tick()
    assert [places(message) for message in carl.see()] == [{"ann": 1.0, "bob": 2.0}]
    assert bob.see() == []
    assert not hall.tick()
    assert carl.see() == []


def test_the_full_set_is_one_message_for_all_who_need_it_and_the_rest_get_what_moved() -> None:
    hall, (ann, bob, carl, dora) = Hall(), guests("ann", "bob", "carl", "dora")
    hall.admit(ann, bob, carl, dora)
    for x, guest in enumerate((ann, bob)):
        guest.receive()
        guest.member.move(NOON, transform(x))
    carl.outbox.offer(b"\x81\x00")
    dora.outbox.offer(b"\x81\x00")
    assert hall.tick()
    for guest in (ann, bob, carl, dora):
        guest.receive()
    bob.member.move(NOON, transform(5.0))
    assert not hall.tick()
    frames = {member.name: frame for member, (frame, _) in hall.batch.items()}
    assert frames["ann"] is frames["bob"]
    assert frames["carl"] is frames["dora"]
    assert places(ann.seen()) == {"bob": 5.0}
    assert places(carl.seen()) == {"ann": 0.0, "bob": 5.0}


def test_nobody_who_left_is_shown() -> None:
    hall, (ann, bob, carl) = Hall(), guests("ann", "bob", "carl")
    hall.admit(ann, bob, carl)
    for guest in (ann, bob, carl):
        guest.receive()
        guest.member.move(NOON, transform(1.0))
    carl.outbox.offer(b"\x81\x00")
    hall.tick()
    bob.member.move(NOON, transform(2.0))
    hall.apply(Leave(bob.member))
    bob.member.move(NOON, transform(3.0))
    for guest in (ann, carl):
        guest.receive()
    hall.tick()
    assert ann.see() == []
    assert places(carl.seen()) == {"ann": 1.0, "carl": 1.0}


def test_whoever_missed_has_nothing_to_get_where_all_who_moved_have_left() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    bob.member.move(NOON, transform(1.0))
    ann.outbox.offer(b"\x81\x00")
    hall.tick()
    hall.apply(Leave(bob.member))
    ann.receive()
    assert not hall.tick()
    assert ann.see() == []
    assert not ann.member.missed


def test_a_newcomer_knows_every_transform_from_its_welcome_and_the_next_batches() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    hall.apply(Join(bob.member))
    assert places(bob.see()[-1]) == {"ann": 1.0}
    bob.member.move(NOON, transform(2.0))
    hall.tick()
    assert [places(message) for message in bob.see()] == [{"bob": 2.0}]


def test_a_transform_that_overtook_its_join_is_shown_with_it() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann)
    bob.member.move(NOON, transform(2.0))
    hall.tick()
    assert ann.see() == []
    hall.apply(Join(bob.member))
    assert places(bob.see()[-1]) == {"bob": 2.0}
    ann.receive()
    hall.tick()
    assert [places(message) for message in ann.see()] == [{"bob": 2.0}]


def test_a_closed_outbox_misses_batches_and_disturbs_nobody() -> None:
    hall, (ann, bob) = Hall(), guests("ann", "bob")
    hall.admit(ann, bob)
    ann.receive()
    bob.outbox.close()
    ann.member.move(NOON, transform(1.0))
    hall.tick()
    assert places(ann.seen()) == {"ann": 1.0}
    assert bob.see() == []


# --- any order of events --------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Happened:
    """An event in the room's order. Its time is known from whoever hears of it first."""

    user: str
    type: str
    data: object
    time: float | None = None

    def check(self, entry: Entry) -> None:
        assert (entry["user"], entry["type"], entry["data"]) == (self.user, self.type, self.data)
        if self.time is None:
            self.time = entry["time"]
        assert entry["time"] == self.time


@attrs.frozen
class Whole:
    """A message that must come as it is: a list, a history, or transforms in any order."""

    events: Sequence[Happened]

    @property
    def transforms(self) -> bool:
        return self.events[0].type == "transform"


@attrs.define(eq=False)
class Seat:
    """The model's view of one user from one join to its leave."""

    guest: Guest
    joined: Happened
    # What is still to be received, in this order.
    due: list[Happened | Whole] = attrs.field(factory=list)
    # Where this member should be shown, and whether that is still to go into a batch.
    transform: Happened | None = None
    moved: bool = False
    missed: bool = False
    # Where this member, by what it received, knows the others to be.
    known: dict[str, object] = attrs.field(factory=dict)

    def receive(self) -> None:
        """Hold what the member receives against what is due."""
        for message in self.guest.see():
            assert self.due, message
            head = self.due[0]
            if isinstance(head, Whole):
                self.due.pop(0)
                self._receive_whole(head, message)
            else:
                for entry in message:
                    head = self.due.pop(0)
                    assert isinstance(head, Happened), entry
                    head.check(entry)
                    if head.type == "leave":
                        self.known.pop(head.user, None)
        if not self.guest.outbox.closed:
            assert not self.due

    def _receive_whole(self, whole: Whole, message: Message) -> None:
        assert len(message) == len(whole.events)
        expected = whole.events
        if whole.transforms:
            message = sorted(message, key=lambda entry: str(entry["user"]))
            expected = sorted(expected, key=lambda happened: happened.user)
        for happened, entry in zip(expected, message, strict=True):
            happened.check(entry)
            if whole.transforms:
                self.known[happened.user] = happened.data


NAMES = ("ann", "ANN", "Bob", "carl", "Émile")
DATA: tuple[object, ...] = ("hello", 1.5, None, {"a": [1, {"b": "é"}]}, [], "")
# (what, which user, something to say)
acts = st.tuples(
    st.sampled_from(["join", "join", "leave", "say", "say", "list", "late word", "late leave"]),
    st.integers(0, len(NAMES) - 1),
    st.sampled_from(DATA),
)


several = st.sets(st.integers(0, len(NAMES) - 1), min_size=1)


class PresenceMachine(RuleBasedStateMachine):
    """A room beside a model with one order of events. Outboxes fill up while their writers wait, and close."""

    @initialize(
        history=st.integers(0, 4), limit_frames=st.sampled_from([8, 1000]), first=st.sets(st.sampled_from(NAMES))
    )
    def begin(self, history: int, limit_frames: int, first: set[str]) -> None:
        self.hall = Hall(history=history)
        self.history = history
        self.limit_frames = limit_frames
        self.order: list[Happened] = []
        self.spoken: list[Happened] = []
        self.seats: dict[str, Seat] = {}
        self.left: list[Seat] = []
        self.newcomers: list[Seat] = []
        self.clock = itertools.count(1)
        self.events([("join", NAMES.index(user), None) for user in sorted(first)])

    # The model: what each act means.

    def happen(self, user: str, kind: str, data: object) -> Happened:
        happened = Happened(user, kind, data)
        self.order.append(happened)
        for seat in self.seats.values():
            if seat not in self.newcomers:
                seat.due.append(happened)
        return happened

    def listing(self) -> Whole:
        return Whole([seat.joined for _, seat in sorted(self.seats.items(), key=lambda item: by_name(item[0]))])

    def transforms(self) -> list[Happened]:
        return [seat.transform for seat in self.seats.values() if seat.transform is not None]

    def welcome(self) -> None:
        """Joins directly after each other share a list; it is due where something else follows."""
        history = self.spoken[max(0, len(self.spoken) - self.history) :]
        for seat in self.newcomers:
            seat.due.append(self.listing())
            seat.due += [Whole(events) for events in (history, self.transforms()) if events]
        self.newcomers = []

    def act(self, what: str, user: str, data: object) -> Event | None:
        seat = self.seats.get(user)
        former = [left for left in self.left if left.guest.name == user]
        if what == "join":
            return None if seat else self.join(user)
        if what.startswith("late"):
            # From whoever left, or never got in: nobody hears of it.
            outsider = former[-1].guest if former else Guest(user)
            return outsider.say(data) if what == "late word" else Leave(outsider.member)
        if seat is None:
            return None
        self.welcome()
        if what == "say":
            self.spoken.append(self.happen(user, "msg", data))
            return seat.guest.say(data)
        if what == "list":
            seat.due.append(self.listing())
            return List(seat.guest.member)
        assert what == "leave"
        del self.seats[user]
        self.left.append(seat)
        self.happen(user, "leave", "")
        return Leave(seat.guest.member)

    def join(self, user: str) -> Event:
        joined = self.happen(user, "join", "")
        seat = Seat(Guest(user, self.limit_frames), joined)
        self.seats[user] = seat
        self.newcomers.append(seat)
        return Join(seat.guest.member)

    # The rules

    @rule(batch=st.lists(acts, min_size=1, max_size=8))
    def events(self, batch: Iterable[tuple[str, int, object]]) -> None:
        happening = [self.act(what, NAMES[number], data) for what, number, data in batch]
        self.welcome()
        self.hall.apply(*(happened for happened in happening if happened is not None))

    def some(self, who: Iterable[int]) -> list[Seat]:
        """Some of those who are there, whoever that is."""
        present = list(self.seats.values())
        return [present[number] for number in sorted({number % len(present) for number in who})] if present else []

    @rule(who=several, times=st.integers(1, 2))
    def move(self, who: set[int], times: int) -> None:
        for seat in self.some(who):
            for _ in range(times):
                place = next(self.clock)
                user = seat.guest.name
                seat.guest.member.move(NOON + place, transform(place))
                seat.transform = Happened(user, "transform", json.loads(transform(place)), NOON + place)
                seat.moved = True

    @rule()
    def tick(self) -> None:
        moved = [seat.transform for seat in self.seats.values() if seat.moved and seat.transform is not None]
        missed = False
        for seat in self.seats.values():
            box = seat.guest.outbox
            content = self.transforms() if seat.missed else moved
            free = not (box.waiting_frames or box.closed)
            seat.moved = False
            if content and free:
                seat.due.append(Whole(content))
            seat.missed = bool(content) and not free
            missed |= seat.missed
        full = {seat.guest.member for seat in self.seats.values() if seat.guest.member.missed}
        assert self.hall.tick() == missed
        for those_who_missed in (True, False):
            frames = {
                id(frame) for member, (frame, _) in self.hall.batch.items() if (member in full) == those_who_missed
            }
            assert len(frames) <= 1
        for what, happened in (("a batch", moved), ("a batch missed", missed), ("the full set", full)):
            if happened:
                event(what)

    @rule(who=several)
    def write(self, who: set[int]) -> None:
        for seat in self.some(who):
            seat.receive()

    @rule(who=several, writing=several)
    def frame(self, who: set[int], writing: set[int]) -> None:
        """What a room mostly does: some move, some read, and a batch goes out."""
        self.move(who, 1)
        self.write(writing)
        self.tick()

    @rule()
    def everybody_writes_and_a_quiet_tick_passes(self) -> None:
        everybody = [*self.seats.values(), *self.left]
        # The first tick sends what moved, the second what somebody missed; after them nothing is left.
        for _ in range(2):
            for seat in everybody:
                seat.receive()
            self.tick()
        for seat in everybody:
            seat.receive()
        self.tick()
        present = {user: seat.transform.data for user, seat in self.seats.items() if seat.transform is not None}
        for seat in self.seats.values():
            if not seat.guest.outbox.closed:
                assert seat.guest.outbox.waiting_frames == 0
                assert seat.known == present

    @rule(who=st.integers(0, 3 * len(NAMES)))
    def close(self, who: int) -> None:
        if who < len(self.seats):  # not too often
            for seat in self.some([who]):
                seat.guest.outbox.close()

    @invariant()
    def the_room_holds_who_joined_and_did_not_leave(self) -> None:
        if hasattr(self, "hall"):
            members = {member.name: member for member in self.hall.presence.members()}
            assert members == {user: seat.guest.member for user, seat in self.seats.items()}
            assert len(self.hall.presence) == len(self.seats)

    def teardown(self) -> None:
        if not hasattr(self, "hall"):
            return
        for seat in [*self.seats.values(), *self.left]:
            seat.receive()
        times = [happened.time for happened in self.order if happened.time is not None]
        assert all(before < after for before, after in itertools.pairwise(times))


def by_name(name: str) -> tuple[str, str]:
    return name.casefold(), name


TestAnyOrderOfEvents = PresenceMachine.TestCase
TestAnyOrderOfEvents.settings = settings(deadline=None, max_examples=250, stateful_step_count=30)
