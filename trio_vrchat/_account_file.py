"""Accounts in the file of `--store`: what is asked of them, as `_backplane` says, done in SQLite.

Plain calls, which block: on trio, `Accounts` makes them in a thread. Each request is one transaction, so that nobody
else who has the file open, such as the command `users` beside a server, comes in between.
"""

from __future__ import annotations

from typing import Any

from . import _backplane as backplane
from ._backplane import ACCOUNTS_LIMIT, Account, AccountReply, AccountRequest
from ._database import Database
from ._names import skeleton

_COLUMNS = "key, name, hash, role, created"


class AccountFile:
    """The accounts in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def do(self, request: AccountRequest) -> AccountReply:
        """Do one thing, whole. Raises StoreError: nothing was done."""
        match request:
            case backplane.FindAccount(key=key):
                return _found(self._find(key))
            case backplane.AddAccount(account=account, beside=beside):
                return self._add(account, beside)
            case backplane.SetHash():
                return self._set_hash(request)
            case backplane.RemoveAccount(key=key):
                with self._database.transaction():
                    removed = self._find(key)
                    self._database.query("DELETE FROM accounts WHERE key = ?", key)
                return _found(removed)
            case backplane.ListAccounts(after=after):
                rows = self._database.query(
                    f"SELECT {_COLUMNS} FROM accounts WHERE key > ? ORDER BY key LIMIT ?", after, ACCOUNTS_LIMIT + 1
                )
                listed = tuple(_account(row) for row in rows[:ACCOUNTS_LIMIT])
                return backplane.AccountList(accounts=listed, more=len(rows) > ACCOUNTS_LIMIT)

    def _find(self, key: str) -> Account | None:
        rows = self._database.query(f"SELECT {_COLUMNS} FROM accounts WHERE key = ?", key)
        return _account(rows[0]) if rows else None

    def _add(self, account: Account, beside: tuple[str, ...]) -> AccountReply:
        with self._database.transaction():
            there = self._find(account.key)
            if there is not None:
                return backplane.Done() if there.hash == account.hash else backplane.Found(account=there)
            rows = self._database.query("SELECT key, name FROM accounts ORDER BY key")
            alike = {key: name for key, name in rows if skeleton(name) == account.look}
            if set(alike) - set(beside):
                return backplane.Alike(users=tuple(alike.values()))
            self._database.query(
                f"INSERT INTO accounts({_COLUMNS}) VALUES(?, ?, ?, ?, ?)",
                account.key,
                account.name,
                account.hash,
                account.role,
                account.created,
            )
        return backplane.Done()

    def _set_hash(self, set_hash: backplane.SetHash) -> AccountReply:
        with self._database.transaction():
            account = self._find(set_hash.key)
            if account is None:
                return backplane.NoAccount()
            if set_hash.instead_of and account.hash not in (set_hash.instead_of, set_hash.hash):
                return backplane.Changed()
            self._database.query("UPDATE accounts SET hash = ? WHERE key = ?", set_hash.hash, set_hash.key)
        return backplane.Done()


def _account(row: tuple[Any, ...]) -> Account:
    key, name, hash_, role, created = row
    return Account(key=key, look=skeleton(name), name=name, hash=hash_, role=role, created=created)


def _found(account: Account | None) -> AccountReply:
    return backplane.NoAccount() if account is None else backplane.Found(account=account)
