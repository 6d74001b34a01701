"""Where calls that block are made: files and hashes, off the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import trio

_T = TypeVar("_T")


class InThread(Protocol):
    """Runs a function that blocks, and gives what it returns. A simulation in virtual time calls it on the spot."""

    def __call__(self, function: Callable[[], _T], /) -> Awaitable[_T]: ...


def one_at_a_time() -> InThread:
    """Threads of which one runs at a time. Whoever is cancelled does not wait for it: it may hang with its disk.

    Until it has ended it holds the one token, so that no other begins meanwhile.
    """
    limiter = trio.CapacityLimiter(1)

    async def in_thread(function: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(function, limiter=limiter, abandon_on_cancel=True)

    return in_thread
