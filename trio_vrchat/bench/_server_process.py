"""The server under test as a process: one started for the run.

Rules:

- A server that was started here is ended here, whatever happens: by SIGINT, as a person would, and if that
  does not end it in time, by force; and so are the processes that it has started.
- Its output is always read, so that it never blocks on a full pipe, and only the tail is kept.

Theory of operation: a server of ours picks a free port and prints its URL once it listens; another is given a
port, and connected to until it answers. Two threads read its output; they sleep except when it says something,
which at its lowest log level is at the start, at the stop and in trouble. It stays in this process's group, so
that Ctrl-C in a terminal, or the end of a batch job, reaches it too.
"""

import contextlib
import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO

import psutil
from attrs import frozen

from .._config import LIMITS_BY_COUNT
from ._options import BenchError

# Looks, for a short while, whether the server listens; returns its URL where it does. It is given the URLs printed.
_Listens = Callable[[queue.SimpleQueue[str]], "str | None"]

_START_DEADLINE_S = 20.0
# A server of ours gives its connections a few seconds to close.
_STOP_DEADLINE_S = 10.0

_URL = re.compile(r"ws://127\.0\.0\.1:\d+/")
_TAIL_LINES = 5
_LINE_CHARACTERS = 300
_POLL_S = 0.05


@frozen
class RunningServer:
    """A server started for the run.

    Attributes:
        url: where it listens.
        pid: its process.
        engine_cpu_s: returns the CPU seconds that the engine by which it shares its rooms has used, where there is one.
    """

    url: str
    pid: int
    engine_cpu_s: Callable[[], float] | None = None


@contextlib.contextmanager
def own_server(fps: float, *more: str) -> Iterator[RunningServer]:
    """A server of this package on a free port of 127.0.0.1, with `more` options, while the context lasts.

    Raises: BenchError: it cannot be started, or prints no URL within 20 s; or, on leaving, it had ended by
    itself.
    """
    with _running([*_command(fps), *more], _printed_url) as server:
        yield server


@contextlib.contextmanager
def other_server(command: str, fps: float) -> Iterator[RunningServer]:
    """A server that this command starts, in which {port} and {fps} stand for what it is given, while the context lasts.

    Raises: BenchError: it cannot be started, or does not listen on 127.0.0.1 and that port within 20 s; or, on
    leaving, it had ended by itself.
    """
    port = _free_port()
    try:
        words = shlex.split(command.format(port=port, fps=f"{fps:g}"))
    except (ValueError, LookupError) as error:
        raise BenchError(
            f"cannot read the command {command!r} ({error}): braces stand for {{port}} and {{fps}} only"
        ) from error
    if not words:
        raise BenchError("a command is empty: it is what starts the server")

    def answers(urls: queue.SimpleQueue[str]) -> str | None:
        try:
            socket.create_connection(("127.0.0.1", port), _POLL_S).close()
        except OSError:
            time.sleep(_POLL_S)
            return None
        return f"ws://127.0.0.1:{port}/"

    with _running(words, answers) as server:
        yield server


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


@contextlib.contextmanager
def _running(command: list[str], listens: _Listens) -> Iterator[RunningServer]:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_environment(),
        )
    except OSError as error:
        raise BenchError(f"cannot start a server with {command[0]} ({error})") from error
    assert process.stdout is not None
    assert process.stderr is not None
    urls: queue.SimpleQueue[str] = queue.SimpleQueue()
    last_words: deque[str] = deque(maxlen=_TAIL_LINES)
    readers = [
        threading.Thread(target=_find_urls, args=(process.stdout, urls), daemon=True, name="bench: server's stdout"),
        threading.Thread(
            target=_keep_tail, args=(process.stderr, last_words), daemon=True, name="bench: server's stderr"
        ),
    ]
    try:
        for reader in readers:
            reader.start()
        yield RunningServer(_wait_for_url(process, lambda: listens(urls), readers, last_words), process.pid)
        if process.poll() is not None:
            raise _ended(process, readers, last_words, "during the run")
    finally:
        _stop(process)
        for reader, stream in zip(readers, (process.stdout, process.stderr), strict=True):
            reader.join(_STOP_DEADLINE_S)
            if not reader.is_alive():  # as it is while a grandchild holds the pipe; closing would wait for it
                stream.close()


def _command(fps: float) -> list[str]:
    server = [sys.executable, "-m", "trio_vrchat", "--host", "127.0.0.1", "--port", "0"]
    # The load is ours: what is measured is the server, not how it refuses.
    unlimited = [f"--{limit.replace('_', '-')}=0" for limit in LIMITS_BY_COUNT]
    return [*server, "--fps", str(fps), "--log-level", "0", *unlimited]


def _environment() -> dict[str, str]:
    # Settings that somebody has for their own server would make the figures about another one than the options say.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TRIO_VRCHAT_")}
    return ours | {"PYTHONUNBUFFERED": "1"}  # the URL must not wait in a buffer


def _find_urls(stream: IO[str], urls: queue.SimpleQueue[str]) -> None:
    while line := stream.readline(_LINE_CHARACTERS):
        if found := _URL.search(line):
            urls.put(found.group())


def _keep_tail(stream: IO[str], tail: deque[str]) -> None:
    while line := stream.readline(_LINE_CHARACTERS):
        if line.strip():
            tail.append(line.strip())


def _wait_for_url(
    process: subprocess.Popen[str],
    listens: Callable[[], str | None],
    readers: list[threading.Thread],
    last_words: deque[str],
) -> str:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        if (url := listens()) is not None:
            return url
        if process.poll() is not None:
            raise _ended(process, readers, last_words, "before it listened")
    raise BenchError(f"the server started for the run did not listen within {_START_DEADLINE_S:g} s")


def _printed_url(urls: queue.SimpleQueue[str]) -> str | None:
    with contextlib.suppress(queue.Empty):
        return urls.get(timeout=_POLL_S)
    return None


def _ended(
    process: subprocess.Popen[str], readers: list[threading.Thread], last_words: deque[str], when: str
) -> BenchError:
    for reader in readers:
        reader.join(1)  # what it said last may still be in the pipe
    said = " | ".join(last_words) or "nothing on stderr"
    return BenchError(f"the server started for the run ended {when}, with status {process.returncode}: {said}")


def _stop(process: subprocess.Popen[str]) -> None:
    children = _children(process.pid)
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_DEADLINE_S)
    finally:  # also on a second Ctrl-C while waiting
        if process.poll() is None:
            process.kill()
            process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # as it should be
                child.kill()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
