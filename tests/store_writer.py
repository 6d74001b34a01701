"""A program that stores and says what was acknowledged, until it is killed: `python -m tests.store_writer FILE`."""

from __future__ import annotations

import os
import sys
from functools import partial

import trio

from trio_vrchat._store import Store, open_store

ROOMS = ("a", "b", "c")


async def write(store: Store, room: str, start: int) -> None:
    number = start
    while True:
        count = 1 + number % 3
        stored = trio.Event()

        def done(committed: bool, stored: trio.Event = stored) -> None:
            assert committed
            stored.set()

        store.append(room, [(float(n), b"%d" % n) for n in range(number, number + count)], done)
        await stored.wait()
        number += count
        os.write(1, b"%b %d\n" % (room.encode(), number - 1))


async def main(path: str) -> None:
    async with open_store(path, keep=10**6) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        for room in ROOMS:
            last, _ = await store.load(room, 1)
            start = int(last[0][1]) + 1 if last else 0
            nursery.start_soon(write, store, room, start)


if __name__ == "__main__":
    trio.run(partial(main, sys.argv[1]))
