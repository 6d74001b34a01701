"""Recordings, read: who was where and said what, as typed events or as a table.

    with recording.open("study/2026-11-27T131205Z.mcap") as session:
        for event in session:
            match event:
                case Moved(room=room, user=user, time=time, transform=transform): ...
        table = session.frames()    # pandas or polars, where one is installed

A file that has lost its end (the server was killed, the machine was switched off) is read as far as it goes; `lost`
says how far that was. Memory stays bounded, however long the recording: a piece of 256 KiB is looked at at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO

import attrs
import msgspec
from mcap.records import Channel, Chunk, Header, McapRecord, Metadata
from mcap.stream_reader import StreamReader

from ._clock import text_of
from ._errors import RecordingError
from ._events import Joined, Left, Moved, Said, Transform, Vector
from ._messages import JOIN, LEAVE, TRANSFORM
from ._recording_file import KINDS, MANIFEST, PROFILE, VERSION, Kind
from ._recording_index import DAMAGE, LIMIT_BYTES, MAGIC, messages, unpacked

__all__ = ["ClockOffset", "Joined", "Left", "Moved", "Recording", "RoundTrip", "Said", "open"]


class _Bounded:
    """A file of which nobody reads much at once: a damaged length would take all memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LIMIT_BYTES:
            raise ValueError(f"a length of {size}")
        return self._stream.read(size)


@attrs.frozen
class RoundTrip:
    """A ping of the server's to `user`, answered at `time`, took so many `seconds`."""

    user: str
    time: float
    seconds: float


@attrs.frozen
class ClockOffset:
    """By its own estimate, what `user`'s client has to add to its clock to have the server's, give or take `bound`."""

    user: str
    time: float
    seconds: float
    bound: float


Event = Joined | Left | Said | Moved | RoundTrip | ClockOffset


class Recording:
    """A recording that is open for reading. Made by `open`; iterate over it for its events, in the order of the file.

    - `path`: the file.
    - `manifest`: what the server said of itself: `started`, `settings`, `notes`, `server`, `version`, `pseudonyms`.
    - `lost`: "" while nothing is known to be missing; after iterating, what is.
    """

    def __init__(self, path: str | os.PathLike[str], stream: BinaryIO) -> None:
        self.path = os.fspath(path)
        self.lost = ""
        self._stream = stream
        self.manifest: Mapping[str, Any] = self._read_manifest()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Event]:
        for kind, line in self.lines():
            yield _event(kind, msgspec.json.decode(line))

    @property
    def progress(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return self._stream.tell() / max(1, os.fstat(self._stream.fileno()).st_size)

    def lines(self, kinds: Iterable[Kind] = KINDS) -> Iterator[tuple[Kind, bytes]]:
        """Each message as it is recorded: what it is, and a JSON object (see `_recording_file`)."""
        wanted = set(kinds)
        topics: dict[int, Kind] = {}
        count, last = 0, 0
        records = self._records()
        try:
            for record in records:
                if isinstance(record, Channel) and record.topic in KINDS:
                    topics[record.id] = record.topic
                elif isinstance(record, Chunk):
                    for channel, time, data in messages(unpacked(record.data, record.uncompressed_crc)):
                        count, last = count + 1, max(last, time)
                        kind = topics.get(channel)
                        if kind in wanted:
                            yield kind, data
        except DAMAGE as error:
            until = f", up to {text_of(last / 1e9)}," if last else ""
            self.lost = f"{self.path} has lost its end ({_why(error)}): {count} messages{until} are readable"

    def frames(self, *, library: str | None = None) -> Any:
        """All transforms as a table: a row each.

        Columns: `time` (seconds since the Unix epoch), `room`, `user`, `x`, `y`, `z` (metres), `rx`, `ry`, `rz`
        (radians, YXZ order), and `t`, the client's own time of capture, or NaN. `library`: "pandas" or "polars"; left
        out, the first of them that is installed. Raises RecordingError where neither is. All of it is in memory: for
        long recordings, export to Parquet.
        """
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for row in self.rows():
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        return _table_maker(library)(columns)

    def rows(self, room: str | None = None, user: str | None = None) -> Iterator[tuple[Any, ...]]:
        """The transforms as tuples of `COLUMNS`, of one room or user, or of all."""
        for _, line in self.lines(("transforms",)):
            row = _decode_row(line)
            if room in (None, row.room) and user in (None, row.user):
                pos, rot = row.data.pos, row.data.rot
                t = row.data.t
                captured = float(t) if isinstance(t, int | float) and not isinstance(t, bool) else float("nan")
                yield (row.time, row.room, row.user, pos.x, pos.y, pos.z, rot.x, rot.y, rot.z, captured)

    def _records(self) -> Iterator[McapRecord]:
        self._stream.seek(0)
        stream: Any = _Bounded(self._stream)
        return StreamReader(stream, emit_chunks=True, record_size_limit=LIMIT_BYTES).records

    def _read_manifest(self) -> Mapping[str, Any]:
        if (start := self._stream.read(len(MAGIC))) != MAGIC:
            raise RecordingError(f"{self.path} is no recording: it begins with {start[:16]!r}, and MCAP with {MAGIC!r}")
        try:
            for record in self._records():
                if isinstance(record, Header) and record.profile != PROFILE:
                    raise RecordingError(
                        f"{self.path} is an MCAP file of the profile {record.profile!r:.80}, and no recording of a "
                        "trio_vrchat server"
                    )
                if isinstance(record, Metadata) and record.name == MANIFEST:
                    return self._checked(record.metadata)
        except DAMAGE as error:
            raise RecordingError(
                f"{self.path} was cut or damaged at its start ({_why(error)}): nothing is readable"
            ) from error
        raise RecordingError(f"{self.path} has no manifest: nothing says what is in it")

    def _checked(self, metadata: Mapping[str, str]) -> Mapping[str, Any]:
        version = metadata.get("version", "")
        if version != VERSION:
            raise RecordingError(
                f"{self.path} has version {version!r:.20} of the format, and this trio_vrchat reads version {VERSION}: "
                "read it with the one that made it, which its manifest names "
                f"({metadata.get('server', 'it does not')!r:.80})"
            )
        manifest: dict[str, Any] = dict(metadata)
        for key in ("settings", "notes", "pseudonyms"):
            if key in manifest:
                manifest[key] = json.loads(manifest[key])
        return manifest


def open(path: str | os.PathLike[str]) -> Recording:  # noqa: A001  (as in `wave.open`)
    """Open a recording. Raises RecordingError where the file is none, or cannot be read at all."""
    try:
        stream = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise RecordingError(f"cannot read {os.fspath(path)!r}: {error.strerror}") from error
    try:
        return Recording(path, stream)
    except BaseException:
        stream.close()
        raise


COLUMNS = ("time", "room", "user", "x", "y", "z", "rx", "ry", "rz", "t")


class _Coordinates(msgspec.Struct):
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class _Data(msgspec.Struct):
    pos: _Coordinates
    rot: _Coordinates
    t: Any = None


class _Row(msgspec.Struct):
    time: float
    room: str
    user: str
    data: _Data


_decode_row = msgspec.json.Decoder(_Row).decode


def _event(kind: Kind, line: dict[str, Any]) -> Event:
    user, time = line["user"], line["time"]
    if kind == "round_trips":
        return RoundTrip(user, time, line["round_trip_s"])
    if kind == "clocks":
        return ClockOffset(user, time, line["offset_s"], line["bound_s"])
    room, data = line["room"], line["data"]
    match line["type"]:
        case str(name) if name == TRANSFORM and kind == "transforms":
            more = {key: value for key, value in data.items() if key not in ("pos", "rot")}
            return Moved(
                room, user, time, Transform(Vector(**_three(data["pos"])), Vector(**_three(data["rot"])), more)
            )
        case str(name) if name == JOIN:
            return Joined(room, user, time)
        case str(name) if name == LEAVE:
            return Left(room, user, time)
        case name:
            return Said(room, user, time, name, data)


def _three(group: dict[str, Any]) -> dict[str, float]:
    return {name: group.get(name, 0.0) for name in ("x", "y", "z")}


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _table_maker(library: str | None) -> Any:
    for name in (library,) if library is not None else ("pandas", "polars"):
        try:
            module: Any = __import__(name)
        except ImportError:
            continue
        return module.DataFrame
    raise RecordingError(
        f"{library or 'neither pandas nor polars'} is {'not ' if library else ''}installed: "
        "install one, or export to CSV or Parquet (python -m trio_vrchat export)"
    )
