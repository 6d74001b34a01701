"""The file of the store: all or nothing, bounded, and one clear line for what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_vrchat import _database
from trio_vrchat._database import Database
from trio_vrchat._errors import StoreError

from .small_disk import small_disk as small_disk  # noqa: PLC0414  (a fixture)

MIB = 1 << 20
Batch = tuple[str, list[tuple[float, bytes]]]


@contextlib.contextmanager
def opened(path: Path, *, keep: int = 1000, limit_bytes: int = 100 * MIB, create: bool = True) -> Iterator[Database]:
    with contextlib.closing(Database(path, keep=keep, limit_bytes=limit_bytes, create=create)) as database:
        yield database


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    """What another program finds in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def entries(start: int, count: int = 1, size: int = 0) -> list[tuple[float, bytes]]:
    return [(float(number), b'"%d%b"' % (number, b"." * size)) for number in range(start, start + count)]


def all_of(database: Database, room: str) -> list[tuple[float, bytes]]:
    return database.load(room, 100_000, 100 * MIB)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


# Opening


def test_what_was_committed_is_there_after_opening_again(path: Path) -> None:
    with opened(path) as database:
        assert database.newest_time() == 0.0
        assert database.load("lobby", 50, MIB) == ([], 0.0)
        database.commit([("lobby", entries(1, 3)), ("a", entries(2, 1))])
        database.commit([("lobby", entries(4, 1))])
    with opened(path) as database:
        database.check()
        assert all_of(database, "lobby") == entries(1, 4)
        assert all_of(database, "a") == entries(2, 1)
        assert database.newest_time() == 4.0
    assert not Path(f"{path}-wal").exists()


def test_a_commit_is_flushed_and_the_file_is_its_owners(path: Path) -> None:
    with opened(path) as database:
        assert database.query("PRAGMA synchronous") == [(2,)]  # FULL
        assert database.query("PRAGMA journal_mode") == [("wal",)]
        database.commit([("lobby", entries(1))])
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_name_that_is_special_to_sqlite_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(Path(":memory:")) as database:
        database.commit([("lobby", entries(1))])
    assert (tmp_path / ":memory:").stat().st_size > 0


def broken_header(path: Path) -> None:
    path.write_bytes(b"not a database, but as long as one. " * 1000)


def broken_page(path: Path) -> None:
    with opened(path) as database:
        database.commit([("lobby", entries(1, 100, size=1000))])
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 9 * 4096] = b"\xff" * 4096
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    with opened(path) as database:
        database.commit([("lobby", entries(1, 100, size=1000))])
    os.truncate(path, path.stat().st_size // 2)


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes(name TEXT)")
        connection.execute("PRAGMA application_id = 77")


def newer(path: Path) -> None:
    with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (broken_header, "no SQLite database: name another file"),
        (broken_page, "damaged: put a backup in its place"),
        (cut_short, "damaged: put a backup in its place"),
        (foreign, "another program's SQLite database: name another file"),
        (newer, "of version 2, and this program reads version 1: use the newer program"),
        (Path.mkdir, "cannot be opened: check that its directory exists"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(path: Path, spoil: object, problem: str) -> None:
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=re.escape(problem)) as caught, opened(path) as database:
        database.check()
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.is_file() or path.read_bytes() == before


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file or directory"), opened(tmp_path / "none" / "store.db"):
        pass


def test_a_file_that_must_be_there(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file or directory"), opened(path, create=False):
        pass
    assert not path.exists()


def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    with opened(path) as database:
        database.commit([("lobby", entries(1))])


# Committing


def test_all_or_nothing_and_the_next_commit_starts_afresh(path: Path) -> None:
    with opened(path) as database:
        database.commit([("lobby", entries(1))])
        with pytest.raises(StoreError, match="NOT NULL"):
            database.commit([("lobby", entries(2)), ("a", [(None, b"1")])])  # type: ignore[list-item]
        assert all_of(database, "lobby") == entries(1)
        database.commit([("lobby", entries(3))])
        assert all_of(database, "lobby") == [*entries(1), *entries(3)]
        assert rows(path, "SELECT name, events FROM rooms") == [("lobby", 2)]


def test_a_file_that_another_keeps_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_database, "_BUSY_TIMEOUT_MS", 0)
    with opened(path) as database, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked for seconds: end that program"):
            database.commit([("lobby", entries(1))])
        other.execute("ROLLBACK")
        database.commit([("lobby", entries(2))])
        assert all_of(database, "lobby") == entries(2)


def test_a_file_that_was_deleted_takes_nothing_more(path: Path) -> None:
    with opened(path) as database:
        path.rename(path.with_name("elsewhere"))
        with pytest.raises(StoreError, match="moved or deleted"):
            database.commit([("lobby", entries(1))])
        path.with_name("elsewhere").rename(path)
        database.commit([("lobby", entries(1))])


def test_a_full_disk_and_room_again(small_disk: Path) -> None:
    path = small_disk / "store.db"
    stored: list[tuple[float, bytes]] = []
    with opened(path) as database:
        database.commit([("lobby", entries(0))])
        stored += entries(0)
        filler = small_disk / "filler"
        filler.write_bytes(bytes(MIB))

        def fill() -> None:
            for number in range(1, 1000):
                database.commit([("lobby", entries(number, size=10_000))])
                stored.extend(entries(number, size=10_000))

        with pytest.raises(StoreError, match=r"the disk is full|the disk cannot be read or written"):
            fill()
        assert len(stored) > 10
        # Small ones may still fit into what is left; each is there or is refused.
        for number in range(1000, 1020):
            with contextlib.suppress(StoreError):
                database.commit([("lobby", entries(number, size=3000))])
                stored += entries(number, size=3000)
        assert all_of(database, "lobby") == stored
        filler.unlink()
        for number in range(2000, 2020):
            database.commit([("lobby", entries(number, size=3000))])
            stored += entries(number, size=3000)
        assert all_of(database, "lobby") == stored
    with opened(path) as database:
        assert all_of(database, "lobby") == stored


# Loading


def test_load_gives_the_last_and_says_what_came_before_them(path: Path) -> None:
    with opened(path, keep=10) as database:
        database.commit([("lobby", entries(1, 8))])
        assert database.load("lobby", 3, MIB) == (entries(6, 3), 5.0)
        assert database.load("lobby", 0, MIB) == ([], 8.0)
        assert database.load("lobby", 8, MIB) == (entries(1, 8), 0.0)
        assert database.load("lobby", 9, MIB) == (entries(1, 8), 0.0)
        assert database.load("lobby", 8, 3 + 3 + 2) == (entries(7, 2), 6.0)
        assert database.load("lobby", 8, 2) == ([], 8.0)
        database.commit([("lobby", entries(9, 4))])
        # Deleted, but nobody is told that there never was anything.
        assert database.load("lobby", 50, MIB) == (entries(3, 10), 2.0)
        assert database.load("LOBBY", 50, MIB) == ([], 0.0)


# Bounds


def test_a_room_keeps_its_last_events(path: Path) -> None:
    with opened(path, keep=5) as database:
        database.commit([("a", entries(1, 4)), ("b", entries(1, 2))])
        database.commit([("a", entries(5, 1)), ("a", entries(6, 2))])
        assert all_of(database, "a") == entries(3, 5)
        assert all_of(database, "b") == entries(1, 2)
        database.commit([("a", entries(8, 20))])
        assert all_of(database, "a") == entries(23, 5)
        assert rows(path, "SELECT name, events, newest FROM rooms ORDER BY name") == [("a", 5, 27.0), ("b", 2, 2.0)]


@pytest.mark.parametrize("size", [50, 3000, 20_000])
def test_the_file_stays_below_its_limit_and_the_oldest_events_make_way(path: Path, size: int) -> None:
    limit_bytes = MIB
    count = 2 * limit_bytes // (size + 100)
    with opened(path, limit_bytes=limit_bytes) as database:
        for end in range(20, count + 1, 20):
            # A new room with each event: what somebody does who wants to fill the disk.
            database.commit([(f"room {number}", entries(number, 1, size)) for number in range(end - 20, end)])
            assert path.stat().st_size <= limit_bytes
        last = count // 20 * 20 - 1
        names = {int(str(name).split()[1]) for (name,) in rows(path, "SELECT name FROM rooms")}
        # The newest, without a gap, and not much fewer than there is room for.
        assert names == set(range(min(names), last + 1))
        assert min(names) > 0
        assert len(names) * (size + 100) > limit_bytes / 3
        assert rows(path, "SELECT count(*) FROM events") == [(len(names),)]
        assert all_of(database, f"room {last}") == entries(last, 1, size)
        assert all_of(database, "room 0") == []
    assert path.stat().st_size <= limit_bytes


def test_a_quiet_room_does_not_keep_what_is_older_than_a_busy_ones(path: Path) -> None:
    with opened(path, limit_bytes=MIB) as database:
        database.commit([("quiet", entries(1, 10))])
        for number in range(2, 300):
            database.commit([("busy", entries(number, 1, size=10_000))])
        assert all_of(database, "quiet") == []
        assert rows(path, "SELECT name FROM rooms") == [("busy",)]
        assert len(all_of(database, "busy")) > 50


def test_accounts_alone_can_fill_the_file_but_not_past_its_limit(path: Path) -> None:
    with opened(path, limit_bytes=MIB) as database:

        def fill() -> None:
            with database.transaction():
                for number in range(100_000):
                    database.query("INSERT INTO accounts VALUES(?, '', ?, '', 0)", str(number), "." * 1000)

        with pytest.raises(StoreError, match="has reached its limit"):
            fill()
        assert path.stat().st_size <= MIB
        database.commit([("lobby", entries(1))])


def test_a_commit_costs_the_same_however_much_is_in_the_file(path: Path) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    costs = []
    with opened(path, keep=100) as database:
        for number in range(600):
            if number % 150 == 149:
                database._connection.set_progress_handler(count, 1)
                steps = 0
                database.commit([("full", entries(number, 10)), (f"room {number}", entries(number))])
                costs.append(steps)
                database._connection.set_progress_handler(None, 1)
            else:
                database.commit([("full", entries(number)), (f"room {number % 50}", entries(number))])
    assert max(costs) < 1.2 * min(costs)


# A model: rooms as lists.

ROOMS = st.sampled_from(["lobby", "a", "b\0", "ß"])
BATCHES = st.lists(st.tuples(ROOMS, st.integers(0, 8)), max_size=4)


@settings(max_examples=25)
@given(st.lists(st.one_of(BATCHES, st.just("open again"), st.just("fail")), max_size=12), st.integers(1, 10))
def test_order_and_keep(acts: list[list[tuple[str, int]] | str], keep: int) -> None:
    model: dict[str, list[tuple[float, bytes]]] = {}
    forgotten: dict[str, float] = {}
    time = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        database = Database(path, keep=keep)
        for act in acts:
            if act == "open again":
                database.close()
                database = Database(path, keep=keep)
            elif act == "fail":
                with pytest.raises(StoreError):
                    database.commit([("lobby", entries(10**6)), ("a", [(None, b"")])])  # type: ignore[list-item]
            else:
                assert not isinstance(act, str)
                batches: list[Batch] = []
                for room, count in act:
                    batches.append((room, entries(time, count)))
                    time += count
                database.commit(batches)
                for room, added in batches:
                    together = model.get(room, []) + added
                    model[room] = together[-keep:]
                    if len(together) > keep:
                        forgotten[room] = together[-keep - 1][0]
            for room, expected in model.items():
                assert database.load(room, 100, MIB) == (expected, forgotten.get(room, 0.0))
        assert database.newest_time() == max((room[-1][0] for room in model.values() if room), default=0.0)
        database.close()
