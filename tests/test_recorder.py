"""The recorder: everything that happens is in the file, and nobody waits for it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from mcap.reader import make_reader
from trio.testing import MockClock

from trio_vrchat import Config, RecordingError, recording, testing
from trio_vrchat._recorder import FLUSH_S
from trio_vrchat._recording_file import RecordingFile

NOW = testing.START_TIME
TRANSFORM = {"pos": {"x": 1.25, "y": 1.6, "z": 0.0}, "rot": {"x": 0.0, "y": 0.5, "z": 0.0}}


def messages(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What is in a whole file, by channel, each with its time checked."""
    found: dict[str, list[dict[str, Any]]] = {}
    with path.open("rb") as stream:
        for _, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            data = json.loads(message.data)
            assert message.log_time == round(data["time"] * 1e9)
            found.setdefault(channel.topic, []).append(data)
    return found


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.mcap")
    return path


def without_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


async def test_all_that_happens_is_recorded_in_order(autojump_clock: MockClock, tmp_path: Path) -> None:
    config = Config(record=str(tmp_path), note=("condition=mirror", "seed=7"))
    async with testing.open_server(config) as server:
        tibi, anna = await server.login("Tibi"), await server.login("Anna")
        for x in range(5):
            # Five within one batch: four of them nobody sees.
            tibi.send({"room": "lobby", "type": "transform", "data": TRANSFORM | {"n": x}})
        await testing.settle()
        anna.send({"room": "lobby", "data": "hello"})
        await testing.settle()
        tibi.send({"room": "den", "type": "join", "data": ""})
        await testing.settle()
        tibi.send({"room": "den", "type": "wave", "data": [1]})
        await testing.settle()
        await trio.sleep(1)
        seen = [entry for entry in anna.entries("lobby") if entry["type"] != "transform"]
    found = messages(the_file(tmp_path))
    lobby = [entry for entry in found["events"] if entry["room"] == "lobby"]
    assert [(entry["user"], entry["type"]) for entry in lobby[:3]] == [
        ("Tibi", "join"),
        ("Anna", "join"),
        ("Anna", "msg"),
    ]
    assert sorted((entry["user"], entry["type"]) for entry in lobby[3:]) == [("Anna", "leave"), ("Tibi", "leave")]
    said = [entry for entry in seen if entry["type"] == "msg"]
    assert [entry for entry in lobby if entry["type"] == "msg"] == [{"room": "lobby"} | said[0]]
    assert [(entry["type"], entry["data"]) for entry in found["events"] if entry["room"] == "den"][:2] == [
        ("join", ""),
        ("wave", [1]),
    ]
    assert [entry["data"] for entry in found["transforms"]] == [TRANSFORM | {"n": x} for x in range(5)]
    assert {entry["user"] for entry in found["transforms"]} == {"Tibi"}


async def test_the_manifest_says_what_it_is_and_no_secret(autojump_clock: MockClock, tmp_path: Path) -> None:
    config = Config(record=str(tmp_path), note=("condition=mirror", "seed=7"), fps=30)
    async with testing.open_server(config) as server:
        await server.login("Tibi")
        path = the_file(tmp_path)
        beside = json.loads(path.with_suffix(".json").read_text())
        assert "ended" not in beside
    with path.open("rb") as stream:
        (metadata,) = make_reader(stream).iter_metadata()
    beside = json.loads(path.with_suffix(".json").read_text())
    for manifest in (beside, metadata.metadata):
        assert manifest["started"] == "2020-09-13T12:26:40.000+00:00"
        notes, settings = manifest["notes"], manifest["settings"]
        assert (json.loads(notes) if isinstance(notes, str) else notes) == {"condition": "mirror", "seed": "7"}
        settings = json.loads(settings) if isinstance(settings, str) else settings
        assert settings["fps"] == 30
        assert not {"store", "tls_key", "tls_cert", "record", "pseudonyms"} & set(settings)
    assert (beside["rooms"], beside["messages"]) == (["lobby"], 2)
    assert path.stat().st_mode & 0o777 == path.with_suffix(".json").stat().st_mode & 0o777 == 0o600


async def test_what_is_half_a_second_old_can_be_read_though_the_server_never_ends(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with testing.open_server(Config(record=str(tmp_path))) as server:
        tibi = await server.login("Tibi")
        for number in range(3):
            tibi.send({"room": "lobby", "data": number})
            await testing.settle()
            await trio.sleep(1.01 * FLUSH_S)
            await testing.settle()
            copy = tmp_path / f"cut {number}"
            copy.write_bytes(the_file(tmp_path).read_bytes())
            with recording.open(copy) as session:
                said = [event.data for event in session if isinstance(event, recording.Said)]
            assert "has lost its end" in session.lost
            assert said == list(range(number + 1))


async def test_a_recording_is_started_and_stopped_in_a_run(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with testing.open_server() as server:
        recorder = server.handle.recorder
        assert recorder.path is None
        with pytest.raises(RecordingError, match="no recording is running"):
            await recorder.stop()
        tibi = await server.login("Tibi")
        tibi.send({"room": "lobby", "type": "transform", "data": TRANSFORM})
        tibi.send({"room": "lobby", "data": "before"})
        await testing.settle()
        path = await recorder.start(tmp_path / "new" / "folder", {"take": "1"})
        assert recorder.path == path
        with pytest.raises(RecordingError, match="a recording is running already"):
            await recorder.start(tmp_path)
        tibi.send({"room": "lobby", "data": "during"})
        await testing.settle()
        recorded = await recorder.stop()
        tibi.send({"room": "lobby", "data": "after"})
        await testing.settle()
        again = await recorder.start(tmp_path / "new" / "folder")
        assert again != path
        await recorder.stop()
    found = messages(path)
    # Who is there already is in it, with when they came, and where they are.
    assert [entry["data"] for entry in found["events"]] == ["", "during"]
    assert [entry["data"] for entry in found["transforms"]] == [TRANSFORM]
    assert (recorded.path, recorded.messages, recorded.failure) == (path, 3, "")


async def test_pseudonyms_and_no_chat_texts(autojump_clock: MockClock, tmp_path: Path) -> None:
    key = tmp_path / "key"
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        async with testing.open_server(Config(record=str(folder), pseudonyms=str(key))) as server:
            tibi = await server.login("Tibi" if folder is folders[0] else "TIBI")
            tibi.send({"room": "lobby", "data": "my secret"})
            tibi.send({"room": "lobby", "type": "wave", "data": "kept"})
            tibi.send({"room": "lobby", "type": "transform", "data": TRANSFORM})
            tibi.send({"system": "clock", "options": {"offset": 1.5, "bound": 0.25}})
            await testing.settle()
    assert key.stat().st_mode & 0o777 == 0o600
    one, two = (messages(the_file(folder)) for folder in folders)
    assert [without_time(one[kind]) for kind in sorted(one)] == [without_time(two[kind]) for kind in sorted(two)]
    users = {entry["user"] for entries in one.values() for entry in entries}
    assert len(users) == 1
    assert len(users.pop()) == 16
    assert [(entry["type"], entry["data"]) for entry in one["events"][:3]] == [
        ("join", ""),
        ("msg", None),
        ("wave", "kept"),
    ]
    for folder in folders:
        written = the_file(folder).with_suffix(".json").read_text()
        assert "ibi" not in written
    key.write_bytes(b"short")
    with pytest.raises(RecordingError, match="has 5 bytes and needs 32"):
        async with testing.open_server(Config(record=str(tmp_path), pseudonyms=str(key))):
            pass


async def test_round_trips_and_clocks_are_recorded(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with testing.open_server(Config(record=str(tmp_path))) as server:
        tibi = await server.login("Tibi")
        tibi.send({"system": "clock", "options": {"offset": -0.5, "bound": 0.02}})
        await testing.settle()
        assert tibi.messages()[-1]["response"]["code"] == 200
        tibi.send({"system": "clock", "options": {"offset": "soon"}})
        await testing.settle()
        assert tibi.messages()[-1]["response"]["code"] == 400
        await trio.sleep(20)
        await testing.settle()
        tibi.texts()
        await trio.sleep(1)
    found = messages(the_file(tmp_path))
    assert without_time(found["clocks"]) == [{"user": "Tibi", "offset_s": -0.5, "bound_s": 0.02}]
    (trip,) = found["round_trips"]
    assert trip["user"] == "Tibi"
    assert trip["round_trip_s"] >= 0


async def test_a_disk_that_is_full_ends_the_recording_and_nothing_else(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flush = RecordingFile.flush
    full = False

    def failing(file: RecordingFile) -> None:
        if full:
            raise OSError(28, "No space left on device")
        flush(file)

    monkeypatch.setattr(RecordingFile, "flush", failing)
    async with testing.open_server(Config(record=str(tmp_path))) as server:
        tibi = await server.login("Tibi")
        tibi.send({"room": "lobby", "data": "before"})
        await trio.sleep(1)
        full = True
        tibi.send({"room": "lobby", "data": "lost"})
        await trio.sleep(1)
        full = False
        tibi.send({"room": "lobby", "data": "after"})
        await trio.sleep(1)
        assert [entry["data"] for entry in tibi.entries("lobby")[1:]] == ["before", "lost", "after"]
        statistics = server.handle.statistics
        assert (statistics.recording, statistics.recording_failures) == (0, 1)
        assert server.handle.recorder.path is None
    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "the recording has ended: No space left on device" in line.getMessage()
    beside = json.loads(the_file(tmp_path).with_suffix(".json").read_text())
    assert beside["failure"] == "No space left on device"


async def test_what_a_disk_that_hangs_leaves_no_room_for_is_counted(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trio_vrchat._recorder._LIMIT_BYTES", 3000)
    async with testing.open_server(Config.unlimited(record=str(tmp_path))) as server:
        tibi = await server.login("Tibi")
        for number in range(20):
            tibi.send({"room": "lobby", "data": number})
        await testing.settle()
        statistics = server.handle.statistics
        assert statistics.recording_lost > 0
        assert statistics.recorded + statistics.recording_lost == 21
        await trio.sleep(1)
        tibi.send({"room": "lobby", "data": "again"})
        await testing.settle()
    found = messages(the_file(tmp_path))
    assert found["events"][-2]["data"] == "again"
    assert Counter("the disk does not keep up" in record.getMessage() for record in caplog.records)[True] == 1


async def test_a_folder_that_cannot_be_written_to_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot record in"):
        async with testing.open_server(Config(record=str(tmp_path / "file"))):
            pass
