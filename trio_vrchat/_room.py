"""A room's task: takes what waits in the room's channel, lets it happen, delivers what is to be seen.

It is the only writer of the room's presence and the only one that decides what its members see. It never awaits an
outbox; that is the invariant which rules out a deadlock of connections that wait for rooms that wait for connections.

Where history is stored, what is said is stored before it happens: the turn's events get their times, the store commits
them, and only then they are applied and delivered. Batches of transforms go on meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import attrs
import trio

from ._clock import WallClock
from ._codec import encode_answer
from ._config import Config
from ._errors import InternalError, RequestError, StoreError
from ._frame_clock import FrameClock
from ._frames import text_frame
from ._members import Event, Member, Say
from ._observer import Observation
from ._presence import Delivery, Presence
from ._rate import RoomRate
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


class HistoryStore(Protocol):
    """What keeps the history of rooms."""

    async def load(self, room: str, limit: int, limit_bytes: int) -> tuple[list[tuple[float, bytes]], float]:
        """The room's last entries, oldest first: at most `limit`, of `limit_bytes` together.

        With them the time of the newest entry before those (0.0: none). An entry is its time and its JSON. Raises
        StoreError.
        """
        ...

    def append(self, room: str, entries: Sequence[tuple[float, bytes]], done: Callable[[bool], object]) -> None:
        """Queue entries, oldest first, for the next commit. Does not block.

        `done` is called once, in trio's thread: True after the commit, False where none of them will be in the store.
        """


@attrs.frozen(eq=False)
class Surroundings:
    """What the rooms of one server have in common."""

    config: Config
    clock: WallClock
    frame_clock: FrameClock
    statistics: Statistics
    observation: Observation
    store: HistoryStore | None = None


class Room:
    """A room and its channel. Opened and closed by the directory alone."""

    # Whether joins and leaves are settled only when the engine has them.
    is_shared = False

    def __init__(self, name: str, surroundings: Surroundings, predecessor: Room | None) -> None:
        config, clock = surroundings.config, surroundings.clock
        self.name = name
        self.events, self._received = trio.open_memory_channel[Event | None](_QUEUE_EVENTS)
        self._config = config
        self._clock = clock
        self._store = surroundings.store
        # Where the turn waits for the store or the engine, and is woken for batches.
        self._waiting = trio.lowlevel.ParkingLot()
        self.presence = Presence(
            name,
            history=config.history,
            history_limit_bytes=config.history_limit_bytes,
            stamp=clock.stamp,
            observation=surroundings.observation,
        )
        # What a frame counts for until the next pause, beside its bytes; and how much makes a pause due.
        self._frame_weight = config.outbox_limit_bytes // config.outbox_limit_frames
        self._pause_weight = config.outbox_limit_bytes // _PAUSES_PER_OUTBOX
        self._frame_clock = surroundings.frame_clock
        self._statistics = surroundings.statistics
        self._observation = surroundings.observation
        self._predecessor = predecessor
        self._tick_due: float | None = None  # since when, on trio's clock
        self.rate = RoomRate(config, trio.current_time())
        self.finished = trio.Event()

    def move(self, member: Member, time: float, data: bytes) -> None:
        """The member's transform, received at `time`: its slot is overwritten, the next frame carries it."""
        member.move(time, data)
        if (observer := self._observation.observer) is not None:
            observer.moved(self.name, member.name_json, time, data)
        self._frame_clock.arm(self)

    def tick(self, due: float) -> None:
        """It is time for a batch: the room's task sends it, in its turn with the events."""
        if self._tick_due is None:
            self._tick_due = due
        self._wake()

    def _wake(self) -> None:
        """Have the room's task look for what is not in its channel. Does not block."""
        self._waiting.unpark_all()
        try:
            self.events.send_nowait(None)
        except trio.WouldBlock:
            pass  # events wait, so the task is about to run, and looks after them
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
            await self._take_turns()
        finally:
            self.finished.set()

    async def _take_turns(self) -> None:
        if self._store is not None:
            await self._restore(self._store)
        with self._received:
            async for first in self._received:
                await self._turn(first)

    async def _turn(self, first: Event | None) -> None:
        events = [first]
        try:
            for _ in range(_QUEUE_EVENTS):
                events.append(self._received.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            pass
        before = len(self.presence.audience())
        try:
            await self._let_happen([event for event in events if event is not None])
            await self._tick_if_due()
        except Exception:  # noqa: BLE001  (a bug of ours must not end the room; the log has it)
            _log.exception("room %r: an event was lost", self.name, extra={"room": self.name})
        self._statistics.members += len(self.presence.audience()) - before

    async def _let_happen(self, events: list[Event]) -> None:
        if self._store is not None:
            events = await self._commit(self._store, events)
        await self._apply(events)

    async def _apply(self, events: Sequence[Event]) -> None:
        """Change the presence by these events, and show what is to be seen of it."""
        since_pause = 0
        for delivery in self.presence.apply(events):
            await self._deliver(delivery)
            since_pause += self._frame_weight + len(delivery.frame)
            if since_pause >= self._pause_weight:
                since_pause = 0
                await self._let_writers_run()

    async def _restore(self, store: HistoryStore) -> None:
        """Begin with the history that is stored."""
        try:
            history, forgotten_until = await store.load(
                self.name, self._config.history, self._config.history_limit_bytes
            )
        except StoreError as error:
            _log.error("room %r opens without its history: %s", self.name, error, extra={"room": self.name})
        else:
            self.presence.history.restore(history, forgotten_until)

    async def _commit(self, store: HistoryStore, events: list[Event]) -> list[Event]:
        """Have what is said stored; returns what may happen. Who said what could not be stored is told."""
        entries = self.presence.stamp(events)
        if not entries:
            return events
        outcome: list[bool] = []

        def done(stored: bool) -> None:
            outcome.append(stored)
            self._waiting.unpark_all()

        store.append(self.name, entries, done)
        while not outcome:
            await self._waiting.park()
            await self._tick_if_due()
        if outcome[0]:
            return events
        refused = [event for event in events if isinstance(event, Say)]
        for event in refused:
            self._answer(event.member, InternalError())
        return [event for event in events if not isinstance(event, Say)]

    def _answer(self, member: Member, error: RequestError) -> None:
        """Tell a member why what it sent has not happened."""
        detail = error.detail | {"room": self.name}
        member.outbox.offer(text_frame(encode_answer(self._clock.now(), error.code, error.text, detail)))

    async def _tick_if_due(self) -> None:
        if self._tick_due is not None:
            self._statistics.batch_lateness_s.add(trio.current_time() - self._tick_due)
            self._tick_due = None
            if await self._send_batch():
                self._frame_clock.arm(self)

    async def _let_writers_run(self) -> None:
        """One turn can say more than an outbox holds: members who read must not overflow for want of their writers.

        This waits for the scheduler, not for them: whoever does not read stays behind all the same.
        """
        for _ in range(_PASSES_OF_A_WRITER):
            await trio.lowlevel.checkpoint()

    async def _deliver(self, delivery: Delivery) -> None:
        frame = delivery.frame
        for members in _in_turns(delivery.members):
            for member in members:
                if delivery.outbox is not None:
                    member.outbox = delivery.outbox
                member.outbox.offer(frame)
            if len(members) == _OFFERS_PER_TURN:
                await trio.lowlevel.checkpoint()
        self._statistics.events_out += delivery.entries * len(delivery.members)

    async def _send_batch(self) -> bool:
        """Offer this tick's batch; says whether somebody missed it."""
        batch = self.presence.take_batch()
        sent = 0
        missed = False
        for members in _in_turns(batch.members):
            for member in members:
                batch_frame = batch.frame_for(member) if member.missed else batch.moved
                if batch_frame is None:
                    member.missed = False
                    continue
                frame, entries = batch_frame
                if member.outbox.offer_batch(frame):
                    member.missed = False
                    sent += entries
                else:
                    member.missed = True
                    # Not for one whose connection is lost: the welcome of the next one holds everything.
                    missed = missed or not member.outbox.closed
            if len(members) == _OFFERS_PER_TURN:
                await trio.lowlevel.checkpoint()
        self._statistics.events_out += sent
        self._statistics.batches += sent > 0
        return missed


def _in_turns(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """As many at a time as are offered something between two checkpoints."""
    for start in range(0, len(members), _OFFERS_PER_TURN):
        yield members[start : start + _OFFERS_PER_TURN]
