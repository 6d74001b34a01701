"""Accounts, for tests of what asks for them."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import argon2
import trio

from trio_vrchat._account_file import AccountFile
from trio_vrchat._account_rules import ROLES, Passwords, new_account
from trio_vrchat._accounts import Accounts, shelf_in
from trio_vrchat._backplane import (
    Account,
    AccountReply,
    AccountRequest,
    AddAccount,
    Done,
    Engine,
    FindAccount,
    ListAccounts,
    RemoveAccount,
    SetHash,
)
from trio_vrchat._database import Database
from trio_vrchat._names import name_key

_T = TypeVar("_T")

NOW = 1568979503.28


async def on_the_spot(function: Callable[[], _T]) -> _T:
    """In place of a thread, which takes time that no mock clock knows of."""
    await trio.lowlevel.checkpoint()
    return function()


def cheap_passwords() -> Passwords:
    """The real thing, with parameters that cost nothing."""
    return Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def account(name: str, password: str, role: str = "user") -> Account:
    return new_account(name, cheap_passwords().hash(password), role, NOW)


def add_accounts(path: str | os.PathLike[str], *accounts: Account) -> None:
    """Put these into a file."""
    with contextlib.closing(Database(path)) as database:
        for each in accounts:
            assert AccountFile(database).do(AddAccount(account=each)) == Done()


async def with_accounts(path: str | os.PathLike[str], act: Callable[[Accounts], Awaitable[_T]]) -> _T:
    """Do this with the accounts in a file, beside whoever else has it."""
    with contextlib.closing(Database(path)) as database:
        return await act(Accounts(shelf_in(database, on_the_spot), on_the_spot, cheap_passwords()))


def random_account_requests(dice: random.Random, count: int) -> Iterator[AccountRequest]:
    """What may be asked about four names, three of which look the same."""
    names, hashes = ["Bill", "Bi1l", "B\u0456ll", "Anna"], ["h1", "h2", "h3"]
    keys = [name_key(name) for name in names]
    for _ in range(count):
        name = dice.choice(names)
        added = new_account(name, dice.choice(hashes), dice.choice(ROLES), NOW)
        choices: list[AccountRequest] = [
            FindAccount(key=added.key),
            AddAccount(account=added),
            AddAccount(account=added, beside=tuple(dice.sample(keys, 2))),
            SetHash(key=added.key, hash=dice.choice(hashes), instead_of=dice.choice(hashes)),
            SetHash(key=added.key, hash=dice.choice(hashes)),
            RemoveAccount(key=added.key),
            ListAccounts(after=dice.choice(["", *keys])),
        ]
        yield dice.choice(choices)


async def with_accounts_of(engine: Engine, act: Callable[[Accounts], Awaitable[_T]]) -> _T:
    """Do this with the accounts that an engine has, as somebody who is no node."""
    async with engine.session("nobody") as session:

        async def shelf(request: AccountRequest) -> AccountReply:
            [reply] = await session.call([request])
            assert isinstance(reply, AccountReply)
            return reply

        return await act(Accounts(shelf, on_the_spot, cheap_passwords()))
