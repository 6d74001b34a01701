"""A recording as a file: MCAP (https://mcap.dev/spec), written so that what was written can be read, whatever comes.

MCAP is a list of records, each with its length; messages stand in chunks, compressed, each chunk with an index behind
it, and an index of all at the end. Whoever reads a file that has lost its end goes through the chunks instead. A
Parquet file without its end says nothing at all, so it was no choice: of a file cut at nine tenths, MCAP gave back
nine tenths and Parquet nothing (200,000 transforms; 41 bytes each by MCAP, 15 by Parquet).

The records are those of the package `mcap`; when a chunk is complete is decided here. The package's own writer knows
only a size, and a quiet room would fill one in minutes, all of which a crash would take with it.

What is in it: four channels, and in each message a JSON object that says all, so that a line of it can be read alone.

- `events`: `room`, `time`, `user`, `type` and `data` of each join, leave and whatever was said, in each room's order.
- `transforms`: the same of every transform as it came in.
- `round_trips`: `time`, `user`, and `round_trip_s` of a ping.
- `clocks`: `time`, `user`, and `offset_s` and `bound_s` of a client's estimate of the server's clock.

A message's log time is its `time`, in nanoseconds. A metadata record `manifest` comes first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO, Literal

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)

PROFILE = "trio_vrchat"
MANIFEST = "manifest"
# What stands in each message, version 1 of it. A reader refuses what it does not know.
VERSION = "1"

Kind = Literal["events", "transforms", "round_trips", "clocks"]
KINDS: tuple[Kind, ...] = ("events", "transforms", "round_trips", "clocks")

_MAGIC = b"\x89MCAP0\r\n"
_SCHEMA = b'{"type":"object"}'
_COMPRESSION = "zstd"
# More takes longer and saves little.
_LEVEL = 1
# A message's own fields, with the opcode and the length of the record before them.
_MESSAGE = struct.Struct("<BQHIQQ")
_MESSAGE_FIELDS_BYTES = 22
# What is compressed at once. More hardly gets smaller.
_CHUNK_BYTES = 256 * 1024


class RecordingFile:
    """Writes one recording. What the stream raises (OSError) comes through; nothing may be written after that.

    `flush` MUST be called now and then: what has been added since is lost with the process.
    """

    def __init__(self, stream: BinaryIO, manifest: Mapping[str, str]) -> None:
        self._stream = stream
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._offset = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._chunks: list[ChunkIndex] = []
        self._counts: dict[int, int] = {}
        self._times: tuple[int, int] | None = None  # first and last
        self._schema = Schema(id=1, data=_SCHEMA, encoding="jsonschema", name=f"{PROFILE}.entry")
        self._channels = [
            Channel(id=number, topic=kind, message_encoding="json", metadata={}, schema_id=1)
            for number, kind in enumerate(KINDS, 1)
        ]
        self._numbers = {channel.topic: channel.id for channel in self._channels}
        self._write(_MAGIC)
        self._write(_bytes_of(Header(profile=PROFILE, library=f"{PROFILE} {VERSION}")))
        start = self._offset
        self._write(_bytes_of(Metadata(name=MANIFEST, metadata=dict(manifest))))
        self._manifest = MetadataIndex(offset=start, length=self._offset - start, name=MANIFEST)
        self._write(_bytes_of(self._schema, *self._channels))
        self._stream.flush()

    @property
    def count(self) -> int:
        """Messages so far."""
        return sum(self._counts.values())

    def add(self, kind: Kind, time_ns: int, data: bytes) -> None:
        """Add a message: a JSON object."""
        channel = self._numbers[kind]
        self._index.setdefault(channel, []).append((time_ns, self._parts_bytes))
        count = self._counts[channel] = self._counts.get(channel, 0) + 1
        head = _MESSAGE.pack(
            Opcode.MESSAGE, _MESSAGE_FIELDS_BYTES + len(data), channel, count & 0xFFFFFFFF, time_ns, time_ns
        )
        self._parts += (head, data)
        self._parts_bytes += len(head) + len(data)
        if self._parts_bytes >= _CHUNK_BYTES:
            self._end_chunk()

    def flush(self) -> None:
        """Hand all that was added to the operating system: from here on it outlives the process."""
        self._end_chunk()
        self._stream.flush()

    def finish(self) -> None:
        """Write what makes the file quick to search. The stream stays open."""
        self._end_chunk()
        self._write(_bytes_of(DataEnd(data_section_crc=0)))
        start = self._offset
        first, last = self._times or (0, 0)
        statistics = Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunks),
            message_count=self.count,
            message_end_time=last,
            message_start_time=first,
            metadata_count=1,
            schema_count=1,
        )
        summary = _bytes_of(self._schema, *self._channels, statistics, *self._chunks, self._manifest)
        self._write(summary)
        crc = zlib.crc32(struct.pack("<BQQQ", Opcode.FOOTER, 20, start, 0), zlib.crc32(summary))
        self._write(_bytes_of(Footer(summary_start=start, summary_offset_start=0, summary_crc=crc)) + _MAGIC)
        self._stream.flush()

    def _end_chunk(self) -> None:
        if not self._parts:
            return
        plain = b"".join(self._parts)
        times = [time for entries in self._index.values() for time, _ in entries]
        first, last = min(times), max(times)
        packed = self._compressor.compress(plain)
        start = self._offset
        self._write(
            _bytes_of(
                Chunk(
                    compression=_COMPRESSION,
                    data=packed,
                    message_end_time=last,
                    message_start_time=first,
                    uncompressed_crc=zlib.crc32(plain),
                    uncompressed_size=len(plain),
                )
            )
        )
        end = self._offset
        offsets: dict[int, int] = {}
        for channel, entries in self._index.items():
            offsets[channel] = self._offset
            self._write(_bytes_of(MessageIndex(channel_id=channel, records=entries)))
        self._chunks.append(
            ChunkIndex(
                chunk_length=end - start,
                chunk_start_offset=start,
                compression=_COMPRESSION,
                compressed_size=len(packed),
                message_end_time=last,
                message_index_length=self._offset - end,
                message_index_offsets=offsets,
                message_start_time=first,
                uncompressed_size=len(plain),
            )
        )
        self._times = (min(first, self._times[0]), max(last, self._times[1])) if self._times else (first, last)
        self._parts, self._parts_bytes, self._index = [], 0, {}

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._offset += len(data)


def _bytes_of(*records: McapRecord) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data
