"""Accounts: who gets in, in what time, and how many at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import argon2
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_vrchat._account_book import Account, AccountBook
from trio_vrchat._accounts import Accounts, open_accounts
from trio_vrchat._database import Database
from trio_vrchat._errors import AccountError, SlowDown, StoreError
from trio_vrchat._store import open_store
from trio_vrchat._threads import one_at_a_time

_T = TypeVar("_T")

NOW = 1568979503.28
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
def book(database: Database, hasher: CountingHasher) -> AccountBook:
    book = AccountBook(database, hasher, now=lambda: NOW)
    book.add("Tibi", "1234", "user")
    return book


# The book


def test_the_right_password_gives_the_accounts_own_spelling(book: AccountBook) -> None:
    assert book.check("Tibi", "1234") == "Tibi"
    assert book.check("TIBI", "1234") == "Tibi"
    assert book.check("\uff34ibi", "1234") == "Tibi"


@pytest.mark.parametrize(
    ("user", "password"),
    [("Tibi", "12345"), ("Tibi", ""), ("Tibi", "1234 "), ("Tibor", "1234"), ("\u0422ibi", "1234"), ("", "")],
)
def test_anything_else_is_refused(book: AccountBook, user: str, password: str) -> None:
    assert book.check(user, password) is None


def test_an_unknown_user_takes_the_work_of_a_wrong_password(
    book: AccountBook, database: Database, hasher: CountingHasher
) -> None:
    def work_of_two_logins(user: str) -> list[str]:
        fresh = AccountBook(database, hasher)
        hasher.work.clear()
        assert fresh.check(user, "wrong") is None
        assert fresh.check(user, "wrong") is None
        return list(hasher.work)

    assert work_of_two_logins("Tibi") == work_of_two_logins("nobody") == ["hash", "verify", "verify"]


def test_a_password_is_hashed_by_argon2id_and_stands_nowhere(database: Database, tmp_path: Path) -> None:
    book = AccountBook(database)
    book.add("Tibi", "correct horse", "admin")
    [(hash_,)] = database.query("SELECT hash FROM accounts")
    assert str(hash_).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert book.check("Tibi", "correct horse") == "Tibi"
    for file in tmp_path.iterdir():
        assert b"correct horse" not in file.read_bytes()


def test_a_hash_of_other_parameters_is_made_anew_at_the_next_login(book: AccountBook, database: Database) -> None:
    [(before,)] = database.query("SELECT hash FROM accounts")
    harder = AccountBook(database, CountingHasher(time_cost=2))
    assert harder.check("Tibi", "wrong") is None
    assert database.query("SELECT hash FROM accounts") == [(before,)]
    assert harder.check("Tibi", "1234") == "Tibi"
    [(after,)] = database.query("SELECT hash FROM accounts")
    assert "t=2" in after
    assert harder.check("Tibi", "1234") == "Tibi"
    assert database.query("SELECT hash FROM accounts") == [(after,)]


def test_who_is_right_gets_in_though_nothing_can_be_written(
    book: AccountBook, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    harder = AccountBook(database, CountingHasher(time_cost=2))
    database.query("PRAGMA query_only = ON")
    assert harder.check("Tibi", "1234") == "Tibi"
    [record] = caplog.records
    assert (record.name, record.levelno) == ("trio_vrchat.store", logging.WARNING)
    assert "1234" not in caplog.text


def test_a_password_that_changes_meanwhile_stays_changed(book: AccountBook, database: Database) -> None:
    class ChangesMeanwhile(CountingHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            if password == "1234":
                book.set_password("Tibi", "new")
            return super().hash(password, salt=salt)

    assert AccountBook(database, ChangesMeanwhile(time_cost=2)).check("Tibi", "1234") == "Tibi"
    assert book.check("Tibi", "1234") is None
    assert book.check("Tibi", "new") == "Tibi"


def test_what_is_no_hash_lets_nobody_in(book: AccountBook, database: Database) -> None:
    database.query("UPDATE accounts SET hash = 'gone'")
    assert book.check("Tibi", "1234") is None
    assert book.check("Tibi", "gone") is None


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
def test_names_that_are_refused(book: AccountBook, name: str, problem: str) -> None:
    with pytest.raises(AccountError) as caught:
        book.add(name, "1234", "user")
    assert str(caught.value) == problem
    assert [account.name for account in book.accounts()] == ["Tibi"]


@pytest.mark.parametrize("password", ["", "\udcff"])
def test_passwords_that_are_refused(book: AccountBook, password: str) -> None:
    with pytest.raises(AccountError, match="password"):
        book.add("Ada", password, "user")
    with pytest.raises(AccountError, match="password"):
        book.set_password("Tibi", password)
    assert book.check("Tibi", "1234") == "Tibi"


def test_changing_and_removing(book: AccountBook) -> None:
    book.add("ada", "5678", "admin")
    assert book.accounts() == [Account("ada", "admin", NOW), Account("Tibi", "user", NOW)]
    assert book.set_password("TIBI", "new") == "Tibi"
    assert book.check("Tibi", "1234") is None
    assert book.check("Tibi", "new") == "Tibi"
    assert book.check("ada", "5678") == "ada"
    assert book.remove("ADA") == "ada"
    assert book.check("ada", "5678") is None
    for act in (book.remove, book.find, lambda name: book.set_password(name, "x")):
        with pytest.raises(AccountError, match="there is no account 'Ada'"):
            act("Ada")


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


async def test_one_hash_at_a_time_and_256_who_wait(book: AccountBook, autojump_clock: MockClock) -> None:
    hashing = Hashing()
    accounts = Accounts(book, hashing)
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


async def test_who_hangs_up_gives_the_place_back(book: AccountBook, autojump_clock: MockClock) -> None:
    hashing = Hashing()
    accounts = Accounts(book, hashing)
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
            AccountBook(database).add("Tibi", "1234", "user")
        answered = trio.Event()
        store.append("lobby", [(1.0, b"1")], lambda stored: answered.set() if stored else None)
        assert await accounts.authenticate("TIBI", "1234", PEER) == "Tibi"
        assert await accounts.authenticate("Tibi", "4321", PEER) is None
        await answered.wait()
        store.close()


async def test_a_broken_file_is_an_error_and_no_refusal(book: AccountBook, database: Database) -> None:
    database.query("DROP TABLE accounts")
    with pytest.raises(StoreError):
        await Accounts(book, one_at_a_time()).authenticate("Tibi", "1234", PEER)
