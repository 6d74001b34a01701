"""The accounts of the server: who may log in, by which password, in which role.

Plain calls, which block: each password takes a hash of 19 MiB of memory and some hundredths of a second. On trio,
`Accounts` makes them in a thread.

- One key (`name_key`) is one account. The spelling it was made with is the one that rooms show.
- A password is kept as its Argon2id hash alone, and is in no error and no log.
- An unknown user takes the same work as a wrong password: a hash that no password is known for is verified.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable

import argon2
import attrs

from ._codec import USER_NAME_LIMIT, check_name
from ._database import Database
from ._errors import AccountError, BadRequest, StoreError
from ._names import are_look_alikes, name_key

ADMIN = "admin"
ROLES = ("user", ADMIN)

# OWASP's second choice for Argon2id: as hard as more memory, and small enough for a machine the size of a Raspberry Pi.
_MEMORY_KIB = 19 * 1024
_PASSES = 2
_LANES = 1

_log = logging.getLogger("trio_vrchat.store")


@attrs.frozen
class Account:
    """`created` is in seconds since the Unix epoch."""

    name: str
    role: str
    created: float


@attrs.frozen
class Standing:
    """What stays the same as long as an account, its password and its role do. `mark` tells nothing of the password."""

    mark: str
    role: str


class AccountBook:
    """The accounts in one database. Every method can raise StoreError.

    `hasher` is for tests; `now` gives the time in seconds since the Unix epoch.
    """

    def __init__(
        self, database: Database, hasher: argon2.PasswordHasher | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._hasher = hasher or argon2.PasswordHasher(
            time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES, type=argon2.Type.ID
        )
        self._now = now
        self._hash_of_nobody = ""

    def check(self, name: str, password: str) -> str | None:
        """The account's own spelling of the name; None where there is no such account or the password is wrong."""
        if not self._hash_of_nobody:
            # At the first login, whoever's it is: it takes as long for a user as for nobody.
            self._hash_of_nobody = self._hasher.hash(secrets.token_hex())
        key = name_key(name)
        rows = self._database.query("SELECT name, hash FROM accounts WHERE key = ?", key)
        spelling: str | None
        spelling, hash_ = rows[0] if rows else (None, self._hash_of_nobody)
        try:
            self._hasher.verify(hash_, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return None
        if spelling is not None and self._hasher.check_needs_rehash(hash_):
            try:
                self._write_password(key, password, hash_)
            except StoreError as error:
                _log.warning("a password could not be hashed anew: %s", error)
        return spelling

    def standing(self, name: str) -> Standing | None:
        """None where there is no such account."""
        rows = self._database.query("SELECT hash, role FROM accounts WHERE key = ?", name_key(name))
        return Standing(hashlib.sha256(rows[0][0].encode()).hexdigest(), rows[0][1]) if rows else None

    def check_new(self, name: str) -> None:
        """Raises AccountError where there can be no new account of this name."""
        try:
            check_name(name, USER_NAME_LIMIT, "user")
        except BadRequest as error:
            raise AccountError(error.reason) from None
        key = _key(name)
        if not key.strip():
            raise AccountError("nothing of this name would be seen: choose another")
        for (taken,) in self._database.query("SELECT name FROM accounts"):
            if name_key(taken) == key:
                raise AccountError(f"there is an account {taken!r} already" + _the_same(name, taken))
            if are_look_alikes(taken, name):
                raise AccountError(f"{name!r} looks like the account {taken!r}, in letters of another script")

    def add(self, name: str, password: str, role: str) -> None:
        """Make an account. Raises AccountError where the name is taken, looks like another's, or is none."""
        self.check_new(name)
        hash_ = self._hash(password)
        with self._database.transaction():
            self.check_new(name)  # again: nobody can come in between now
            self._database.query(
                "INSERT INTO accounts(key, name, hash, role, created) VALUES(?, ?, ?, ?, ?)",
                name_key(name),
                name,
                hash_,
                role,
                self._now(),
            )

    def set_password(self, name: str, password: str) -> str:
        """Give the account another password; returns its spelling. Raises AccountError where there is none."""
        spelling = self.find(name)
        self._write_password(name_key(name), password, None)
        return spelling

    def _write_password(self, key: str, password: str, instead_of: str | None) -> None:
        hash_ = self._hash(password)
        with self._database.transaction():
            # Meanwhile the account may have got another password, which must stay.
            self._database.query(
                "UPDATE accounts SET hash = ? WHERE key = ? AND hash = coalesce(?, hash)", hash_, key, instead_of
            )

    def _hash(self, password: str) -> str:
        if not password:
            raise AccountError("a password must not be empty")
        try:
            return self._hasher.hash(password)
        except UnicodeEncodeError:
            raise AccountError("the password holds what is no text: check the terminal's encoding") from None

    def remove(self, name: str) -> str:
        """Delete the account; returns its spelling. Raises AccountError where there is none."""
        with self._database.transaction():
            spelling = self.find(name)
            self._database.query("DELETE FROM accounts WHERE key = ?", name_key(name))
        return spelling

    def find(self, name: str) -> str:
        """The account's own spelling of the name. Raises AccountError where there is none."""
        rows = self._database.query("SELECT name FROM accounts WHERE key = ?", _key(name))
        if not rows:
            raise AccountError(f"there is no account {name!r}")
        [(spelling,)] = rows
        assert isinstance(spelling, str)
        return spelling

    def accounts(self) -> list[Account]:
        """All accounts, sorted by name without regard to case."""
        return [Account(*row) for row in self._database.query("SELECT name, role, created FROM accounts ORDER BY key")]


def _key(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair: bytes of a command line that could not be decoded
        raise AccountError(f"the name {name!r} holds what is no text: check the terminal's encoding") from None
    return name_key(name)


def _the_same(name: str, taken: str) -> str:
    return "" if name == taken else f", and {name!r} is the same name"
