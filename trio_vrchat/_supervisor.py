"""Several workers behind one listening socket: processes on one machine, each a server, started again when one ends.

    supervisor ─ binds ─▶ socket ◀─ accept ─ workers 1 … N     (the kernel gives a connection to whichever is first)
        └── stdin of each worker: what to do; its end: stop (also when the supervisor is gone)

- The supervisor holds the socket for as long as it runs. So no connection is refused while workers end and start: it
  waits in the socket's queue. (With a socket each, by SO_REUSEPORT, those in a worker's queue would be lost with it.)
- A stop goes to all at once. The socket is closed first, so that nobody waits for workers that do not come back.
- `Restarts` says when a worker is started again, and when that has no sense any more; then all of them are stopped.
- What a worker cannot use (a certificate, a folder) ends all of them while they start; later on, when the others serve,
  it is only one more worker that has ended at once.
- Nothing outlives the supervisor: it waits for its workers' end, and where it is killed their stdin ends.

A worker's connections are its own, and end with it. That all workers have the same rooms is the backplane's.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import trio

from ._addresses import open_listeners, page_urls_of, port_of, urls_of
from ._announcement import announce
from ._background import open_background
from ._config import Config
from ._errors import ConfigError, WorkerError
from ._recorder import make_key
from ._restarts import Restarts
from ._server import log_where, own_certificate
from ._worker import Orders
from ._worker_process import Worker, open_worker

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger("trio_vrchat.supervisor")


def check_for_workers(config: Config, workers: int) -> None:
    """Raise ConfigError where so many workers cannot have these settings. (One may have any.)"""
    if sys.platform == "win32":
        raise ConfigError(f"workers must be 1 on Windows, which hands no socket on to other processes, not {workers}")
    if config.store is not None:
        raise ConfigError(f"workers is {workers}, so store must be left out: one server at a time uses a file")
    if config.backplane is None:
        raise ConfigError(
            f"workers is {workers}, so backplane must be set (redis://127.0.0.1:6379/0): without one each worker would "
            "have rooms of its own"
        )


def run_workers(config: Config, workers: int, *, log_level: int, log_json: bool) -> None:
    """Run so many workers until the process is told to stop by SIGINT or SIGTERM; clients see close code 1001.

    Prints on stdout where they are found, once all serve. To be called in the main thread, outside of any event loop.

    Raises ListenError if it cannot listen, ConfigError if a worker cannot serve with these settings, WorkerError where
    one ends at once, again and again.
    """
    trio.run(_main, config, workers, log_level, log_json)


@attrs.frozen
class _Found:
    """Where the workers are found: see `Handle`."""

    urls: tuple[str, ...]
    page_urls: tuple[str, ...]
    fingerprint: str


async def _main(config: Config, workers: int, log_level: int, log_json: bool) -> None:
    config, fingerprint = _prepared(config)
    tls = config.tls_cert is not None
    # From before the first worker starts until the last has ended.
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        listeners = await open_listeners(config.host, config.port)
        urls = urls_of(listeners, tls=tls)
        found = _Found(urls, page_urls_of(urls, tls=tls) if config.page else (), fingerprint)
        port = port_of(listeners)
        sockets = [listener.socket for listener in listeners]

        def launch(number: int) -> AbstractAsyncContextManager[Worker]:
            return open_worker(Orders(number, (), config, log_level, log_json), sockets)

        def say_where() -> None:
            log_where(urls, port)
            announce(found)

        def close() -> None:
            for socket in sockets:
                socket.close()

        supervisor = Supervisor(workers, launch, all_serve=say_where, stopping=close)
        async with open_background() as nursery:
            with trio.CancelScope() as running:
                nursery.start_soon(_heed, signals, running, supervisor)
                await supervisor.run()
    _log.info("stopped")


def _prepared(config: Config) -> tuple[Config, str]:
    """Settings in which nothing is left that is made once, and the fingerprint of a certificate that was made.

    Workers that made their keys themselves would make several.
    """
    if config.record is not None and config.pseudonyms is not None:
        try:
            make_key(Path(config.pseudonyms))
        except OSError as error:
            raise ConfigError(
                f"cannot make the key {config.pseudonyms!r} of pseudonyms: {error.strerror}: check the name, and that "
                "its folder may be written to"
            ) from error
    if config.tls is None:
        return config, ""
    own = own_certificate(config)
    file = os.fspath(own.path)
    return attrs.evolve(config, tls=None, tls_cert=file, tls_key=file), own.fingerprint


async def _heed(signals: AsyncIterator[int], running: trio.CancelScope, supervisor: Supervisor) -> None:
    """Stop on the first signal. On the second end everything at once, as the signal by itself would."""
    async for number in signals:
        if running.cancel_called:
            supervisor.kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        running.cancel()


class Supervisor:
    """Keeps workers 1 to `workers` running. `launch` starts one.

    `all_serve` is called once, when all of them do; `stopping` at the beginning of the stop.
    """

    def __init__(
        self,
        workers: int,
        launch: Callable[[int], AbstractAsyncContextManager[Worker]],
        *,
        all_serve: Callable[[], object],
        stopping: Callable[[], object],
    ) -> None:
        self._launch = launch
        self._all_serve = all_serve
        self._stopping = stopping
        self._numbers: Sequence[int] = range(1, workers + 1)
        self._running: dict[int, Worker] = {}
        # Those that have not served yet.
        self._awaited = set(self._numbers)
        self._failure: ConfigError | WorkerError | None = None

    async def run(self) -> None:
        """Run them until cancelled, then stop them. Raises ConfigError and WorkerError as `run_workers` does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._await_stop, name="stop of the workers")
            for number in self._numbers:
                nursery.start_soon(self._keep, number, nursery.cancel_scope, name=f"worker {number}")
        if self._failure is not None:
            raise self._failure

    def kill(self) -> None:
        """End all that there are now. Does not wait."""
        for worker in self._running.values():
            worker.kill()

    async def _await_stop(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._stopping()
            # (That they could not start is one line, which is not this one's.)
            if self._failure is None or not self._awaited:
                _log.info("stopping (workers: %d)", len(self._running), extra={"count": len(self._running)})

    async def _keep(self, number: int, all_of_them: trio.CancelScope) -> None:
        restarts = Restarts()
        while self._failure is None:
            served_s, how = await self._run_once(number)
            delay = restarts.ended(served_s)
            if delay is None:
                self._fail(
                    WorkerError(
                        f"worker {number} has ended {restarts.in_a_row} times in a row as soon as it was started, "
                        f"at last {how}: the log says more"
                    )
                )
            elif self._failure is None:
                when = f"in {delay:g} s" if delay else "at once"
                _log.warning("has ended: %s; it is started again %s", how, when, extra={"worker": number})
                await trio.sleep(delay)
        all_of_them.cancel()

    async def _run_once(self, number: int) -> tuple[float, str]:
        """Start it, and wait for its end. Returns how many seconds it served, and how it has ended."""
        since: float | None = None
        try:
            async with self._launch(number) as worker:
                self._running[number] = worker
                if why_not := await worker.answer():
                    if self._awaited:
                        self._fail(ConfigError(why_not))
                    return 0.0, why_not
                if why_not is not None:
                    since = trio.current_time()
                    _log.info("serves (process %d)", worker.pid, extra={"worker": number, "pid": worker.pid})
                    self._count(number)
                how = await worker.ended()
        except OSError as error:
            return 0.0, f"no process could be started: {error.strerror or error}"
        finally:
            # Not sooner: while it stops, it may have to be killed.
            self._running.pop(number, None)
        return 0.0 if since is None else trio.current_time() - since, how

    def _fail(self, failure: ConfigError | WorkerError) -> None:
        # What others say while they are stopped is not why.
        if self._failure is None:
            self._failure = failure

    def _count(self, number: int) -> None:
        if self._awaited:
            self._awaited.discard(number)
            if not self._awaited:
                self._all_serve()
