"""trio's scheduler, seeded.

trio shuffles the tasks that wake at one instant, so that nobody relies on their order. Under Hypothesis it does so by a
generator that can be seeded, and from a list that is sorted first; pytest-trio switches that on in this repository's
tests. Here the same switch is used without Hypothesis. It is private to trio; a trio without it fails this test by
name, not by a seed that does not replay.

A server whose tasks keep each other awake would never settle, and virtual time would stand still; `settle` counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio._core._run as scheduler

from trio_vrchat import testing

# The largest burst of the simulation takes some thousand steps.
_STEPS_AT_MOST = 200_000


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Within it, `trio.run` orders tasks by `seed` alone."""
    state, switch = scheduler._r.getstate(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._r.seed(seed)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    try:
        yield
    finally:
        scheduler._r.setstate(state)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = switch  # type: ignore[misc]


class _Steps(trio.abc.Instrument):
    """Cancels a scope after so many steps of tasks."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._left = _STEPS_AT_MOST

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if not self._left:
            self._scope.cancel()


async def settle() -> None:
    """`testing.settle`, for so long as it may take. Fails where the server never settles."""
    with trio.CancelScope() as scope:
        steps = _Steps(scope)
        trio.lowlevel.add_instrument(steps)
        try:
            await testing.settle()
        finally:
            trio.lowlevel.remove_instrument(steps)
    assert not scope.cancelled_caught, f"the server does not settle within {_STEPS_AT_MOST} steps of its tasks"
