"""The pump: one epoll for the sockets of all connections.

trio wakes a task for each socket that has something to read: a pass through its scheduler, an `epoll_ctl` before it and
a wake-up of the process, for a message of 150 bytes. Where hundreds of headsets move that is most of the work. Here one
task waits for all of them, lets some gather, and has each read in turn.

- What it calls reads a bounded amount and does not wait; whatever needs more than that has its own task take the socket
  back (`remove`), and give it again (`add`) when it is through.
- A turn is bounded: a checkpoint follows, however many sockets have something.
- Sockets wait for one another only where many are ready: a message to a quiet server is read when it comes. Where
  people only move they wait longer than where somebody talks.

Only where there is epoll (Linux). Elsewhere, and on streams that are no sockets, each connection's own task reads.
"""

from __future__ import annotations

import math
import select
import sys
import time
from collections.abc import Callable

import trio

from ._timer import Timer

# Between two turns, while there is more than one socket in each: a wake-up of the process, which finds its code and
# data gone from the caches, costs as much as some messages. A movement waits for the next batch anyway, 50 ms with the
# usual 20 a second, so that nobody sees these four.
_GATHER_S = 0.004
# Somebody waits for a line, and lines come in conversations: for so long after each, others are read soon.
_GATHER_TALK_S = 0.001
_TALK_S = 0.1
# Sockets that one look brings.
_SOCKETS_AT_ONCE = 1024
# Reading between two checkpoints: some fifty messages. Rooms that are about to send wait for it; with 5 ms, 500 people
# in one room got 26 batches a second in place of 30.
_TURN_S = 0.002


class Pump:
    """Reads for those who are with it. What is added MUST be removed before its socket is closed."""

    def __init__(self) -> None:
        assert sys.platform == "linux"
        self._epoll = select.epoll()
        self._timer, self._timer_in_talk = Timer(_GATHER_S), Timer(_GATHER_TALK_S)
        self._talk_until = -math.inf
        self._readers: dict[int, Callable[[float], object]] = {}

    def add(self, descriptor: int, read: Callable[[float], object]) -> None:
        """Call `read` whenever this socket has something to read, or has come to its end, with trio's time."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = read

    def remove(self, descriptor: int) -> None:
        """Call it no more. Does nothing where it is not there."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def talked(self, now: float) -> None:
        """Something has come that is no movement."""
        self._talk_until = now + _TALK_S

    async def run(self) -> None:
        """Read until cancelled."""
        many = False
        now = trio.current_time()
        while True:
            if many:
                await (self._timer_in_talk if now < self._talk_until else self._timer).sleep()
            else:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            now = trio.current_time()
            ready = self._epoll.poll(0, _SOCKETS_AT_ONCE)
            many = len(ready) > 1
            pause_at = time.perf_counter() + _TURN_S
            for descriptor, _ in ready:
                # (It may have been removed meanwhile; a new socket with its number has nothing to read, and says so.)
                read = self._readers.get(descriptor)
                if read is not None:
                    read(now)
                if time.perf_counter() > pause_at:
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
                    pause_at = time.perf_counter() + _TURN_S

    def close(self) -> None:
        """Give its descriptors back, once nobody uses it."""
        self._epoll.close()
        self._timer.close()
        self._timer_in_talk.close()


def open_pump() -> Pump | None:
    """A pump, where there is epoll."""
    return Pump() if sys.platform == "linux" else None
