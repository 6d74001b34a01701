"""`serve()`: puts the parts together, and takes them down in order.

The nurseries nest store ⊃ rooms ⊃ connections ⊃ listeners, because each outlives what is in it. A stop goes from the
inside out: stop accepting; say 1001 to everybody; give the connections `drain_s`; end the sessions that nobody can
resume any more; the rooms then end by themselves, and the store writes what they left. So the house stands behind a
shield, and a cancelled `serve()` tells it to come down instead of pulling it down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs
import trio

from ._addresses import open_listeners, peer_of, port_of, readable_on_the_network, urls_of
from ._admission import Admission, LoginFailures, Networks, Peer
from ._clock import WallClock
from ._config import Config
from ._connection import Connections, serve_connection
from ._descriptors import connections_possible
from ._directory import Directory
from ._errors import ConfigError
from ._frame_clock import FrameClock
from ._keepalive import Keepalive
from ._login import Authenticator, Login
from ._requests import House
from ._session import Sessions
from ._socket_stream import SocketStream
from ._statistics import Statistics
from ._tls import over_tls, server_context

# Between two lines in the log about connections that are refused: one each is what a flood of them would want.
_REFUSALS_LOG_S = 10.0
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger("trio_vrchat.server")


@attrs.frozen(eq=False)
class Handle:
    """A running server.

    - `port`: the TCP port it listens on; 0 if it was given listeners that are no TCP sockets.
    - `urls`: where clients find it, addresses that the network can reach first; empty where `port` is 0.
    - `statistics`: live figures.
    - `cancel_scope`: cancel it to stop this server, as cancelling the task that runs `serve` does.
    """

    port: int
    urls: tuple[str, ...]
    statistics: Statistics
    cancel_scope: trio.CancelScope


async def serve(
    config: Config | None = None,
    *,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    authenticate: Authenticator | None = None,
    task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a server until it is cancelled, then end it cleanly: clients see close code 1001.

    `handle = await nursery.start(serve, Config(...))` returns once it listens. `listeners` are used in place of
    sockets on `config.host` and `config.port`, and closed at the end.

    `authenticate` decides who may log in, in place of `config.auth`: `async (user, password, peer) -> bool`, where
    `peer` is the client's address and port as text. Whoever it accepts takes the name over from whoever holds it. A
    str in place of True is the name that the rooms show. It runs within `config.login_timeout_s`; what it raises is
    500 to the client, and in the log.

    Raises ListenError if it cannot listen, ConfigError if it cannot use the certificate.
    """
    config = config or Config()
    context = server_context(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
    if listeners is None:
        on_tcp = await open_listeners(config.host, config.port)
        listeners = over_tls(on_tcp, context) if context else on_tcp
    elif context:
        raise ConfigError("tls_cert is for the server's own listeners; wrap yours in trio.SSLListener")
    house = _Building(config, listeners, authenticate)
    with trio.CancelScope() as cancel_scope:
        async with trio.open_nursery() as nursery:
            handle = Handle(port_of(listeners), urls_of(listeners), house.statistics, cancel_scope)
            try:
                # Not `start`: cancelled in it, it would wait for the house, and the house for `stop`.
                nursery.start_soon(house.run)
                await house.stands.wait()
                _log.info("listening on %s", ", ".join(handle.urls) or "streams", extra={"port": handle.port})
                if readable := readable_on_the_network(handle.urls):
                    _log.warning(
                        "no TLS on %s: whoever is on the network reads along, passwords included "
                        "(--tls-cert and --tls-key turn it on)",
                        ", ".join(readable),
                    )
                task_status.started(handle)
                await trio.sleep_forever()
            finally:
                house.stop()
    _log.info("stopped")


class _Building:
    """The rooms, connections and listeners of one server."""

    def __init__(
        self,
        config: Config,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        authenticate: Authenticator | None,
    ) -> None:
        self._config = config
        self._listeners = listeners
        self._authenticate = authenticate
        self._networks = Networks(config.exempt_networks)
        self._admission = Admission(config, connections_possible(), trio.current_time)
        self._next_refusal_line = 0.0
        self._accepting = trio.CancelScope()
        self.stands = trio.Event()
        self.statistics = Statistics()

    def stop(self) -> None:
        """Come down. Does not wait."""
        self._accepting.cancel()

    async def run(self) -> None:
        config = self._config
        with trio.CancelScope(shield=True) as building:
            async with trio.open_nursery() as clocks:
                frame_clock = FrameClock(config.fps, self.statistics)
                clocks.start_soon(frame_clock.run, name="frame clock")
                keepalive = Keepalive(config.keepalive_interval_s, config.keepalive_timeout_s)
                clocks.start_soon(keepalive.run, name="keepalive")
                sessions = Sessions(config, self.statistics)
                clocks.start_soon(sessions.run, name="grace of lost sessions")
                async with trio.open_nursery() as rooms:
                    clock = WallClock(trio.current_time, config.start_time)
                    directory = Directory(config, clock, frame_clock, self.statistics, rooms)
                    login = Login(sessions, LoginFailures(config, trio.current_time), self._authenticate)
                    house = House(config, clock, directory, sessions, login, self.statistics)
                    connections = Connections(house, keepalive)
                    async with trio.open_nursery() as serving:
                        self.stands.set()
                        await self._accept(connections, serving)
                        # However long a client takes, a stop does not take longer.
                        building.deadline = trio.current_time() + config.drain_s
                        count = len(connections.all)
                        _log.info("stopping (connections: %d)", count, extra={"count": count})
                        connections.stop()
                    await sessions.stop()
                    directory.close()
                clocks.cancel_scope.cancel()

    async def _accept(self, connections: Connections, serving: trio.Nursery) -> None:
        async def serve_stream(stream: trio.abc.Stream) -> None:
            peer = peer_of(stream, self._networks)
            if isinstance(stream, trio.SocketStream):
                stream = SocketStream(stream)
            if why := self._admission.admit(peer):
                await self._refuse(stream, peer, why)
                return
            try:
                await serve_connection(stream, peer, connections)
            finally:
                self._admission.release(peer)

        with self._accepting:
            await trio.serve_listeners(serve_stream, list(self._listeners), handler_nursery=serving)

    async def _refuse(self, stream: trio.abc.Stream, peer: Peer, why: str) -> None:
        self.statistics.refused += 1
        now = trio.current_time()
        if now >= self._next_refusal_line:
            self._next_refusal_line = now + _REFUSALS_LOG_S
            _log.warning(
                "refused a connection from %s: %s (%d refused so far)",
                peer,
                why,
                self.statistics.refused,
                extra={"peer": peer.text},
            )
        try:
            if isinstance(stream, SocketStream):
                # A new socket has room for it; a client that has not sent its request yet gets to see it.
                stream.send_nowait(_REFUSAL)
        except trio.BrokenResourceError:
            pass  # it has gone already
        await trio.aclose_forcefully(stream)
