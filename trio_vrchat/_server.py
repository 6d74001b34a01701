"""`serve()`: puts the parts together, and takes them down in order.

The nurseries nest rooms ⊃ connections ⊃ listeners, because rooms outlive the connections in them and connections
outlive the listeners. A stop goes from the inside out: stop accepting; say 1001 to everybody; give the connections
`drain_timeout_s`; the rooms then end by themselves. So the house stands behind a shield, and a cancelled `serve()`
tells it to come down instead of pulling it down.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import attrs
import trio

from ._addresses import open_listeners, peer_of, port_of, urls_of
from ._clock import WallClock
from ._config import Config
from ._connection import Shared, serve_connection
from ._directory import Directory
from ._frame_clock import FrameClock
from ._socket_stream import SocketStream
from ._statistics import Statistics

_log = logging.getLogger("trio_vrchat.server")


@attrs.frozen(eq=False)
class Handle:
    """A running server.

    - `port`: the TCP port it listens on; 0 if it was given listeners that are no TCP sockets (TLS listeners are none).
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
    task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a server until it is cancelled, then end it cleanly: clients see close code 1001.

    `handle = await nursery.start(serve, Config(...))` returns once it listens. `listeners` are used in place of
    sockets on `config.host` and `config.port`, and closed at the end.

    Raises ListenError if it cannot listen.
    """
    config = config or Config()
    if listeners is None:
        listeners = await open_listeners(config.host, config.port)
    house = _House(config, listeners)
    with trio.CancelScope() as cancel_scope:
        async with trio.open_nursery() as nursery:
            handle = Handle(port_of(listeners), urls_of(listeners), house.statistics, cancel_scope)
            try:
                # Not `start`: cancelled in it, it would wait for the house, and the house for `stop`.
                nursery.start_soon(house.run)
                await house.stands.wait()
                _log.info("listening on %s", ", ".join(handle.urls) or "streams", extra={"port": handle.port})
                task_status.started(handle)
                await trio.sleep_forever()
            finally:
                house.stop()
    _log.info("stopped")


class _House:
    """The rooms, connections and listeners of one server."""

    def __init__(self, config: Config, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
        self._config = config
        self._listeners = listeners
        self._accepting = trio.CancelScope()
        self.stands = trio.Event()
        self.statistics = Statistics()

    def stop(self) -> None:
        """Come down. Does not wait."""
        self._accepting.cancel()

    async def run(self) -> None:
        with trio.CancelScope(shield=True) as house:
            async with trio.open_nursery() as ticking:
                frame_clock = FrameClock(self._config.fps, self.statistics)
                ticking.start_soon(frame_clock.run, name="frame clock")
                async with trio.open_nursery() as rooms:
                    clock = WallClock(trio.current_time, self._config.start_time)
                    directory = Directory(self._config, clock.stamp, frame_clock, self.statistics, rooms)
                    shared = Shared(self._config, clock, directory, self.statistics)
                    async with trio.open_nursery() as connections:
                        self.stands.set()
                        await self._accept(shared, connections)
                        # However long a client takes, a stop does not take longer.
                        house.deadline = trio.current_time() + self._config.drain_timeout_s
                        _log.info(
                            "stopping (connections: %d)",
                            len(shared.connections),
                            extra={"count": len(shared.connections)},
                        )
                        shared.stop()
                    directory.close()
                ticking.cancel_scope.cancel()

    async def _accept(self, shared: Shared, connections: trio.Nursery) -> None:
        async def serve_stream(stream: trio.abc.Stream) -> None:
            peer = peer_of(stream)
            if isinstance(stream, trio.SocketStream):
                stream = SocketStream(stream)
            await serve_connection(stream, peer, shared)

        with self._accepting:
            await trio.serve_listeners(serve_stream, list(self._listeners), handler_nursery=connections)
