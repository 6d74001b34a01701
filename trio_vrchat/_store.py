"""The store on trio: one writer that commits, off the event loop, all that waits at a time.

- What rooms append while a commit is under way goes into the next one, whole: one flush of the disk serves everybody
  who waits for it (group commit), so the busier the server, the more events a flush takes.
- The queue is as long as there are rooms, and no longer: a room MUST NOT append before it was told what became of the
  last. What it holds is held by the rooms anyway, within their own limits.
- A commit that fails fails for all that it holds. They are not tried one by one: what makes one fail, a full disk or
  a broken file, is nobody's own, and each try would cost another wait for it.
- The database is used by one thread at a time, whoever is cancelled: `in_thread` sees to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from ._database import KEEP_EVENTS, LIMIT_BYTES, Database
from ._errors import StoreError
from ._file_lock import locked
from ._threads import InThread, one_at_a_time

Entries = Sequence[tuple[float, bytes]]

# A room's history as newcomers see it is far below; this bounds what the reading of a whole room brings into memory.
_LOAD_LIMIT_BYTES = 16 * 1024 * 1024
# To write the log into the file takes a moment. A disk that hangs must not keep the program from its end, and what
# was acknowledged is safe in the log.
_CLOSE_TIMEOUT_S = 5.0

_log = logging.getLogger("trio_vrchat.store")


@attrs.frozen
class _Batch:
    room: str
    entries: Entries
    done: Callable[[bool], object]


class Store:
    """The history of rooms in a file. Made by `open_store`; its `run` must run somewhere."""

    def __init__(self, database: Database, newest_time: float, in_thread: InThread) -> None:
        # The time of the newest event in the file, in seconds since the Unix epoch: 0.0 where there is none.
        self.newest_time = newest_time
        self._database = database
        self._in_thread = in_thread
        self._waiting: list[_Batch] = []
        self._wake = trio.Event()
        self._closing = False
        # How many events were lost since storing began to fail; None while it works.
        self._lost: int | None = None

    async def load(
        self, room: str, limit: int, limit_bytes: int = _LOAD_LIMIT_BYTES
    ) -> tuple[list[tuple[float, bytes]], float]:
        """The last entries of the room, (time, JSON), oldest first: at most `limit`, of `limit_bytes` together.

        With them the time of the newest entry older than those; 0.0: there never was one. Raises StoreError.
        """
        return await self._in_thread(partial(self._database.load, room, limit, limit_bytes))

    def append(self, room: str, entries: Entries, done: Callable[[bool], object]) -> None:
        """Queue entries, oldest first, for the next commit.

        `done` is called once, in trio's thread: with True after the commit, with False after it failed: then none of
        them is in the file. It MUST NOT raise.
        """
        if self._closing:
            done(False)
            return
        self._waiting.append(_Batch(room, entries, done))
        self._wake.set()

    def close(self) -> None:
        """Let `run` return when it has committed what waits. What is appended from now on is refused."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Commit what is appended, until `close`. Cancelled, it tells nobody what became of what was under way."""
        while True:
            while not self._waiting:
                if self._closing:
                    return
                await self._wake.wait()
                self._wake = trio.Event()
            group, self._waiting = self._waiting, []
            stored = await self._commit(group)
            for batch in group:
                batch.done(stored)

    async def _commit(self, group: Sequence[_Batch]) -> bool:
        try:
            await self._in_thread(partial(self._database.commit, [(batch.room, batch.entries) for batch in group]))
        except Exception as error:  # noqa: BLE001  (a bug of ours must not end all rooms; the log has it)
            self._note_failure(sum(len(batch.entries) for batch in group), error)
            return False
        if self._lost is not None:
            _log.warning("events are stored again; %d were lost", self._lost, extra={"count": self._lost})
            self._lost = None
        return True

    def _note_failure(self, events: int, error: Exception) -> None:
        # One line when it begins: in a full room there would be a hundred a second.
        if self._lost is None:
            self._lost = 0
            trace = None if isinstance(error, StoreError) else error
            _log.error("events are not stored, and their senders are told so: %s", error, exc_info=trace)
        self._lost += events


@asynccontextmanager
async def open_store(
    path: str | os.PathLike[str],
    *,
    keep: int = KEEP_EVENTS,
    limit_bytes: int = LIMIT_BYTES,
    in_thread: InThread | None = None,
) -> AsyncIterator[Store]:
    """The store in the file at `path`, which holds `keep` events of a room; the file is closed at the end.

    Raises StoreError where it cannot be opened, or another server has it: each would have its own idea of the rooms.
    """
    in_thread = in_thread or one_at_a_time()
    with locked(path):
        async with _open(path, keep, limit_bytes, in_thread) as store:
            yield store


@asynccontextmanager
async def _open(path: str | os.PathLike[str], keep: int, limit_bytes: int, in_thread: InThread) -> AsyncIterator[Store]:
    database = await in_thread(partial(Database, path, keep=keep, limit_bytes=limit_bytes))
    try:
        # Now, and not when somebody opens the room whose page is damaged.
        await in_thread(database.check)
        yield Store(database, await in_thread(database.newest_time), in_thread)
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True) as scope:
            await in_thread(database.close)
        if scope.cancelled_caught:
            _log.warning("the store %s was not closed within %g s; what is in it is safe", path, _CLOSE_TIMEOUT_S)
