"""The accounts of a server, on trio: who may log in, by which password, in which role; and how they are changed.

    Accounts ── rules, hashes in a thread ──▶ `_account_rules`
        └────── find, add, change ──▶ a shelf: the file of the store, or the engine that servers have in common

A hash takes 19 MiB of memory and a processor for some hundredths of a second. So there is one at a time, and as many
logins may wait as come back within seconds of a restart; past that a client is told to come again. How often one user
or one address may fail is not decided here, but before it comes to a hash.

The account is looked up when it is a login's turn, not when it begins to wait: a password that was changed meanwhile
is no longer right.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from ._account_file import AccountFile
from ._account_rules import (
    Passwords,
    Standing,
    account_key,
    check_new_name,
    may_stand_beside,
    new_account,
    standing_of,
    taken,
)
from ._backplane import (
    Account,
    AccountList,
    AccountReply,
    AccountRequest,
    AddAccount,
    Alike,
    FindAccount,
    Found,
    ListAccounts,
    NoAccount,
    RemoveAccount,
    SetHash,
)
from ._database import Database
from ._errors import AccountError, SlowDown, StoreError, Unavailable
from ._names import name_key
from ._threads import InThread, one_at_a_time

# 200 people, and their second tries. At some hundredths of a second each, the last waits less than ten seconds, which
# is as long as a client has to log in.
_QUEUE_LOGINS = 256
# Meanwhile about half of a full queue is done.
_RETRY_AFTER_S = 5.0
# Nothing is under way any more but a hash, or a file that hangs.
_CLOSE_TIMEOUT_S = 5.0
# Each try that fails is an account of the same look that somebody else has added meanwhile.
_ADDS = 5

# Has it done, and returns what came of it. Raises StoreError (a file), Unavailable (503: an engine) or LinkLost.
Shelf = Callable[[AccountRequest], Awaitable[AccountReply]]

_log = logging.getLogger("trio_vrchat.store")


class Accounts:
    """The accounts on one shelf. Every method can raise what the shelf does.

    `in_thread` runs the hashes; `passwords` is for tests; `now` gives the time in seconds since the Unix epoch.
    """

    def __init__(
        self,
        shelf: Shelf,
        in_thread: InThread,
        passwords: Passwords | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._in_thread = in_thread
        self._passwords = passwords or Passwords()
        self._now = now
        # Here as well as in `in_thread`: who waits for it can be counted.
        self._one_at_a_time = trio.CapacityLimiter(1)

    # Logins

    async def authenticate(self, user: str, password: str, _peer: str) -> str | None:
        """The name as rooms show it, which is the account's own spelling; None where the login is refused.

        Raises SlowDown where too many logins wait.
        """
        # No checkpoint between the look at the queue and the place in it.
        if self._one_at_a_time.statistics().tasks_waiting >= _QUEUE_LOGINS:
            raise SlowDown(f"{_QUEUE_LOGINS} logins wait already", retry_after=_RETRY_AFTER_S)
        async with self._one_at_a_time:
            account = await self._look_up(name_key(user))
            is_right = await self._in_thread(partial(self._passwords.check, account, password))
            if account is None or not is_right:
                return None
            if self._passwords.is_old(account):
                await self._hash_anew(account, password)
            return account.name

    async def _hash_anew(self, account: Account, password: str) -> None:
        try:
            hash_ = await self._in_thread(partial(self._passwords.hash, password))
            # Meanwhile the account may have got another password, which stays.
            await self._shelf(SetHash(key=account.key, hash=hash_, instead_of=account.hash))
        except (StoreError, Unavailable) as error:
            _log.warning("a password could not be hashed anew: %s", error)

    async def standing(self, user: str) -> Standing | None:
        """None where the user has no account."""
        account = await self._look_up(name_key(user))
        return None if account is None else standing_of(account)

    async def _look_up(self, key: str) -> Account | None:
        reply = await self._shelf(FindAccount(key=key))
        return reply.account if isinstance(reply, Found) else None

    # Changes

    async def check_new(self, name: str) -> None:
        """Raises AccountError where it is known already that there can be no new account of this name."""
        check_new_name(name)
        account = await self._look_up(name_key(name))
        if account is not None:
            raise taken(name, account)

    async def add(self, name: str, password: str, role: str) -> None:
        """Make an account. Raises AccountError where the name is taken, looks like another's, or is none."""
        await self.check_new(name)
        hash_ = await self._in_thread(partial(self._passwords.hash, password))
        account = new_account(name, hash_, role, self._now())
        beside: tuple[str, ...] = ()
        for _ in range(_ADDS):
            reply = await self._shelf(AddAccount(account=account, beside=beside))
            if isinstance(reply, Found):
                raise taken(name, reply.account)
            if not isinstance(reply, Alike):
                return
            beside = may_stand_beside(name, reply.users)
        raise AccountError(f"accounts that look like {name!r} are added all the time: try again")

    async def set_password(self, name: str, password: str) -> str:
        """Give the account another password; returns its spelling. Raises AccountError where there is none."""
        spelling = await self.find(name)
        hash_ = await self._in_thread(partial(self._passwords.hash, password))
        if isinstance(await self._shelf(SetHash(key=name_key(name), hash=hash_)), NoAccount):
            raise _no_account(name)
        return spelling

    async def remove(self, name: str) -> str:
        """Delete the account; returns its spelling. Raises AccountError where there is none."""
        reply = await self._shelf(RemoveAccount(key=account_key(name)))
        if not isinstance(reply, Found):
            raise _no_account(name)
        return reply.account.name

    async def find(self, name: str) -> str:
        """The account's own spelling of the name. Raises AccountError where there is none."""
        account = await self._look_up(account_key(name))
        if account is None:
            raise _no_account(name)
        return account.name

    async def accounts(self) -> list[Account]:
        """All accounts, sorted by name without regard to case."""
        found: list[Account] = []
        while True:
            reply = await self._shelf(ListAccounts(after=found[-1].key if found else ""))
            assert isinstance(reply, AccountList)
            found += reply.accounts
            if not reply.more:
                return found


def _no_account(name: str) -> AccountError:
    return AccountError(f"there is no account {name!r}")


@asynccontextmanager
async def open_accounts(
    path: str | os.PathLike[str], *, create: bool = True, in_thread: InThread | None = None
) -> AsyncIterator[Accounts]:
    """The accounts in the file at `path`, by a connection of their own, so that no login waits for a commit.

    The file is made where there is none, and closed at the end. Raises StoreError where it cannot be opened, or is not
    there and `create` is false.
    """
    in_thread = in_thread or one_at_a_time()
    database = await in_thread(partial(Database, path, create=create))
    try:
        yield Accounts(shelf_in(database, in_thread), in_thread)
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await in_thread(database.close)


def shelf_in(database: Database, in_thread: InThread) -> Shelf:
    """The shelf of accounts in this database, which nobody else uses meanwhile."""
    file = AccountFile(database)

    async def shelf(request: AccountRequest) -> AccountReply:
        return await in_thread(partial(file.do, request))

    return shelf
