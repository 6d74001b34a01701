"""Redis for tests: Debian's `redis-server`, on a free port of loopback, in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = shutil.which("redis-server")
# What is started answers within a second; this is for a machine that has much else to do.
_DEADLINE_S = 20.0

needs_redis = pytest.mark.skipif(PROGRAM is None, reason="no redis-server (on Debian: apt-get install redis-server)")


class RedisServer:
    """A Redis with an append-only file, so that it keeps what it has acknowledged, whatever ends it."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self._folder = folder
        self._port = port
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert PROGRAM is not None
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", *self._options]
        with open(self._folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([PROGRAM, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + _DEADLINE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "redis.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "redis.log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.command("PING") == "+PONG"
        except OSError:
            return False

    def command(self, line: str) -> str:
        """Have it do this; returns the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=_DEADLINE_S) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.recv(1024).decode().partition("\r\n")[0]

    def stop(self) -> None:
        """As abruptly as can be."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose what is on the disk. Only between `stop` and `start`."""
        shutil.rmtree(self._folder / "appendonlydir")

    def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, port, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
