"""A socket as a stream that can also write without waiting.

trio's own `SocketStream` takes a pass through the scheduler for each write and a second `recv` for each read, which is
right for programs that await every write. A room writes to all its members at once and awaits none of them.
"""

from __future__ import annotations

import contextlib
import socket
import sys

import trio

# What the kernel takes beyond what is on its way: as little as trio's own stream asks for, so that what waits does so
# in an outbox, where a late batch of transforms is dropped.
_NOT_SENT_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024


class SocketStream(trio.abc.HalfCloseableStream):
    """A connected socket as a stream, which closes it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setblocking(False)
        # (Not on Unix sockets.)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            if sys.platform != "win32":
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)

    def _gone(self, error: OSError) -> Exception:
        if self._socket.fileno() < 0:
            return trio.ClosedResourceError("the socket was closed here")
        return trio.BrokenResourceError(f"the connection is gone: {error.strerror}")

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Write what the kernel takes now; returns how many bytes that is. Raises BrokenResourceError."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone(error) from error

    def fileno(self) -> int:
        """The socket's descriptor; negative once it is closed."""
        return self._socket.fileno()

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What has come; empty at the end, None where nothing has. Raises BrokenResourceError."""
        try:
            return self._socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(error) from error

    def has_unread(self) -> bool:
        """Whether something has come that was not read."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it. Raises BrokenResourceError."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            sent = self.send_nowait(rest)
            rest = rest[sent:]
            if rest:
                await trio.lowlevel.wait_writable(self._socket)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes something."""
        await trio.lowlevel.wait_writable(self._socket)

    async def send_eof(self) -> None:
        """End this direction. Raises BrokenResourceError."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._gone(error) from error
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, once something has; empty at the end. Raises BrokenResourceError."""
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("the socket was closed here")
        while True:
            # First: a client is silent most of the time, and one `recv` that finds nothing costs as much as the wait.
            await trio.lowlevel.wait_readable(self._socket)
            data = self.receive_nowait(max_bytes or _READ_BYTES)
            if data is not None:
                return data

    async def aclose(self) -> None:
        """Close the socket."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()
