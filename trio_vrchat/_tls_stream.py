"""TLS on a socket, as a stream that can also read and write without waiting.

trio's own `SSLStream` takes locks and passes through the scheduler for each record, which is right for programs that
await every write. Here the TLS engine stands between two buffers in memory, and whoever has bytes moves them through.

- The handshake is done by the first `receive_some`.
- What is encrypted and not taken by the kernel waits here (`waiting_bytes`; at most a record, from `send_nowait`), and
  goes out before anything else: a `send_all` MUST follow, be it of nothing.
- A client that just hangs up, without the closing alert of TLS, has come to its end, as with HTTPS.
"""

from __future__ import annotations

import contextlib
import ssl

import trio

from ._socket_stream import SocketStream

# RFC 8446, section 5.1.
_RECORD_BYTES = 16 * 1024
# A record, and what is around it.
_READ_BYTES = 17 * 1024


class TLSStream(trio.abc.Stream):
    """The server's end of TLS on a socket, which it closes."""

    def __init__(self, transport_stream: SocketStream, context: ssl.SSLContext) -> None:
        self.transport_stream = transport_stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken_hands = False
        self._waiting = b""

    @property
    def waiting_bytes(self) -> int:
        """Encrypted bytes that have still to go out."""
        return len(self._waiting)

    def fileno(self) -> int:
        """The socket's descriptor; negative once it is closed."""
        return self.transport_stream.fileno()

    def has_unread(self) -> bool:
        """Whether something has come that was not read. (It may be anything, but it is something.)"""
        return self.transport_stream.has_unread()

    # Reading

    def _feed(self, encrypted: bytes) -> None:
        if encrypted:
            self._incoming.write(encrypted)
        else:
            self._incoming.write_eof()

    def _decrypted(self) -> bytes | None:
        """All that can be read of what has come; empty at the end, None where nothing can be. Raises
        BrokenResourceError.
        """
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(_READ_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            # (Reading can have something to say, such as a new key.)
            if self._outgoing.pending:
                self._write_nowait(b"")
            return b"".join(pieces) if pieces else None
        except ssl.SSLEOFError:
            pass  # it hung up without the alert
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("TLS is broken") from error
        # (The end comes again with the next read.)
        return b"".join(pieces)

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What has come; empty at the end, None where nothing has. It is all that was read of the socket, and can be
        more than `max_bytes` by a record. Raises BrokenResourceError.
        """
        encrypted = self.transport_stream.receive_nowait(max_bytes)
        if encrypted is None:
            return None
        self._feed(encrypted)
        return self._decrypted()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, once something has; empty at the end. Raises BrokenResourceError."""
        if not self._shaken_hands:
            await self._shake_hands()
        while (data := self._decrypted()) is None:
            self._feed(await self.transport_stream.receive_some(max_bytes))
        return data

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._feed(await self.transport_stream.receive_some(_READ_BYTES))
            except ssl.SSLError as error:
                # The alert says to the client what was wrong.
                with contextlib.suppress(trio.BrokenResourceError):
                    self._write_nowait(b"")
                raise trio.BrokenResourceError("the TLS handshake failed") from error
            else:
                break
        await self._flush()
        self._shaken_hands = True

    # Writing

    def _write_nowait(self, data: bytes | memoryview) -> None:
        """Encrypt it, and write what the kernel takes now. Raises BrokenResourceError."""
        try:
            if data:
                self._tls.write(data)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("TLS is broken") from error
        encrypted = self._waiting + self._outgoing.read()
        self._waiting = encrypted[self.transport_stream.send_nowait(encrypted) :]

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Take it, record by record, until one does not go out whole; returns how many bytes were taken. Raises
        BrokenResourceError.
        """
        if not self._shaken_hands:
            return 0
        taken = 0
        while taken < len(data) and not self._waiting:
            record = memoryview(data)[taken : taken + _RECORD_BYTES]
            self._write_nowait(record)
            taken += len(record)
        return taken

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it, and what waits. Raises BrokenResourceError."""
        self._write_nowait(memoryview(data))
        await self._flush()

    async def _flush(self) -> None:
        encrypted, self._waiting = self._waiting + self._outgoing.read(), b""
        await self.transport_stream.send_all(encrypted)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes something."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Say goodbye, where that goes without waiting, and close the socket."""
        # (It is not asked for the client's goodbye: there is nothing that it could cut off.)
        with contextlib.suppress(ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError, ValueError):
            if self._shaken_hands and not self._waiting:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
                self._write_nowait(b"")
        await self.transport_stream.aclose()
