"""The rules for accounts: who may have which name, and what is done with passwords.

Nothing here waits for anything but a processor: each password takes a hash of 19 MiB of memory and some hundredths of
a second. `Accounts` has it done in a thread. Where accounts are kept is not decided here, either: the rules are the
same for a file and for the engine that several servers have in common.

- One key (`name_key`) is one account. The spelling it was made with is the one that rooms show.
- A password is kept as its Argon2id hash alone, and is in no error and no log.
- An unknown user takes the same work as a wrong password: a hash that no password is known for is verified.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import argon2
import attrs

from ._backplane import Account
from ._codec import USER_NAME_LIMIT, check_name
from ._errors import AccountError, BadRequest
from ._names import are_look_alikes, name_key, skeleton

ADMIN = "admin"
ROLES = ("user", ADMIN)

# OWASP's second choice for Argon2id: as hard as more memory, and small enough for a machine the size of a Raspberry Pi.
_MEMORY_KIB = 19 * 1024
_PASSES = 2
_LANES = 1


@attrs.frozen
class Standing:
    """What stays the same as long as an account, its password and its role do. `mark` tells nothing of the password."""

    mark: str
    role: str


def standing_of(account: Account) -> Standing:
    """What is compared when somebody comes back."""
    return Standing(hashlib.sha256(account.hash.encode()).hexdigest(), account.role)


# Passwords


class Passwords:
    """Makes and verifies hashes. Only one thread at a time MUST use it. `hasher` is for tests."""

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher(
            time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES, type=argon2.Type.ID
        )
        self._hash_of_nobody = ""

    def check(self, account: Account | None, password: str) -> bool:
        """Whether this is the account's password; False where there is no account."""
        if not self._hash_of_nobody:
            # At the first login, whoever's it is: it takes as long for a user as for nobody.
            self._hash_of_nobody = self._hasher.hash(secrets.token_hex())
        try:
            self._hasher.verify(self._hash_of_nobody if account is None else account.hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return account is not None

    def is_old(self, account: Account) -> bool:
        """Whether the account's hash has other parameters than one that is made now."""
        return self._hasher.check_needs_rehash(account.hash)

    def hash(self, password: str) -> str:
        """A hash with a salt of its own. Raises AccountError where this can be no password."""
        if not password:
            raise AccountError("a password must not be empty")
        try:
            return self._hasher.hash(password)
        except UnicodeEncodeError:
            raise AccountError("the password holds what is no text: check the terminal's encoding") from None


# Names


def account_key(name: str) -> str:
    """The key of a name that somebody has typed. Raises AccountError where it is no text."""
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate pair: bytes of a command line that could not be decoded
        raise AccountError(f"the name {name!r} holds what is no text: check the terminal's encoding") from None
    return name_key(name)


def check_new_name(name: str) -> None:
    """Raises AccountError where no account can have this name, whatever others there are."""
    try:
        check_name(name, USER_NAME_LIMIT, "user")
    except BadRequest as error:
        raise AccountError(error.reason) from None
    if not account_key(name).strip():
        raise AccountError("nothing of this name would be seen: choose another")


def new_account(name: str, hash_: str, role: str, created: float) -> Account:
    """An account of this name, which `check_new_name` has passed; `created` in seconds since the Unix epoch."""
    return Account(key=name_key(name), look=skeleton(name), name=name, hash=hash_, role=role, created=created)


def taken(name: str, account: Account) -> AccountError:
    """Why there can be no other account of this name."""
    same = "" if name == account.name else f", and {name!r} is the same name"
    return AccountError(f"there is an account {account.name!r} already{same}")


def may_stand_beside(name: str, users: Sequence[str]) -> tuple[str, ...]:
    """The keys of these, whose look is that of `name`. Raises AccountError where `name` would pass for one of them."""
    for other in users:
        if are_look_alikes(name, other):
            raise AccountError(f"{name!r} looks like the account {other!r}, in letters of another script")
    return tuple(name_key(other) for other in users)
