"""Pings, so that a peer that has vanished is found out, and routers keep the connection open.

Each connection is sent a ping `interval_s` after its last pong, and has `timeout_s` for the next: never more than one
ping is out. What else it sends says nothing: a stream of transforms can come out of a router's buffer. One task serves
all connections, because a task for each would cost as much memory as an idle connection itself. Both queues are in the
order in which their connections are due, because everybody waits equally long.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio


class Pinged(Protocol):
    """A connection, as far as its keepalive knows it."""

    def ping(self) -> None:
        """Send a ping. Does not block."""

    def has_unread(self) -> bool:
        """Whether something has come that nobody has looked at."""
        ...

    def no_pong(self) -> None:
        """The ping was not answered in time."""


class Keepalive:
    """Pings connections. What is added MUST be removed when it ends."""

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        # When each is due to be pinged; and when each was, and is to be judged.
        self._to_ping: dict[Pinged, float] = {}
        self._pinged: dict[Pinged, tuple[float, float]] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, connection: Pinged) -> None:
        """Ping this connection from now on."""
        self._to_ping[connection] = trio.current_time() + self._interval_s
        if len(self._to_ping) == 1:
            self._changed.unpark_all()

    def remove(self, connection: Pinged) -> None:
        """Forget this connection."""
        self._to_ping.pop(connection, None)
        self._pinged.pop(connection, None)

    def pong(self, connection: Pinged) -> float | None:
        """A pong has come; returns the seconds since the ping, None where none is out.

        One that nobody asked for answers a ping as well: it is a sign of life (RFC 6455, section 5.5.3).
        """
        ping = self._pinged.pop(connection, None)
        if ping is None:
            return None
        self.add(connection)
        return trio.current_time() - ping[0]

    async def run(self) -> None:
        """Ping until cancelled."""
        while True:
            with trio.move_on_at(self._next_due()):
                await self._changed.park()
            now = trio.current_time()
            while self._pinged:
                connection, (sent_at, due) = next(iter(self._pinged.items()))
                if due > now:
                    break
                del self._pinged[connection]
                if connection.has_unread():
                    # The pong may be in it: a server that is far behind must not call everybody dead.
                    self._pinged[connection] = sent_at, now + self._timeout_s
                else:
                    connection.no_pong()
            while self._to_ping:
                connection, due = next(iter(self._to_ping.items()))
                if due > now:
                    break
                del self._to_ping[connection]
                self._pinged[connection] = now, now + self._timeout_s
                connection.ping()

    def _next_due(self) -> float:
        to_ping = next(iter(self._to_ping.values()), math.inf)
        _, judged = next(iter(self._pinged.values()), (0.0, math.inf))
        return min(to_ping, judged)
