"""What a report is made of: paths, meetings and figures, held to values that were worked out by hand."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_vrchat import RecordingError, recording, testing
from trio_vrchat._recording_file import VERSION, Kind, RecordingFile
from trio_vrchat.report import Pair, Sample, Session, Stay, Track, reduce
from trio_vrchat.report._data import KINDS_OF_EVENTS, OTHER_KIND, PEOPLE
from trio_vrchat.report._meetings import LOOK_S, NEAR_M, Meetings, RoomMeetings
from trio_vrchat.report._text import NONE, clean, clock, count, number, short, spoken, width
from trio_vrchat.report._track import SLOTS, Place, look_of

NOW = testing.START_TIME
MANIFEST = {
    "version": VERSION,
    "started": "2020-09-13T12:26:40.000+00:00",
    "server": "trio_vrchat 0.1.0",
    "settings": "{}",
    "notes": '{"condition": "mirror"}',
}
Line = tuple[Kind, dict[str, Any]]


def write(path: Path, lines: Iterable[Line], manifest: Mapping[str, str] = MANIFEST) -> Path:
    """A recording of these lines, whose times are seconds since its start."""
    with path.open("wb") as stream:
        file = RecordingFile(stream, manifest)
        for kind, line in lines:
            time = NOW + line["time"]
            file.add(kind, round(time * 1e9), json.dumps(line | {"time": time}).encode())
        file.finish()
    return path


def event(time: float, user: str, kind: str = "join", room: str = "lobby") -> Line:
    return "events", {"room": room, "time": time, "user": user, "type": kind, "data": ""}


def move(time: float, user: str, x: float, z: float = 0.0, room: str = "lobby", **more: Any) -> Line:
    data = {"pos": {"x": x, "y": 1.6, "z": z}, "rot": {"x": 0, "y": 0, "z": 0}} | more
    return "transforms", {"room": room, "time": time, "user": user, "type": "transform", "data": data}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recorded.mcap"


def session_of(file: Path, lines: Iterable[Line], manifest: Mapping[str, str] = MANIFEST) -> Session:
    with recording.open(write(file, lines, manifest)) as opened:
        return reduce(opened)


# Meetings


def pair_of(file: Path, lines: Iterable[Line]) -> Pair:
    (pair,) = session_of(file, lines).pairs
    return pair


STANDING = [event(0, "Anna"), event(0, "Tibi"), move(0, "Anna", 0), move(0, "Tibi", 5)]


def test_a_meeting_lasts_from_when_they_are_near_to_when_they_are_not(file: Path) -> None:
    # It is looked at each 0.2 s, after whatever has come until then.
    pair = pair_of(file, [*STANDING, move(10, "Tibi", 1.5, 1), move(20, "Tibi", 5), move(60, "Tibi", 6)])
    assert (pair.room, pair.one, pair.other, pair.met, pair.passed) == ("lobby", "Anna", "Tibi", 1, 0)
    (meeting,) = pair.meetings
    assert (meeting.start, meeting.end) == pytest.approx((10.2, 20.2))
    assert (meeting.x, meeting.z) == pytest.approx((0.75, 0.5))
    assert pair.together_s == pytest.approx(10)
    assert pair.closest_m == pytest.approx(math.hypot(1.5, 1))


@pytest.mark.parametrize(("away", "met"), [(2.8, [(10.2, 30.2)]), (3.2, [(10.2, 20.2), (23.4, 30.2)])])
def test_who_parts_for_a_moment_has_not_parted(file: Path, away: float, met: list[tuple[float, float]]) -> None:
    # (Somebody moves meanwhile, and so it is looked at.)
    back = [move(20, "Tibi", 5), move(21.5, "Anna", 0), move(22.5, "Anna", 0)]
    back += [move(20 + away, "Tibi", 1), move(30, "Tibi", 5), move(60, "Tibi", 5)]
    pair = pair_of(file, [*STANDING, move(10, "Tibi", 1), *back])
    assert [(each.start, each.end) for each in pair.meetings] == [pytest.approx(each) for each in met]
    assert pair.met == len(met)
    assert pair.together_s == pytest.approx(sum(end - start for start, end in met))


@pytest.mark.parametrize(("near", "met"), [(2.8, 0), (3.2, 1)])
def test_who_is_near_for_a_moment_has_passed(file: Path, near: float, met: int) -> None:
    pair = pair_of(file, [*STANDING, move(10, "Tibi", 1), move(10 + near, "Tibi", 5), move(60, "Tibi", 5)])
    assert (pair.met, pair.passed) == (met, 1 - met)
    assert pair.closest_m == pytest.approx(1)


def test_two_who_stand_together_need_not_move(file: Path) -> None:
    """Who stands still sends nothing: the meeting goes on until one of them leaves, or the recording ends."""
    near = [*STANDING, move(10, "Tibi", 1)]
    assert pair_of(file, [*near, event(100, "Anna", "wave")]).together_s == pytest.approx(89.8)
    left = pair_of(file, [*near, event(50, "Anna", "leave"), event(100, "Tibi", "wave"), move(100, "Tibi", 0)])
    assert left.together_s == pytest.approx(40)


def test_nobody_meets_in_different_rooms_or_at_two_metres(file: Path) -> None:
    other_room = [event(0, "Tibi", room="den"), move(1, "Tibi", 0, room="den"), move(50, "Tibi", 0, room="den")]
    assert session_of(file, [event(0, "Anna"), move(0, "Anna", 0), *other_room]).pairs == ()
    for x, z in ((NEAR_M, 0.0), (0.0, NEAR_M)):
        assert session_of(file, [*STANDING, move(10, "Tibi", x, z), move(50, "Tibi", x, z)]).pairs == ()
    upstairs = move(10, "Tibi", 0, pos={"x": 0, "y": 4.6, "z": 0})
    assert session_of(file, [*STANDING, upstairs, event(50, "Tibi", "wave")]).pairs == ()


def test_pairs_are_in_the_order_of_their_time_together(file: Path) -> None:
    lines = [event(0, name) for name in "ABC"] + [move(1, "A", 0), move(1, "B", 1), move(10, "C", 0), move(40, "B", 9)]
    pairs = session_of(file, [*lines, event(60, "A", "wave")]).pairs
    assert [(pair.one, pair.other) for pair in pairs] == [("A", "C"), ("A", "B"), ("B", "C")]
    assert [pair.together_s for pair in pairs] == [pytest.approx(each) for each in (49.8, 39.0, 30.0)]


def test_all_who_are_near_are_seen_whoever_stands_between() -> None:
    """Held to every pair, one by one."""
    rng = random.Random(7)
    meetings = Meetings()
    room = RoomMeetings("hall", meetings)
    here: dict[str, Place] = {}
    closest: dict[tuple[str, str], float] = {}
    for look in range(200):
        for _ in range(4):
            name = f"{rng.randrange(20):02}"
            now = (look + 0.5) * LOOK_S
            if name in here and rng.random() < 0.1:
                del here[name]
                room.leave(now, name)
            else:
                here[name] = rng.uniform(0, 9), rng.uniform(1, 2), rng.uniform(0, 9)
                room.place(now, name, here[name])
        for (one, place), (other, there) in itertools.combinations(sorted(here.items()), 2):
            if (apart := math.dist(place, there)) < NEAR_M:
                closest[one, other] = min(apart, closest.get((one, other), math.inf))
    room.finish(200 * LOOK_S)
    assert len(closest) > 100
    assert {(pair.one, pair.other): pair.closest_m for pair in meetings.pairs.values()} == closest
    assert all(pair.met == len(pair.meetings) for pair in meetings.pairs.values())


# Paths


def walk(track: Track, *places: tuple[float, float]) -> None:
    """Time and x."""
    for time, x in places:
        track.move(time, int(time / 0.1 + 1e-9), (x, 1.6, 0.0), (0.0, -1.0))


def test_way_and_speed_are_of_who_walks() -> None:
    track = Track()
    track.join(0)
    # Ten steps of 0.1 m in a second; then nine seconds of swaying by a centimetre; then a step of 5 cm.
    walk(track, *((step / 10, step / 10) for step in range(11)))
    walk(track, *((1 + sway / 2, 1 + sway % 2 / 100) for sway in range(1, 18)), (10, 1.05))
    track.finish(10)
    assert track.walked_m == pytest.approx(1.05)
    assert (track.walking_m, track.walking_s) == pytest.approx((1, 1))
    assert track.jumps == track.silences == 0
    speeds = track.speeds(0.1)
    assert [time for time, _ in speeds] == pytest.approx(range(10))
    # The step that ends at 1 s falls into the second second.
    assert [speed for _, speed in speeds] == pytest.approx([0.9, 0.1, 0, 0, 0, 0, 0, 0, 0, 0])


def test_who_comes_out_of_a_silence_elsewhere_was_not_that_fast() -> None:
    track = Track()
    track.join(0)
    walk(track, (0, 0), (40, 8))
    track.finish(41)
    assert track.walked_m == 8
    assert max(speed for _, speed in track.speeds(0.1)) == pytest.approx(0.2)


def test_a_jump_is_no_way_and_breaks_the_line() -> None:
    track = Track()
    track.join(0)
    # In 0.1 s nobody comes further than 0.5 m and 5 m/s allow: 1.0 m.
    walk(track, (0, 0), (0.1, 0.99), (0.2, 2.1), (0.3, 2.2))
    track.finish(1)
    assert track.jumps == 1
    assert track.walked_m == pytest.approx(1.09)
    assert [broken for *_, broken in track.path(0.1)] == [True, False, True, False]


def test_a_silence_is_one_only_where_the_head_was_elsewhere_after_it() -> None:
    track = Track()
    track.join(0)
    walk(track, (0, 0), (5, 0.02), (5.4, 0.4), (7.4, 1), (8.4, 2))
    assert track.silences == 2
    assert track.longest_silence_s == pytest.approx(2)
    track.leave(9)
    track.join(30)
    walk(track, (31, 9))
    assert (track.silences, track.jumps, track.transforms) == (2, 0, 6)


def test_stays_are_between_joins_and_leaves() -> None:
    track = Track()
    for time, join in ((1, True), (2, True), (5, False), (6, False), (8, True)):
        (track.join if join else track.leave)(time)
    assert track.is_here
    track.finish(10)
    assert track.stays == [Stay(1, 5), Stay(8, 10)]
    assert track.present_s == 6


def test_a_place_is_held_until_the_next_or_until_they_leave() -> None:
    track = Track()
    track.join(0)
    walk(track, (0.2, 1), (0.5, 2))
    track.leave(0.7)
    track.join(0.9)
    walk(track, (1.0, 7))
    track.finish(1.2)
    held = {slot: x for slot, (x, _, _) in track.held(0.1).items()}
    assert held == {2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 10: 7, 11: 7}


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-5, 5, width=32)), max_size=60), st.integers(0, 3))
def test_slots_that_are_halved_are_as_if_they_had_been_that_long(moves: list[tuple[int, float]], times: int) -> None:
    halved, from_the_start = Track(), Track()
    for track in (halved, from_the_start):
        track.join(0)
    for slot, x in sorted(moves, key=lambda each: each[0]):
        halved.move(slot, slot, (x, 0, 0), (x, 1))
        from_the_start.move(slot, slot >> times, (x, 0, 0), (x, 1))
    for _ in range(times):
        halved.halve()
    assert halved.path(1) == from_the_start.path(1)
    halved.finish(40)
    from_the_start.finish(40)
    assert [speed for _, speed in halved.speeds(1)] == pytest.approx([speed for _, speed in from_the_start.speeds(1)])


@pytest.mark.parametrize(
    ("rot", "quat", "look"),
    [
        ((0, 0, 0), None, (0, -1)),
        # To the left, to the right, back; the roll turns nobody's eyes.
        ((0, math.pi / 2, 1), None, (-1, 0)),
        ((0, -math.pi / 2, 0), None, (1, 0)),
        ((0, math.pi, 0), None, (0, 1)),
        # Up, and half up.
        ((math.pi / 2, 0, 0), None, (0, 0)),
        ((math.pi / 3, 0, 0), None, (0, -0.5)),
        # The same as quaternions: to the left, half up.
        ((0, 0, 0), {"x": 0, "y": math.sqrt(0.5), "z": 0, "w": math.sqrt(0.5)}, (-1, 0)),
        ((0, 0, 0), {"x": 0.5, "y": 0, "z": 0, "w": math.sqrt(0.75)}, (0, -0.5)),
        # Of any length; and what is none.
        ((0, 0, 0), {"y": 7, "w": 7}, (-1, 0)),
        ((0, math.pi / 2, 0), {"x": 0, "y": 0, "z": 0, "w": 0}, (-1, 0)),
        ((0, math.pi / 2, 0), {"x": "much"}, (-1, 0)),
        ((0, math.pi / 2, 0), [1, 2], (-1, 0)),
    ],
)
def test_where_they_look_from_above(rot: tuple[float, float, float], quat: object, look: tuple[float, float]) -> None:
    assert look_of(rot, quat) == pytest.approx(look, abs=1e-9)


def test_numbers_that_are_none_of_this_world_are_bounded(file: Path) -> None:
    quat = {"x": 10**400, "y": 0, "z": 0, "w": 0}
    strange = move(1, "Tibi", 1e300, quat=quat, t=10**400, rot={"x": 1e300, "y": -1e300, "z": 0})
    session = session_of(file, [event(0, "Tibi"), strange])
    ((_, (x, _, _), (look_x, look_z), _),) = session.tracks["lobby", "Tibi"].path(session.step_s)
    assert x == 10_000
    assert math.hypot(look_x, look_z) <= 1.000001
    assert session.people["Tibi"].delays.count == 0


# A whole recording


def test_a_recording_in_figures(file: Path) -> None:
    lines: list[Line] = [
        event(-50, "Tibi"),  # was there before the recording began
        event(1, "Anna"),
        event(2, "Tibi", room="den"),
        *(("round_trips", {"time": 3, "user": "Anna", "round_trip_s": ms / 1000}) for ms in range(1, 101)),
        ("clocks", {"time": 4, "user": "Anna", "offset_s": -1.5, "bound_s": 0.25}),
        ("clocks", {"time": 5, "user": "Anna", "offset_s": -1.25, "bound_s": 0.125}),
        event(6, "Anna", "msg"),
        event(7, "Anna", "msg"),
        event(8, "Tibi", "msg"),
        event(8.5, "Tibi", "msg", room="den"),
        event(9, "Tibi", "wave"),
        event(10, "Anna", "msg"),
        *(move(12 + number, "Anna", 0, t=NOW + 12 + number - 0.25) for number in range(5)),
        event(20, "Anna", "leave"),
    ]
    session = session_of(file, lines)
    assert (session.file, session.lost, session.left_out) == ("recorded.mcap", "", ())
    assert (session.started, session.duration_s) == (NOW, 20)
    assert session.manifest["notes"] == {"condition": "mirror"}
    assert (list(session.people), session.rooms) == (["Tibi", "Anna"], ("lobby", "den"))
    assert session.messages == {"events": 10, "transforms": 5, "round_trips": 100, "clocks": 2}
    assert session.tracks["lobby", "Tibi"].stays == [Stay(0, 20)]
    assert session.tracks["den", "Tibi"].stays == [Stay(2, 20)]
    assert list(session.in_room("lobby")) == ["Tibi", "Anna"]
    anna, tibi = session.people["Anna"], session.people["Tibi"]
    assert (anna.said, anna.turns, anna.spoke) == ({"msg": 3}, 2, (6, 10))
    assert (tibi.said, tibi.turns, tibi.spoke) == ({"msg": 2, "wave": 1}, 2, (8, 9))
    assert anna.marks == {"msg": {60, 70, 100}}
    assert [anna.round_trips.quantile(share) for share in (0.5, 0.95, 1)] == [0.05, 0.095, 0.1]
    assert anna.round_trips.largest == 0.1
    assert (anna.intervals.count, anna.intervals.quantile(0.5)) == (4, 1)
    assert (anna.delays.count, anna.delays.quantile(0.5)) == (5, 0.25)
    assert (anna.clock, anna.clock_least, anna.clock_most) == ((-1.25, 0.125), -1.5, -1.25)


def test_a_long_recording_is_kept_in_longer_slots(file: Path) -> None:
    # 0.1 s for ten minutes, so 0.8 s for an hour and ten.
    lines = [move(second, "Tibi", second % 7) for second in range(0, 4200, 3)]
    session = session_of(file, [event(0, "Tibi"), *lines[:34], event(100, "Tibi", "msg"), *lines[34:]])
    assert session.step_s == 0.8
    assert session.people["Tibi"].marks == {"msg": {125}}
    path = session.tracks["lobby", "Tibi"].path(session.step_s)
    assert len(path) == 1400 <= SLOTS
    assert [round(time / 0.8) for time, *_ in path] == [int(second / 0.8) for second in range(0, 4200, 3)]
    assert [x for _, (x, _, _), _, _ in path] == [second % 7 for second in range(0, 4200, 3)]


def test_a_clock_that_was_set_back_or_far_ahead_ends_nothing(file: Path) -> None:
    lines = [event(10, "Tibi"), move(11, "Tibi", 0), move(2, "Tibi", 1), event(1e10, "Tibi", "msg")]
    session = session_of(file, lines)
    assert session.tracks["lobby", "Tibi"].transforms == 2
    assert session.duration_s == pytest.approx(1e10)
    assert len(session.tracks["lobby", "Tibi"].held(session.step_s)) <= SLOTS


def test_more_than_a_report_can_hold_is_said(file: Path) -> None:
    lines = [event(number, f"guest {number}") for number in range(PEOPLE + 2)]
    lines += [move(300, f"guest {number}", 0) for number in range(PEOPLE + 2)]
    lines += [event(301, "guest 0", f"kind {number}") for number in range(KINDS_OF_EVENTS + 3)]
    session = session_of(file, [*lines, event(302, "guest 0", "msg")])
    assert len(session.people) == PEOPLE
    (sentence,) = session.left_out
    assert "4 messages are left out" in sentence
    said = session.people["guest 0"].said
    assert (said[OTHER_KIND], said["msg"], len(said)) == (3, 1, KINDS_OF_EVENTS + 2)


def test_a_transform_of_somebody_who_is_not_there_is_left_out(file: Path) -> None:
    session = session_of(file, [event(0, "Tibi"), move(1, "Tibi", 0), event(2, "Tibi", "leave"), move(3, "Tibi", 0)])
    assert session.tracks["lobby", "Tibi"].transforms == 1
    assert "1 transforms are of people who were not in their room" in session.left_out[0]


def test_an_empty_recording_and_one_without_a_start(file: Path) -> None:
    session = session_of(file, [])
    assert (session.duration_s, session.people, session.rooms, session.pairs) == (0, {}, (), ())
    session = session_of(file, [event(5, "Tibi"), event(8, "Tibi", "leave")], {"version": VERSION})
    assert (session.started, session.duration_s) == (NOW + 5, 3)


def test_a_file_that_was_cut_is_reported_without_the_folders_name(file: Path) -> None:
    write(file, [event(0, "Tibi"), *(move(second, "Tibi", 0) for second in range(5))])
    file.write_bytes(file.read_bytes()[:-200])
    with recording.open(file) as opened:
        session = reduce(opened)
    assert session.lost.startswith("recorded.mcap has lost its end")


@pytest.mark.parametrize(
    "line",
    [{"room": "lobby"}, {"room": 1, "user": "Tibi", "type": "join"}, {"room": "lobby", "user": None, "type": ""}],
)
def test_a_message_that_is_none_is_one_line(file: Path, line: dict[str, Any]) -> None:
    with recording.open(write(file, [event(0, "Tibi"), ("events", {"time": 1} | line)])) as opened:
        with pytest.raises(
            RecordingError, match=r"message 2 of .*, one of its events, is none of version 1: "
        ) as error:
            reduce(opened)
        assert "\n" not in str(error.value)


def test_a_sample_knows_its_quantiles_in_bounded_memory() -> None:
    sample = Sample()
    assert math.isnan(sample.quantile(0.5))
    for value in range(100_000):
        sample.add(value % 1000)
    assert (sample.count, sample.largest) == (100_000, 999)
    assert len(sample._values) < 4096
    assert sample.quantile(0.5) == pytest.approx(500, abs=20)
    assert sample.quantile(0.95) == pytest.approx(950, abs=20)
    below = Sample()
    below.add(-2)
    assert below.largest == -2


# Names and times


def test_what_no_page_may_hold_is_left_out() -> None:
    assert clean("a\x00b\u202ec\ufffed\ud800e") == "abcde"
    assert clean("two\u2028lines\n") == "two lines"
    assert clean("\N{MAN}\u200d\N{ROCKET}") == "\N{MAN}\u200d\N{ROCKET}"
    assert clean("\u202e\x07") == "(nothing that could be shown)"


def test_long_names_lose_their_middle() -> None:
    assert short("participant-of-the-study-01") == "participant…e-study-01"
    assert short("participant-of-the-study-01") != short("participant-of-the-study-02")
    assert width(short("山" * 32)) <= 22
    assert short("Tibi") == "Tibi"
    assert (width("Tibi"), width("山a"), width("e\u0301")) == (4, 3, 1)


def test_times_and_numbers() -> None:
    assert [clock(time) for time in (0, 7.4, 59.6, 754, 3723, math.nan)] == [
        "0:00",
        "0:07",
        "1:00",
        "12:34",
        "1:02:03",
        NONE,
    ]
    assert [spoken(time) for time in (7, 754, 3723)] == ["7 s", "12 min 34 s", "1 h 2 min"]
    assert (number(1.25, 2), number(math.inf), count(1, "pair"), count(1200, "pair")) == (
        "1.25",
        NONE,
        "1 pair",
        "1,200 pairs",
    )
