"""Accepting connections: from a listening socket to a task for each, as cheaply as a flood of them makes necessary.

trio's own `serve_listeners` accepts one connection in a pass of the loop and starts its task before anybody looks at
it. Whoever connects and resets as fast as a machine can would so fill the kernel's queue and keep everybody else out.
Here

- what waits is accepted in one go, and what was reset meanwhile is dropped on the spot;
- the limits are applied before there is a task;
- a connection becomes one, with its buffers and its WebSocket, when its first byte is there;
- who is in comes first: where the others' turn takes long, fewer are let in at the next.

Listeners that are no sockets (streams in memory, somebody's own) are served as trio does it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import trio

from ._addresses import peer_at, peer_of
from ._admission import Admission, Networks, Peer
from ._socket_stream import SocketStream
from ._tls_stream import TLSStream

# Connections that get a task in one turn, and those that are looked at: dropping one takes some 15 µs.
_ADMISSIONS_PER_TURN = 64
_ACCEPTS_PER_TURN = 256
# With others at the same socket: whoever has less to do is back sooner, and so takes more. Of a hundred who came at
# once, four workers that took all they could had 64, 19, 17 and none.
_SHARED_ADMISSIONS_PER_TURN = 1
# How long everybody else's turn may take before fewer are let in: a fifth of a frame at 20 a second. What opening
# connections takes of it is what changes with their number.
_TURN_S = 0.01
# As trio: when the process has no more descriptors or memory, somebody else must give some back first.
_RETRY_S = 0.1
_OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
# Between two lines in the log of one kind: one each is what a flood would want.
_LOG_S = 10.0
# The type of the record that a client of TLS begins with (RFC 8446, section 5.1). HTTP begins with a letter.
_TLS_HANDSHAKE = b"\x16"
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger("trio_vrchat.server")

# Starts the task of a connection that was let in. Does not wait.
_Start = Callable[[socket.socket, Peer], None]


class Serve(Protocol):
    """What is done with a connection that was let in: a task of its own, which closes the stream."""

    async def __call__(
        self, stream: trio.abc.Stream, peer: Peer, *, handshake_by: float, by_tls: bool | None = None
    ) -> None:
        """Serve it. Raises nothing but cancellation.

        `handshake_by` is when the handshake must be done. `by_tls`: whether the client speaks TLS to a port that does;
        None where the port does not.
        """


class Acceptor:
    """Accepts for one server. `shared`: other processes accept from the same sockets."""

    def __init__(
        self,
        serve: Serve,
        admission: Admission,
        networks: Networks,
        *,
        handshake_timeout_s: float,
        refused: Callable[[], object],
        shared: bool = False,
    ) -> None:
        self._most_admissions = _SHARED_ADMISSIONS_PER_TURN if shared else _ADMISSIONS_PER_TURN
        self._serve = serve
        self._admission = admission
        self._networks = networks
        self._handshake_timeout_s = handshake_timeout_s
        self._refused = refused
        self._next_line: dict[str, float] = {}

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        context: ssl.SSLContext | None,
        tasks: trio.Nursery,
    ) -> None:
        """Accept until cancelled, with the connections' tasks in `tasks`; then the listeners are closed.

        So are connections of which nothing has come yet: a stop does not wait for them. With a `context`, what sockets
        accept speaks TLS, if it begins like that.
        """
        others: list[trio.abc.Listener[trio.abc.Stream]] = []
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                if isinstance(listener, trio.SocketListener):
                    listening = socket.socket(fileno=listener.socket.detach())
                    start = partial(self._start, nursery, context, tasks)
                    nursery.start_soon(self._accept, listening, context, start, name="accepting")
                else:
                    others.append(listener)
            if others:
                await trio.serve_listeners(self._serve_other, others, handler_nursery=tasks)

    async def _accept(self, listening: socket.socket, context: ssl.SSLContext | None, start: _Start) -> None:
        listening.setblocking(False)
        admissions = self._most_admissions
        try:
            while True:
                await trio.lowlevel.wait_readable(listening)
                try:
                    self._accept_some(listening, admissions, context, start)
                except BlockingIOError:
                    pass  # all of them
                except OSError as error:
                    if error.errno in _OUT_OF_SOMETHING:
                        self._say("cannot accept connections: %s; trying again", os.strerror(error.errno))
                        await trio.sleep(_RETRY_S)
                    # Anything else is one connection's that has ended in the queue.
                started = time.perf_counter()
                await trio.lowlevel.checkpoint()
                if time.perf_counter() - started > _TURN_S:
                    admissions = max(1, admissions // 2)
                else:
                    admissions = min(self._most_admissions, admissions + 1)
        finally:
            trio.lowlevel.notify_closing(listening)
            listening.close()

    def _accept_some(
        self, listening: socket.socket, admissions: int, context: ssl.SSLContext | None, start: _Start
    ) -> None:
        """Accept until so many were let in. Raises BlockingIOError where no more wait."""
        for _ in range(_ACCEPTS_PER_TURN):
            connection, address = listening.accept()
            try:
                connection.getpeername()
            except OSError:
                connection.close()  # it was reset while it waited
                continue
            admissions -= self._admit(connection, address, context, start)
            if not admissions:
                return

    def _admit(self, connection: socket.socket, address: object, context: ssl.SSLContext | None, start: _Start) -> bool:
        """Give a connection its task, or refuse it. Does not wait."""
        peer = peer_at(address, self._networks)
        if why := self._admission.admit(peer):
            self._refuse(peer, why)
            # There is room for it in a new socket, and a client that has not sent its request yet gets to see it.
            with contextlib.closing(connection), contextlib.suppress(OSError):
                if context is None:
                    connection.setblocking(False)
                    connection.send(_REFUSAL)
            return False
        start(connection, peer)
        return True

    def _start(
        self,
        silent: trio.Nursery,
        context: ssl.SSLContext | None,
        tasks: trio.Nursery,
        connection: socket.socket,
        peer: Peer,
    ) -> None:
        silent.start_soon(self._begin, connection, peer, context, tasks, name=f"first byte of {peer}")

    async def _begin(
        self, connection: socket.socket, peer: Peer, context: ssl.SSLContext | None, tasks: trio.Nursery
    ) -> None:
        """Wait for a connection's first byte, and give it its task then."""
        handshake_by = trio.current_time() + self._handshake_timeout_s
        first = b""
        try:
            connection.setblocking(False)
            first = await _first_byte(connection, handshake_by)
        finally:
            if not first:
                connection.close()
                self._admission.release(peer)
        # No checkpoint before the task that closes and releases has it.
        if first:
            by_tls = None if context is None else first == _TLS_HANDSHAKE
            start = partial(self._serve_socket, connection, peer, context if by_tls else None, handshake_by, by_tls)
            tasks.start_soon(start, name=f"connection of {peer}")
        else:
            _log.debug("%s: gone without a word", peer, extra={"peer": peer.text})

    async def _serve_socket(
        self,
        connection: socket.socket,
        peer: Peer,
        context: ssl.SSLContext | None,
        handshake_by: float,
        by_tls: bool | None,
    ) -> None:
        try:
            socket_stream = SocketStream(connection)
            stream = socket_stream if context is None else TLSStream(socket_stream, context)
            await self._serve(stream, peer, handshake_by=handshake_by, by_tls=by_tls)
        finally:
            connection.close()
            self._admission.release(peer)

    async def _serve_other(self, stream: trio.abc.Stream) -> None:
        peer = peer_of(stream, self._networks)
        if why := self._admission.admit(peer):
            self._refuse(peer, why)
            await trio.aclose_forcefully(stream)
            return
        try:
            await self._serve(stream, peer, handshake_by=trio.current_time() + self._handshake_timeout_s)
        finally:
            self._admission.release(peer)

    def _refuse(self, peer: Peer, why: str) -> None:
        self._refused()
        self._say("refused a connection from %s: %s", peer, why)

    def _say(self, message: str, *arguments: object) -> None:
        now = trio.current_time()
        if now >= self._next_line.get(message, 0.0):
            self._next_line[message] = now + _LOG_S
            _log.warning(message, *arguments)


async def _first_byte(connection: socket.socket, deadline: float) -> bytes:
    """Wait until the peer says something; empty where it hung up, or let the deadline pass. It stays to be read."""
    with trio.move_on_at(deadline):
        await trio.lowlevel.wait_readable(connection)
        with contextlib.suppress(OSError):
            return connection.recv(1, socket.MSG_PEEK)
    return b""
