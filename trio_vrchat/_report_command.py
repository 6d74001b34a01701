"""The command `report`: a recording as a page that says who was where, when, and with whom."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from . import recording
from ._errors import RecordingError
from ._terminal import progress, say
from .report import reduce


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
        if output.exists() and os.path.samefile(output, file):
            raise RecordingError(f"{output} is the recording itself: name another file with -o")
        try:
            # Before all the work, and so that nothing is lost of a page that is there.
            with output.open("ab"):
                pass
        except OSError as error:
            raise _cannot_write(output, error) from error
        with progress("reading") as tell:
            session = reduce(opened, lambda: tell(opened.progress))
    # (It draws with matplotlib, for which the rest of the program does not wait.)
    from .report._page import page  # noqa: PLC0415

    with progress("drawing") as tell:
        html = page(session, tell)
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as error:
        raise _cannot_write(output, error) from error
    for warning in filter(None, (session.lost, *session.left_out)):
        say(f"warning: {warning}")
    say(f"{output}: {len(session.people)} people, {sum(session.messages.values())} messages")
    return 0


def _cannot_write(output: Path, error: OSError) -> RecordingError:
    return RecordingError(f"cannot write {output}: {error.strerror}")
