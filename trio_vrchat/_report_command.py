"""The command `report`: a recording as a page that says who was where, when, and with whom."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from . import recording
from ._errors import RecordingError
from ._terminal import check_output, progress, say
from .report import page, reduce


def report(
    file: Annotated[Path, Parameter(help="The recording.", metavar="FILE")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["-o", "--output"],
            help="Where to; left out: beside the recording, with .html in place of .mcap.",
            metavar="FILE",
        ),
    ] = None,
) -> int:
    """Write a page about a recording: who was where and when, and who met whom."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise RecordingError("a report needs matplotlib: pip install 'trio-vrchat[report]'") from None
    output = output or file.with_suffix(".html")
    with recording.open(file) as opened:
        check_output(output, file)
        with _kept_if_whole(output):
            with progress("reading") as tell:
                session = reduce(opened, lambda: tell(opened.progress))
            with progress("drawing") as tell:
                html = page(session, tell)
            _write(output, "wb", html.encode())
    for warning in filter(None, (session.lost, *session.left_out)):
        say(f"warning: {warning}")
    say(f"{output}: {len(session.people)} people, {sum(session.messages.values())} messages")
    return 0


@contextlib.contextmanager
def _kept_if_whole(output: Path) -> Iterator[None]:
    """Find out that it can be written before all the work; and leave none behind that was not."""
    existed = output.exists()
    _write(output, "ab", b"")
    try:
        yield
    except BaseException:
        if not existed:
            output.unlink(missing_ok=True)
        raise


def _write(output: Path, mode: Literal["ab", "wb"], data: bytes) -> None:
    try:
        with output.open(mode) as file:
            file.write(data)
    except OSError as error:
        raise RecordingError(f"cannot write {output}: {error.strerror}") from error
