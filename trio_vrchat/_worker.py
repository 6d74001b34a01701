"""One of several workers: a server on sockets that its supervisor has bound. `python -m trio_vrchat._worker NUMBER`.

It is told what to do in one line on stdin, and answers in one on stdout: that it serves, or why it cannot. So its
settings are those that the supervisor has understood, whatever has become of the file and the environment since, and
no list of processes shows them. (The number is there for whoever reads such a list.)

- A worker runs for as long as its stdin is open. At its end, which comes when the supervisor wants it to stop or is
  gone, it stops as a server by itself does. So no worker outlives its supervisor by more than `drain_s`.
- SIGINT and SIGTERM stop it in the same way, however often they come: a service manager may send them to every process
  of a service. To end all at once is the supervisor's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import attrs
import trio

from ._background import open_background
from ._blocking import calm_garbage_collector
from ._config import Config
from ._descriptors import raise_limit
from ._errors import VrchatError
from ._logging import configure
from ._server import Handle, run_server
from ._threads import one_at_a_time

_log = logging.getLogger("trio_vrchat.server")

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# As the program's own: what it was told to do is wrong.
_USAGE_ERROR = 2


@attrs.frozen
class Orders:
    """What a worker is told. `descriptors`: those of the listening sockets that it has inherited."""

    number: int
    descriptors: tuple[int, ...]
    config: Config
    log_level: int
    log_json: bool

    def to_line(self) -> bytes:
        """One line of JSON. (Not by msgspec, which refuses the half surrogate pairs that a file's name may have.)"""
        return json.dumps(attrs.asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Orders:
        """What `to_line` has made."""
        orders = json.loads(line)
        config = Config(**orders.pop("config"))
        return cls(config=config, descriptors=tuple(orders.pop("descriptors")), **orders)


@attrs.frozen
class Answer:
    """What a worker says. `why_not`: why it cannot serve; "" where it does."""

    why_not: str

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(attrs.asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Answer:
        """What `to_line` has made. Anything else is no worker that serves."""
        with contextlib.suppress(ValueError):
            match json.loads(line):
                case {"why_not": str(why_not)}:
                    return cls(why_not)
        return cls(f"a worker has answered {line!r:.200}")


def main() -> int:
    """Do what stdin says. Returns the exit status."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return 0  # the supervisor has gone meanwhile
    orders = Orders.of_line(line)
    answer = _AnswerOnce()
    configure(orders.log_level, as_json=orders.log_json, worker=orders.number)
    calm_garbage_collector()
    raise_limit()
    try:
        trio.run(_serve, orders, answer)
    except VrchatError as error:
        if answer.given:
            _log.error("%s", error)
        else:
            answer(Answer(str(error)))
        return _USAGE_ERROR
    return 0


class _AnswerOnce:
    """Sends the one answer, on what was stdout. Whatever else is printed from now on goes to the log."""

    def __init__(self) -> None:
        self.given = False
        self._descriptor = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)

    def __call__(self, answer: Answer) -> None:
        self.given = True
        with contextlib.suppress(BrokenPipeError):  # the supervisor is gone, of which stdin tells, too
            os.write(self._descriptor, answer.to_line())
        os.close(self._descriptor)


def _listeners(descriptors: Sequence[int]) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))))
    return listeners


async def _serve(orders: Orders, answer: Callable[[Answer], None]) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        # As in `_blocking`: why it cannot start comes out as it is, in no group.
        async with open_background() as nursery:

            def started(handle: Handle) -> None:
                nursery.start_soon(_stop_on_signal, signals, handle.cancel_scope)
                nursery.start_soon(_stop_at_end_of_stdin, handle.cancel_scope)
                answer(Answer(""))

            await run_server(
                orders.config,
                listeners=_listeners(orders.descriptors),
                authenticate=None,
                backplane=None,  # (but for that of the settings)
                in_thread=one_at_a_time,
                task_status=_Started(started),
                worker=orders.number,
            )


@attrs.frozen
class _Started:
    """What `run_server` reports to once it serves."""

    _then: Callable[[Handle], object]

    def started(self, value: Handle | None = None) -> None:
        assert value is not None
        self._then(value)


async def _stop_on_signal(signals: AsyncIterator[int], serving: trio.CancelScope) -> None:
    async for _ in signals:
        serving.cancel()


async def _stop_at_end_of_stdin(serving: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(_STDIN)) as supervisor:
        while await supervisor.receive_some():
            pass
    serving.cancel()


if __name__ == "__main__":
    sys.exit(main())
