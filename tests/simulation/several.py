"""Several servers of one engine, people who come to any of them, and everything that can happen to the engine.

- By turns things go wrong for a while, and all is well for a while. Then all servers must show the same.
- What is shown to anybody is held to the ledger of its room as it comes: each once, in one order, at one time.
- Who is shown as a member is held to where people are, as far as their servers can know it: of a server that has had
  the engine for some time everything is known of the others that have had it, or have been without it, as long.
- Each waits for an answer before asking for something else, so that of each request is known what came of it. What
  different people ask for crosses on its way to the engine.
"""

from __future__ import annotations

import logging
from random import Random

import trio

from trio_vrchat import Config

from .diary import Diary
from .engine import SpiedEngine, check_empty
from .harm import RECOVERED_S, Harm, narrow_limits
from .ledger import Ledger
from .town import Town
from .visitor import Visitor

_VISITORS = 9


async def live(seed: int, virtual_s: float | None, diary: Diary) -> None:
    """Run a seed. Raises AssertionError, or what a server does."""
    dice = Random(seed)
    config = Config.unlimited(
        fps=dice.choice((5, 20)), history=dice.choice((5, 50)), keep_events=dice.choice((10, 10_000))
    )
    engine = SpiedEngine(latency_s=dice.choice((0.001, 0.02, 0.1)))
    harm = Harm(engine)
    ledger = Ledger(engine, harm, min(config.history, config.keep_events))
    # That the engine is away is not news here.
    log = logging.getLogger("trio_vrchat.backplane")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with narrow_limits(dice):
            async with trio.open_nursery() as tasks:
                await _live(Town(config, dice, harm, ledger, diary, tasks), virtual_s or dice.choice((300.0, 600.0)))
        check_empty(harm.engine)
    finally:
        log.setLevel(level)
        diary.ended_at, diary.lines = trio.current_time(), ledger.lines


async def _live(town: Town, until: float) -> None:
    dice = town.dice
    for _ in range(dice.choice((2, 3))):
        town.start_server()
    await town.pass_time(2 * RECOVERED_S)
    town.visitors += [Visitor(f"visitor {number}") for number in range(_VISITORS)]
    while trio.current_time() < until:
        await _live_for(town, dice.uniform(20, 90), harmful=True)
        town.harm.end()
        town.diary.acts.append(f"{trio.current_time():10.3f} harm ends")
        await _live_for(town, dice.uniform(0, 20), harmful=False)
        await town.check_rest()
    await _end(town)


async def _live_for(town: Town, seconds: float, *, harmful: bool) -> None:
    dice = town.dice
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        town.diary.act_count += 1
        now = trio.current_time()
        if harmful and dice.random() < 0.04:
            what = _harm(town)
        else:
            visitor = dice.choice(town.visitors)
            town.diary.acts.append(f"{now:10.3f} {visitor.name} …")
            what = f"{visitor.name} {await town.act(visitor)}"
            town.diary.acts.pop()
        town.diary.acts.append(f"{now:10.3f} {what}")
        await town.pass_time(dice.choice((0.0, 0.001, 0.05, 0.2, 0.5, 1.0)))


def _harm(town: Town) -> str:
    dice = town.dice
    running = [host for host in town.harm.hosts if host.runs]
    if dice.random() < 0.15:
        if len(running) < 3 and not town.harm.engine_away:
            return town.start_server()
        if len(running) > 1:
            return town.stop_server(dice.choice(running), kill=dice.random() < 0.5)
    return town.harm.something(dice)


async def _end(town: Town) -> None:
    """Everybody goes, then all servers; nothing may be left."""
    for connection in town.connections:
        connection.end(town)
    await town.pass_time(RECOVERED_S)
    for host in town.harm.hosts:
        if host.runs:
            statistics = host.server.statistics
            left = (statistics.connections, statistics.members, statistics.sessions)
            assert left == (0, 0, 0), f"server {host.number}: connections, members, sessions are left: {left}"
            host.stopping.set()
            await trio.sleep(RECOVERED_S)
