"""What commands that read a recording say while they do: on stderr, so that stdout is data and nothing else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


def say(line: str) -> None:
    """A message of the program."""
    print(line, file=sys.stderr)  # noqa: T201  (a message of the program)


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
