"""The command `users`: the accounts in the file of the store. It may be used while a server runs on that file.

The command line loads this module for its help alone, so what is slow to load is loaded where it is used.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from cyclopts import App, Parameter

from ._errors import AccountError
from ._logging import one_line

if TYPE_CHECKING:
    from ._accounts import Accounts

_T = TypeVar("_T")

# Far above any password, and below what fits into a login.
_PASSWORD_LIMIT_BYTES = 1024

app = App(
    name="users",
    help="Add, change, remove or list the accounts of a server that asks for them.",
    help_epilogue="A password is asked for, or else is the first line of stdin; it is never an argument.",
)

_Name = Annotated[str, Parameter(help="The user's name. Case does not matter.")]
_Store = Annotated[
    Path,
    Parameter(
        name="--store",
        env_var="TRIO_VRCHAT_STORE",
        help="The server's file of accounts and history.",
        metavar="FILE",
    ),
]


@app.command
def add(
    name: _Name,
    /,
    *,
    store: _Store,
    role: Annotated[
        Literal["user", "admin"], Parameter(help="An admin may record, and see recordings again.")
    ] = "user",
) -> int:
    """Add an account. The file is made if it is not there."""
    _do(store, lambda accounts: accounts.check_new(name), create=True)
    password = _new_password(name)
    _do(store, lambda accounts: accounts.add(name, password, role))
    return _say(f"added {role} {name}")


@app.command
def passwd(name: _Name, /, *, store: _Store) -> int:
    """Give an account another password."""
    spelling = _do(store, lambda accounts: accounts.find(name))
    password = _new_password(spelling)
    _do(store, lambda accounts: accounts.set_password(name, password))
    return _say(f"changed the password of {spelling}")


@app.command
def remove(name: _Name, /, *, store: _Store) -> int:
    """Remove an account. Whoever is logged in by it stays until the connection ends."""
    spelling = _do(store, lambda accounts: accounts.remove(name))
    return _say(f"removed {spelling}")


@app.command(name="list")
def list_(*, store: _Store) -> int:
    """List the accounts: name, role, and when each was made."""
    from rich.cells import cell_len  # noqa: PLC0415

    rows = [("NAME", "ROLE", "CREATED")]
    for account in _do(store, lambda accounts: accounts.accounts()):
        created = datetime.fromtimestamp(account.created, UTC).astimezone()
        rows.append((one_line(account.name), account.role, f"{created:%Y-%m-%d %H:%M}"))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        _say("  ".join(cells).rstrip())
    return 0


def _do(store: Path, act: Callable[[Accounts], Awaitable[_T]], *, create: bool = False) -> _T:
    """Have this done with the accounts. A password is asked for between two of these, not within one."""
    import trio  # noqa: PLC0415

    from ._accounts import open_accounts  # noqa: PLC0415

    async def open_and_act() -> _T:
        async with open_accounts(store, create=create) as accounts:
            return await act(accounts)

    return trio.run(open_and_act)


def _new_password(name: str) -> str:
    if sys.stdin.isatty():
        try:
            password = getpass.getpass(f"Password of {one_line(name)}: ")
            again = getpass.getpass("The same again: ")
        except (EOFError, KeyboardInterrupt) as error:
            print(file=sys.stderr)  # noqa: T201  (the prompt's line has no end yet)
            if isinstance(error, KeyboardInterrupt):
                raise
            raise AccountError("no password was given") from None
        if again != password:
            raise AccountError("the two passwords are not the same: nothing was changed")
    else:
        try:
            line = sys.stdin.buffer.readline(_PASSWORD_LIMIT_BYTES + 2).decode()
        except UnicodeDecodeError:
            raise AccountError("the password on stdin is not UTF-8") from None
        password = line.removesuffix("\n").removesuffix("\r")
    if len(password.encode(errors="replace")) > _PASSWORD_LIMIT_BYTES:
        raise AccountError(f"a password is at most {_PASSWORD_LIMIT_BYTES} bytes long")
    return password


def _say(line: str) -> int:
    # A name may have letters that the terminal's encoding has not.
    encoding = sys.stdout.encoding
    print(line.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201  (what was asked for)
    return 0
