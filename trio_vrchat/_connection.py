"""One client's connection, from its first byte to its last: the tasks that move bytes and time.

    socket ─▶ GuardedStream ─▶ Requests ─▶ room …
                 └─▶ trio-websocket's reader ─▶ Requests    (fragments, binary frames, what is not sound)
    socket ◀─ GuardedStream ◀─ writer ◀─ Outbox ◀─ Requests, rooms

- Nothing that a client does ends anything but its own connection: `serve_connection` is the one boundary.
- A message has its effect in the middle of the read that brought it, where that needs no waiting. Where it does, it and
  all that come after it are a backlog, which has a task of its own, and nothing is read meanwhile.
- The socket is ours. The library reads and answers on it until the conversation is over; then its task is ended, the
  leaves go out, and the closing handshake is done here, with the right code, within `close_timeout_s`.
- `close` is how the server ends a connection: it notes the code, and the connection's own tasks do the rest.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator

import attrs
import trio
import trio_websocket

from ._admission import Peer
from ._frames import ping_frame
from ._keepalive import Keepalive
from ._messages import NO_LOGIN, TOO_SLOW
from ._origin import is_allowed, values_of
from ._outbox import Outbox
from ._pump import Pump
from ._requests import House, Remainder, Requests
from ._stream import GuardedStream

# WebSocket close codes: RFC 6455, section 7.4.1.
_NORMAL, GOING_AWAY, _NO_STATUS, _ABNORMAL = 1000, 1001, 1005, 1006

# Each leave has its own, shorter deadline; this one is for all.
_LEAVES_TIMEOUT_S = 10.0
# Closing a socket by force does not wait; a stream of somebody's own might.
_FREE_TIMEOUT_S = 1.0
_FORBIDDEN = 403
_FOREIGN_PAGE = (
    b"This server takes no connections from pages of that origin; its owner can allow it (--allow-origin).\n"
)

_log = logging.getLogger("trio_vrchat.connection")


@attrs.define(eq=False)
class Connections:
    """The connections of one server."""

    house: House
    keepalive: Keepalive
    pump: Pump | None
    all: set[Connection] = attrs.field(factory=set)
    numbers: Iterator[int] = attrs.field(factory=itertools.count)
    stopped: bool = attrs.field(init=False, default=False)

    def stop(self) -> None:
        """Say 1001 to everybody."""
        self.stopped = True
        for connection in self.all:
            connection.close(GOING_AWAY, "the server stops")


async def serve_connection(
    stream: trio.abc.Stream, peer: Peer, *, connections: Connections, handshake_by: float, received: bytes = b""
) -> None:
    """Serve one client until its connection ends. Raises nothing but cancellation.

    `handshake_by` is when, on trio's clock, the opening handshake must be done. `received` is what was read of the
    stream before, by whoever looked whether it opens a WebSocket; it is counted already.
    """
    connection = Connection(stream, peer, connections, handshake_by, received)
    del received  # for as long as the connection lives
    try:
        await connection.run()
    except* Exception as group:  # noqa: BLE001  (the one boundary around a connection)
        # The library's reader lets some of what scanners send surface as exceptions; what our own code raises for a
        # message never comes this far.
        # Only the kind: the rest can quote a header, and a header can hold a secret.
        _log.info("%s: ended by what it sent (%s)", peer, ", ".join(_kinds(group)), extra={"peer": peer.text})


def _kinds(group: BaseExceptionGroup[Exception]) -> set[str]:
    kinds: set[str] = set()
    for error in group.exceptions:
        kinds |= _kinds(error) if isinstance(error, BaseExceptionGroup) else {type(error).__name__}
    return kinds


class Connection:
    """One client's connection."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        peer: Peer,
        connections: Connections,
        handshake_by: float,
        received: bytes = b"",
    ) -> None:
        house = connections.house
        config = house.config
        self._connections = connections
        self.number = next(connections.numbers)
        self._statistics = house.statistics
        self._config = config
        self.peer = peer
        # What is first in it is under way. Bounded, because nothing is read while there is one: what one read holds.
        # (A list, because most are empty, and an empty deque takes 600 bytes.)
        self._backlog: list[bytes | Remainder | None] = []
        self._handling: trio.Nursery | None = None  # while messages are taken
        self._stream = GuardedStream(
            stream,
            message_limit_bytes=config.message_limit_bytes,
            bytes_per_s=config.bytes_per_s,
            write_timeout_s=config.write_timeout_s,
            statistics=house.statistics,
            on_text=self._take,
            backlog=self._backlog,
            pump=connections.pump,
            received=received,
        )
        self._stream.on_pong = self._take_pong
        # A task that writes is there only while something waits: most connections have none, most of the time.
        self._writing: trio.Nursery | None = None
        self._writer_runs = False
        self._written = trio.lowlevel.ParkingLot()
        self.outbox = Outbox(
            limit_frames=config.outbox_limit_frames,
            limit_bytes=config.outbox_limit_bytes,
            write=self._stream.send_now,
            on_frames=self._start_writer,
            on_overflow=lambda: self.close(TOO_SLOW, "too slow to be kept"),
        )
        self._conversation = trio.CancelScope()
        self._requests = Requests(
            peer,
            self,
            house,
            time_to_log_in=self._conversation,
            drained=self._drained,
            refused=self._stream.refused,
            dropped=self._stream.dropped,
            talked=connections.pump.talked if connections.pump is not None else _do_nothing,
        )
        self._handshake_by = handshake_by
        self._websocket: trio_websocket.WebSocketConnection | None = None
        self._end_by = math.inf
        self._close_code = 0
        self._close_reason = ""

    def close(self, code: int, reason: str) -> None:
        """End the connection with this close code. Does not wait; the first code counts."""
        if not self._close_code:
            self._close_code, self._close_reason = code, reason
        self.outbox.close()
        self._handling = None
        self._conversation.cancel()

    async def run(self) -> None:
        """Serve the client until its connection has ended. Raises what the library's reader raises, in a group."""
        self._connections.all.add(self)
        if self._connections.stopped:  # it was let in at that moment
            self.close(GOING_AWAY, "the server stops")
        try:
            async with trio.open_nursery() as writing:
                self._writing = writing
                try:
                    async with trio.open_nursery() as library:
                        with self._conversation:
                            await self._converse(library)
                        await self._requests.end(lost=self._is_lost())
                        await self._say_the_rest(library.cancel_scope)
                        library.cancel_scope.cancel()
                finally:
                    with trio.move_on_after(_LEAVES_TIMEOUT_S, shield=True):
                        await self._requests.end(lost=self._is_lost())
                await self._end()
                writing.cancel_scope.cancel()
        finally:
            self._connections.all.discard(self)
            self._connections.keepalive.remove(self)
            if self._websocket is not None:
                self._statistics.connections -= 1
            with trio.move_on_after(_FREE_TIMEOUT_S, shield=True):
                await self._stream.aclose_forcefully()

    # Keepalive

    def ping(self) -> None:
        """Send a ping. Does not block."""
        self.outbox.offer(ping_frame())

    def has_unread(self) -> bool:
        """Whether something has come that nobody has looked at."""
        return self._stream.has_unread()

    def no_pong(self) -> None:
        """The ping was not answered in time."""
        self.close(TOO_SLOW, "a ping was not answered")

    def _take_pong(self) -> None:
        round_trip_s = self._connections.keepalive.pong(self)
        session = self._requests.session
        if round_trip_s is None or session is None:
            return
        # Until the closing handshake is over this may come after the session's end, which has forgotten its figures.
        if session.link is self and not session.ending:
            self._statistics.round_trips_s[session.user] = round_trip_s
            if (observer := self._connections.house.observation.observer) is not None:
                observer.round_trip(session.user, round_trip_s)

    # The conversation

    async def _converse(self, library: trio.Nursery) -> None:
        websocket = await self._handshake(library)
        if websocket is None:
            return
        self._websocket = websocket
        self._statistics.connections += 1
        self._connections.keepalive.add(self)
        _log.info("%s: connected", self.peer, extra=self._requests.who())
        self._conversation.deadline = trio.current_time() + self._config.login_timeout_s
        async with trio.open_nursery() as handling:
            self._handling = handling
            self._stream.begin_frames()
            try:
                while True:
                    self._take_from_library(await websocket.get_message())
                    self._stream.returned()
            except trio_websocket.ConnectionClosed:
                pass
            finally:
                self._handling = None

    async def _handshake(self, library: trio.Nursery) -> trio_websocket.WebSocketConnection | None:
        """Take the client's upgrade request, on any path. None if there is none in time."""
        with trio.move_on_at(self._handshake_by) as handshake:
            # The library would wait for the request for ever, though its reader has ended.
            self._stream.on_end = handshake.cancel
            try:
                request = await trio_websocket.wrap_server_stream(
                    library, self._stream, max_message_size=self._config.message_limit_bytes, receive_buffer_size=None
                )
                if not self._may_connect():
                    await request.reject(_FORBIDDEN, body=_FOREIGN_PAGE)
                    return None
                websocket = await request.accept()
            except trio_websocket.ConnectionClosed:
                return None
            finally:
                self._stream.on_end = _do_nothing
            return websocket
        return None

    def _may_connect(self) -> bool:
        # (The library has taken `Host` out of what it shows of the request.)
        head = self._stream.request_head
        origins = values_of(head, b"origin")
        if is_allowed(origins, values_of(head, b"host"), self._config.allow_origins):
            return True
        _log.info(
            "%s: refused a page from %.100r; --allow-origin lets it in",
            self.peer,
            " and ".join(origins),
            extra={"peer": self.peer.text},
        )
        return False

    def _take_from_library(self, message: str | bytes) -> None:
        self._take(message.encode() if isinstance(message, str) else None, trio.current_time())

    def _take(self, message: bytes | None, now: float) -> None:
        """A message has come: a text, as UTF-8, or a binary one."""
        if self._handling is None:
            return
        if self._backlog:
            self._backlog.append(message)
        elif (remainder := self._requests.begin(message, now)) is not None:
            self._backlog.append(remainder)
            self._handling.start_soon(self._handle_backlog, name=f"backlog of {self.peer}")

    async def _handle_backlog(self) -> None:
        while self._backlog:
            first = self._backlog[0]
            remainder = first if isinstance(first, Remainder) else self._requests.begin(first, trio.current_time())
            if remainder is not None:
                await self._requests.finish(remainder)
            else:
                # What one read holds is thousands of tiny messages.
                await trio.lowlevel.checkpoint()
            self._backlog.pop(0)
        self._stream.read_on()

    def _start_writer(self) -> None:
        if not self._writer_runs and self._writing is not None:
            self._writer_runs = True
            self._writing.start_soon(self._write, name=f"writer to {self.peer}")

    async def _write(self) -> None:
        """Write what waits in the outbox, until nothing does."""
        outbox, stream = self.outbox, self._stream
        try:
            while (chunk := outbox.take()) is not None:
                await stream.send_all(chunk)
                outbox.written()
                self._written.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outbox.close()
            self._conversation.cancel()
        # No checkpoint since nothing waited: what is offered from here on starts the next.
        self._writer_runs = False
        self._written.unpark_all()

    async def _drained(self) -> None:
        """Wait until little is left in the outbox."""
        while self.outbox.waiting_bytes > self._config.outbox_limit_bytes // 4 and not self.outbox.closed:
            await self._written.park()

    async def _say_the_rest(self, library: trio.CancelScope) -> None:
        """Let what waits in the outbox go out, and the library finish the frame it is sending before it is ended."""
        self._end_by = trio.current_time() + self._config.close_timeout_s
        self.outbox.close()
        if self._websocket is None or self._stream.broken:
            return
        if self._close_code == TOO_SLOW:
            self.outbox.clear()
        with trio.move_on_at(self._end_by):
            while self._writer_runs:
                await self._written.park()
            await self._stream.cancel_between_frames(library)

    async def _end(self) -> None:
        """The closing handshake, where there is somebody to do it with."""
        code, reason = self._how_it_ends()
        if self._websocket is None:
            why = f" ({self._stream.broken_because})" if self._stream.broken_because else ""
            _log.info("%s: gone without a WebSocket handshake%s", self.peer, why, extra=self._requests.who())
        else:
            _log.info(
                "%s: closed with %s",
                self.peer,
                code or "no close frame",
                extra=self._requests.who() | {"code": code or _ABNORMAL},
            )
        if code and self._websocket is not None and not self._stream.broken:
            with trio.move_on_at(self._end_by):
                await self._stream.end(code, reason)

    def _is_lost(self) -> bool:
        """Whether the connection has ended without anybody's will, so that its client may come back."""
        code, _ = self._how_it_ends()
        return code in (0, TOO_SLOW)

    def _how_it_ends(self) -> tuple[int, str]:
        """The close code and reason; 0 where the connection was lost without one."""
        stream = self._stream
        if self._close_code:
            return self._close_code, self._close_reason
        if stream.violation is not None:
            return stream.violation.code, stream.violation.reason
        if stream.stalled:
            return TOO_SLOW, "a write stood still"
        closed = self._websocket and self._websocket.closed
        if closed and not stream.broken and closed.code != _ABNORMAL:
            # The client's own close frame, which the library has answered; or what it found in a frame, where it would
            # have hung up without a word.
            return (closed.code if closed.code != _NO_STATUS else _NORMAL), closed.reason or ""
        if self._conversation.cancelled_caught and not stream.broken:
            return NO_LOGIN, "no login in time"
        return 0, ""


def _do_nothing(*_: object) -> None:
    pass
