"""Where in a recording's file what is, read from the heads of its records alone.

A chunk's head says which times are in it, and the index behind it where its events are. So who was in a room at some
moment is found without a look at the transforms, and the transforms of some seconds without the rest. A file that is
still being written, or has lost its end, is read as far as it goes; the next look goes on from there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import attrs
import msgspec
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Metadata

from ._recording_file import KINDS, MANIFEST, VERSION, Kind

# Whatever a file holds that was cut or damaged: the reader of MCAP checks no more than it needs.
DAMAGE = (McapError, struct.error, ValueError, KeyError, TypeError, EOFError, zstandard.ZstdError)
# What anything in a file may take: a chunk of the largest messages is far below. A damaged length is not believed.
LIMIT_BYTES = 64 * 1024 * 1024
MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")  # opcode, length
MESSAGE = struct.Struct("<HIQQ")  # channel, number, log time, publish time

# First and last time, size and checksum of what is in it; the name of the compression follows, and the size packed.
_CHUNK = struct.Struct("<QQQI")
_TEXT = struct.Struct("<I")
_PACKED = struct.Struct("<Q")
_INDEX = struct.Struct("<HI")  # channel, bytes of the list
_INDEXED = struct.Struct("<QQ")  # time, offset


class Line(msgspec.Struct):
    """A message of the channels `events` and `transforms` (see `_recording_file`)."""

    room: str
    time: float
    user: str
    type: str
    data: msgspec.Raw


decode_line = msgspec.json.Decoder(Line).decode


@attrs.frozen
class Piece:
    """A chunk of a file: where it is, the times in it (nanoseconds), and where in it each kind of message begins."""

    start: int
    packed_bytes: int
    bytes: int
    crc: int
    first: int
    last: int
    offsets: dict[Kind, list[int]] = attrs.field(factory=dict)


class Index:
    """The pieces of one file. Raises OSError, or ValueError where the file is no recording that this version reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pieces: list[Piece] = []
        self.manifest: dict[str, str] = {}
        self._position = len(MAGIC)
        self._kinds: dict[int, Kind] = {}

    def read_on(self, stream: BinaryIO) -> None:
        """Read what the file has got since the last time."""
        if self._position == len(MAGIC):
            stream.seek(0)
            if stream.read(len(MAGIC)) != MAGIC:
                raise ValueError("it is no MCAP file")
        end = os.fstat(stream.fileno()).st_size
        while self._position + RECORD.size <= end:
            stream.seek(self._position)
            opcode, size = RECORD.unpack(stream.read(RECORD.size))
            after = self._position + RECORD.size + size
            if after > end:
                return  # not written yet, or never
            if opcode == Opcode.DATA_END:
                return
            self._take(stream, opcode, size)
            self._position = after

    def _take(self, stream: BinaryIO, opcode: int, size: int) -> None:
        if opcode == Opcode.CHUNK:
            if not self.manifest:
                raise ValueError("it has no manifest")
            start = stream.tell()
            first, last, plain, crc = _CHUNK.unpack(stream.read(_CHUNK.size))
            (name,) = _TEXT.unpack(stream.read(_TEXT.size))
            stream.seek(start + _CHUNK.size + _TEXT.size + name)
            (packed,) = _PACKED.unpack(stream.read(_PACKED.size))
            if max(plain, packed) > LIMIT_BYTES:
                raise ValueError("a chunk is too large")
            self.pieces.append(Piece(stream.tell(), packed, plain, crc, first, last))
        elif opcode == Opcode.MESSAGE_INDEX and self.pieces:
            channel, length = _INDEX.unpack(stream.read(_INDEX.size))
            kind = self._kinds.get(channel)
            if kind is not None and length <= min(size, LIMIT_BYTES):
                listed = stream.read(length - length % _INDEXED.size)
                self.pieces[-1].offsets[kind] = [offset for _, offset in _INDEXED.iter_unpack(listed)]
        elif opcode in (Opcode.CHANNEL, Opcode.METADATA) and size <= LIMIT_BYTES:
            if opcode == Opcode.CHANNEL:
                channel_record = Channel.read(ReadDataStream(stream))
                if channel_record.topic in KINDS:
                    self._kinds[channel_record.id] = channel_record.topic
                return
            metadata = Metadata.read(ReadDataStream(stream))
            if metadata.name == MANIFEST:
                if metadata.metadata.get("version") != VERSION:
                    raise ValueError(f"it is no recording of version {VERSION}")
                self.manifest = metadata.metadata


def content_of(stream: BinaryIO, piece: Piece) -> bytes:
    """What is in a piece, unpacked. Raises ValueError where it is damaged."""
    stream.seek(piece.start)
    return unpacked(stream.read(piece.packed_bytes), piece.crc)


def unpacked(packed: bytes, crc: int) -> bytes:
    """What is in a chunk. Raises ValueError or zstandard's error where it is damaged."""
    if zstandard.frame_content_size(packed) > LIMIT_BYTES:
        raise ValueError("a chunk is too large")
    plain = zstandard.ZstdDecompressor().decompress(packed)
    if zlib.crc32(plain) != crc:
        raise ValueError("a chunk is damaged")
    return plain


def message_at(content: bytes, offset: int) -> bytes:
    """The JSON of the message that begins here."""
    _, size = RECORD.unpack_from(content, offset)
    start = offset + RECORD.size
    return content[start + MESSAGE.size : start + size]


def messages(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Channel, time in nanoseconds and data of each message. (In the package each takes ten times as long.)"""
    position = 0
    while position < len(content):
        opcode, size = RECORD.unpack_from(content, position)
        start = position + RECORD.size
        position = start + size
        if opcode == Opcode.MESSAGE:
            channel, _, time, _ = MESSAGE.unpack_from(content, start)
            yield channel, time, content[start + MESSAGE.size : position]
