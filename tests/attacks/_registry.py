"""An attack: a name, and what it does to a target."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from .client import Target

_Act = Callable[[Target], Awaitable[None]]


@attrs.frozen
class Attack:
    """Something that a client does and should not.

    `act` returns when the attack is over: its work is done, or the server has ended all its connections. It says in
    its docstring what it did to a stock server, as seen here.
    """

    name: str
    act: _Act

    async def run(self, target: Target) -> None:
        """Attack. That the server hangs up in the midst of it is the end of it, and no error."""
        try:
            await self.act(target)
        except* (trio.BrokenResourceError, ConnectionError):
            pass


async def at_once(act: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Do it with each of the numbers, all at the same time. That the server hangs up on one is no error."""

    async def one(number: int) -> None:
        with contextlib.suppress(trio.BrokenResourceError, ConnectionError):
            await act(number)

    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(one, number)


ATTACKS: dict[str, Attack] = {}


def attack(act: _Act) -> _Act:
    """Put a function among the attacks, under its name."""
    name = getattr(act, "__name__").replace("_", " ")  # noqa: B009  (a callable has none, for mypy)
    assert name not in ATTACKS
    ATTACKS[name] = Attack(name, act)
    return act
