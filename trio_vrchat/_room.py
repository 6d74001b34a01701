"""A room's task: takes what waits in the room's channel, lets it happen, delivers what is to be seen.

It is the only writer of the room's presence and the only one that decides what its members see. It never awaits an
outbox; that is the invariant which rules out a deadlock of connections that wait for rooms that wait for connections.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from ._config import Config
from ._frame_clock import FrameClock
from ._presence import Delivery, Event, Member, Presence
from ._statistics import Statistics

# Events that may wait for a room. The task empties it whole each time it runs, so it is as long as what arrives
# meanwhile; past it a sender waits, which is what slows a flood down to the room's speed.
_QUEUE_EVENTS = 256
# Offers between two checkpoints: some milliseconds, most of them the kernel's, so that a large room does not keep the
# others waiting.
_OFFERS_PER_TURN = 100

# How often a turn pauses while it fills an outbox, and what a writer needs to empty one: it is woken, it writes, and
# says that it has written; one more for a stream that takes a pass of its own.
_PAUSES_PER_OUTBOX = 16
_PASSES_OF_A_WRITER = 4

_log = logging.getLogger("trio_vrchat.room")


class Room:
    """A room and its channel. Opened and closed by the directory alone."""

    def __init__(
        self,
        name: str,
        config: Config,
        stamp: Callable[[], float],
        frame_clock: FrameClock,
        statistics: Statistics,
        predecessor: Room | None,
    ) -> None:
        self.name = name
        self.events, self._received = trio.open_memory_channel[Event | None](_QUEUE_EVENTS)
        self._presence = Presence(
            name, history=config.history, history_limit_bytes=config.history_limit_bytes, stamp=stamp
        )
        # What a frame counts for until the next pause, beside its bytes; and how much makes a pause due.
        self._frame_weight = config.outbox_limit_bytes // config.outbox_limit_frames
        self._pause_weight = config.outbox_limit_bytes // _PAUSES_PER_OUTBOX
        self._frame_clock = frame_clock
        self._statistics = statistics
        self._predecessor = predecessor
        self._tick_due = False
        self.finished = trio.Event()

    def move(self, member: Member, time: float, data: bytes) -> None:
        """The member's transform, received at `time`: its slot is overwritten, the next frame carries it."""
        member.move(time, data)
        self._frame_clock.arm(self)

    def tick(self) -> None:
        """It is time for a batch: the room's task sends it, in its turn with the events."""
        self._tick_due = True
        try:
            self.events.send_nowait(None)
        except trio.WouldBlock:
            pass  # events wait, so the task is about to run, and looks at the flag after them
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # the room is closed

    async def run(self) -> None:
        """Let events happen until every sender has closed its end of the channel."""
        # A room of this name that is still emptying its channel comes first: its leaver may be our newcomer, who must
        # see the end of the one before the start of the other.
        if self._predecessor is not None:
            await self._predecessor.finished.wait()
            self._predecessor = None
        try:
            with self._received:
                async for first in self._received:
                    await self._turn(first)
        finally:
            self.finished.set()

    async def _turn(self, first: Event | None) -> None:
        events = [first]
        try:
            for _ in range(_QUEUE_EVENTS):
                events.append(self._received.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            pass
        before = len(self._presence)
        try:
            since_pause = 0
            for delivery in self._presence.apply(event for event in events if event is not None):
                await self._deliver(delivery)
                since_pause += self._frame_weight + len(delivery.frame)
                if since_pause >= self._pause_weight:
                    since_pause = 0
                    await self._let_writers_run()
            if self._tick_due:
                self._tick_due = False
                if await self._send_batch():
                    self._frame_clock.arm(self)
        except Exception:  # noqa: BLE001  (a bug of ours must not end the room; the log has it)
            _log.exception("room %r: an event was lost", self.name, extra={"room": self.name})
        self._statistics.members += len(self._presence) - before

    async def _let_writers_run(self) -> None:
        """One turn can say more than an outbox holds: members who read must not overflow for want of their writers.

        This waits for the scheduler, not for them: whoever does not read stays behind all the same.
        """
        for _ in range(_PASSES_OF_A_WRITER):
            await trio.lowlevel.checkpoint()

    async def _deliver(self, delivery: Delivery) -> None:
        for number, member in enumerate(delivery.members, 1):
            member.outbox.offer(delivery.frame)
            if number % _OFFERS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        self._statistics.events_out += delivery.entries * len(delivery.members)

    async def _send_batch(self) -> bool:
        """Offer this tick's batch; says whether somebody missed it."""
        batch = self._presence.take_batch()
        sent = 0
        missed = False
        for number, member in enumerate(batch.members, 1):
            batch_frame = batch.frame_for(member)
            if batch_frame is None:
                member.missed = False
                continue
            frame, entries = batch_frame
            member.missed = not member.outbox.offer_batch(frame)
            if member.missed:
                missed = True
            else:
                sent += entries
            if number % _OFFERS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        self._statistics.events_out += sent
        self._statistics.batches += sent > 0
        return missed
