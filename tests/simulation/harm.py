"""Servers of one engine, and what happens to it and to their ways to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from random import Random
from typing import cast

import attrs
import trio

import trio_vrchat._engine_state as engine_state
import trio_vrchat._follower as follower
from trio_vrchat import Config, testing
from trio_vrchat._backplane import EngineSession, LinkLost
from trio_vrchat.testing import MemoryEngine, MemoryServer

# The promises: who died is gone within 10 s; the engine is found within 5 s of its return, and settles for 4 s.
RECOVERED_S = 10.0
# What is done by a server that has the engine is seen on the others: a few round trips, and the end of the old session
# of somebody who has come over.
SOON_S = 2.0


class Uplink:
    """One server's way to the engine."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self.numbers = engine.numbers
        self._node = ""
        self._is_cut = False

    def session(self, node: str) -> AbstractAsyncContextManager[EngineSession]:
        """As `Engine.session`."""
        self._node = node
        if self._is_cut:
            raise LinkLost("there is no way to the engine")
        return self._engine.session(node)

    def cut(self, *, stays: bool) -> None:
        """Lose the session; `stays`: and get no other until `mend`."""
        self._is_cut = stays
        self._engine.cut(self._node)

    def mend(self) -> None:
        """Let sessions be, again."""
        self._is_cut = False


@attrs.define(eq=False)
class Host:
    """A server's process, from its start to its end."""

    number: int
    uplink: Uplink
    memory_server: MemoryServer | None = None
    is_cut: bool = False
    stopping: trio.Event = attrs.field(factory=trio.Event)
    # Whether it has the engine, and since when that is as it is.
    in_touch: bool = True
    changed_at: float = 0.0
    # When it last lost it after it had had it for some time.
    lost_at: float = 0.0
    # When it did not have it.
    gaps: list[tuple[float, float]] = attrs.field(factory=list)

    @property
    def server(self) -> MemoryServer:
        assert self.memory_server is not None
        return self.memory_server

    @property
    def runs(self) -> bool:
        return self.memory_server is not None and not self.stopping.is_set()

    @property
    def is_well(self) -> bool:
        """Whether it has the engine, and has had the time to find it again."""
        return self.in_touch and trio.current_time() >= self.changed_at + RECOVERED_S

    @property
    def is_dead(self) -> bool:
        """Whether the others must have given it up."""
        return not self.in_touch and trio.current_time() >= self.changed_at + RECOVERED_S

    def settles_at(self, act_at: float) -> float:
        """By when all know of what was done on it then."""
        if self.in_touch and act_at >= self.changed_at + RECOVERED_S:
            return act_at + SOON_S
        return max(act_at, self.changed_at) + RECOVERED_S

    async def run(self, config: Config, started: Callable[[Host], object]) -> None:
        """Be up until it is told to stop."""
        config = attrs.evolve(config, start_time=testing.START_TIME + trio.current_time())
        # It has all of a MemoryEngine that a server uses.
        async with testing.open_server(config, backplane=cast(MemoryEngine, self.uplink)) as server:
            self.memory_server = server
            # (Where nobody else had the engine, it waits for all whom it knew.)
            self.changed_at = trio.current_time()
            started(self)
            await self.stopping.wait()


@attrs.define(eq=False)
class Harm:
    """What is wrong now. `engine_away`: it is stopped or hangs."""

    engine: MemoryEngine
    hosts: list[Host] = attrs.field(factory=list)
    engine_away: str = ""
    # When the memory was lost.
    losses: list[float] = attrs.field(factory=list)

    def something(self, dice: Random) -> str:
        """Let something go wrong, or be well again."""
        hosts = [host for host in self.hosts if host.runs]
        choice = dice.random()
        if self.engine_away and choice < 0.6:
            return self._end_absence(empty=dice.random() < 0.3)
        if not self.engine_away and choice < 0.2:
            self.engine_away = "stopped"
            self.engine.stop()
            self.note()
            return "the engine stops"
        if not self.engine_away and choice < 0.4:
            self.engine_away = "hanging"
            self.engine.hang()
            self.note()
            return "the engine hangs"
        if choice < 0.6:
            host = dice.choice(hosts)
            host.uplink.cut(stays=host.is_cut)
            if host.in_touch:
                self._change(host, True)
            return f"server {host.number} loses its session"
        host = dice.choice(hosts)
        host.is_cut = not host.is_cut
        if host.is_cut:
            host.uplink.cut(stays=True)
        else:
            host.uplink.mend()
        self.note()
        return f"server {host.number} is {'parted from the engine' if host.is_cut else 'let to the engine again'}"

    def add(self, host: Host) -> None:
        """It has started."""
        self.hosts.append(host)
        self.note()

    def kill(self, host: Host) -> None:
        """The others hear nothing of its end."""
        host.is_cut = True
        host.uplink.cut(stays=True)
        self.note()

    def end(self) -> None:
        """All is well again."""
        self._end_absence(empty=False)
        for host in self.hosts:
            if host.runs:
                host.is_cut = False
                host.uplink.mend()
        self.note()

    def _end_absence(self, *, empty: bool) -> str:
        before, self.engine_away = self.engine_away, ""
        if before == "hanging":
            self.engine.resume()
        elif before == "stopped":
            if empty:
                self.losses.append(trio.current_time())
            self.engine.start(empty=empty)
        self.note()
        return f"the engine is back{', without its memory' if before == 'stopped' and empty else ''}"

    def note(self) -> None:
        """Something may have changed for each server."""
        for host in self.hosts:
            in_touch = not host.is_cut and not self.engine_away
            if in_touch != host.in_touch:
                self._change(host, in_touch)

    def _change(self, host: Host, in_touch: bool) -> None:
        now = trio.current_time()
        if host.is_well:
            host.lost_at = now
        if host.in_touch:
            host.gaps.append((now - 1, math.inf))
        host.in_touch, host.changed_at = in_touch, now
        if in_touch:
            host.gaps[-1] = (host.gaps[-1][0], now + RECOVERED_S)

    def was_lost(self, host: Host, time: float) -> bool:
        """Whether the engine may have lost what happened then before this server had it."""
        return any(start <= time <= loss <= end for start, end in host.gaps for loss in self.losses)


@contextmanager
def narrow_limits(dice: Random) -> Iterator[None]:
    """Servers and engines that run within it reach the contract's limits after a few events, not after thousands."""
    read_on, comings, sweep = dice.choice(((10, 12, 2), (200, 1000, 200)))
    waiting = dice.choice((400, 1024 * 1024))
    limits = {"READ_ON_LIMIT": read_on, "COMINGS_KEPT": comings, "SWEEP_LIMIT": sweep}
    before = {name: getattr(engine_state, name) for name in limits}, follower._WAITING_LIMIT
    _set_limits(limits, waiting)
    try:
        yield
    finally:
        _set_limits(*before)


def _set_limits(limits: dict[str, int], waiting: int) -> None:
    for name, limit in limits.items():
        setattr(engine_state, name, limit)
    follower._WAITING_LIMIT = waiting
