"""Accounts: who gets in, in what time, and how many at once."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import argon2
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.accounts import NOW, account, on_the_spot, random_account_requests
from trio_vrchat._account_file import AccountFile
from trio_vrchat._account_rules import Passwords
from trio_vrchat._accounts import Accounts, Shelf, open_accounts, shelf_in
from trio_vrchat._backplane import (
    ACCOUNTS_LIMIT,
    AccountList,
    AccountReply,
    AccountRequest,
    AddAccount,
    Done,
    Found,
    ListAccounts,
    Timing,
)
from trio_vrchat._database import Database
from trio_vrchat._engine_state import EngineState
from trio_vrchat._errors import AccountError, SlowDown, StoreError
from trio_vrchat._store import open_store
from trio_vrchat._threads import one_at_a_time

_T = TypeVar("_T")

PEER = "203.0.113.7"


class CountingHasher(argon2.PasswordHasher):
    """The real thing, with parameters that cost nothing; counts what it does."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.work: list[str] = []

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.work.append("hash")
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002  (the library's name)
        self.work.append("verify")
        return super().verify(hash, password)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(tmp_path / "store.db")) as database:
        yield database


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
async def accounts(database: Database, hasher: CountingHasher) -> Accounts:
    accounts = accounts_in(database, hasher)
    await accounts.add("Tibi", "1234", "user")
    return accounts


def accounts_in(database: Database, hasher: CountingHasher | None = None) -> Accounts:
    return Accounts(shelf_in(database, on_the_spot), on_the_spot, Passwords(hasher), lambda: NOW)


# The rules


async def test_the_right_password_gives_the_accounts_own_spelling(accounts: Accounts) -> None:
    assert await accounts.authenticate("Tibi", "1234", PEER) == "Tibi"
    assert await accounts.authenticate("TIBI", "1234", PEER) == "Tibi"
    assert await accounts.authenticate("\uff34ibi", "1234", PEER) == "Tibi"


@pytest.mark.parametrize(
    ("user", "password"),
    [("Tibi", "12345"), ("Tibi", ""), ("Tibi", "1234 "), ("Tibor", "1234"), ("\u0422ibi", "1234"), ("", "")],
)
async def test_anything_else_is_refused(accounts: Accounts, user: str, password: str) -> None:
    assert await accounts.authenticate(user, password, PEER) is None


async def test_an_unknown_user_takes_the_work_of_a_wrong_password(
    accounts: Accounts, database: Database, hasher: CountingHasher
) -> None:
    async def work_of_two_logins(user: str) -> list[str]:
        fresh = accounts_in(database, hasher)
        hasher.work.clear()
        assert await fresh.authenticate(user, "wrong", PEER) is None
        assert await fresh.authenticate(user, "wrong", PEER) is None
        return list(hasher.work)

    assert await work_of_two_logins("Tibi") == await work_of_two_logins("nobody") == ["hash", "verify", "verify"]


async def test_a_password_is_hashed_by_argon2id_and_stands_nowhere(database: Database, tmp_path: Path) -> None:
    accounts = accounts_in(database)
    await accounts.add("Tibi", "correct horse", "admin")
    [(hash_,)] = database.query("SELECT hash FROM accounts")
    assert str(hash_).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await accounts.authenticate("Tibi", "correct horse", PEER) == "Tibi"
    assert not [name for name in os.listdir(tmp_path) if b"correct horse" in _content(tmp_path / name)]


def test_a_hash_stands_in_no_message() -> None:
    tibi = account("Tibi", "1234")
    assert tibi.hash not in repr(Found(account=tibi))
    assert "Tibi" in repr(Found(account=tibi))


def _content(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_hash_of_other_parameters_is_made_anew_at_a_login(accounts: Accounts, database: Database) -> None:
    [(before,)] = database.query("SELECT hash FROM accounts")
    harder = accounts_in(database, CountingHasher(time_cost=2))
    assert await harder.authenticate("Tibi", "wrong", PEER) is None
    assert database.query("SELECT hash FROM accounts") == [(before,)]
    assert await harder.authenticate("Tibi", "1234", PEER) == "Tibi"
    [(after,)] = database.query("SELECT hash FROM accounts")
    assert "t=2" in after
    assert await harder.authenticate("Tibi", "1234", PEER) == "Tibi"
    assert database.query("SELECT hash FROM accounts") == [(after,)]


async def test_who_is_right_gets_in_though_nothing_can_be_written(
    accounts: Accounts, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    harder = accounts_in(database, CountingHasher(time_cost=2))
    database.query("PRAGMA query_only = ON")
    assert await harder.authenticate("Tibi", "1234", PEER) == "Tibi"
    [record] = caplog.records
    assert (record.name, record.levelno) == ("trio_vrchat.store", logging.WARNING)
    assert "1234" not in caplog.text


async def test_a_password_that_changes_meanwhile_stays_changed(accounts: Accounts, database: Database) -> None:
    class ChangesMeanwhile(CountingHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            if password == "1234":
                database.query("UPDATE accounts SET hash = ?", super().hash("new"))
            return super().hash(password, salt=salt)

    assert await accounts_in(database, ChangesMeanwhile(time_cost=2)).authenticate("Tibi", "1234", PEER) == "Tibi"
    assert await accounts.authenticate("Tibi", "1234", PEER) is None
    assert await accounts.authenticate("Tibi", "new", PEER) == "Tibi"


async def test_what_is_no_hash_lets_nobody_in(accounts: Accounts, database: Database) -> None:
    database.query("UPDATE accounts SET hash = 'gone'")
    assert await accounts.authenticate("Tibi", "1234", PEER) is None
    assert await accounts.authenticate("Tibi", "gone", PEER) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Tibi", "there is an account 'Tibi' already"),
        ("tibi", "there is an account 'Tibi' already, and 'tibi' is the same name"),
        ("\u0422ibi", "'\u0422ibi' looks like the account 'Tibi', in letters of another script"),
        ("", "a name of a user must not be empty"),
        ("x" * 33, "a name of a user is at most 32 characters long, not 33"),
        ("a\x07", "a name of a user holds no control or format characters"),
        ("\u3164 \ufe0f", "nothing of this name would be seen: choose another"),
        ("\udcff", "the name '\\udcff' holds what is no text: check the terminal's encoding"),
    ],
)
async def test_names_that_are_refused(accounts: Accounts, name: str, problem: str) -> None:
    with pytest.raises(AccountError) as caught:
        await accounts.add(name, "1234", "user")
    assert str(caught.value) == problem
    assert [account.name for account in await accounts.accounts()] == ["Tibi"]


@pytest.mark.parametrize("password", ["", "\udcff"])
async def test_passwords_that_are_refused(accounts: Accounts, password: str) -> None:
    with pytest.raises(AccountError, match="password"):
        await accounts.add("Ada", password, "user")
    with pytest.raises(AccountError, match="password"):
        await accounts.set_password("Tibi", password)
    assert await accounts.authenticate("Tibi", "1234", PEER) == "Tibi"


async def test_changing_and_removing(accounts: Accounts) -> None:
    await accounts.add("ada", "5678", "admin")
    listed = [(account.name, account.role, account.created) for account in await accounts.accounts()]
    assert listed == [("ada", "admin", NOW), ("Tibi", "user", NOW)]
    assert await accounts.set_password("TIBI", "new") == "Tibi"
    assert await accounts.authenticate("Tibi", "1234", PEER) is None
    assert await accounts.authenticate("Tibi", "new", PEER) == "Tibi"
    assert await accounts.authenticate("ada", "5678", PEER) == "ada"
    assert await accounts.remove("ADA") == "ada"
    assert await accounts.authenticate("ada", "5678", PEER) is None
    for act in (accounts.remove, accounts.find, lambda name: accounts.set_password(name, "x")):
        with pytest.raises(AccountError, match="there is no account 'Ada'"):
            await act("Ada")


async def test_what_others_add_meanwhile_is_looked_at_too(accounts: Accounts, database: Database) -> None:
    """A name of the same look that is no double, and then one that is."""

    def shelf_on_which(*names: str) -> Shelf:
        file, waiting = shelf_in(database, on_the_spot), list(names)

        async def shelf(request: AccountRequest) -> AccountReply:
            if isinstance(request, AddAccount) and waiting:
                await file(AddAccount(account=account(waiting.pop(0), "x"), beside=("bill",)))
            return await file(request)

        return shelf

    passwords = Passwords(CountingHasher())
    await Accounts(shelf_on_which("Bill"), on_the_spot, passwords).add("Bi1l", "x", "user")
    await accounts.remove("Bi1l")
    with pytest.raises(AccountError, match="'Bi1l' looks like the account 'B\u0456ll'"):
        await Accounts(shelf_on_which("B\u0456ll"), on_the_spot, passwords).add("Bi1l", "x", "user")
    assert [account.name for account in await accounts.accounts()] == ["Bill", "B\u0456ll", "Tibi"]


# The file


@pytest.mark.parametrize("seed", range(3))
def test_a_file_keeps_accounts_as_an_engine_does(database: Database, seed: int) -> None:
    engine = EngineState(Timing(), lambda *_: None, lambda *_: None)
    file = AccountFile(database)
    kinds: set[str] = set()
    for request in random_account_requests(random.Random(seed), 500):
        expected = engine.do(request, 0)
        assert file.do(request) == expected, request
        kinds.add(type(expected).__name__)
    assert kinds == {"Done", "Alike", "Found", "NoAccount", "Changed", "AccountList"}


def test_a_file_lists_some_accounts_at_a_time(database: Database) -> None:
    added = [account(f"u{number:04}", "x") for number in range(ACCOUNTS_LIMIT + 2)]
    file = AccountFile(database)
    for each in reversed(added):
        assert file.do(AddAccount(account=each)) == Done()
    assert file.do(ListAccounts()) == AccountList(accounts=tuple(added[:ACCOUNTS_LIMIT]), more=True)
    after = added[ACCOUNTS_LIMIT - 1].key
    assert file.do(ListAccounts(after=after)) == AccountList(accounts=tuple(added[ACCOUNTS_LIMIT:]), more=False)


async def test_all_accounts_are_listed(accounts: Accounts, database: Database) -> None:
    file = AccountFile(database)
    names = [f"u{number:04}" for number in range(2 * ACCOUNTS_LIMIT + 1)]
    for name in names:
        file.do(AddAccount(account=account(name, "x")))
    assert [account.name for account in await accounts.accounts()] == ["Tibi", *names]


# On trio


class Hashing:
    """In place of the thread: each call waits until it is let go. Knows how many there were at once."""

    def __init__(self) -> None:
        self.may_end = trio.Semaphore(0)
        self.at_once = 0
        self.most = 0

    async def __call__(self, function: Callable[[], _T]) -> _T:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.may_end.acquire()
            return function()
        finally:
            self.at_once -= 1


async def test_one_hash_at_a_time_and_256_who_wait(
    accounts: Accounts, database: Database, autojump_clock: MockClock
) -> None:
    hashing = Hashing()
    accounts = Accounts(shelf_in(database, on_the_spot), hashing, Passwords(CountingHasher()))
    answers: list[str | None] = []

    async def log_in() -> None:
        answers.append(await accounts.authenticate("tibi", "1234", PEER))

    async with trio.open_nursery() as nursery:
        for _ in range(1 + 256):
            nursery.start_soon(log_in)
        await wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(SlowDown) as caught:
                await accounts.authenticate("tibi", "1234", PEER)
            assert caught.value.detail == {"retry_after": 5.0}
        hashing.may_end.release()
        await wait_all_tasks_blocked()
        nursery.start_soon(log_in)  # there is a place again
        await wait_all_tasks_blocked()
        for _ in range(257):
            hashing.may_end.release()
            await wait_all_tasks_blocked()
    assert answers == ["Tibi"] * 258
    assert hashing.most == 1


async def test_who_hangs_up_gives_the_place_back(
    accounts: Accounts, database: Database, autojump_clock: MockClock
) -> None:
    hashing = Hashing()
    accounts = Accounts(shelf_in(database, on_the_spot), hashing, Passwords(CountingHasher()))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(1 + 256):
                nursery.start_soon(accounts.authenticate, "tibi", "1234", PEER)
            await wait_all_tasks_blocked()
            scope.cancel()
    hashing.may_end.release()
    assert await accounts.authenticate("tibi", "1234", PEER) == "Tibi"


async def test_in_threads_beside_a_store_of_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path) as store, open_accounts(path) as accounts, trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        with contextlib.closing(Database(path)) as database:  # what the command line does meanwhile
            await accounts_in(database).add("Tibi", "1234", "user")
        answered = trio.Event()
        store.append("lobby", [(1.0, b"1")], lambda stored: answered.set() if stored else None)
        assert await accounts.authenticate("TIBI", "1234", PEER) == "Tibi"
        assert await accounts.authenticate("Tibi", "4321", PEER) is None
        await answered.wait()
        store.close()


async def test_a_broken_file_is_an_error_and_no_refusal(accounts: Accounts, database: Database) -> None:
    database.query("DROP TABLE accounts")
    with pytest.raises(StoreError):
        await Accounts(shelf_in(database, on_the_spot), one_at_a_time()).authenticate("Tibi", "1234", PEER)
