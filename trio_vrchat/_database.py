"""The file of `--store`: a SQLite database with the events of rooms and the accounts of users.

Plain calls, which block: on trio, `Store` and `Accounts` make them in threads.

- What `commit` has returned from is on the disk: SQLite's log (WAL) is flushed with every commit (synchronous=FULL). A
  commit is one transaction. It raises StoreError, and then none of it is in the file; the next one starts afresh.
- The file holds the last `keep` events of each room, and stays below `limit_bytes`. Where it would grow past that, the
  oldest events of all rooms make way: anybody may open rooms without end, and each of them leaves events behind.
  Deleted pages are used again, so a full file no longer grows. (Beside it, the log is some megabytes.)
- Events are in the order of their ids, which is the order of their commits. A room counts its own, so that a commit
  looks at nothing but what it adds and what it deletes. A room of which no event is left is no longer there.
- Several connections may use one file, of several processes. Only one thread at a time MUST use one `Database`.
- The file is opened through SQLite alone: POSIX drops a process's locks on a file when any descriptor of it is closed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ._errors import StoreError

# Marks the file as ours; the letters "VRch".
_APPLICATION_ID = 0x56526368
# Of the tables below. A later version that changes them counts up, and reads what was before.
_SCHEMA_VERSION = 1
_SCHEMA = (
    # `events` counts those in the file; `newest` is the time of the last, `forgotten` that of the last one deleted.
    """CREATE TABLE rooms(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        events INTEGER NOT NULL,
        newest REAL NOT NULL,
        forgotten REAL NOT NULL
    )""",
    # `entry` is JSON.
    """CREATE TABLE events(
        id INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        time REAL NOT NULL,
        entry BLOB NOT NULL
    )""",
    # An index of SQLite ends with the row's id: it is one of a room's events, oldest first.
    "CREATE INDEX events_of_room ON events(room)",
    # `key` is the name's; `hash` has its parameters and its salt with it.
    """CREATE TABLE accounts(
        key TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash TEXT NOT NULL,
        role TEXT NOT NULL,
        created REAL NOT NULL
    )""",
)

# Weeks of a busy room.
KEEP_EVENTS = 10_000
# What a small machine's disk spares without a thought; some millions of chat lines.
LIMIT_BYTES = 1 << 30

# Another process has the file for milliseconds at a time: whoever changes an account.
_BUSY_TIMEOUT_MS = 5000
# What an event takes beside its entry: ids, time, its place in the index, headers; pages are never quite full.
_EVENT_BYTES = 100
# What a room takes that a commit touches: new pages in the tree of each table and index.
_ROOM_BYTES = 4 * 4096
# Events that are deleted at once where the file is full, before it is looked at again: a page or more.
_DELETED_AT_ONCE = 16

_WHAT_TO_DO = {
    sqlite3.SQLITE_FULL: "the disk is full, or the file has reached its limit: free some space",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put a backup in its place, or move it away and start anew",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its directory exists and may be written to",
    sqlite3.SQLITE_READONLY: "it may not be written to: check its permissions, and those of its directory",
    sqlite3.SQLITE_PERM: "it may not be used: check its permissions, and those of its directory",
    sqlite3.SQLITE_BUSY: "another program has kept it locked for seconds: end that program",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written: check it, and how much of it is free",
}


class Database:
    """One connection to the file at `path`, which is made, for its owner alone to read, if it is not there.

    Raises StoreError where the file is not there and `create` is false, is another program's, is damaged, was made by
    a newer version of this package, or cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: int = KEEP_EVENTS,
        limit_bytes: int = LIMIT_BYTES,
        create: bool = True,
    ) -> None:
        # Absolute, so that no name (":memory:") means anything special to SQLite.
        self.path = os.path.abspath(path)
        self._keep = keep
        self._limit_bytes = limit_bytes
        with self._explained():
            if create:
                # Only where there is no file: see the last rule above.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            os.stat(self.path)  # SQLite's own error would not say that there is no such file
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
            )
        self._file = _identity(self.path)
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        if self._pragma("application_id") != _APPLICATION_ID:
            # One transaction: of two programs that open a new file, the second waits and then finds it made.
            with self.transaction():
                self._make_tables()
        version = self._pragma("user_version")
        if version != _SCHEMA_VERSION:
            raise self._error(
                f"it is of version {version}, and this program reads version {_SCHEMA_VERSION}: use the newer program"
            )
        # Some file systems, of networks above all, cannot have the log.
        mode = self._pragma("journal_mode = WAL")
        if mode != "wal":
            raise self._error(f"its file system takes no log (journal_mode {mode}): put it on a local disk")
        self._pragma("synchronous = FULL")
        # No more than a commit or two after which the log is given back to the disk.
        self._pragma("journal_size_limit = 8388608")
        # A last line of defence: `_make_way` keeps well below it.
        self._page_bytes: int = self._pragma("page_size")
        self._pragma(f"max_page_count = {max(1, self._limit_bytes // self._page_bytes)}")

    def _make_tables(self) -> None:
        if self._pragma("application_id") == _APPLICATION_ID:
            return
        if self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise self._error("it is another program's SQLite database: name another file")
        for statement in _SCHEMA:
            self._connection.execute(statement)
        self._pragma(f"application_id = {_APPLICATION_ID}")
        self._pragma(f"user_version = {_SCHEMA_VERSION}")

    def _pragma(self, text: str) -> Any:
        row = self._connection.execute(f"PRAGMA {text}").fetchone()
        return row and row[0]

    def check(self) -> None:
        """Read the whole file once, some seconds for a gigabyte. Raises StoreError where it is damaged."""
        [(verdict,), *_] = self.query("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise self._error(f"{_WHAT_TO_DO[sqlite3.SQLITE_CORRUPT]} ({' '.join(verdict.split())})")

    def close(self) -> None:
        """Close it. The last connection to the file writes the log into it, as far as it can."""
        self._connection.close()

    # Transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed within is in the file at the end, or none of it. Raises StoreError."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # Some failures (a full disk) end the transaction by themselves.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that the statement gives. Raises StoreError."""
        with self._explained():
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Errors of Python's own module, such as a wrong use of it, have no code.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            what_to_do = _WHAT_TO_DO.get(code & 0xFF)
            raise self._error(f"{what_to_do} ({error})" if what_to_do else str(error)) from error
        except FileNotFoundError:
            raise self._error("there is no such file or directory: check the name") from None
        except OSError as error:
            raise self._error(f"{error.strerror}: check the name, and that its directory may be written to") from error

    def _error(self, problem: str) -> StoreError:
        return StoreError(f"the store {self.path!r}: {problem}")

    # Events

    def commit(self, batches: Sequence[tuple[str, Sequence[tuple[float, bytes]]]]) -> None:
        """Add to each room its entries, (time, JSON), oldest first. When it returns, they are on the disk.

        Raises StoreError: none of them is in the file.
        """
        if _identity(self.path) != self._file:
            raise self._error("its file has been moved or deleted meanwhile: put it back, or start anew with another")
        with self.transaction():
            self._make_way(sum(_ROOM_BYTES + _bytes_of(entries) for _, entries in batches))
            for room, entries in batches:
                if entries:
                    self._append(room, entries)

    def _append(self, name: str, entries: Sequence[tuple[float, bytes]]) -> None:
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO rooms(name, events, newest, forgotten) VALUES(?, 0, 0.0, 0.0)", (name,))
        room, events = execute("SELECT id, events FROM rooms WHERE name = ?", (name,)).fetchone()
        self._connection.executemany(
            "INSERT INTO events(room, time, entry) VALUES(?, ?, ?)", [(room, time, entry) for time, entry in entries]
        )
        execute("UPDATE rooms SET events = events + ?, newest = ? WHERE id = ?", (len(entries), entries[-1][0], room))
        surplus = events + len(entries) - self._keep
        if surplus > 0:
            self._delete(
                execute(
                    "SELECT id, room, time FROM events WHERE room = ? ORDER BY id LIMIT ?", (room, surplus)
                ).fetchall()
            )

    def _make_way(self, needed_bytes: int) -> None:
        """Delete the oldest events, whoever's they are, until as much fits in."""
        while self._used_bytes() + needed_bytes > self._limit_bytes:
            oldest = self._connection.execute(
                "SELECT id, room, time FROM events ORDER BY id LIMIT ?", (_DELETED_AT_ONCE,)
            ).fetchall()
            if not oldest:
                return  # `max_page_count` has the last word
            self._delete(oldest)

    def _used_bytes(self) -> int:
        pages: int = self._pragma("page_count") - self._pragma("freelist_count")
        return pages * self._page_bytes

    def _delete(self, events: Sequence[tuple[int, int, float]]) -> None:
        """Delete these events: (id, room, time), oldest first."""
        self._connection.executemany("DELETE FROM events WHERE id = ?", [(number,) for number, _, _ in events])
        newest_of = {room: time for _, room, time in events}
        for room, count in Counter(room for _, room, _ in events).items():
            self._connection.execute(
                "UPDATE rooms SET events = events - ?, forgotten = ? WHERE id = ?", (count, newest_of[room], room)
            )
            self._connection.execute("DELETE FROM rooms WHERE id = ? AND events = 0", (room,))

    def load(self, room: str, limit: int, limit_bytes: int) -> tuple[list[tuple[float, bytes]], float]:
        """The last entries of the room, (time, JSON), oldest first: at most `limit`, of `limit_bytes` together.

        With them the time of the newest entry that is older than those, whether it is still in the file or not; 0.0
        where there never was one. Raises StoreError.
        """
        found: list[tuple[float, bytes]] = []
        with self._explained():
            row = self._connection.execute("SELECT id, forgotten FROM rooms WHERE name = ?", (room,)).fetchone()
            if row is None:
                return [], 0.0
            number, older = row
            # Row by row: what is past the limit stays on the disk.
            newest_first = self._connection.execute(
                "SELECT time, entry FROM events WHERE room = ? ORDER BY id DESC LIMIT ?", (number, limit + 1)
            )
            with contextlib.closing(newest_first):
                for time, entry in newest_first:
                    limit_bytes -= len(entry)
                    if len(found) == limit or limit_bytes < 0:
                        older = time
                        break
                    found.append((time, entry))
        return found[::-1], older

    def newest_time(self) -> float:
        """The time of the newest event of all rooms, in seconds since the Unix epoch; 0.0 where there is none."""
        [(newest,)] = self.query("SELECT max(newest) FROM rooms")
        return newest or 0.0


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _bytes_of(entries: Sequence[tuple[float, bytes]]) -> int:
    return sum(len(entry) + _EVENT_BYTES for _, entry in entries)
