"""The queue of events between a client and its program."""

from __future__ import annotations

import pytest
import trio

from trio_vrchat import ConnectionLost, Joined, Missed
from trio_vrchat._event_queue import _LIMIT_BYTES, _LIMIT_EVENTS, EventQueue


def event(number: int) -> Joined:
    return Joined("lobby", f"user {number}", number)


async def test_the_oldest_make_room_by_number() -> None:
    queue = EventQueue()
    for number in range(_LIMIT_EVENTS + 3):
        queue.put(event(number))
    assert await queue.get() == Missed(3)
    assert [await queue.get() for _ in range(_LIMIT_EVENTS)] == [event(3 + number) for number in range(_LIMIT_EVENTS)]


async def test_the_oldest_make_room_by_bytes() -> None:
    queue = EventQueue()
    quarter = _LIMIT_BYTES // 4
    for number in range(4):
        queue.put(event(number), quarter)
    assert await queue.get() == event(0), "as much as the limit"
    for number in range(4, 8):
        queue.put(event(number), quarter)
    assert await queue.get() == Missed(3)
    assert [await queue.get() for _ in range(4)] == [event(4 + number) for number in range(4)]
    # What was taken counts no more.
    queue.put(event(8), 4 * quarter)
    assert await queue.get() == event(8)
    queue.put(event(9), 100 * quarter)
    assert await queue.get() == event(9), "the newest is kept, however large"


async def test_at_the_end_what_waits_is_taken_first() -> None:
    queue = EventQueue()
    queue.put(event(1))
    queue.end(ConnectionLost(4009))
    assert await queue.get() == event(1)
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await queue.get()


async def test_several_takers_get_each_event_once_and_a_cancelled_one_takes_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = EventQueue()
    taken: list[object] = []

    async def take() -> None:
        taken.append(await queue.get())

    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            queue.put(event(1))
    assert taken == [event(1)]
    with trio.move_on_after(0):
        queue.put(event(2))
        await queue.get()
    assert await queue.get() == event(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        queue.end(ConnectionLost(1006))
        queue.put(event(3))
    assert taken == [event(1), event(3)]
