"""trio's scheduler, seeded.

trio shuffles the tasks that wake at one instant, so that nobody relies on their order. Under Hypothesis it does so by a
generator that can be seeded, and from a list that is sorted first; pytest-trio switches that on in this repository's
tests. Here the same switch is used without Hypothesis. It is private to trio; a trio without it fails this test by
name, not by a seed that does not replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio._core._run as scheduler


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
