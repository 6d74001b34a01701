"""A server with a store: nothing is shown that is not stored, and what was shown is there after a restart."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from websockets.sync.client import ClientConnection, connect

from tests.program import DEADLINE_S, LOCAL, started
from tests.small_disk import small_disk as small_disk  # noqa: PLC0414  (a fixture)
from trio_vrchat import Config, testing
from trio_vrchat._database import Database
from trio_vrchat._errors import StoreError
from trio_vrchat._store import Store
from trio_vrchat.testing import RawClient, settle


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chat.db")


def say(data: Any, room: str = "lobby") -> dict[str, Any]:
    return {"room": room, "data": data}


def stored(path: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [json.loads(entry)["data"] for (entry,) in connection.execute("SELECT entry FROM events ORDER BY id")]


def heard(client: RawClient, room: str = "lobby") -> list[Any]:
    return [entry["data"] for entry in client.entries(room) if entry["type"] not in ("join", "leave", "transform")]


class SlowStore:
    """Commits when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[tuple[str, Sequence[tuple[float, bytes]], Callable[[bool], object]]] = []
        monkeypatch.setattr(Store, "append", lambda _store, *batch: self.waiting.append(batch))

    def finish(self, stored: bool) -> None:
        waiting, self.waiting = self.waiting, []
        for _, _, done in waiting:
            done(stored)


# Before anybody sees it


async def test_what_is_seen_is_stored(autojump_clock: MockClock, path: str) -> None:
    async with testing.open_server(Config.unlimited(store=path)) as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        for number in range(30):
            tibi.send(say(number))
            anna.send(say(number + 100))
        while True:
            await trio.lowlevel.checkpoint()
            seen = heard(anna)
            assert not set(seen) - set(stored(path)), "nobody sees what is not in the file"
            if 29 in seen or 129 in seen:
                break
        await settle()
        assert sorted(stored(path)) == [*range(30), *range(100, 130)]


async def test_nobody_sees_it_before_the_commit_and_transforms_go_on(
    autojump_clock: MockClock, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config(store=path, fps=10)) as server:
        store = SlowStore(monkeypatch)
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        tibi.texts()
        anna.texts()
        tibi.send(say("first"))
        await settle()
        tibi.send({"room": "lobby", "type": "transform", "data": {"pos": {"x": 1}}})
        tibi.send(say("second"))
        await trio.sleep(0.3)
        assert [message["payload"][0]["type"] for message in anna.messages()] == ["transform"]
        assert heard(tibi) == []
        assert len(store.waiting) == 1, "a room has one append under way"
        bea = await server.login("bea")
        assert len(bea.messages()) == 1, "a room has one order: who joins now comes after it"
        store.finish(True)
        await settle()
        assert heard(anna) == ["first"]
        store.finish(True)
        await settle()
        assert heard(anna) == ["second"]
        messages = bea.messages()
        assert [message["payload"][0]["type"] for message in messages[:2]] == ["join", "msg"]


async def test_times_increase_in_the_order_of_the_room(
    autojump_clock: MockClock, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config(store=path)) as server:
        anna = await server.login("anna")
        anna.texts()
        tibi = await server.connect()
        tibi.send({"system": "login", "options": {"user": "Tibi", "pass": ""}})
        tibi.send(say("hello"))
        tibi.close()
        await settle()
        entries = anna.entries("lobby")
        assert [entry["type"] for entry in entries] == ["join", "msg", "leave"]
        times = [entry["time"] for entry in entries]
        assert times == sorted(set(times))


# Where it cannot be stored


async def test_what_cannot_be_stored_is_500_to_its_sender_and_the_room_goes_on(
    autojump_clock: MockClock, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config(store=path)) as server:
        store = SlowStore(monkeypatch)
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        tibi.texts()
        anna.texts()
        tibi.send(say("lost"))
        tibi.send(say("lost, too"))
        tibi.send({"room": "den", "type": "join", "data": ""})
        anna.send({"room": "lobby", "type": "leave", "data": ""})
        await settle()
        store.finish(False)
        await settle()
        store.finish(False)
        await settle()
        answers = [message["response"] for message in tibi.messages() if message["info"] == "error"]
        assert [(answer["code"], answer["detail"]) for answer in answers] == [(500, {"room": "lobby"})] * 2
        assert server.statistics.members == 2, "who came and who left has happened"
        assert heard(anna) == []
        tibi.send(say("kept"))
        await settle()
        store.finish(True)
        await settle()
        assert heard(tibi) == ["kept"]


def execute(path: str, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_a_file_that_breaks(autojump_clock: MockClock, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "trio_vrchat.store")
    async with testing.open_server(Config.unlimited(store=path)) as server:
        tibi = await server.login("Tibi")
        tibi.send(say("before"))
        await settle()
        execute(path, "ALTER TABLE events RENAME TO elsewhere")
        tibi.texts()
        for number in range(20):
            tibi.send(say(number))
            await settle()
        assert [message["response"]["code"] for message in tibi.messages()] == [500] * 20
        assert len(caplog.records) == 1
        execute(path, "ALTER TABLE elsewhere RENAME TO events")
        tibi.send(say("after"))
        await settle()
        assert heard(tibi) == ["after"]
        assert "20 were lost" in caplog.records[-1].getMessage()
    assert stored(path) == ["before", "after"]


async def test_a_room_opens_though_its_history_cannot_be_read(
    autojump_clock: MockClock, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with testing.open_server(Config(store=path)) as server:

        def broken(*_arguments: object) -> None:
            raise StoreError("the store is broken")

        monkeypatch.setattr(Database, "load", broken)
        tibi = await server.login("Tibi")
        tibi.send({"room": "den", "type": "join", "data": ""})
        tibi.send(say("hello", "den"))
        await settle()
        assert heard(tibi, "den") == ["hello"]
        assert "opens without its history" in caplog.text


async def test_a_stop_while_the_store_hangs_and_a_ping_is_out(
    autojump_clock: MockClock, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config(store=path, drain_s=5)) as server:
        store = SlowStore(monkeypatch)
        tibi, anna = await server.login("Tibi", resume=True), await server.login("anna")
        for client in (tibi, anna):
            client.texts()
        tibi.send(say("never stored"))
        await trio.sleep(21)
        assert len(store.waiting) == 1
        anna.reset()
        stopped = trio.current_time()
        server.handle.cancel_scope.cancel()
    assert trio.current_time() - stopped <= 5
    assert tibi.ended
    assert heard(tibi) == [], "nothing is acknowledged that was not stored"
    assert tibi.close_code == 1001
    assert stored(path) == []


# After a restart


async def test_a_restarted_server_has_the_history(autojump_clock: MockClock, path: str) -> None:
    config = Config.unlimited(store=path, history=3)
    times: list[float] = []
    for run in range(3):
        async with testing.open_server(config) as server:
            tibi = await server.login("Tibi")
            tibi.send({"room": "den", "type": "join", "data": ""})
            await settle()
            entries = tibi.entries("den")[1:]
            assert [entry["data"] for entry in entries] == list(range(max(0, 2 * run - 3), 2 * run))
            for number in range(2):
                tibi.send(say(run * 2 + number, "den"))
                await settle()
            times += [entry["time"] for entry in tibi.entries("den")]
            # (The clock of each starts anew, at the same time.)
            assert times == sorted(set(times)), "a room and a time still name one event"


async def test_a_room_that_was_closed_has_its_history_when_it_opens_again(autojump_clock: MockClock, path: str) -> None:
    async with testing.open_server(Config.unlimited(store=path)) as server:
        tibi = await server.login("Tibi")
        for _ in range(10):
            tibi.send({"room": "den", "type": "join", "data": ""})
            tibi.send(say("hello", "den"))
            tibi.send({"room": "den", "type": "leave", "data": ""})
        tibi.send({"room": "den", "type": "join", "data": ""})
        await settle()
        messages = [message["payload"] for message in tibi.messages() if message.get("room") == "den"]
        assert [len(payload) for payload in messages[-2:]] == [1, 10]


async def test_complete_knows_what_is_older_than_what_was_loaded(autojump_clock: MockClock, path: str) -> None:
    config = Config.unlimited(store=path, history=2)
    async with testing.open_server(config) as server:
        tibi = await server.login("Tibi")
        for number in range(5):
            tibi.send(say(number))
        await settle()
    async with testing.open_server(config) as server:
        tibi = await server.login("Tibi", resume=True)
        detail = tibi.messages()[0]["response"]["detail"]
        tibi.reset()
        back = await server.connect()
        back.send({"system": "resume", "options": {"session": detail["session"], "seen": {"lobby": 0.0}}})
        await settle()
        assert back.messages()[0]["response"]["detail"]["complete"] == {"lobby": True}, "of what came since its join"


def talk(client: ClientConnection, text: str) -> None:
    """Say it and wait until it comes back."""
    client.send(json.dumps(say(text)))
    while True:
        message = json.loads(client.recv(timeout=DEADLINE_S))
        if message["info"] == "user" and message["payload"][-1]["data"] == text:
            return


@contextlib.contextmanager
def logged_in(url: str) -> Iterator[ClientConnection]:
    with connect(url) as client:
        client.send(json.dumps({"system": "login", "options": {"user": "Tibi", "pass": ""}}))
        answer = json.loads(client.recv(timeout=DEADLINE_S))
        assert answer["response"]["code"] == 202, answer
        yield client


def test_a_killed_process_has_lost_nothing_that_came_back(path: str) -> None:
    acknowledged: list[str] = []
    for run in range(3):
        with started(*LOCAL, "--store", path, "--events-at-once", "0", "--history", "1000") as program:
            url = program.url()
            with logged_in(url) as client:
                if acknowledged:
                    client.recv(timeout=DEADLINE_S)
                    history = json.loads(client.recv(timeout=DEADLINE_S))["payload"]
                    found = [entry["data"] for entry in history]
                    assert [text for text in found if text in acknowledged] == acknowledged
                for number in range(50):
                    talk(client, f"{run} {number}")
                    acknowledged.append(f"{run} {number}")
                # And some that are under way when it is killed.
                for _ in range(20):
                    client.send(json.dumps(say("unheard")))
                program.process.kill()


def test_sigterm_flushes_what_waits_says_1001_and_exits_with_0(path: str) -> None:
    with started(*LOCAL, "--store", path, "--events-at-once", "0") as program, logged_in(program.url()) as client:
        for number in range(200):
            client.send(json.dumps(say(number)))
        talk(client, "the last")
        program.process.terminate()
        for _ in client:
            pass
        assert client.close_code == 1001
        status, _ = program.end()
    assert status == 0
    assert not Path(path + "-wal").exists(), "the log is in the file"
    assert stored(path) == [*range(200), "the last"]


def test_a_full_disk_is_500_to_the_sender_and_the_room_goes_on(small_disk: Path) -> None:
    path = small_disk / "chat.db"
    with started(*LOCAL, "--store", str(path), "--events-at-once", "0") as program:
        url = program.url()
        with logged_in(url) as client:
            talk(client, "before")
            ballast = small_disk / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1 << 12)):
                    pass
            codes = []
            while 500 not in codes:
                client.send(json.dumps(say("x" * 50_000)))
                message = json.loads(client.recv(timeout=DEADLINE_S))
                codes.append(message["info"] == "error" and message["response"]["code"])
            client.send('{"system": "ping"}')
            assert json.loads(client.recv(timeout=DEADLINE_S))["response"]["code"] == 220
            ballast.unlink()
            talk(client, "after")
        program.process.terminate()
        status, lines = program.end()
    assert status == 0
    assert any("the disk is full" in line for line in lines)
    assert {"before", "after"} <= set(stored(str(path)))


def test_two_servers_on_one_store_are_one_too_many(path: str) -> None:
    with started(*LOCAL, "--store", path) as first:
        first.url()
        with started(*LOCAL, "--store", path) as second:
            status, lines = second.end()
        assert status == 2
        assert len(lines) == 1
        assert "is in use by another server" in lines[0]
        first.kill()
    with started(*LOCAL, "--store", path) as third:
        third.url()


def test_a_store_that_cannot_be_used_is_one_line_and_status_2(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"this is no database" * 100)
    with started(*LOCAL, "--store", str(foreign)) as program:
        status, lines = program.end()
    assert status == 2
    assert len(lines) == 1
    assert "it is no SQLite database" in lines[0]
