"""`serve()`: puts the parts together, and takes them down in order.

The nurseries nest store ⊃ rooms ⊃ connections ⊃ listeners, because each outlives what is in it. A stop goes from the
inside out: stop accepting; say 1001 to everybody; give the connections `drain_s`; end the sessions that nobody can
resume any more; the rooms then end by themselves, and the store writes what they left. So the house stands behind a
shield, and a cancelled `serve()` tells it to come down instead of pulling it down.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from ._accept import Acceptor
from ._accounts import Accounts, open_accounts
from ._addresses import (
    machine_addresses,
    open_listeners,
    page_urls_of,
    port_of,
    readable_on_the_network,
    urls_of,
)
from ._admission import Admission, Networks
from ._backplane import Engine
from ._clock import WallClock
from ._config import Config
from ._connection import Connections, serve_connection
from ._descriptors import connections_possible
from ._directory import Directory
from ._errors import ConfigError
from ._frame_clock import FrameClock
from ._front import Front
from ._keepalive import Keepalive
from ._login import Authenticator, Login, Standings
from ._login_failures import LoginFailures
from ._metrics import Metrics
from ._observer import Observation, Observer
from ._pump import Pump, open_pump
from ._recorder import Recorder
from ._recording_desk import RecordingDesk
from ._requests import House
from ._room import Room
from ._session import Sessions
from ._site import Site
from ._statistics import Statistics
from ._store import Store, open_store
from ._threads import InThread, one_at_a_time
from ._tls import server_context
from ._web_files import own_files

if TYPE_CHECKING:
    from ._certificate import OwnTLS
    from ._sharing import Sharing

# For an engine that is there, and has just begun (`Timing.settle_s`). Without one the server starts all the same.
_READY_S = 6.0

_log = logging.getLogger("trio_vrchat.server")


@attrs.frozen(eq=False)
class Handle:
    """A running server.

    - `port`: the TCP port it listens on; 0 if it was given listeners that are no TCP sockets.
    - `urls`: where clients find it, addresses that the network can reach first; empty where `port` is 0.
    - `page_urls`: the same for a browser; empty where there is no page.
    - `fingerprint`: of the certificate that `tls` "auto" has made: SHA-256, in hexadecimal with colons. Else "".
    - `statistics`: live figures.
    - `recorder`: `await recorder.start(folder)` begins a recording, `await recorder.stop()` ends it.
    - `cancel_scope`: cancel it to stop this server, as cancelling the task that runs `serve` does.
    """

    port: int
    urls: tuple[str, ...]
    page_urls: tuple[str, ...]
    fingerprint: str
    statistics: Statistics
    recorder: Recorder
    cancel_scope: trio.CancelScope


async def serve(
    config: Config | None = None,
    *,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    authenticate: Authenticator | None = None,
    backplane: Engine | None = None,
    task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a server until it is cancelled, then end it cleanly: clients see close code 1001.

    `handle = await nursery.start(serve, Config(...))` returns once it listens. `listeners` are used in place of
    sockets on `config.host` and `config.port`, and closed at the end. Sockets among them speak TLS where `config` has a
    certificate, or `tls`.

    `authenticate` decides who may log in, in place of `config.auth`: `async (user, password, peer) -> bool`, where
    `peer` is the client's address and port as text. Whoever it accepts takes the name over from whoever holds it. A
    str in place of True is the name that the rooms show. It runs within `config.login_timeout_s`; what it raises is
    500 to the client, and in the log.

    `backplane` is what it shares its rooms and accounts by, in place of the Redis of `config.backplane`: a
    `testing.MemoryEngine`, for several servers in one process.

    Raises ListenError if it cannot listen, ConfigError if it cannot use the certificate or make one, or has no place
    for accounts, or two, StoreError if it cannot use the store, RecordingError if it cannot record where it should.
    """
    await run_server(
        config or Config(),
        listeners=listeners,
        authenticate=authenticate,
        backplane=backplane,
        in_thread=one_at_a_time,
        task_status=task_status,
    )


async def run_server(
    config: Config,
    *,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None,
    authenticate: Authenticator | None,
    backplane: Engine | None,
    in_thread: Callable[[], InThread],
    task_status: trio.TaskStatus[Handle],
    worker: int | None = None,
) -> None:
    """`serve`, where what blocks (store, password hashes) is run by what `in_thread` makes.

    `worker`: which of several this is; its figures and recordings say so. Where they listen its supervisor says.
    """
    context, fingerprint = _tls(config)
    engine = backplane or (None if config.backplane is None else redis_engine(config.backplane))
    has_accounts = config.auth == "accounts" and authenticate is None
    _check_shelves(config, engine, has_accounts)
    statistics = Statistics()
    sharing = None if engine is None else _sharing(engine, config, statistics)
    async with AsyncExitStack() as files:
        store: Store | None = None
        if config.store is not None:
            opening = open_store(
                config.store, keep=config.keep_events, limit_bytes=config.store_limit_bytes, in_thread=in_thread()
            )
            store = await files.enter_async_context(opening)
        standing_of: Standings | None = None
        if has_accounts:
            if sharing is not None:
                accounts = Accounts(sharing.node.ask_for_account, in_thread())
            else:
                assert config.store is not None
                accounts = await files.enter_async_context(open_accounts(config.store, in_thread=in_thread()))
            authenticate, standing_of = accounts.authenticate, accounts.standing
        if listeners is None:
            listeners = await open_listeners(config.host, config.port)
        building = _Building(
            config, listeners, context, authenticate, standing_of, store, statistics, sharing, in_thread, worker
        )
        if config.record is not None:
            await building.recorder.start(config.record, config.notes)
        with trio.CancelScope() as cancel_scope:
            async with trio.open_nursery() as nursery:
                urls = urls_of(listeners, tls=context is not None)
                page_urls = page_urls_of(urls, tls=context is not None) if config.page else ()
                handle = Handle(
                    port_of(listeners),
                    urls,
                    page_urls,
                    fingerprint,
                    building.statistics,
                    building.recorder,
                    cancel_scope,
                )
                try:
                    # Not `start`: cancelled in it, it would wait for the building, and the building for `stop`.
                    nursery.start_soon(building.run)
                    await building.stands.wait()
                    if worker is None:
                        log_where(urls, handle.port)
                    task_status.started(handle)
                    await trio.sleep_forever()
                finally:
                    building.stop()
    _log.info("stopped")


def log_where(urls: Sequence[str], port: int) -> None:
    """Say in the log where a server listens, and who may read along there."""
    _log.info("listening on %s", ", ".join(urls) or "streams", extra={"port": port})
    if readable := readable_on_the_network(urls):
        _log.warning(
            "no TLS on %s: whoever is on the network reads along, passwords included "
            "(--tls auto turns it on, or --tls-cert and --tls-key)",
            ", ".join(readable),
        )


def _tls(config: Config) -> tuple[ssl.SSLContext | None, str]:
    """What is needed for TLS, if it is on, and the fingerprint of a certificate of our own."""
    if config.tls_cert and config.tls_key:
        return server_context(config.tls_cert, config.tls_key), ""
    if config.tls is None:
        return None, ""
    own = own_certificate(config)
    return own.context, own.fingerprint


def own_certificate(config: Config) -> OwnTLS:
    """What `tls` "auto" does TLS with; made if there is none that will do. Raises ConfigError."""
    # Slow to import, and needed by nobody else.
    from ._certificate import folder, names_of, own_tls  # noqa: PLC0415

    names = names_of(socket.gethostname(), config.host, machine_addresses())
    return own_tls(folder(), names, time.time() if config.start_time is None else config.start_time)


def _check_shelves(config: Config, engine: Engine | None, has_accounts: bool) -> None:
    # Here, where it is known whether there is an engine: an embedding program may bring its own.
    if engine is not None and config.store is not None:
        raise ConfigError(
            f"there is a backplane, so store must be left out, not {config.store!r}: accounts and history are in the "
            "backplane's engine"
        )
    if has_accounts and engine is None and config.store is None:
        raise ConfigError(
            "auth is accounts, so there must be a store (--store FILE) or a backplane (--backplane URL) to keep them in"
        )


def redis_engine(url: str) -> Engine:
    """The Redis at this URL. Raises ConfigError where the URL is none, or what is needed for it is not installed."""
    try:
        # Needed, and perhaps installed, by nobody else.
        from ._redis_engine import RedisEngine  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"backplane needs coredis, which cannot be used ({error}): pip install 'trio-vrchat[redis]'"
        ) from error
    return RedisEngine(url)


def _sharing(engine: Engine, config: Config, statistics: Statistics) -> Sharing:
    # Needed by nobody else.
    from ._sharing import Sharing  # noqa: PLC0415

    dice = random.SystemRandom() if config.seed is None else random.Random(config.seed)
    return Sharing(engine, config, dice, statistics)


class _Building:
    """The rooms, connections and listeners of one server."""

    def __init__(
        self,
        config: Config,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        context: ssl.SSLContext | None,
        authenticate: Authenticator | None,
        standing_of: Standings | None,
        store: Store | None,
        statistics: Statistics,
        sharing: Sharing | None,
        in_thread: Callable[[], InThread],
        worker: int | None,
    ) -> None:
        self._config = config
        self._worker = worker
        self._listeners = listeners
        self._store = store
        self._sharing = sharing
        self._context = context
        self._authenticate = authenticate
        self._standing_of = standing_of
        self._accepting = trio.CancelScope()
        self._directory: Directory | None = None
        newest_time = store.newest_time if store is not None else 0.0
        self._clock = WallClock(trio.current_time, config.start_time, after=newest_time)
        self._observation = Observation()
        self.stands = trio.Event()
        self.statistics = statistics
        self.recorder = Recorder(
            config, self._observation, self.statistics, in_thread(), self._show, self._clock.now, worker
        )
        folder = config.recordings if config.recordings is not None else config.record
        self._desk = RecordingDesk(self.recorder, folder, in_thread())

    def stop(self) -> None:
        """Come down. Does not wait."""
        self._accepting.cancel()

    async def run(self) -> None:
        config = self._config
        with trio.CancelScope(shield=True) as building:
            async with trio.open_nursery() as storing:
                storing.start_soon(self.recorder.run, name="recorder")
                if self._store is not None:
                    storing.start_soon(self._store.run, name="store")
                async with AsyncExitStack() as files, trio.open_nursery() as clocks:
                    if (pump := open_pump()) is not None:
                        files.callback(pump.close)
                        clocks.start_soon(pump.run, name="pump")
                    frame_clock = FrameClock(config.fps, self.statistics)
                    clocks.start_soon(frame_clock.run, name="frame clock")
                    keepalive = Keepalive(config.keepalive_interval_s, config.keepalive_timeout_s)
                    clocks.start_soon(keepalive.run, name="keepalive")
                    sharing = self._sharing
                    sessions = Sessions(config, self.statistics, None if sharing is None else sharing.names)
                    clocks.start_soon(sessions.run, name="grace of lost sessions")
                    if sharing is not None:
                        sharing.taken = sessions.lose
                        clocks.start_soon(sharing.run, name="backplane")
                    async with trio.open_nursery() as rooms:
                        directory = self._directory = self._open_directory(frame_clock, rooms)
                        await self._serve(directory, sessions, keepalive, pump, building)
                        await sessions.stop()
                        directory.close()
                    if sharing is not None:
                        await sharing.stop()
                    clocks.cancel_scope.cancel()
                self.recorder.close()
                if self._store is not None:
                    self._store.close()

    def _open_directory(self, frame_clock: FrameClock, rooms: trio.Nursery) -> Directory:
        return Directory(
            self._config,
            self._clock,
            frame_clock,
            self.statistics,
            rooms,
            self._store,
            self._observation,
            Room if self._sharing is None else self._sharing.make_room,
        )

    def _show(self, observer: Observer) -> None:
        if self._directory is not None:
            self._directory.show(observer)

    async def _serve(
        self,
        directory: Directory,
        sessions: Sessions,
        keepalive: Keepalive,
        pump: Pump | None,
        building: trio.CancelScope,
    ) -> None:
        """Serve connections until the server is told to stop and they have ended."""
        config = self._config
        login = Login(sessions, LoginFailures(config, trio.current_time), self._authenticate, self._standing_of)
        house = House(
            config,
            directory.clock,
            directory,
            sessions,
            login,
            self.statistics,
            self._observation,
            self._desk,
            None if self._sharing is None else self._sharing.node.rooms,
        )
        connections = Connections(house, keepalive, pump)
        admission = Admission(config, connections_possible(), trio.current_time)
        front = self._open_front(connections, directory, admission)
        async with trio.open_nursery() as serving:
            await self._accept(front, admission, serving)
            # However long a client takes, a stop does not take longer.
            building.deadline = trio.current_time() + config.drain_s
            count = len(connections.all)
            _log.info("stopping (connections: %d)", count, extra={"count": count})
            front.stop()
            connections.stop()

    def _open_front(self, connections: Connections, directory: Directory, admission: Admission) -> Front:
        config = self._config
        metrics = Metrics(self.statistics, lambda: (connection.outbox for connection in connections.all), self._worker)
        site = Site(own_files() if config.page else None, metrics.answer, config.metrics_networks)
        connect = partial(serve_connection, connections=connections)
        return Front(connect, site, config, self.statistics, directory.clock.now, admission)

    async def _accept(self, front: Front, admission: Admission, serving: trio.Nursery) -> None:
        config = self._config
        acceptor = Acceptor(
            front.serve,
            admission,
            # A trusted proxy stands for others, who are counted when they have said who they are.
            Networks((*config.exempt_networks, *config.trust_proxy)),
            handshake_timeout_s=config.handshake_timeout_s,
            refused=self._count_refused,
            shared=self._worker is not None,
        )
        with self._accepting:
            if self._sharing is not None:
                # Until then nobody could log in.
                with trio.move_on_after(_READY_S):
                    await self._sharing.node.ready()
            self.stands.set()
            await acceptor.run(self._listeners, self._context, serving)

    def _count_refused(self) -> None:
        self.statistics.refused += 1
