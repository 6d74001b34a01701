"""What commands that read a recording say while they do: on stderr, so that stdout is data and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ._errors import RecordingError


def say(line: str) -> None:
    """A message of the program."""
    print(line, file=sys.stderr)  # noqa: T201  (a message of the program)


def check_output(output: Path, file: Path) -> None:
    """Raise RecordingError where what is written would take the place of the recording that it is made of."""
    if output.exists() and file.exists() and os.path.samefile(output, file):
        raise RecordingError(f"{output} is the recording itself: name another file with -o")


@contextlib.contextmanager
def progress(doing: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, where that is a terminal; it is told how much is done, from 0 to 1."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=1.0)
        yield lambda share: bar.update(task, completed=share)
