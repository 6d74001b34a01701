"""An engine in memory, for several servers in one process: for tests, and in virtual time.

It keeps the contract of `_backplane` as Redis does, and fails as Redis does when it is told to: a link is cut; the
engine stops and comes back, with its memory or without; it hangs, so that calls run into their deadline, and what they
had asked for is done when nobody waits for it any more.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from ._backplane import EngineSession, LinkLost, Moves, Publication, Reply, Request, Timing
from ._engine_state import EngineState

_START_TIME = 1_600_000_000.0
# As in `_redis_engine`.
_CALL_TIMEOUT_S = 2.0
# Redis, too, ends a subscriber who does not read (client-output-buffer-limit).
_INBOX_LIMIT = 10_000


@attrs.define(eq=False)
class _Call:
    requests: Sequence[Request]
    replies: list[Reply] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)


class MemoryEngine:
    """An engine that runs from the start.

    `latency_s` is one way, in seconds of trio's clock. `clock`: its own, in microseconds since the Unix epoch; left
    out, it goes with trio's.
    """

    def __init__(
        self, timing: Timing | None = None, *, latency_s: float = 0.001, clock: Callable[[], int] | None = None
    ) -> None:
        self._timing = timing or Timing()
        self._latency_s = latency_s
        self._clock = clock or (lambda: round((_START_TIME + trio.current_time()) * 1e6))
        self._state = self._empty()
        self._sessions: dict[_Session, None] = {}
        self._running = True
        # Of the servers that use it: what they draw at random must not be the same.
        self.numbers = itertools.count()
        self._cut_off: set[str] = set()
        # What waits for an engine that hangs; None while it does not.
        self._waiting: list[_Call] | None = None

    def _empty(self) -> EngineState:
        return EngineState(self._timing, self._to_room, self._to_node)

    @asynccontextmanager
    async def session(self, node: str) -> AsyncIterator[EngineSession]:
        """As `Engine.session`."""
        session = _Session(self, node, self._latency_s)
        if not self._running:
            raise LinkLost("the engine is not running")
        if node in self._cut_off:
            raise LinkLost("this node is cut off")
        self._sessions[session] = None
        try:
            await session.call(())
            yield session
        finally:
            self._lose(session, "the session is over")

    # What goes wrong

    def cut(self, node: str | None = None) -> None:
        """Break the links of this node, or of all."""
        for session in list(self._sessions):
            if node in (None, session.node):
                self._lose(session, "the link was cut")

    def cut_off(self, node: str) -> None:
        """Break the links of this node, and let it have no other until `let_in`, as where its network is gone."""
        self._cut_off.add(node)
        self.cut(node)

    def let_in(self, node: str) -> None:
        """Let this node have links again."""
        self._cut_off.discard(node)

    def stop(self) -> None:
        """Be gone, as after SIGKILL. What was asked of one that hung is never done."""
        self._running = False
        self._waiting = None
        self.cut()

    def start(self, *, empty: bool = False) -> None:
        """Come back; `empty`: without its memory."""
        if empty:
            self._state = self._empty()
        self._running = True

    def hang(self) -> None:
        """Answer nothing until `resume`, as after SIGSTOP."""
        self._waiting = self._waiting or []

    def resume(self) -> None:
        """Go on, first with what was asked meanwhile."""
        waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            self._do(call)

    def _lose(self, session: _Session, why: str) -> None:
        self._sessions.pop(session, None)
        session.lose(why)

    # What sessions ask for

    async def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Do these, now or when it no longer hangs."""
        call = _Call(requests)
        if self._waiting is None:
            self._do(call)
        else:
            self._waiting.append(call)
        await call.done.wait()
        return call.replies

    def _do(self, call: _Call) -> None:
        now = self._clock()
        call.replies = [self._state.do(request, now) for request in call.requests]
        call.done.set()

    def publish(self, data: bytes) -> None:
        """Put this into every inbox."""
        self._deliver(list(self._sessions), Moves(data))

    def _to_room(self, room: str, publication: Publication) -> None:
        self._deliver([session for session in self._sessions if room in session.rooms], publication)

    def _to_node(self, node: str, publication: Publication) -> None:
        self._deliver([session for session in self._sessions if session.node == node], publication)

    def _deliver(self, sessions: Sequence[_Session], publication: Publication) -> None:
        for session in sessions:
            if not session.put(publication):
                self._lose(session, "too much waited to be received")


class _Session:
    def __init__(self, engine: MemoryEngine, node: str, latency_s: float) -> None:
        self.node = node
        self.rooms: set[str] = set()
        self._engine = engine
        self._latency_s = latency_s
        # Each with the time when it is there.
        self._inbox: deque[tuple[float, Publication]] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._under_way: set[trio.CancelScope] = set()
        self._why = ""

    def lose(self, why: str) -> None:
        self._why = self._why or why
        self._inbox.clear()
        for scope in self._under_way:
            scope.cancel()

    def put(self, publication: Publication) -> bool:
        self._inbox.append((trio.current_time() + self._latency_s, publication))
        self._arrived.unpark_all()
        return len(self._inbox) <= _INBOX_LIMIT

    @contextlib.contextmanager
    def _until_lost(self) -> Iterator[trio.CancelScope]:
        """Ends the body when the link is lost, and raises LinkLost then."""
        if not self._why:
            with trio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    yield scope
                finally:
                    self._under_way.discard(scope)
        if self._why:
            raise LinkLost(self._why)

    async def call(self, requests: Sequence[Request]) -> list[Reply]:
        replies: list[Reply] = []
        with self._until_lost() as scope:
            try:
                scope.deadline = trio.current_time() + _CALL_TIMEOUT_S
                await trio.sleep(self._latency_s)
                replies = await self._engine.answer(requests)
                await trio.sleep(self._latency_s)
            except trio.Cancelled:
                self.lose("a call was cut short")
                raise
        return replies

    async def listen(self, rooms: Sequence[str]) -> None:
        await self.call(())
        self.rooms |= set(rooms)

    async def stop_listening(self, rooms: Sequence[str]) -> None:
        await self.call(())
        self.rooms -= set(rooms)

    async def publish(self, data: bytes) -> None:
        await self.call(())
        self._engine.publish(data)

    async def receive(self) -> Publication:
        with self._until_lost():
            while True:
                await trio.lowlevel.checkpoint()
                if not self._inbox:
                    await self._arrived.park()
                elif self._inbox[0][0] > trio.current_time():
                    await trio.sleep_until(self._inbox[0][0])
                else:
                    return self._inbox.popleft()[1]
        raise AssertionError("the scope ends by the loss of the link only")
