"""The server as a whole program: `run` until a signal comes, and `Server`, which looks like the original server.

These, and nothing below them, handle signals. The first SIGINT or SIGTERM stops the server cleanly; from then on both
have their default effect, so that a second one ends the process at once, however long the first stop takes.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Callable

import attrs
import trio

from ._announcement import announce
from ._background import open_background
from ._config import Config
from ._descriptors import raise_limit
from ._logging import check_level, configure
from ._server import Handle, serve

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(config: Config, *, started: Callable[[Handle], object] | None = None) -> None:
    """Run a server until the process is told to stop by SIGINT or SIGTERM; clients see close code 1001.

    `started` is called once, when the server listens. To be called in the main thread, outside of any event loop.

    Raises ListenError if it cannot listen, ConfigError if it cannot use the certificate, StoreError if it cannot use
    the store.
    """
    calm_garbage_collector()
    raise_limit()
    trio.run(_main, config, started)


def calm_garbage_collector() -> None:
    """Keep its pauses out of the frames: 35 ms each, at every other second with 100 users, as Python sets it up.

    What the imports left is never garbage, and is most of what a collection walks through. The rest is freed by its
    reference counts; the cycles that errors leave behind can wait for ten times as many.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _main(config: Config, started: Callable[[Handle], object] | None) -> None:
    # From before the server listens until it has stopped; then the signals have the effect that they had before.
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        # The server is the body of this, not one of its tasks: why it cannot start comes out as it is, in no group.
        async with open_background() as nursery:
            await serve(config, task_status=_Started(nursery, signals, started))


@attrs.frozen
class _Started:
    """What `serve` reports to once it listens."""

    _nursery: trio.Nursery
    _signals: AsyncIterator[int]
    _then: Callable[[Handle], object] | None

    def started(self, value: Handle | None = None) -> None:
        assert value is not None
        if self._then is not None:
            self._then(value)
        self._nursery.start_soon(self._stop_on_signal, value)

    async def _stop_on_signal(self, handle: Handle) -> None:
        await anext(self._signals)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        handle.cancel_scope.cancel()


class Server:
    """The blocking form of the server, with the argument names of the original.

        trio_vrchat.Server(ip="192.0.2.7", port=42069, fps=20, log_level=2).run()

    `ip` is the address to listen on, every interface if it is left out; `port` the TCP port, 0 for a free one; `fps`
    the batches of transforms a second, at most; `log_level` is 0 for the server's start, stop and failures, 1 also for
    connections and logins, 2 also for joins and leaves, 3 for everything.

    Raises ConfigError where one of them is out of its range.
    """

    def __init__(self, ip: str | None = None, port: int = 42069, fps: float = 20.0, log_level: int = 2) -> None:
        check_level(log_level)
        self._config = Config(host=ip or None, port=port, fps=fps)
        self._log_level = log_level

    def run(self) -> None:
        """Print the URLs on stdout and serve until SIGINT or SIGTERM. The log goes to stderr.

        To be called in the main thread, outside of any event loop. Raises ListenError if it cannot listen.
        """
        configure(self._log_level, as_json=False)
        run(self._config, started=announce)
