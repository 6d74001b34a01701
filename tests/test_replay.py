"""What follows from a recording, without a server: who does what when."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest

from trio_vrchat import ReplayError
from trio_vrchat._names import are_look_alikes, name_key
from trio_vrchat._replay import Act, Schedule

from .recorded import as_json, line, pose


def acts(lines: list[dict[str, Any]], manifest: dict[str, Any] | None = None, **options: Any) -> list[Act]:
    schedule = Schedule(manifest or {}, **options)
    return [act for entry in lines for act in schedule.take(as_json(entry))]


def brief(found: list[Act]) -> list[tuple[float, str, str, str]]:
    return [(round(act.at_s, 6), act.person, act.room, act.type) for act in found]


LINES = [
    line(10.0, "Tibi", "join"),
    line(11.0, "Tibi", "transform", pose(1.0, hands={"left": None})),
    line(12.0, "Anna", "join", room="den"),
    line(12.5, "Anna", "wave", {"with": "left"}, room="den"),
    line(13.0, "Tibi", "transform", pose(2.0)),
    line(14.0, "Anna", "leave", room="den"),
    line(15.0, "Tibi", "leave"),
]


def test_acts_are_what_was_recorded_from_its_first_moment_on() -> None:
    found = acts(LINES)
    assert brief(found) == [
        (0, "Tibi ↺", "lobby", "join"),
        (1, "Tibi ↺", "lobby", "transform"),
        (2, "Anna ↺", "den", "join"),
        (2.5, "Anna ↺", "den", "wave"),
        (3, "Tibi ↺", "lobby", "transform"),
        (4, "Anna ↺", "den", "leave"),
        (5, "Tibi ↺", "lobby", "leave"),
    ]
    assert json.loads(found[1].data) == pose(1.0, hands={"left": None})
    assert json.loads(found[3].data) == {"with": "left"}


def test_data_is_sent_in_the_bytes_in_which_it_was_recorded() -> None:
    data = b'{"rot":{"z":0,"y":1e-1,"x":0},"pos":{"x":1.50,"y":0,"z":0,"w":[1]},"t":0.10}'
    schedule = Schedule({})
    entry = b'{"room":"lobby","time":1600000000.0,"user":"Tibi","type":"transform","data":%b}' % data
    assert [act.data for act in schedule.take(entry)] == [b'""', data]


def test_from_a_moment_on_everybody_stands_where_they_are_by_then() -> None:
    found = acts([*LINES[:4], line(12.7, "Mia", "join"), *LINES[4:]], from_s=2.9)
    assert brief(found) == [
        (0, "Tibi ↺", "lobby", "join"),
        (0, "Tibi ↺", "lobby", "transform"),
        (0, "Anna ↺", "den", "join"),
        (0, "Mia ↺", "lobby", "join"),
        (0.1, "Tibi ↺", "lobby", "transform"),
        (1.1, "Anna ↺", "den", "leave"),
        (2.1, "Tibi ↺", "lobby", "leave"),
    ]
    assert json.loads(found[1].data)["pos"]["x"] == 1.0


def test_who_left_before_is_not_there() -> None:
    assert brief(acts(LINES, from_s=4.5)) == [
        (0, "Tibi ↺", "lobby", "join"),
        (0, "Tibi ↺", "lobby", "transform"),
        (0.5, "Tibi ↺", "lobby", "leave"),
    ]


def test_an_empty_stage_is_not_waited_for() -> None:
    later = [line(100.0, "Mia", "join"), line(101.0, "Mia", "leave")]
    expected = [(0, "Mia ↺", "lobby", "join"), (1, "Mia ↺", "lobby", "leave")]
    assert brief(acts(LINES + later, from_s=20)) == expected
    # The same where others are in rooms that are not asked for.
    elsewhere = [line(0.0, "Tibi", "join", room="den"), *later]
    assert brief(acts(elsewhere, room="lobby")) == expected


def test_of_one_room() -> None:
    assert brief(acts(LINES, room="den")) == [
        (0, "Anna ↺", "den", "join"),
        (0.5, "Anna ↺", "den", "wave"),
        (2, "Anna ↺", "den", "leave"),
    ]


def test_who_was_there_when_it_was_started_is_there_at_once() -> None:
    hours = 5 * 3600
    lines = [line(-hours, "Tibi", "join"), line(-60, "Tibi", "transform", pose(3.0)), line(2.0, "Anna", "join")]
    assert brief(acts(lines, {"started": "2020-09-13T12:26:40.000+00:00"})) == [
        (0, "Tibi ↺", "lobby", "join"),
        (0, "Tibi ↺", "lobby", "transform"),
        (2, "Anna ↺", "lobby", "join"),
    ]


def test_a_clock_that_was_set_back_changes_no_order() -> None:
    lines = [line(5.0, "Tibi", "join"), line(1.0, "Tibi", "msg", "a"), line(6.0, "Tibi", "msg", "b")]
    assert [(act.type, act.at_s) for act in acts(lines)] == [("join", 0.0), ("msg", 0.0), ("msg", 1.0)]


def test_what_the_recording_has_lost_is_made_up_for() -> None:
    lines = [
        line(0.0, "Tibi", "leave"),
        line(1.0, "Tibi", "transform", pose(1.0)),
        line(2.0, "Tibi", "join"),
        line(3.0, "Tibi", "leave"),
        line(4.0, "Tibi", "msg", "here"),
    ]
    assert [act.type for act in acts(lines)] == ["join", "transform", "leave", "join", "msg"]


def test_texts_that_were_left_out_are_skipped() -> None:
    lines = [line(0.0, "3f2a", "join"), line(1.0, "3f2a", "msg", None), line(2.0, "3f2a", "wave", None)]
    assert [act.type for act in acts(lines, {"pseudonyms": True})] == ["join", "wave"]
    # Elsewhere it is what somebody said.
    assert [act.type for act in acts(lines)] == ["join", "msg", "wave"]


def names(*users: str) -> list[str]:
    return [act.person for act in acts([line(0.0, user, "join") for user in users])]


def test_names_are_marked_and_fit() -> None:
    assert names("Tibi", "x" * 32, "ä" * 30) == ["Tibi ↺", "x" * 30 + " ↺", "ä" * 30 + " ↺"]
    assert names("Anna Maria of the long long name") == ["Anna Maria of the long long na ↺"]
    # A recording of a replay.
    assert names("Tibi ↺", "↺") == ["Tibi ↺", "↺ ↺"]


def test_names_stay_those_of_several_people() -> None:
    alike = ["Q" * 30 + "ab", "q" * 30 + "cd", "Tibi ↺", "Tibi", "tibi 2"]
    # In Cyrillic, of which the first looks like Tibi.
    alike += ["\u0422ibi", "\u0442" * 30 + "a", "\u0422" * 30 + "b"]
    found = names(*alike)
    assert len(found) == len({name_key(name) for name in found}) == 8
    assert not any(are_look_alikes(one, other) for one in found for other in found)
    for name in found:
        assert len(name) <= 32
        assert not {unicodedata.category(letter) for letter in name} & {"Cc", "Cf"}


def test_one_user_in_two_spellings_is_one_person() -> None:
    lines = [line(0.0, "Tibi", "join"), line(1.0, "TIBI", "msg", "a"), line(2.0, "tibi", "leave")]
    assert {act.person for act in acts(lines)} == {"Tibi ↺"}
    # Who left and comes again has the name again.
    assert names("Tibi")[0] == acts([*lines, line(3.0, "Tibi", "join")])[-1].person


def test_what_is_kept_does_not_grow_with_the_recording() -> None:
    schedule = Schedule({})
    for number in range(500):
        for entry in (line(number, f"u{number}", "join"), line(number, f"u{number}", "leave")):
            schedule.take(as_json(entry | {"room": f"room {number}"}))
    assert not schedule._people
    assert not schedule._names._keys
    assert not schedule._names._looks
    assert len(schedule._rooms) < 10


@pytest.mark.parametrize(
    "entry", [b"", b"\xff", b"{}", b'{"room":1,"time":0,"user":"a","type":"join","data":""}', b"[1]"]
)
def test_a_line_that_is_none_is_said(entry: bytes) -> None:
    with pytest.raises(ReplayError, match="a message of the recording is none"):
        Schedule({}).take(entry)


def test_why_there_is_nothing() -> None:
    empty = Schedule({})
    assert empty.why_nothing() == "nothing happens in it"
    for schedule, why in (
        (Schedule({}, room="hall"), "nothing happens in the room 'hall'; there is 'lobby', 'den'"),
        (Schedule({}, from_s=60), "it has 5.000 s, and nothing is left of it after 60 s"),
    ):
        assert not [act for entry in LINES for act in schedule.take(as_json(entry))]
        assert schedule.why_nothing() == why
