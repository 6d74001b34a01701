"""The command `export`: a recording as CSV, Parquet or JSON lines, in bounded memory.

A row is a message: a transform, a join, a leave, something said, a round trip or a clock. Messages of the program go to
stderr, so that stdout is the data and nothing else.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import attrs
import msgspec
from cyclopts import Parameter

from . import recording
from ._errors import RecordingError
from ._recording_file import Kind
from ._terminal import check_output, progress, say

COLUMNS = ("time", "room", "user", "type", "x", "y", "z", "rx", "ry", "rz", "t", "data")
_TYPES = {"round_trips": "round_trip", "clocks": "clock"}
# Rows that Parquet is given at once.
_ROW_GROUP = 50_000
# Lines between two looks at how far it is.
_REPORT_LINES = 20_000
# What spreadsheets take for a formula where a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = tuple[Any, ...]


@attrs.frozen
class _Filter:
    room: str | None
    user: str | None

    def wants(self, row: Row) -> bool:
        return self.room in (None, row[1]) and self.user in (None, row[2])


def export(
    file: Annotated[Path, Parameter(help="The recording.", metavar="FILE")],
    /,
    *,
    to: Annotated[
        Literal["csv", "parquet", "jsonl"],
        Parameter(help="csv and parquet have a column for each coordinate; jsonl is each message as it was recorded."),
    ],
    output: Annotated[
        Path | None,
        Parameter(
            name=["-o", "--output"],
            help="Where to; left out: stdout. Parquet needs a file, and pyarrow.",
            metavar="FILE",
        ),
    ] = None,
    room: Annotated[str | None, Parameter(help="Of this room only.")] = None,
    user: Annotated[str | None, Parameter(help="Of this user only.")] = None,
) -> int:
    """Write a recording as a table or as JSON lines."""
    if to == "parquet" and output is None:
        raise RecordingError("parquet cannot go to stdout: name a file with -o")
    if output is not None:
        check_output(output, file)
    write = {"csv": _write_csv, "jsonl": _write_lines, "parquet": _write_parquet}[to]
    with recording.open(file) as session, _opened(output) as out:
        try:
            with progress("exporting") as tell:
                count = write(session, _Filter(room, user), out, lambda: tell(session.progress))
            out.flush()
        except BrokenPipeError:
            # Whoever read it has seen enough.
            return 0
        except OSError as error:
            raise RecordingError(f"cannot write {output or 'to stdout'}: {error.strerror}") from error
    if session.lost:
        say(f"warning: {session.lost}")
    say(f"{count} messages")
    return 0


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        out = output.open("wb")
    except OSError as error:
        raise RecordingError(f"cannot write {output}: {error.strerror}") from error
    with out:
        yield out


def _rows(session: recording.Recording, wanted: _Filter, report: Callable[[], None]) -> Iterator[Row]:
    for number, (kind, line) in enumerate(session.lines()):
        if number % _REPORT_LINES == 0:
            report()
        row = _row(kind, msgspec.json.decode(line))
        if wanted.wants(row):
            yield row


def _row(kind: Kind, line: dict[str, Any]) -> Row:
    if kind in _TYPES:
        data = {key: value for key, value in line.items() if key not in ("time", "user")}
        return (line["time"], None, line["user"], _TYPES[kind], *([None] * 7), _json(data))
    start = (line["time"], line["room"], line["user"], line["type"])
    data = line["data"]
    if kind == "events":
        return (*start, *([None] * 7), None if data == "" else _json(data))
    pos, rot = data["pos"], data["rot"]
    more = {key: value for key, value in data.items() if key not in ("pos", "rot", "t")}
    t = data.get("t")
    coordinates = [float(group.get(axis, 0.0)) for group in (pos, rot) for axis in ("x", "y", "z")]
    captured = float(t) if isinstance(t, int | float) and not isinstance(t, bool) else None
    return (*start, *coordinates, captured, _json(more) if more else None)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _write_csv(session: recording.Recording, wanted: _Filter, out: BinaryIO, report: Callable[[], None]) -> int:
    """RFC 4180, UTF-8, a dot in numbers, empty where there is nothing."""
    count = 0
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False)
    try:
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        for row in _rows(session, wanted, report):
            time, room, user, kind, *rest = row
            rows.writerow((f"{time:.6f}", _cell(room), _cell(user), _cell(kind), *rest))
            count += 1
        text.flush()
    finally:
        # (It would close stdout at its own end.)
        with contextlib.suppress(OSError):
            text.detach()
    return count


def _cell(name: str | None) -> str | None:
    # People choose their names, and a spreadsheet would calculate some.
    return f"'{name}" if name is not None and name.startswith(_FORMULA) else name


def _write_lines(session: recording.Recording, wanted: _Filter, out: BinaryIO, report: Callable[[], None]) -> int:
    count = 0
    filters = wanted != _Filter(None, None)
    for number, (kind, line) in enumerate(session.lines()):
        if number % _REPORT_LINES == 0:
            report()
        if filters and not wanted.wants(_row(kind, msgspec.json.decode(line))):
            continue
        out.write(line + b"\n")
        count += 1
    return count


def _write_parquet(session: recording.Recording, wanted: _Filter, out: BinaryIO, report: Callable[[], None]) -> int:
    try:
        # (It has no types.)
        pa: Any = importlib.import_module("pyarrow")
        pq: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise RecordingError("parquet needs pyarrow: pip install 'trio-vrchat[parquet]', or export to csv") from None
    texts = ("room", "user", "type", "data")
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in COLUMNS])
    count = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:

        def write(rows: list[Row]) -> None:
            columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
            writer.write_batch(pa.record_batch([list(column) for column in columns], schema=schema))

        rows: list[Row] = []
        for row in _rows(session, wanted, report):
            rows.append(row)
            count += 1
            if len(rows) == _ROW_GROUP:
                write(rows)
                rows = []
        write(rows)
    return count
