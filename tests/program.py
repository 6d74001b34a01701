"""The server as a process, for tests of what only a process does."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

LOOPBACK = "127.0.0.1"
LOCAL = ("--host", LOOPBACK, "--port", "0")
# Of any one wait; a loaded machine takes seconds to start a process.
DEADLINE_S = 30


def environment(variables: dict[str, str] | None = None) -> dict[str, str]:
    """This process's, without what would change the server: its settings, and how Python buffers its output."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TRIO_VRCHAT_") and name != "PYTHONUNBUFFERED"
    }
    return kept | {"COLUMNS": "80"} | (variables or {})


class Program:
    """A process of the server. Waits on what it prints, never on time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._readers: list[threading.Thread] = []
        self.stdout = self._lines_of(process.stdout)
        self.stderr = self._lines_of(process.stderr)

    def _lines_of(self, stream: Any) -> queue.SimpleQueue[str | None]:
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def read() -> None:
            for line in stream:
                lines.put(line.rstrip("\n"))
            lines.put(None)

        if stream is not None:
            self._readers.append(threading.Thread(target=read))
            self._readers[-1].start()
        return lines

    def until(self, pattern: str, lines: queue.SimpleQueue[str | None]) -> list[str]:
        """The lines up to the first that has the pattern."""
        seen: list[str] = []
        while not (seen and re.search(pattern, seen[-1])):
            line = lines.get(timeout=DEADLINE_S)
            assert line is not None, f"ended without {pattern!r}: {seen}, {rest(self.stderr)}"
            seen.append(line)
        return seen

    def url(self, scheme: str = "ws") -> str:
        found = re.search(rf"{scheme}://[^\s]+:(\d+)/", self.until(f"{scheme}://", self.stdout)[-1])
        assert found
        return found[0]

    def kill(self) -> None:
        self.process.kill()
        for reader in self._readers:
            reader.join()

    def end(self) -> tuple[int, list[str]]:
        """Exit status, and what is left on stderr."""
        return self.process.wait(DEADLINE_S), rest(self.stderr)


def rest(lines: queue.SimpleQueue[str | None]) -> list[str]:
    found: list[str] = []
    while (line := lines.get(timeout=DEADLINE_S)) is not None:
        found.append(line)
    return found


@contextlib.contextmanager
def started(
    *arguments: str,
    variables: dict[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    command: tuple[str, ...] = ("-m", "trio_vrchat"),
) -> Iterator[Program]:
    with subprocess.Popen(
        [sys.executable, *command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(variables),
    ) as process:
        program = Program(process)
        try:
            yield program
        finally:
            program.kill()


def finished(*arguments: str, command: tuple[str, ...] = ("-m", "trio_vrchat")) -> subprocess.CompletedProcess[str]:
    """A run that ends by itself."""
    return subprocess.run(
        [sys.executable, *command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=DEADLINE_S,
        check=False,
    )
