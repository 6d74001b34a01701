"""The store on trio: group commit, failures, the end, and `kill -9` at any moment."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_vrchat._database import Database
from trio_vrchat._errors import StoreError
from trio_vrchat._store import Store, open_store

from .program import DEADLINE_S, environment
from .small_disk import small_disk as small_disk  # noqa: PLC0414  (a fixture)
from .store_writer import ROOMS
from .waiting import until

_T = TypeVar("_T")
Entries = Sequence[tuple[float, bytes]]


def entries(start: int, count: int = 1, size: int = 0) -> list[tuple[float, bytes]]:
    return [(float(number), b'"%d%b"' % (number, b"." * size)) for number in range(start, start + count)]


async def on_the_spot(function: Callable[[], _T]) -> _T:
    await trio.lowlevel.checkpoint()
    return function()


class Recorded:
    """An order of what happened, and the answers to appends."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.answers: list[tuple[str, float, bool]] = []

    def append(self, room: str, batch: Entries) -> None:
        self.store.append(room, batch, lambda stored: self.answers.append((room, batch[0][0], stored)))


class FakeDatabase:
    """Counts transactions, and fails when told to."""

    def __init__(self) -> None:
        self.commits: list[list[tuple[str, Entries]]] = []
        self.failure: Exception | None = None

    def commit(self, batches: list[tuple[str, Entries]]) -> None:
        if self.failure is not None:
            raise self.failure
        self.commits.append(batches)


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Recorded]:
    async with trio.open_nursery() as nursery:
        writer = store.run  # (what is appended before it runs waits)
        nursery.start_soon(writer)
        yield Recorded(store)
        store.close()


def fake_store(database: FakeDatabase, in_thread: object = on_the_spot) -> Store:
    return Store(database, 0.0, in_thread)  # type: ignore[arg-type]


# Group commit


async def test_what_waits_goes_into_one_transaction(autojump_clock: MockClock) -> None:
    disk = trio.Semaphore(0)
    database = FakeDatabase()

    async def slow(function: Callable[[], _T]) -> _T:
        await disk.acquire()
        return function()

    async with running(fake_store(database, slow)) as room:
        room.append("a", entries(1))
        await wait_all_tasks_blocked()
        for number in range(100):
            room.append(f"room {number}", entries(number, 2))
        await wait_all_tasks_blocked()
        assert room.answers == []  # nothing before its commit
        disk.release()
        await wait_all_tasks_blocked()
        assert room.answers == [("a", 1.0, True)]
        disk.release()
        await wait_all_tasks_blocked()
        assert room.answers[1:] == [(f"room {number}", float(number), True) for number in range(100)]
    assert [len(commit) for commit in database.commits] == [1, 100]


async def test_close_commits_what_waits_and_takes_no_more(autojump_clock: MockClock) -> None:
    database = FakeDatabase()
    store = fake_store(database)
    async with running(store) as room:
        room.append("a", entries(1))
        room.append("b", entries(2))
        store.close()
        room.append("c", entries(3))
    assert room.answers == [("c", 3.0, False), ("a", 1.0, True), ("b", 2.0, True)]
    assert database.commits == [[("a", entries(1)), ("b", entries(2))]]


# Failures


async def test_a_failure_fails_the_whole_group_and_is_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    database = FakeDatabase()
    async with running(fake_store(database)) as room:
        database.failure = StoreError("the store 'x': the disk is full")
        for number in range(10):
            room.append("a", entries(number, 3))
            room.append("b", entries(number, 1))
            await wait_all_tasks_blocked()
        assert [stored for _, _, stored in room.answers] == [False] * 20
        assert [record.getMessage() for record in caplog.records] == [
            "events are not stored, and their senders are told so: the store 'x': the disk is full"
        ]
        assert not caplog.records[0].exc_info
        database.failure = None
        for number in range(2):
            room.append("a", entries(number))
            await wait_all_tasks_blocked()
        assert [stored for _, _, stored in room.answers[20:]] == [True, True]
        [_, again] = caplog.records
        assert (again.name, again.levelno) == ("trio_vrchat.store", logging.WARNING)
        assert again.getMessage() == "events are stored again; 40 were lost"
        # And the next time as well, from nought.
        database.failure = StoreError("the store 'x': the disk is full")
        room.append("a", entries(1))
        await wait_all_tasks_blocked()
        database.failure = None
        room.append("a", entries(1))
        await wait_all_tasks_blocked()
    assert [record.getMessage() for record in caplog.records[3:]] == ["events are stored again; 1 were lost"]


async def test_a_bug_of_ours_is_logged_whole_and_ends_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    database = FakeDatabase()
    async with running(fake_store(database)) as room:
        database.failure = ZeroDivisionError("a bug")
        room.append("a", entries(1))
        await wait_all_tasks_blocked()
        database.failure = None
        room.append("a", entries(2))
    assert room.answers == [("a", 1.0, False), ("a", 2.0, True)]
    assert caplog.records[0].exc_info


async def test_a_full_disk_and_room_again(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = small_disk / "store.db"
    filler = small_disk / "filler"
    sent: list[tuple[float, bytes]] = []
    async with open_store(path) as store, running(store) as room:

        async def say(number: int) -> bool:
            answered = trio.Event()
            answers: list[bool] = []

            def done(stored: bool) -> None:
                answers.append(stored)
                answered.set()

            store.append("lobby", entries(number, size=20_000), done)
            await answered.wait()
            if answers[0]:
                sent.extend(entries(number, size=20_000))
            return answers == [True]

        assert await say(0)
        filler.write_bytes(bytes(1 << 20))
        answers = [await say(number) for number in range(1, 100)]
        assert True in answers
        assert not any(answers[-10:])
        assert (await store.load("lobby", 1000))[0] == sent
        filler.unlink()
        assert await say(100)
        assert (await store.load("lobby", 1000))[0] == sent
    assert not room.answers
    [failing, working] = [record.getMessage() for record in caplog.records if record.name == "trio_vrchat.store"]
    assert "free some space" in failing
    assert working == f"events are stored again; {answers.count(False)} were lost"
    async with open_store(path) as store:
        assert (await store.load("lobby", 1000))[0] == sent


async def test_a_file_that_cannot_be_used_is_said_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"something else" * 1000)
    with pytest.raises(StoreError, match="no SQLite database"):
        async with open_store(path):
            pytest.fail("opened")


async def test_a_damaged_file_is_said_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with contextlib.closing(Database(path)) as database:
        database.commit([("lobby", entries(1, 100, size=1000))])
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 9 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        async with open_store(path):
            pytest.fail("opened")


# The end


async def test_in_threads_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, keep=5) as store, running(store) as room:
        assert store.newest_time == 0.0
        for number in range(10):
            room.append("a", entries(number))
            room.append("b", entries(number))
    assert len(room.answers) == 20
    async with open_store(path) as store:
        assert store.newest_time == 9.0
        assert await store.load("a", 3) == (entries(7, 3), 6.0)
        assert await store.load("a", 9) == (entries(5, 5), 4.0)
        assert await store.load("a", 9, limit_bytes=6) == (entries(8, 2), 7.0)
        assert await store.load("nobody was here", 3) == ([], 0.0)
    assert not os.path.exists(f"{path}-wal")  # noqa: ASYNC240  (nothing else runs)


async def test_a_cancelled_writer_leaves_the_file_closed_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        store.append("a", entries(1), lambda _: nursery.cancel_scope.cancel())
    async with open_store(path) as store:
        assert (await store.load("a", 3))[0] == entries(1)
    assert not os.path.exists(f"{path}-wal")  # noqa: ASYNC240  (nothing else runs)


async def test_the_file_is_closed_where_everything_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with trio.CancelScope() as scope:
        async with open_store(path) as store, running(store) as room:
            room.append("a", entries(1))
            await until(lambda: bool(room.answers))
            scope.cancel()
    assert not os.path.exists(f"{path}-wal")  # noqa: ASYNC240  (nothing else runs)


async def test_a_disk_that_hangs_does_not_keep_the_program_from_its_end(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def hangs_in_the_end(function: Callable[[], _T]) -> _T:
        nonlocal calls
        calls += 1
        if calls > 3:  # after opening it
            function()  # so that no file stays open
            await trio.sleep_forever()
        return function()

    async with open_store(tmp_path / "store.db", in_thread=hangs_in_the_end):
        start = trio.current_time()
    assert trio.current_time() - start == 5.0
    assert "was not closed within 5 s" in caplog.text


# Order


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans(), st.booleans()), max_size=30))
def test_every_room_keeps_its_order_whatever_the_disk_does(acts: list[tuple[str, int, bool, bool]]) -> None:
    """An act: a room says something if it may, and the disk finishes what it has under way or not, well or badly."""
    database = FakeDatabase()
    disk = trio.Semaphore(0)
    bad = False

    async def slow(function: Callable[[], _T]) -> _T:
        await disk.acquire()
        database.failure = StoreError("bad") if bad else None
        return function()

    async def main() -> None:
        nonlocal bad
        under_way: dict[str, Entries] = {}
        acknowledged: dict[str, list[tuple[float, bytes]]] = {room: [] for room in "abc"}
        store = fake_store(database, slow)
        time = 0

        def say(room: str, count: int) -> None:
            nonlocal time
            under_way[room] = batch = entries(time, count)
            time += count

            def done(stored: bool) -> None:
                assert under_way.pop(room) == batch
                if stored:
                    acknowledged[room] += batch

            store.append(room, batch, done)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            for room, count, finishes, fails in acts:
                if room not in under_way:
                    say(room, count)
                await wait_all_tasks_blocked()
                bad = fails
                if finishes and under_way:
                    disk.release()
                await wait_all_tasks_blocked()
            bad = False
            store.close()
            while under_way:
                disk.release()
                await wait_all_tasks_blocked()
        for room, expected in acknowledged.items():
            found = [entry for commit in database.commits for name, batch in commit if name == room for entry in batch]
            assert found == expected

    trio.run(main)


# kill -9


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    acknowledged = dict.fromkeys(ROOMS, -1)
    for round_ in range(12):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store_writer", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=Path(__file__).parents[1],
        ) as writer:
            assert writer.stdout is not None
            # Killed right after an answer, when the next commit is under way; each round after another one.
            lines = [writer.stdout.readline() for _ in range(1 + 9 * round_)]
            writer.kill()
            lines += writer.stdout.readlines()
            writer.wait(DEADLINE_S)
        for line in lines:
            room, last = line.decode().split()
            acknowledged[room] = int(last)
        with contextlib.closing(Database(path, keep=10**6)) as database:
            database.check()
            for room, last_acknowledged in acknowledged.items():
                found = [int(entry) for _, entry in database.load(room, 10**6, 1 << 30)[0]]
                assert found == list(range(len(found)))
                # No more than the one batch that was under way.
                assert last_acknowledged < len(found) <= last_acknowledged + 1 + 3, (round_, room)
    assert min(acknowledged.values()) > 100
