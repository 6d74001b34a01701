"""The command `users`: the accounts of a store's file, or of a backplane's Redis. It may be used while servers run.

With Redis it is no node: each thing that it does is a short session of its own. A password is asked for between two.

The command line loads this module for its help alone, so what is slow to load is loaded where it is used.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

import attrs
from cyclopts import App, ArgumentCollection, Group, Parameter

from ._backplane import AccountReply, AccountRequest, Engine, EngineSession, Failed, LinkLost
from ._errors import AccountError
from ._logging import one_line

if TYPE_CHECKING:
    from ._accounts import Accounts, Shelf

_T = TypeVar("_T")

# Far above any password, and below what fits into a login.
_PASSWORD_LIMIT_BYTES = 1024

app = App(
    name="users",
    help="Add, change, remove or list the accounts of a server that asks for them.",
    help_epilogue="A password is asked for, or else is the first line of stdin; it is never an argument.",
)

_Name = Annotated[str, Parameter(help="The user's name. Case does not matter.")]


def _check_one(arguments: ArgumentCollection) -> None:
    given = [argument for argument in arguments if argument.tokens]
    # Not their values: there may be a password in one.
    if not given:
        raise ValueError("neither --store nor --backplane is given: say where the accounts are, by one of them")
    if len(given) > 1:
        names = " and ".join(str(argument.tokens[0].keyword) for argument in given)
        raise ValueError(f"{names} are both given: leave out where the accounts are not")


_WHERE = Group("Where the accounts are (one of these)", validator=_check_one)
_Store = Annotated[
    Path | None,
    Parameter(
        name="--store",
        group=_WHERE,
        env_var="TRIO_VRCHAT_STORE",
        help="The server's file of accounts and history.",
        metavar="FILE",
    ),
]
_Backplane = Annotated[
    str | None,
    Parameter(
        name="--backplane",
        group=_WHERE,
        env_var="TRIO_VRCHAT_BACKPLANE",
        help="The Redis of servers that share their rooms: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE].",
        metavar="URL",
    ),
]


@app.command
def add(
    name: _Name,
    /,
    *,
    store: _Store = None,
    backplane: _Backplane = None,
    role: Annotated[
        Literal["user", "admin"], Parameter(help="An admin may record, and see recordings again.")
    ] = "user",
) -> int:
    """Add an account. The file is made if it is not there."""
    where = _Where(store, backplane)
    where.do(lambda accounts: accounts.check_new(name), create=True)
    password = _new_password(name)
    where.do(lambda accounts: accounts.add(name, password, role))
    return _say(f"added {role} {name}")


@app.command
def passwd(name: _Name, /, *, store: _Store = None, backplane: _Backplane = None) -> int:
    """Give an account another password."""
    where = _Where(store, backplane)
    spelling = where.do(lambda accounts: accounts.find(name))
    password = _new_password(spelling)
    where.do(lambda accounts: accounts.set_password(name, password))
    return _say(f"changed the password of {spelling}")


@app.command
def remove(name: _Name, /, *, store: _Store = None, backplane: _Backplane = None) -> int:
    """Remove an account. Whoever is logged in by it stays until the connection ends."""
    spelling = _Where(store, backplane).do(lambda accounts: accounts.remove(name))
    return _say(f"removed {spelling}")


@app.command(name="list")
def list_(*, store: _Store = None, backplane: _Backplane = None) -> int:
    """List the accounts: name, role, and when each was made."""
    from rich.cells import cell_len  # noqa: PLC0415

    rows = [("NAME", "ROLE", "CREATED")]
    for account in _Where(store, backplane).do(lambda accounts: accounts.accounts()):
        created = datetime.fromtimestamp(account.created, UTC).astimezone()
        rows.append((one_line(account.name), account.role, f"{created:%Y-%m-%d %H:%M}"))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        _say("  ".join(cells).rstrip())
    return 0


@attrs.frozen
class _Where:
    """Where the accounts are: one of these is given."""

    store: Path | None
    backplane: str | None

    def do(self, act: Callable[[Accounts], Awaitable[_T]], *, create: bool = False) -> _T:
        """Have this done with them. `create`: the file, where there is none."""
        import trio  # noqa: PLC0415

        async def open_and_act() -> _T:
            async with self._open(create) as accounts:
                return await act(accounts)

        return trio.run(open_and_act)

    @asynccontextmanager
    async def _open(self, create: bool) -> AsyncIterator[Accounts]:
        from ._accounts import Accounts, open_accounts  # noqa: PLC0415
        from ._server import redis_engine  # noqa: PLC0415
        from ._threads import one_at_a_time  # noqa: PLC0415

        if self.backplane is None:
            assert self.store is not None
            async with open_accounts(self.store, create=create) as accounts:
                yield accounts
            return
        engine = redis_engine(self.backplane)
        opened = False
        try:
            # (Nobody sends anything to this node.)
            async with engine.session("users") as session:
                opened = True
                yield Accounts(_shelf(engine, session), one_at_a_time())
        except LinkLost as error:
            if opened:
                raise
            raise LinkLost(f"{error}: check the URL of the backplane, and that Redis runs") from error


def _shelf(engine: Engine, session: EngineSession) -> Shelf:
    async def shelf(request: AccountRequest) -> AccountReply:
        try:
            [reply] = await session.call([request])
        except LinkLost as error:
            raise LinkLost(f"{engine}: {error}; nobody knows whether it was done, but it may be done again") from error
        if isinstance(reply, Failed):
            raise LinkLost(f"{engine} cannot do this: {reply.why}")
        return cast("AccountReply", reply)

    return shelf


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
