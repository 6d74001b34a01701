"""The login of users who have accounts, on trio: one password at a time, off the event loop.

A hash takes 19 MiB of memory and a processor for some hundredths of a second. So there is one at a time, and as many
logins may wait as come back within seconds of a restart; past that a client is told to come again. How often one user
or one address may fail is not decided here, but before it comes to a hash.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from ._account_book import AccountBook, Standing
from ._database import Database
from ._errors import SlowDown
from ._threads import InThread, one_at_a_time

# 200 people, and their second tries. At some hundredths of a second each, the last waits less than ten seconds, which
# is as long as a client has to log in.
_QUEUE_LOGINS = 256
# Meanwhile about half of a full queue is done.
_RETRY_AFTER_S = 5.0
# Nothing is under way any more but a hash, or a file that hangs.
_CLOSE_TIMEOUT_S = 5.0


class Accounts:
    """Checks passwords against an account book, which nobody else uses meanwhile. Made by `open_accounts`."""

    def __init__(self, book: AccountBook, in_thread: InThread) -> None:
        self._book = book
        self._in_thread = in_thread
        # Here as well as in `in_thread`: who waits for it can be counted.
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def authenticate(self, user: str, password: str, _peer: str) -> str | None:
        """The name as rooms show it, which is the account's own spelling; None where the login is refused.

        Raises SlowDown where too many logins wait, and StoreError.
        """
        # No checkpoint between the look at the queue and the place in it.
        if self._one_at_a_time.statistics().tasks_waiting >= _QUEUE_LOGINS:
            raise SlowDown(f"{_QUEUE_LOGINS} logins wait already", retry_after=_RETRY_AFTER_S)
        async with self._one_at_a_time:
            return await self._in_thread(partial(self._book.check, user, password))

    async def standing(self, user: str) -> Standing | None:
        """None where the user has no account. Raises StoreError."""
        return await self._in_thread(partial(self._book.standing, user))


@asynccontextmanager
async def open_accounts(path: str | os.PathLike[str], *, in_thread: InThread | None = None) -> AsyncIterator[Accounts]:
    """The accounts in the file at `path`, by a connection of their own, so that no login waits for a commit.

    The file is closed at the end. Raises StoreError where it cannot be opened.
    """
    in_thread = in_thread or one_at_a_time()
    database = await in_thread(partial(Database, path))
    try:
        yield Accounts(AccountBook(database), in_thread)
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await in_thread(database.close)
