"""A folder of recordings, for whoever looks at one from afar: a list by number, and a few seconds of one at a time.

Plain calls, which block; `RecordingDesk` makes them in a thread. A recording is named by its number alone, never by a
path: the oldest in the folder is 1.

A look at some seconds can begin with what a newcomer would be told at that moment (protocol, chapter 2, "Joining"): who
is in the room, and where. Each answer is bounded, in bytes and in transforms a second, and says how far it goes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ._clock import time_of
from ._errors import BadRequest
from ._messages import JOIN, LEAVE, TRANSFORM
from ._recording_file import Kind
from ._recording_index import DAMAGE, Index, Line, Piece, content_of, decode_line, message_at

# The newest of them; who has more looks into the folder.
_LISTED = 100
# A quarter of what may wait for a client.
_ANSWER_BYTES = 256 * 1024
# Of one person: as many transforms a second as are enough to draw a walk by.
_TRANSFORMS_HZ = 15
# How far back a pose is looked for, of somebody who stands still: ten minutes of a recorder's flushes.
_PIECES_BACK = 1200
# Less than there is between any two events of a room.
_STEP_S = 1e-6
_EMPTY = msgspec.Raw(b'""')


class _Answer:
    """Entries as rooms send them, and about how many bytes they are."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.bytes = 0

    def add(self, time: float, user: str, kind: str, data: msgspec.Raw) -> None:
        self.entries.append({"time": time, "user": user, "type": kind, "data": data})
        self.bytes += len(user) + len(kind) + len(bytes(data)) + 64

    @property
    def full(self) -> bool:
        return self.bytes >= _ANSWER_BYTES


class RecordingFolder:
    """The recordings in one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # The one that is looked at: an hour's file has some ten thousand records' heads.
        self._index: Index | None = None

    def listing(self) -> list[dict[str, Any]]:
        """The newest recordings, newest first: `number`, `name`, `bytes`. Raises OSError."""
        files = self._files()
        listed: list[dict[str, Any]] = []
        for number, path in reversed(list(enumerate(files, 1))[-_LISTED:]):
            with contextlib.suppress(FileNotFoundError):
                listed.append({"number": number, "name": path.stem, "bytes": path.stat().st_size})
        return listed

    def details(self, number: int) -> dict[str, Any]:
        """One recording: its `number`, `name`, `notes`, when it `started` and what it has `until` now, and its rooms.

        `rooms` maps each room's name to how many different people were in it. Raises OSError, and BadRequest where
        there is no such recording.
        """
        index, stream = self._open(number)
        with stream:
            people: dict[str, set[str]] = {}
            for line in _events(index.pieces, stream):
                people.setdefault(line.room, set()).add(line.user)
        started = time_of(index.manifest.get("started"))
        if started is None:
            raise BadRequest(f"recording {number} does not say when it started")
        return {
            "number": number,
            "name": index.path.stem,
            "notes": json.loads(index.manifest.get("notes", "{}")),
            "started": started,
            "until": max([started, *(piece.last / 1e9 for piece in index.pieces)]),
            "rooms": {room: len(users) for room, users in sorted(people.items())},
        }

    def excerpt(self, number: int, room: str, time: float, seconds: float, *, seek: bool) -> dict[str, Any]:
        """What happened in a room from `time` on (seconds since the Unix epoch), for so many seconds.

        Returns `entries`, each kind in its order, and `until`, the time up to which they are: earlier than asked for
        where it would be too much. With `seek`, the first entries say who was there at `time`, and where.
        Raises OSError, and BadRequest where there is no such recording.
        """
        index, stream = self._open(number)
        with stream:
            answer = _Answer()
            if seek:
                self._welcome(index.pieces, stream, room, time, answer)
            until = self._window(index.pieces, stream, room, time, time + seconds, answer)
        return {"entries": answer.entries, "until": until}

    def _files(self) -> list[Path]:
        return sorted(self._path.glob("*.mcap"))

    def _open(self, number: int) -> tuple[Index, BinaryIO]:
        files = self._files()
        if not 0 < number <= len(files):
            there = f"1 to {len(files)}" if files else "none"
            raise BadRequest(f"there is no recording {number}: there are {there}")
        path = files[number - 1]
        index = self._index if self._index is not None and self._index.path == path else Index(path)
        stream = path.open("rb")
        try:
            index.read_on(stream)
            if not index.manifest:
                raise ValueError("it was cut before its manifest")
        except DAMAGE as error:
            # What came before can be looked at.
            if not index.pieces:
                stream.close()
                raise BadRequest(f"recording {number} cannot be read: {error}") from None
        except BaseException:
            stream.close()
            raise
        self._index = index
        return index, stream

    @staticmethod
    def _welcome(pieces: list[Piece], stream: BinaryIO, room: str, time: float, answer: _Answer) -> None:
        members: dict[str, float] = {}
        for line in _events(pieces, stream, until=time):
            if line.room != room:
                continue
            if line.type == JOIN:
                members[line.user] = line.time
            elif line.type == LEAVE:
                members.pop(line.user, None)
        for user in sorted(members, key=str.casefold):
            answer.add(members[user], user, JOIN, _EMPTY)
        missing = dict(members)
        before = [piece for piece in pieces if piece.first <= time * 1e9]
        for piece in before[: -_PIECES_BACK - 1 : -1]:
            if not missing or answer.full:
                return
            for line in _lines(piece, stream, "transforms", backwards=True):
                joined = missing.get(line.user)
                if joined is None or line.room != room or line.time > time:
                    continue
                del missing[line.user]
                if line.time >= joined:
                    answer.add(line.time, line.user, line.type, line.data)

    @staticmethod
    def _window(pieces: list[Piece], stream: BinaryIO, room: str, time: float, until: float, answer: _Answer) -> float:
        shown: dict[str, float] = {}
        for piece in pieces:
            if piece.last < time * 1e9 or piece.first > until * 1e9:
                continue
            begins = piece.first / 1e9 - _STEP_S
            if answer.full and begins > time:
                until = begins
                break
            for line in (*_lines(piece, stream, "events"), *_lines(piece, stream, "transforms")):
                if line.room != room or not time < line.time <= until:
                    continue
                if line.type == TRANSFORM:
                    if line.time - shown.get(line.user, 0.0) < 1 / _TRANSFORMS_HZ:
                        continue
                    shown[line.user] = line.time
                answer.add(line.time, line.user, line.type, line.data)
        # Of the last piece some may be later than the next one's first: that is asked for again.
        answer.entries = [entry for entry in answer.entries if entry["time"] <= until]
        return until


def _events(pieces: list[Piece], stream: BinaryIO, *, until: float | None = None) -> Iterator[Line]:
    """The events, up to a time. (A join that the recorder was shown when it began is older than its piece.)"""
    for piece in pieces:
        if until is not None and piece.first > until * 1e9:
            return
        for line in _lines(piece, stream, "events"):
            if until is None or line.time <= until:
                yield line


def _lines(piece: Piece, stream: BinaryIO, kind: Kind, *, backwards: bool = False) -> Iterator[Line]:
    offsets = piece.offsets.get(kind)
    if not offsets:
        return
    with contextlib.suppress(*DAMAGE):  # what is damaged is left out
        content = content_of(stream, piece)
        for offset in reversed(offsets) if backwards else offsets:
            yield decode_line(message_at(content, offset))
