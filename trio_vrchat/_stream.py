"""The byte stream under one WebSocket connection, guarded.

trio-websocket does the handshake, the control frames and the assembly of messages on it; it is given the stream, and
the socket stays ours. Between the two stands what the library leaves open:

- text messages that come in one frame, as nearly all do, are read here and given to `on_text`; everything else passes
  a FrameMeter, so that a broken or oversize frame never reaches the library. Messages keep their order: while the
  library has one, all that follow go the same way;
- whatever ends the library's reading is noted (`on_end`), because its handshake would wait for ever after it;
- frames go out whole: the library's control frames and our data frames are each one `send_all`, in turn;
- a write that stands still has a deadline, and a write that was cut off breaks the stream, because the peer would take
  the next frame for the rest of this one;
- where there is a pump it reads, as long as whole messages come; for anything else the library's reader, which waits in
  `receive_some`, takes the socket back;
- what is read is paced: a client that sends far more than anybody may is read more slowly, and its flood waits on its
  own side of the network;
- nothing follows a close frame, and the library's wish to close the socket is only noted: the connection ends it, with
  a close code where the library would have been silent.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Sized

import trio

from ._errors import FrameViolation
from ._frames import CLOSE, MESSAGE_TOO_BIG, PROTOCOL_ERROR, FrameMeter, close_frame, whole_text
from ._pump import Pump
from ._rate import MESSAGE_WEIGHT_BYTES, Bucket
from ._statistics import Statistics
from ._tls_stream import TLSStream

# The end of an HTTP head as h11, beneath the library, reads it; and the length at which h11 gives up.
_HEAD_END = re.compile(rb"\n\r?\n")
_HEAD_LIMIT_BYTES = 16 * 1024
_READ_BYTES = 16 * 1024
# Frames that are read at once: the library handles them without a checkpoint, and thousands of tiny ones, of which one
# read has room for, would hold everybody else up for 40 ms.
_FRAMES_PER_READ = 64
# What the pace counts for a message that was refused for a rate.
_REFUSAL_WEIGHT_BYTES = 16 * 1024
# The pace, in the limit on a client's bytes: who keeps to the limit is never read more slowly.
_PACE = 2
# Of what is written: little enough that a client on the worst of networks takes it within `write_timeout_s`.
_PIECE_BYTES = 16 * 1024
_CLOSE_FRAME_START = bytes([0x80 | CLOSE])


class GuardedStream(trio.abc.Stream):
    """The stream that the WebSocket library is given.

    - `received`: what was read of the stream before; it is counted already.
    - `begin_frames` MUST be called once the handshake is done; no frame is read before.
    - `on_text` is given each message as UTF-8, and when it came on trio's clock. It counts them against the limits, and
      MUST call `refused` or `dropped` for those that are over one: only these count for the pace.
    - For each message that the library gives, `returned` MUST be called, once it has had its effect or is in `backlog`.
    - While there is a `backlog` nothing is read; `read_on` MUST be called when there no longer is.
    - `request_head`: the head of the handshake's request, once it is complete and until then.
    - `close_sent`: a close frame has gone out; nothing else will.
    - `broken`: nothing can be written any more: the peer is gone, or a frame was cut off.
    - `broken_because`: what TLS has to say about that; for the log.
    - `stalled`: broken, because a write stood still for `write_timeout_s`.
    """

    __slots__ = (
        "_accepted",
        "_backlog",
        "_closed_by_library",
        "_descriptor",
        "_fileno",
        "_found",
        "_found_end",
        "_found_error",
        "_has_unread",
        "_head",
        "_kept",
        "_limit_bytes",
        "_meter",
        "_on_text",
        "_pace",
        "_paused_until",
        "_pump",
        "_reader_waits",
        "_receive_nowait",
        "_rest",
        "_send_nowait",
        "_statistics",
        "_stream",
        "_tls",
        "_turn",
        "_with_library",
        "_write_timeout_s",
        "broken",
        "broken_because",
        "close_sent",
        "on_end",
        "on_pong",
        "request_head",
        "stalled",
    )

    quick = True
    """Whether whole messages are read here. The same tests hold both ways."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        message_limit_bytes: int,
        bytes_per_s: float,
        write_timeout_s: float,
        statistics: Statistics,
        on_text: Callable[[bytes, float], object],
        backlog: Sized,
        pump: Pump | None = None,
        received: bytes = b"",
    ) -> None:
        self._stream = stream
        self._on_text = on_text
        self._backlog = backlog
        self._limit_bytes = message_limit_bytes
        self._with_library = 0  # messages
        # Where the library's reader waits, for the pump to be through or for a backlog to be gone.
        self._reader_waits = trio.lowlevel.ParkingLot()
        # What the pump reads with, without waiting: what has come, empty at the end, None where nothing has.
        self._receive_nowait: Callable[[int], bytes | None] = getattr(stream, "receive_nowait", lambda _: None)
        self._fileno: Callable[[], int] = getattr(stream, "fileno", lambda: -1)
        self._pump = pump if hasattr(stream, "receive_nowait") else None
        self._descriptor = -1
        # What the pump has found and not dealt with.
        self._found = b""
        self._found_end = False
        self._found_error: trio.BrokenResourceError | None = None
        self._write_timeout_s = write_timeout_s
        self._statistics = statistics
        self._meter = FrameMeter(message_limit_bytes)
        pace = _PACE * bytes_per_s
        self._pace = Bucket(pace, pace, trio.current_time()) if pace else None
        self._paused_until = 0.0
        self._head: bytes | None = b""  # of the handshake, as far as it has come; None once it is complete
        self._kept = received  # read, and not yet for the library
        self.request_head = b""
        self._accepted = trio.Event()
        self._turn = trio.StrictFIFOLock()
        # What writes without waiting, where the stream has it (trio's own have not), and what it keeps of that.
        self._send_nowait: Callable[[bytes], int] | None = getattr(stream, "send_nowait", None)
        self._tls = stream if isinstance(stream, TLSStream) else None
        # (Beneath TLS what has come may be anything, but it is something.)
        bottom = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._has_unread: Callable[[], bool] | None = getattr(bottom, "has_unread", None)
        self._rest = b""
        self._closed_by_library = False
        self.on_end: Callable[[], None] = lambda: None
        self.on_pong: Callable[[], None] = lambda: None
        self.close_sent = False
        self.broken = False
        self.broken_because = ""
        self.stalled = False

    @property
    def violation(self) -> FrameViolation | None:
        """What the client did to the framing, if anything."""
        return self._meter.violation

    def refused(self) -> None:
        """A message was refused for its rate."""
        self._count(_REFUSAL_WEIGHT_BYTES, trio.current_time())

    def dropped(self, size: int) -> None:
        """A transform of so many bytes was dropped for its rate."""
        self._count(max(size, MESSAGE_WEIGHT_BYTES), trio.current_time())

    # For the library

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The client's next bytes that are for the library, checked; empty at the end, and after a violation."""
        while True:
            if self._closed_by_library:
                raise trio.ClosedResourceError
            if self.violation is not None:
                self.on_end()
                return b""
            await self._turn_to_read()
            data, self._kept = self._kept, b""
            try:
                if not data and self._pump is not None and self._head is None:
                    await self._let_pump_read(self._pump)
                    found, self._found = self._found, b""
                    if found:
                        return found
                    if not self._found_end:
                        continue
                else:
                    data = data or await self._receive(max_bytes or _READ_BYTES)
            except trio.BrokenResourceError as error:
                self.broken = True
                if isinstance(error.__cause__, ssl.SSLError):
                    self.broken_because = f"TLS: {error.__cause__.reason or 'broken'}"
                self.on_end()
                raise
            if not data:
                self.on_end()
                return b""
            if self._head is not None:
                sound: bytes | None = self._read_head(data)
            else:
                sound = self._read_frames(data, trio.current_time())
            if sound:
                return sound

    async def _let_pump_read(self, pump: Pump) -> None:
        """Let the pump read until it finds something that is not for it. Raises BrokenResourceError."""
        self._descriptor = self._fileno()
        if self._descriptor < 0:
            raise trio.ClosedResourceError
        pump.add(self._descriptor, self._read_now)
        try:
            await self._reader_waits.park()
        finally:
            pump.remove(self._descriptor)
        if self._found_error is not None:
            raise self._found_error

    def _read_now(self, now: float) -> None:
        """Read what has come, for the pump."""
        try:
            data = self._receive_nowait(_READ_BYTES)
        except trio.BrokenResourceError as error:
            self._found_error = error
        else:
            if data is None:
                return
            if data:
                self._statistics.bytes_in += len(data)
                found = self._read_frames(data, now)
                if found is None and not (self._paused_until or self._backlog):
                    return
                self._found = found or b""
            else:
                self._found_end = True
        assert self._pump is not None
        self._pump.remove(self._descriptor)
        self._reader_waits.unpark_all()

    async def _turn_to_read(self) -> None:
        """Wait until the client may be read."""
        if self._head is None:
            # The library reads on before it has answered the handshake, and forgets what it reads there until more
            # comes. So frames that came right behind the head are kept until the handshake is done.
            await self._accepted.wait()
        if self._paused_until:
            await trio.sleep_until(self._paused_until)
            self._paused_until = 0.0
        while self._backlog:
            await self._reader_waits.park()
        # (What came with a connection, its request, was read right before.)
        if self._kept and self._head is None:
            await trio.lowlevel.checkpoint()

    async def _receive(self, max_bytes: int) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self._statistics.bytes_in += len(data)
        return data

    def _read_head(self, data: bytes) -> bytes:
        """The part of these bytes that belongs to the head of the handshake."""
        assert self._head is not None
        head = self._head + data
        end = _HEAD_END.search(head)
        if not end:
            # Past the limit h11 refuses, and the handshake ends with a 400.
            self._head = head[:_HEAD_LIMIT_BYTES]
            return data
        head_bytes = end.end() - len(self._head)
        self._head = None
        self.request_head = head[: end.end()]
        self._kept = data[head_bytes:]
        return data[:head_bytes]

    def _read_frames(self, data: bytes, now: float) -> bytes | None:
        """Take the whole messages out of these bytes; returns the part of the rest that the library may see now.

        None where nothing is left.
        """
        meter = self._meter
        messages, position = 0, 0
        if meter.between_messages and not self._with_library and self.quick:
            limit_bytes = self._limit_bytes
            while messages < _FRAMES_PER_READ and (found := whole_text(data, position, limit_bytes)) is not None:
                text, position = found
                messages += 1
                self._on_text(text, now)
            if position == len(data):
                return None
            data = data[position:]
        frames_before, messages_before, pongs_before = meter.frames, meter.messages, meter.pongs
        sound = meter.feed(data, _FRAMES_PER_READ - messages)
        self._with_library += meter.messages - messages_before
        if meter.pongs != pongs_before:
            self.on_pong()
        self._count(max(sound, (meter.frames - frames_before) * MESSAGE_WEIGHT_BYTES), now)
        if meter.violation is None and not meter.peer_closed:
            self._kept = data[sound:]
        return data[:sound]

    def _count(self, weight: int, now: float) -> None:
        if self._pace is not None and (debt_s := self._pace.owe(weight, now)):
            self._paused_until = now + debt_s

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write one or several whole frames."""
        async with self._turn:
            await self._write(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """The library is done with the stream. The socket is closed by `end` and `aclose_forcefully`."""
        self._closed_by_library = True
        self.on_end()
        await trio.lowlevel.checkpoint()

    # For the connection

    def has_unread(self) -> bool:
        """Whether something has come that nobody has looked at."""
        return bool(self._kept) or (self._has_unread is not None and self._has_unread())

    def read_on(self) -> None:
        """There is no backlog any more."""
        self._reader_waits.unpark_all()

    def returned(self) -> None:
        """The library has given a message."""
        self._with_library -= 1

    def begin_frames(self) -> None:
        """The handshake is done: what comes from here on is frames."""
        self.request_head = b""
        self._accepted.set()

    def send_now(self, frame: bytes) -> int:
        """Write a whole frame without waiting, if nothing else is being written; returns how many bytes did not go out.

        If that is a part of the frame, the part is kept here and goes out before anything else: a `send_all` MUST
        follow, be it of nothing.
        """
        if self._send_nowait is None or self.broken or self.close_sent or self._turn.locked():
            return len(frame)
        try:
            sent = self._send_nowait(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True
            return len(frame)
        self._statistics.bytes_out += sent
        if sent == len(frame):
            # Of what was encrypted a part may still have to go out. (It must be less than the frame, which is taken.)
            return 0 if self._tls is None else min(self._tls.waiting_bytes, sent - 1)
        if sent:
            self._rest = frame[sent:]
        return len(frame) - sent

    async def end(self, code: int, reason: str) -> None:
        """Close the WebSocket: send the close frame unless one has gone out, wait for the peer's and then for nothing.

        The caller sets the deadline. Only after the library has stopped reading.
        """
        try:
            if not self.close_sent:
                await self.send_all(close_frame(code, reason))
            if code in (PROTOCOL_ERROR, MESSAGE_TOO_BIG) and isinstance(self._stream, trio.abc.HalfCloseableStream):
                # Nothing that comes now can be understood, the peer's close frame included: ask it to hang up.
                await self._stream.send_eof()
            await self._read_to_the_end()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True

    async def cancel_between_frames(self, scope: trio.CancelScope) -> None:
        """Cancel the tasks in `scope` when none of them is writing, so that no frame is cut off."""
        async with self._turn:
            # Not after: the lock would have passed to one of them.
            scope.cancel()

    async def _read_to_the_end(self) -> None:
        """Discard what still comes: a socket that is closed with unread bytes is reset, and loses our last frame."""
        while not self._meter.peer_closed:
            data = await self._receive(_READ_BYTES)
            if not data:
                return
            self._meter.feed(data)

    async def aclose_forcefully(self) -> None:
        """Free the socket, now."""
        await trio.aclose_forcefully(self._stream)

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken or self.close_sent:
            raise trio.ClosedResourceError("nothing can be written any more")
        self.close_sent = data[:1] == _CLOSE_FRAME_START
        if self._rest:
            data, self._rest = self._rest + data, b""
        complete = False
        try:
            # In pieces, so that a slow reader, who makes progress, is told from one who stands still.
            # Of nothing one: something may wait beneath.
            for start in range(0, len(data) or 1, _PIECE_BYTES):
                with trio.move_on_after(self._write_timeout_s) as deadline:
                    await self._stream.send_all(memoryview(data)[start : start + _PIECE_BYTES])
                if deadline.cancelled_caught:
                    self.stalled = True
                    raise trio.BrokenResourceError(f"a write stood still for {self._write_timeout_s} s")
            complete = True
        finally:
            if not complete:
                self.broken = True
        self._statistics.bytes_out += len(data)
