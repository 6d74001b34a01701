"""A seed, and its report."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs

from trio_vrchat import testing

from . import several, single
from .bounds import watched_outboxes
from .diary import Diary
from .kinds import Kind, kind_of
from .scheduler import seeded_scheduler

# Of what did not hold: a payload can be long.
_MESSAGE_LENGTH = 2000


class SimulationError(AssertionError):
    """An invariant does not hold. The message has the seed and the last acts."""


@attrs.frozen
class Report:
    """What a seed has done."""

    seed: int
    virtual_s: float
    acts: int
    lines: int  # events that an observer has compared with a room's order
    frames: int
    digest: str


def simulate(seed: int, virtual_s: float | None = None) -> Report:
    """Run a seed, for so many virtual seconds or as many as the seed says. Raises SimulationError."""
    kind, diary = kind_of(seed), Diary()
    try:
        with seeded_scheduler(seed), watched_outboxes(), tempfile.TemporaryDirectory() as directory:
            if kind is Kind.SEVERAL:
                testing.run(several.live, seed, virtual_s, diary)
            else:
                store, shared = Path(directory) / "store", kind is Kind.SHARED
                testing.run(lambda: single.live(seed, virtual_s, store, diary, shared=shared))
    except Exception as error:
        last = "\n  ".join(diary.acts)
        raise SimulationError(
            f"seed {seed}, after {diary.ended_at:.3f} virtual seconds: {_what_failed(error)}\n"
            f"replay: python -m tests.simulation --seed {seed}\n"
            f"last acts:\n  {last}"
        ) from error
    transcript = diary.transcript
    return Report(seed, diary.ended_at, diary.act_count, diary.lines, transcript.frames, transcript.digest())


def _what_failed(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH]
