"""All attacks, side by side, again and again, until SIGTERM.

It prints a line once they have begun, and a line of JSON at the end: how often each was run.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter

import trio

from . import ATTACKS, Attack, Target
from .client import until

_LAST_RUNS_S = 20.0


async def _repeat(attack: Attack, host: str, port: int, runs: Counter[str], targets: dict[str, Target]) -> None:
    address = Target(host, port).address  # one machine for each kind of attack
    while True:
        target = targets[attack.name] = Target(host, port, address=address)
        await attack.run(target)
        runs[attack.name] += 1
        await trio.lowlevel.checkpoint()


async def main(host: str, port: int) -> None:
    runs = Counter(dict.fromkeys(ATTACKS, 0))
    targets: dict[str, Target] = {}
    async with trio.open_nursery() as nursery:
        for attack in ATTACKS.values():
            nursery.start_soon(_repeat, attack, host, port, runs, targets, name=attack.name)
        await until(lambda: len(targets) == len(ATTACKS))
        print("all have begun", flush=True)  # noqa: T201
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        # On a busy machine one may not have come to its end yet, not even once.
        with trio.move_on_after(_LAST_RUNS_S):
            await until(lambda: all(runs[name] or target.holding.is_set() for name, target in targets.items()))
        # What only waits to be thrown out has been run, too.
        runs.update(name for name, target in targets.items() if target.holding.is_set())
        nursery.cancel_scope.cancel()
    print(json.dumps(runs))  # noqa: T201


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
