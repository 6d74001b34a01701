"""What an admin may ask: to record, what was recorded, and to see some of it again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.accounts import account, add_accounts
from trio_vrchat import BadRequest, Config, testing
from trio_vrchat._database import Database
from trio_vrchat._recording_file import RecordingFile
from trio_vrchat._recording_folder import RecordingFolder
from trio_vrchat._recording_index import Index, content_of, message_at

from .test_recorder import the_file
from .test_recording import MANIFEST, a_file

NOW = testing.START_TIME
STARTED = MANIFEST | {"started": "2019-09-20T15:25:03.000+00:00"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one recording."""
    path = tmp_path / "study"
    path.mkdir()
    a_file(path / "a.mcap")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two accounts, Ada's an admin's, and a folder for recordings."""
    path = str(tmp_path / "store.db")
    add_accounts(path, account("Ada", "1234", "admin"), account("Tibi", "1234"))
    return Config(auth="accounts", store=path, recordings=str(tmp_path / "study"))


async def ask(client: testing.RawClient, system: str, **options: Any) -> dict[str, Any]:
    """The answer's response."""
    client.messages()
    client.send({"system": system, "options": options})
    await testing.settle()
    (response,) = [message["response"] for message in client.messages() if "response" in message]
    found: dict[str, Any] = response
    return found


def transform(x: float) -> dict[str, Any]:
    return {"room": "lobby", "type": "transform", "data": {"pos": {"x": x}}}


async def test_it_is_for_admins(autojump_clock: MockClock, config: Config) -> None:
    async with testing.open_server(config) as server:
        nobody, tibi, ada = (
            await server.connect(),
            await server.login("Tibi", "1234"),
            await server.login("Ada", "1234"),
        )
        for system, options in (("record", {"on": True}), ("recordings", {}), ("playback", {})):
            assert (await ask(nobody, system, **options))["code"] == 403
            assert (await ask(tibi, system, **options))["code"] == 403
        assert (await ask(ada, "recordings"))["code"] == 212
        assert not server.statistics.recording
    async with testing.open_server() as server:
        assert (await ask(await server.login("Ada", "1234"), "record", on=True))["code"] == 403, (
            "of a server without accounts"
        )


async def test_the_login_says_who_is_an_admin_to_who_asks(autojump_clock: MockClock, config: Config) -> None:
    async def detail(user: str, **more: Any) -> Any:
        client = await server.connect()
        return (await ask(client, "login", user=user, **{"pass": "1234"}, **more))["detail"]

    async with testing.open_server(config) as server:
        assert (await detail("Ada", resume=True))["role"] == "admin"
        assert await detail("Ada") == {}
        assert "role" not in await detail("Tibi", resume=True)


async def test_who_is_no_admin_any_more_logs_in_anew(autojump_clock: MockClock, config: Config) -> None:
    async with testing.open_server(config) as server:
        ada = await server.connect()
        granted = await ask(ada, "login", user="Ada", resume=True, **{"pass": "1234"})
        ada.reset()
        await testing.settle()
        database = Database(str(config.store))
        database.query("UPDATE accounts SET role = 'user'")
        database.close()
        again = await server.connect()
        assert (await ask(again, "resume", session=granted["detail"]["session"]))["code"] == 403
        await ask(again, "login", user="Ada", **{"pass": "1234"})
        assert (await ask(again, "recordings"))["code"] == 403


async def test_a_recording_is_begun_ended_and_seen_again(autojump_clock: MockClock, config: Config) -> None:
    async with testing.open_server(config) as server:
        ada, tibi = await server.login("Ada", "1234"), await server.login("Tibi", "1234")
        await trio.sleep(0.1)
        tibi.send(transform(0.5))
        await trio.sleep(0.1)
        begun = await ask(ada, "record", on=True, notes={"condition": "mirror"})
        assert begun["code"] == 200
        again = await ask(ada, "record", on=True)
        assert (again["code"], "running already" in again["detail"]["reason"]) == (409, True)
        await trio.sleep(1)
        for x in range(10):
            tibi.send(transform(x))
            await trio.sleep(0.1)
        tibi.send({"room": "lobby", "data": "hello"})
        await trio.sleep(1)
        name = begun["detail"]["recording"]
        running = (await ask(ada, "recordings"))["detail"]
        assert (running["recording"], [each["name"] for each in running["recordings"]]) == (name, [name])
        ended = (await ask(ada, "record", on=False))["detail"]
        # Two joins and a transform that it was shown, ten more, and a line; the answers to the pings aside.
        assert (ended["recorded"], ended["recording"]) == (name, None)
        assert ended["messages"] == 14
        assert (await ask(ada, "record", on=False))["code"] == 409
        listed = (await ask(ada, "recordings"))["detail"]
        assert listed["recording"] is None
        details = (await ask(ada, "recordings", number=1))["detail"]
        assert details["rooms"] == {"lobby": 2}
        assert details["notes"] == {"condition": "mirror"}
        started = details["started"]
        seen = (await ask(ada, "playback", number=1, room="lobby", time=started, seconds=20, seek=True))["detail"]
    assert [(entry["user"], entry["type"]) for entry in seen["entries"][:3]] == [
        ("Ada", "join"),
        ("Tibi", "join"),
        ("Tibi", "transform"),
    ], "as a newcomer is told"
    assert [entry["data"]["pos"]["x"] for entry in seen["entries"][2:-1]] == [0.5, *range(10)]
    assert seen["entries"][-1]["data"] == "hello"
    assert the_file(Path(str(config.recordings))).stem == name


async def test_without_a_folder_it_says_which_option_names_one(autojump_clock: MockClock, config: Config) -> None:
    async with testing.open_server(attrs.evolve(config, recordings=None)) as server:
        ada = await server.login("Ada", "1234")
        for system, options in (("record", {"on": True}), ("recordings", {}), ("recordings", {"number": 1})):
            refused = await ask(ada, system, **options)
            assert refused["code"] == 409
            assert "--recordings" in refused["detail"]["reason"]


@pytest.mark.parametrize(
    ("system", "options", "reason"),
    [
        ("record", {}, "options: Object missing required field `on`"),
        ("record", {"on": True, "notes": {"a": 1}}, "options: Expected `str`, got `int` - at `$.notes[...]`"),
        ("recordings", {"number": "../store.db"}, "options: Expected `int`, got `str` - at `$.number`"),
        ("recordings", {"number": 2}, "there is no recording 2: there are 1 to 1"),
        ("recordings", {"number": 0}, "there is no recording 0: there are 1 to 1"),
        ("playback", {"number": -1, "room": "", "time": 0, "seconds": 1}, "there is no recording -1: there are 1 to 1"),
        (
            "playback",
            {"number": 1, "room": "", "time": 0, "seconds": 21},
            "options: seconds must be more than 0 and at most 20, not 21.0",
        ),
    ],
)
async def test_what_is_asked_in_a_wrong_way(
    autojump_clock: MockClock, config: Config, folder: Path, system: str, options: dict[str, Any], reason: str
) -> None:
    assert folder == Path(str(config.recordings))
    async with testing.open_server(config) as server:
        refused = await ask(await server.login("Ada", "1234"), system, **options)
    assert (refused["code"], refused["detail"]) == (400, {"reason": reason})


def crowd(path: Path, people: int, hz: int, seconds: int, size: int = 0) -> None:
    """Everybody moves `hz` times a second; one leaves after half of it, and one never moves but at the start."""
    with path.open("wb") as stream:
        file = RecordingFile(stream, STARTED)

        def add(kind: Any, time: float, user: str, type_: str, data: Any) -> None:
            line = {"room": "den", "time": time, "user": user, "type": type_, "data": data}
            file.add(kind, round(time * 1e9), msgspec.json.encode(line))

        for number in range(people):
            add("events", NOW + number / 1000, f"user {number}", "join", "")
        add("events", NOW + 0.5, "still", "join", "")
        add("transforms", NOW + 0.6, "still", "transform", {"pos": {"x": 7}})
        for tick in range(hz, hz * seconds):
            if tick == hz * seconds // 2:
                add("events", NOW + tick / hz, "user 0", "leave", "")
            for number in range(people):
                if number or tick < hz * seconds // 2:
                    data = {"pos": {"x": tick}, "more": "x" * size}
                    add("transforms", NOW + tick / hz, f"user {number}", "transform", data)
            if tick % (hz // 2) == 0:
                file.flush()
        file.finish()


def test_a_look_begins_with_who_is_there_and_where(tmp_path: Path) -> None:
    crowd(tmp_path / "a.mcap", people=3, hz=10, seconds=8)
    folder = RecordingFolder(tmp_path)
    answer = folder.excerpt(1, "den", NOW + 6.25, 1, seek=True)
    joins = [(entry["user"], entry["time"]) for entry in answer["entries"][:3]]
    assert joins == [("still", NOW + 0.5), ("user 1", NOW + 0.001), ("user 2", NOW + 0.002)], "user 0 has left"
    poses = {entry["user"]: msgspec.json.decode(entry["data"])["pos"]["x"] for entry in answer["entries"][3:6]}
    assert poses == {"user 1": 62, "user 2": 62, "still": 7}
    assert Counter(entry["user"] for entry in answer["entries"][6:]) == {"user 1": 10, "user 2": 10}
    assert answer["until"] == NOW + 7.25
    assert folder.excerpt(1, "elsewhere", NOW + 6.25, 1, seek=True)["entries"] == []
    early = folder.excerpt(1, "den", NOW + 0.55, 0.01, seek=True)["entries"]
    assert [entry["type"] for entry in early] == ["join"] * 4, "before anybody has moved"


def test_who_came_back_is_not_where_they_had_left(tmp_path: Path) -> None:
    with (tmp_path / "a.mcap").open("wb") as stream:
        file = RecordingFile(stream, STARTED)
        for time, kind, type_ in ((1, "events", "join"), (2, "transforms", "transform"), (3, "events", "leave")):
            line = {"room": "den", "time": NOW + time, "user": "Tibi", "type": type_, "data": {}}
            file.add(kind, round((NOW + time) * 1e9), msgspec.json.encode(line))  # type: ignore[arg-type]
        line = {"room": "den", "time": NOW + 4, "user": "Tibi", "type": "join", "data": ""}
        file.add("events", round((NOW + 4) * 1e9), msgspec.json.encode(line))
        file.finish()
    entries = RecordingFolder(tmp_path).excerpt(1, "den", NOW + 5, 1, seek=True)["entries"]
    assert [(entry["type"], entry["time"]) for entry in entries] == [("join", NOW + 4)]


def test_an_answer_is_bounded_and_says_how_far_it_goes(tmp_path: Path) -> None:
    crowd(tmp_path / "a.mcap", people=20, hz=90, seconds=6, size=400)
    folder = RecordingFolder(tmp_path)
    time, seek, answers, seen = NOW, True, 0, Counter[tuple[float, str]]()
    while time < NOW + 6:
        answer = folder.excerpt(1, "den", time, 6, seek=seek)
        assert len(msgspec.json.encode(answer)) < 700_000, "with the piece that has filled it"
        assert answer["until"] > time
        answers += 1
        seen.update((e["time"], e["user"]) for e in answer["entries"] if e["type"] == "transform")
        time, seek = answer["until"], False
    assert answers > 2
    assert set(seen.values()) == {1}, "nothing twice"
    each = Counter(user for _, user in seen)
    assert 5 * 12 < each["user 1"] <= 5 * 15 + answers, "thinned, and nothing left out"


def test_a_file_that_grows_or_was_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = a_file(tmp_path / "whole.mcap", manifest=STARTED)
    path = tmp_path / "growing.mcap"
    growing = Index(path)
    counts = []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with path.open("rb") as stream:
            fresh = Index(path)
            for index in (growing, fresh):
                try:
                    index.read_on(stream)
                except ValueError:
                    assert not index.pieces
            assert fresh.pieces == growing.pieces
            counts.append(len(fresh.pieces))
            for piece in fresh.pieces:
                content = content_of(stream, piece)
                for offsets in piece.offsets.values():
                    assert all(b'"den"' in message_at(content, offset) for offset in offsets)
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    a_file(tmp_path / "b.mcap", manifest=STARTED | {"version": "99"}, flushes=0)
    for number in (1, 2):
        with pytest.raises(BadRequest, match=f"recording {number} cannot be read"):
            RecordingFolder(tmp_path).details(number)
    with pytest.raises(BadRequest, match="there are none"):
        RecordingFolder(tmp_path / "nowhere").details(1)


def test_pieces_that_overlap_are_seen_once(tmp_path: Path) -> None:
    with (tmp_path / "a.mcap").open("wb") as stream:
        file = RecordingFile(stream, STARTED)
        # The first piece fills an answer, and has a line that is later than the second's first.
        for after, size in ((1.0, 200_000), (1.5, 100_000), (1.2, 10), (1.7, 10)):
            line = {"room": "den", "time": NOW + after, "user": "Tibi", "type": "msg", "data": "x" * size}
            file.add("events", round((NOW + after) * 1e9), msgspec.json.encode(line))
        file.finish()
    folder = RecordingFolder(tmp_path)
    first = folder.excerpt(1, "den", NOW, 5, seek=True)
    second = folder.excerpt(1, "den", first["until"], 5, seek=False)
    times = [[round(entry["time"] - NOW, 1) for entry in answer["entries"]] for answer in (first, second)]
    assert times == [[1.0], [1.5, 1.2, 1.7]]
