"""Rooms are opened and closed in one place, and no leave is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Config, Statistics
from trio_vrchat._clock import WallClock
from trio_vrchat._directory import Directory
from trio_vrchat._frame_clock import FrameClock
from trio_vrchat._members import Join, List, Member
from trio_vrchat._outbox import Outbox
from trio_vrchat.testing import settle


@asynccontextmanager
async def open_directory() -> AsyncIterator[Directory]:
    statistics = Statistics()
    async with trio.open_nursery() as rooms:
        stamps = iter(range(1_000_000))
        clock = WallClock(lambda: float(next(stamps)), 0.0)
        yield Directory(Config(), clock, FrameClock(20, statistics), statistics, rooms)
        rooms.cancel_scope.cancel()


def new_member(name: str) -> Member:
    return Member(name, Outbox(limit_frames=100, limit_bytes=1 << 20, write=len, on_frames=int, on_overflow=int))


def heard(member: Member) -> list[tuple[str, str, float]]:
    """What waits for this member, as (user, type, time)."""
    found = []
    while chunk := member.outbox.take():
        member.outbox.written()
        # All frames here are short: a byte of flags, one of length.
        while chunk:
            end = 2 + chunk[1] if chunk[1] < 126 else 4 + int.from_bytes(chunk[2:4], "big")
            message = msgspec.json.decode(chunk[2 if chunk[1] < 126 else 4 : end])
            found += [(entry["user"], entry["type"], entry["time"]) for entry in message["payload"]]
            chunk = chunk[end:]
    return found


async def test_a_leave_arrives_though_everything_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_directory() as directory:
        tibi, anna = new_member("Tibi"), new_member("anna")
        entrances = [directory.enter("den"), directory.enter("den")]
        await entrances[0].send(Join(tibi))
        await entrances[1].send(Join(anna))
        await settle()
        with trio.CancelScope() as scope:
            scope.cancel()
            # However full the room's channel is.
            events = entrances[0]._events
            while events.statistics().current_buffer_used < events.statistics().max_buffer_size:
                events.send_nowait(None)
            await entrances[1].leave(anna)
        await settle()
        assert heard(tibi)[-1][:2] == ("anna", "leave")


async def test_a_room_that_is_opened_again_waits_for_the_one_before(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_vrchat._room._OFFERS_PER_TURN", 1)
    async with open_directory() as directory:
        first, again = new_member("Tibi"), new_member("Tibi")
        again.outbox = first.outbox  # one connection
        entrance = directory.enter("den")
        await entrance.send(Join(first))
        for _ in range(20):
            entrance._events.send_nowait(List(first))
        await entrance.leave(first)
        assert directory.titles() == {"lobby": ""}
        entrance = directory.enter("den")
        await entrance.send(Join(again))
        assert directory.titles() == {"lobby": "", "den": ""}
        await settle()
        times = [time for _, _, time in heard(again)]
        assert len(times) == 1 + 20 + 1
        assert times == sorted(times), "the end of the one before the start of the other"


async def test_the_directory_keeps_nothing_of_a_closed_room(autojump_clock: MockClock) -> None:
    async with open_directory() as directory:
        for number in range(100):
            directory.enter(f"room {number}").give_back()
        await settle()
        assert directory.titles() == {"lobby": ""}
        assert directory._closing == {}
        assert len(directory._nursery.child_tasks) == 1, "the lobby's task"
