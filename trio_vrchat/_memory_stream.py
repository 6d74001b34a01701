"""Connections in memory that fill up as sockets do.

trio's own memory streams take any number of bytes without waiting, so that a client which does not read could not be
told from one which does.
"""

from __future__ import annotations

import trio

# What a kernel's socket buffer takes before a write waits.
_PIPE_BYTES = 64 * 1024


class Pipe:
    """Bytes on their way in one direction, with room for so many."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.data = bytearray()
        self.ended = False  # by the writer: the reader sees the end after the data
        self.reset = False  # by either: both see an error
        self.reader_closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def change(self) -> None:
        self._changed.unpark_all()

    def write_nowait(self, data: bytes | memoryview) -> int:
        if self.reset:
            raise trio.BrokenResourceError("the peer has gone")
        taken = data[: max(0, self._limit_bytes - len(self.data))]
        self.data += taken
        self.change()
        return len(taken)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            taken = self.write_nowait(rest)
            rest = rest[taken:]
            if not taken:
                await self._changed.park()

    async def read(self, max_bytes: int | None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.data and not self.ended and not self.reset:
            await self._changed.park()
        # A pass later than what else was due when it was written: so what a script sends at the instant of a batch
        # comes after it, in each run.
        await trio.lowlevel.checkpoint()
        if self.reset:
            raise trio.BrokenResourceError("the peer has gone")
        return self.take(max_bytes)

    def take(self, max_bytes: int | None = None) -> bytes:
        data = bytes(self.data[:max_bytes])
        del self.data[:max_bytes]
        self.change()
        return data


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory. A write waits while 64 KiB are unread, as on a socket."""

    def __init__(self, incoming: Pipe, outgoing: Pipe, peer: str, address: tuple[str, int] | None = None) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.peer = peer
        self.address = address
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes; empty at the end. Raises BrokenResourceError after a reset."""
        self._check_open()
        data = await self._incoming.read(max_bytes)
        self._check_open()
        return data

    def has_unread(self) -> bool:
        """Whether something has come that was not read."""
        return bool(self._incoming.data)

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Write what fits; returns how many bytes that is. Raises BrokenResourceError after a reset."""
        self._check_open()
        return self._outgoing.write_nowait(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it. Raises BrokenResourceError after a reset."""
        self._check_open()
        await self._outgoing.write(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once: a write finds out by itself."""
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """End this direction."""
        self._check_open()
        self._outgoing.ended = True
        self._outgoing.change()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """End this direction; what the peer still sends breaks it, as on a socket."""
        self._closed = True
        self._outgoing.ended = True
        self._outgoing.change()
        self._incoming.reset = self._incoming.reader_closed = True
        self._incoming.change()
        await trio.lowlevel.checkpoint()


def stream_pair(
    peer: str, address: tuple[str, int] | None = None, *, down_bytes: int | None = None
) -> tuple[MemoryStream, MemoryStream, Pipe, Pipe]:
    """The client's end, the server's end, and the pipes up and down. To the server the client is `peer`."""
    up, down = Pipe(_PIPE_BYTES), Pipe(_PIPE_BYTES if down_bytes is None else down_bytes)
    return MemoryStream(down, up, "server"), MemoryStream(up, down, peer, address), up, down


class MemoryListener(trio.abc.Listener[MemoryStream]):
    def __init__(self) -> None:
        # Unbuffered: whoever connects waits until the server has taken the connection.
        self.streams, self._accepted = trio.open_memory_channel[MemoryStream](0)

    async def accept(self) -> MemoryStream:
        try:
            return await self._accepted.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    async def aclose(self) -> None:
        self._accepted.close()
        await trio.lowlevel.checkpoint()
