"""A worker, as its supervisor sees it: a process that is told what to do, and ended whatever happens."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Protocol

import attrs
import trio

from ._worker import Answer, Orders

_log = logging.getLogger("trio_vrchat.supervisor")

# Beyond what the worker has for its own stop: until then it may be writing what it has recorded. With the default of
# `drain_s` all of it is under the 10 s after which container engines kill.
_MORE_TO_STOP_S = 3.0
# From SIGKILL to the end. Only a process that waits for a broken disk takes longer, and then nothing helps.
_TO_DIE_S = 1.0
# An answer is one line of a few hundred bytes at most.
_ANSWER_LIMIT_BYTES = 65536


class Worker(Protocol):
    """A worker that has been started."""

    @property
    def pid(self) -> int:
        """The number of its process."""
        ...

    async def answer(self) -> str | None:
        """Wait for what it says: "" where it serves, else why it cannot. None: it has ended without a word."""
        ...

    async def ended(self) -> str:
        """Wait until it has ended by itself; returns how."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


@asynccontextmanager
async def open_worker(orders: Orders, sockets: Sequence[trio.socket.SocketType]) -> AsyncIterator[Worker]:
    """A worker on these listening sockets; stopped at the end, and ended if that takes too long.

    `orders` without descriptors, which are those of the sockets. Raises OSError where no process can be started.
    """
    with ExitStack() as files:
        # Of its own: the sockets may be closed while a thread starts the process, and their numbers be used again.
        descriptors = [os.dup(socket.fileno()) for socket in sockets]
        for descriptor in descriptors:
            files.callback(os.close, descriptor)
        process = await trio.lowlevel.open_process(
            _command(orders.number),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            # A terminal's Ctrl+C is for the supervisor, which stops all of them.
            process_group=0,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(trio.BrokenResourceError):  # it has ended already, of which `answer` tells
            await process.stdin.send_all(attrs.evolve(orders, descriptors=tuple(descriptors)).to_line())
        yield _Process(process, process.stdout)
    finally:
        with trio.move_on_after(orders.config.drain_s + _MORE_TO_STOP_S, shield=True):
            # (Which stops it.)
            await process.stdin.aclose()
            await process.stdout.aclose()
            await process.wait()
        if process.poll() is None:
            process.kill()
            _log.error("did not stop in time, and was killed", extra={"worker": orders.number})
            with trio.move_on_after(_TO_DIE_S, shield=True):
                await process.wait()


def _command(number: int) -> list[str]:
    # Modules of the current folder are imported only where this process does so, too.
    try:
        from_here = os.getcwd() in sys.path or "" in sys.path
    except OSError:  # it is not there any more
        from_here = False
    return [sys.executable, *([] if from_here else ["-P"]), "-m", f"{__package__}._worker", str(number)]


@attrs.frozen(eq=False)
class _Process:
    _process: trio.Process
    _stdout: trio.abc.ReceiveStream

    @property
    def pid(self) -> int:
        return self._process.pid

    async def answer(self) -> str | None:
        said = bytearray()
        while len(said) < _ANSWER_LIMIT_BYTES and (more := await self._stdout.receive_some()):
            said += more
        # Whatever else was printed while it started came before.
        return Answer.of_line(bytes(said).splitlines()[-1]).why_not if said else None

    async def ended(self) -> str:
        status = await self._process.wait()
        return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"

    def kill(self) -> None:
        self._process.kill()
