"""The front: the first to read a connection. It answers HTTP; what opens a WebSocket goes on as if nobody had read it.

    socket ─▶ Front ─▶ Site            (a request: its answer, and on to the next)
                └────▶ `connect`       (an upgrade: the stream, and all that was read of it)

- A head has until a deadline to come, whole, and at most 16 KiB. There is one of it at a time; what has come behind it
  waits, at most a read.
- A connection has so many requests, and between two of them as long as for a handshake: whoever wants more connects
  again. Connections count as all do, by address and in total.
- Reading waits for writing: whoever does not read their answers is not read, and has a deadline for each piece.
- Nothing that a client does ends anything but its own connection.
- Where a trusted proxy speaks for others, each request is another's: who it is, is looked up in its head. A WebSocket
  is then counted by that address, too.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import attrs
import trio

from ._admission import Admission, Peer
from ._config import Config
from ._http import Answer, Reply, head_end, head_too_slow, in_words, is_upgrade, refuse, respond
from ._proxies import Asker, CannotTell, Proxies
from ._site import Site, Visitor, no_websocket_without_tls, to_https
from ._statistics import Statistics

# As Apache's and Nginx's keepalive_requests once were: a page has some twenty files.
_REQUESTS = 100
_READ_BYTES = 16 * 1024
# Of what is written: little enough that a client on the worst of networks takes it within `write_timeout_s`.
_PIECE_BYTES = 16 * 1024
# Closing a socket by force does not wait; a stream of somebody's own might.
_FREE_TIMEOUT_S = 1.0

# Of connections that never become a WebSocket, as the log has always called them; and of requests.
_log = logging.getLogger("trio_vrchat.connection")
_requests_log = logging.getLogger("trio_vrchat.http")


class Connect(Protocol):
    """Serves a WebSocket connection, and closes its stream."""

    async def __call__(self, stream: trio.abc.Stream, peer: Peer, *, handshake_by: float, received: bytes) -> None:
        """Serve it. Raises nothing but cancellation. `received` is what was read of it already: first its request."""


@attrs.frozen
class _Upgrade:
    """What was read of a connection that opens a WebSocket, by when its handshake must be done, and whose it is.

    With `counted`, the peer is one whom a proxy stands for, and is to be released at the end.
    """

    received: bytes
    handshake_by: float
    peer: Peer
    counted: bool


class Front:
    """Serves what comes to one server's port. `now`: the time, in seconds since the Unix epoch."""

    def __init__(
        self,
        connect: Connect,
        site: Site,
        config: Config,
        statistics: Statistics,
        now: Callable[[], float],
        admission: Admission,
    ) -> None:
        self._connect = connect
        self._admission = admission
        self._proxies = Proxies(config.trust_proxy, config.exempt_networks)
        self._site = site
        self._write_timeout_s = config.write_timeout_s
        self._head_timeout_s = config.handshake_timeout_s
        self._close_timeout_s = config.close_timeout_s
        self._statistics = statistics
        self._now = now
        # Of those whose next request has not come: a stop does not wait for them.
        self._waiting: set[trio.CancelScope] = set()
        self._stopped = False

    def stop(self) -> None:
        """Answer what is being answered, and read nothing more. Does not wait."""
        self._stopped = self._site.draining = True
        for scope in self._waiting:
            scope.cancel()

    async def serve(
        self, stream: trio.abc.Stream, peer: Peer, *, handshake_by: float, by_tls: bool | None = None
    ) -> None:
        """Serve one connection until it has ended. Raises nothing but cancellation.

        `handshake_by` is when, on trio's clock, the first request must be there. `by_tls`: whether the connection is
        encrypted, by a server that encrypts; None where the server does not.
        """
        upgrade: _Upgrade | None = None
        try:
            upgrade = await self._answer_until_upgrade(stream, peer, handshake_by, by_tls)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            why = f" (TLS: {error.__cause__.reason or 'broken'})" if isinstance(error.__cause__, ssl.SSLError) else ""
            _log.info("%s: gone without a WebSocket handshake%s", peer, why, extra={"peer": peer.text})
        except Exception as error:  # noqa: BLE001  (the one boundary around a connection)
            # Only the kind: the rest can quote what a client has sent.
            _log.info("%s: ended by what it sent (%s)", peer, type(error).__name__, extra={"peer": peer.text})
        finally:
            if upgrade is None:
                with trio.move_on_after(_FREE_TIMEOUT_S, shield=True):
                    await trio.aclose_forcefully(stream)
        # No checkpoint before somebody else has the stream.
        if upgrade is not None:
            peer, counted = upgrade.peer, upgrade.counted
            serving = self._connect(stream, peer, handshake_by=upgrade.handshake_by, received=upgrade.received)
            upgrade = None  # what was read is not kept for as long as the connection lives
            try:
                await serving
            finally:
                if counted:
                    self._admission.release_client(peer)

    async def _answer_until_upgrade(
        self, stream: trio.abc.Stream, peer: Peer, deadline: float, by_tls: bool | None
    ) -> _Upgrade | None:
        received = b""
        for number in range(1, _REQUESTS + 1):
            received, found = await self._read_head(stream, received, deadline)
            if isinstance(found, int):
                last = self._stopped or number == _REQUESTS
                reply, asker = self._reply(received[:found], peer, by_tls, last=last)
                if reply is None:
                    counted = asker is not peer
                    why = self._admission.admit_client(asker) if counted else ""
                    if not why:
                        return _Upgrade(received, deadline, asker, counted)
                    self._statistics.refused += 1
                    _log.info("%s: refused: %s", asker, why, extra={"peer": asker.text})
                    reply = refuse(_too_many(why), time=self._now())
                received = received[found:]
            elif found is None:
                if number == 1:
                    _log.info("%s: gone without a WebSocket handshake", peer, extra={"peer": peer.text})
                return None
            else:
                reply, asker = refuse(found, time=self._now()), peer
            self._statistics.http_requests += 1
            _requests_log.info("%s: answered with %d", asker, reply.status, extra={"peer": asker.text})
            await self._write(stream, reply)
            if reply.close:
                await self._end(stream)
                return None
            deadline = trio.current_time() + self._head_timeout_s
        return None

    def _reply(self, head: bytes, peer: Peer, by_tls: bool | None, *, last: bool) -> tuple[Reply | None, Peer]:
        """The reply to this head, None where it opens a WebSocket; and who asks."""
        asker = Asker(peer)
        if self._proxies.trust(peer.address):
            try:
                asker = self._proxies.asker(head, peer)
            except CannotTell as error:
                _log.warning("%s: %s", peer, error, extra={"peer": peer.text})
                return refuse(in_words(400, f"{error}.", close=True), time=self._now()), peer
        is_local = peer.address is not None and peer.address.is_loopback
        must_have_tls = by_tls is False and not is_local and not asker.by_tls
        if not must_have_tls and is_upgrade(head):
            return None, asker.peer
        visitor = Visitor(asker.peer.address, bool(by_tls if asker.by_tls is None else asker.by_tls))
        answer = to_https if must_have_tls else partial(self._site.answer, visitor=visitor)
        reply = respond(head, answer, time=self._now(), last=last)
        if reply is None and must_have_tls:
            reply = refuse(no_websocket_without_tls(), time=self._now())
        return reply, asker.peer

    async def _read_head(
        self, stream: trio.abc.Stream, received: bytes, deadline: float
    ) -> tuple[bytes, int | Answer | None]:
        """All that was read, and where the head at its start ends; or what is wrong with it; or None where the client
        has gone, or nothing has come in time.
        """
        with trio.CancelScope(deadline=deadline) as scope:
            self._waiting.add(scope)
            try:
                while True:
                    if end := head_end(received):
                        return received, end
                    if self._stopped:
                        return received, None
                    data = bytes(await stream.receive_some(_READ_BYTES))
                    if not data:
                        return received, None
                    self._statistics.bytes_in += len(data)
                    received += data
            finally:
                self._waiting.discard(scope)
        return received, head_too_slow() if received and not self._stopped else None

    async def _write(self, stream: trio.abc.Stream, reply: Reply) -> None:
        for piece in _pieces(reply):
            with trio.move_on_after(self._write_timeout_s) as deadline:
                await stream.send_all(piece)
            if deadline.cancelled_caught:
                raise trio.BrokenResourceError(f"a write stood still for {self._write_timeout_s} s")
            self._statistics.bytes_out += len(piece)

    async def _end(self, stream: trio.abc.Stream) -> None:
        """Let the client hang up: a socket that is closed with unread bytes is reset, and loses our answer."""
        with trio.move_on_after(self._close_timeout_s) as scope:
            self._waiting.add(scope)
            try:
                if isinstance(stream, trio.abc.HalfCloseableStream):
                    await stream.send_eof()
                while not self._stopped and await stream.receive_some(_READ_BYTES):
                    pass
            finally:
                self._waiting.discard(scope)


def _too_many(why: str) -> Answer:
    # As `_accept` says it to those who come without a proxy: the limits count by the minute.
    return in_words(503, f"Too many connections: {why}.", ("Retry-After", "60"), close=True)


def _pieces(reply: Reply) -> Iterator[bytes | memoryview]:
    """The reply in writes, without a copy of a large body for each client."""
    first = max(0, _PIECE_BYTES - len(reply.head))
    yield reply.head + reply.body[:first]
    body = memoryview(reply.body)
    for start in range(first, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
