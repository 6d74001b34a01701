"""Recordings, read: whole ones, cut ones, and what is none."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_vrchat import Config, RecordingError, Transform, Vector, recording, testing
from trio_vrchat._recording_file import VERSION, RecordingFile
from trio_vrchat.recording import ClockOffset, Joined, Left, Moved, Said

from .test_recorder import the_file

NOW = testing.START_TIME
MANIFEST = {"version": VERSION, "settings": "{}", "notes": '{"a": "b"}'}


def a_file(path: Path, flushes: int = 3, manifest: dict[str, str] = MANIFEST) -> bytes:
    """A recording of three messages a flush; returns its bytes."""
    with path.open("wb") as stream:
        file = RecordingFile(stream, manifest)
        for number in range(flushes):
            at = NOW + number
            for line in (
                {"room": "den", "time": at, "user": "Tibi", "type": "msg", "data": number},
                {"room": "den", "time": at, "user": "Anna", "type": "wave", "data": {"a": [number]}},
            ):
                file.add("events", round(at * 1e9), json.dumps(line).encode())
            data = {"pos": {"x": number, "y": 1.5, "z": 0}, "rot": {"x": 0, "y": 0, "z": 0.5}, "t": at - 0.25}
            line = {"room": "den", "time": at, "user": "Tibi", "type": "transform", "data": data}
            file.add("transforms", round(at * 1e9), json.dumps(line).encode())
            file.flush()
        file.finish()
    return path.read_bytes()


async def test_what_was_recorded_is_read_as_typed_events(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with testing.open_server(Config(record=str(tmp_path), note=("seed=7",))) as server:
        tibi = await server.login("Tibi")
        tibi.send({"room": "lobby", "type": "transform", "data": {"pos": {"x": 1.5}, "hands": {}, "t": NOW}})
        tibi.send({"room": "lobby", "type": "wave", "data": {"a": None}})
        tibi.send({"system": "clock", "options": {"offset": 2, "bound": 0.5}})
        await testing.settle()
    with recording.open(the_file(tmp_path)) as session:
        assert session.manifest["notes"] == {"seed": "7"}
        assert session.manifest["settings"]["fps"] == 20
        events = list(session)
        assert events == list(session), "as often as you like"
        assert session.lost == ""
    assert [event for event in events if not isinstance(event, Left | Said)] == [
        Joined("lobby", "Tibi", NOW),
        Moved("lobby", "Tibi", NOW, Transform(Vector(1.5), Vector(), {"hands": {}, "t": NOW})),
        ClockOffset("Tibi", NOW, 2, 0.5),
    ]
    (said,) = [event for event in events if isinstance(event, Said)]
    assert (said.room, said.user, said.type, said.data) == ("lobby", "Tibi", "wave", {"a": None})
    assert isinstance(events[-1], Left)


def test_a_file_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "whole.mcap"
    whole = a_file(path)
    with recording.open(path) as session:
        everything = list(session.lines())
        assert (len(everything), session.lost) == (9, "")
    cut = tmp_path / "cut.mcap"
    readable: list[int] = []
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            with recording.open(cut) as session:
                lines = list(session.lines())
        except RecordingError:
            assert not readable, "once it can be opened, a longer one can"
            continue
        assert lines == everything[: len(lines)]
        assert f"{len(lines)} messages" in session.lost
        readable.append(len(lines))
    assert readable == sorted(readable)
    assert set(readable) == {0, 3, 6, 9}, "in whole flushes"


@given(st.data())
def test_a_damaged_file_is_one_line_or_fewer_events(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file.mcap"
    whole = bytearray(a_file(path))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        with recording.open(path) as session:
            assert len(list(session.lines())) <= 9
            assert "\n" not in session.lost
    except RecordingError:
        pass


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no recording: it begins with b''"),
        (b"%PDF-1.7 and so on", "is no recording: it begins with b'%PDF-1.7'"),
        (b"\x89MCAP0\r\n", "was cut or damaged at its start"),
    ],
)
def test_what_is_no_recording_is_said_in_a_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as error:
        recording.open(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_foreign_and_a_newer_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file.mcap"
    whole = a_file(path)
    path.write_bytes(whole.replace(b"trio_vrchat", b"ros2.profil", 1))
    with pytest.raises(RecordingError, match=r"of the profile 'ros2.profil', and no recording"):
        recording.open(path)
    a_file(path, manifest=MANIFEST | {"version": "2", "server": "trio_vrchat 9"})
    with pytest.raises(RecordingError, match=r"has version '2' .* reads version 1: .*'trio_vrchat 9'"):
        recording.open(path)
    with pytest.raises(RecordingError, match="cannot read"):
        recording.open(tmp_path / "nowhere")


def test_frames_is_a_table_of_transforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, list[Any]]] = []

    class Pandas:
        DataFrame = made.append

    path = tmp_path / "file.mcap"
    a_file(path)
    monkeypatch.setitem(__import__("sys").modules, "pandas", Pandas)
    with recording.open(path) as session:
        session.frames()
        rows = list(session.rows())
        assert list(session.rows(room="hall")) == list(session.rows(user="Anna")) == []
    (columns,) = made
    assert columns["x"] == [0, 1, 2]
    assert columns["rz"] == [0.5] * 3
    assert columns["t"] == [NOW - 0.25 + number for number in range(3)]
    assert [row[0] for row in rows] == columns["time"]
    for name in ("pandas", "polars"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with recording.open(path) as session, pytest.raises(RecordingError, match="neither pandas nor polars is installed"):
        session.frames()


def test_a_time_of_capture_that_is_none_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "file.mcap"
    stream = io.BytesIO()
    file = RecordingFile(stream, MANIFEST)
    data = {"pos": {"x": 1, "y": 2, "z": 3}, "rot": {"x": 4, "y": 5, "z": 6}}
    strange: list[Any] = ["soon", True, None, {}]
    for t in strange:
        line = {"room": "den", "time": NOW, "user": "Tibi", "type": "transform", "data": data | {"t": t}}
        file.add("transforms", 1, json.dumps(line).encode())
    file.finish()
    path.write_bytes(stream.getvalue())
    with recording.open(path) as session:
        rows = list(session.rows())
    assert len(rows) == 4
    assert all(math.isnan(row[-1]) for row in rows)
    assert {row[:-1] for row in rows} == {(NOW, "den", "Tibi", 1, 2, 3, 4, 5, 6)}
