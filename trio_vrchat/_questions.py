"""What a node asks of the engine: a queue, which outlives the node's sessions.

    ask ──▶ queue ──▶ ask_all ──▶ session.call      all that waits, in one round trip; what was lost is asked again

- Whoever asks never touches the session: that somebody is cancelled who waits does not end it for everybody.
- A request waits for `_GIVE_UP_S` at most, also over the loss of a session.
- Happenings get their numbers when they are queued, and go out in that order.
- What must not have an effect under two ids, and may have had one under the id before, is given up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import attrs
import trio

from ._backplane import Appended, EngineSession, Failed, Reply, Request, Unknown
from ._errors import Unavailable

# A link that was lost for a moment costs nobody a message; a client that waits for longer thinks that it was lost.
_GIVE_UP_S = 3.0
RETRY_AFTER_S = 1.0
# Each connection and each room has one or two under way. Past it the engine is too slow for this server.
_QUEUE_LIMIT = 10_000
# In one round trip.
ASKED_AT_ONCE = 200
# What is asked for, under this id of the node.
Make = Callable[[str], Request]


@attrs.define(eq=False)
class Asked:
    """A request that waits. `make` is told this node's id."""

    make: Make
    give_up_at: float
    # It must not have an effect under two ids.
    once: bool = False
    # Whether it may have had an effect already.
    sent: bool = False
    reply: Reply | None = None
    error: Unavailable | None = None
    done: trio.Event = attrs.field(factory=trio.Event)

    def answer(self, reply: Reply) -> None:
        if isinstance(reply, Failed):
            self.fail(f"the engine cannot: {reply.why}")
        elif isinstance(reply, Unknown):
            self.fail("this server has stopped")
        else:
            self.reply = reply
            self.done.set()

    def fail(self, why: str) -> None:
        self.error = unavailable(why)
        self.done.set()

    async def outcome(self) -> Reply:
        """The reply. Raises Unavailable (503), and gives up then."""
        with trio.move_on_at(self.give_up_at):
            await self.done.wait()
        if not self.done.is_set():
            self.fail(f"the engine has not answered within {_GIVE_UP_S:g} s")
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        return self.reply


def unavailable(why: str, retry_after_s: float = RETRY_AFTER_S) -> Unavailable:
    """What is raised where the engine cannot be asked, or does not answer (503)."""
    return Unavailable(why, retry_after=retry_after_s)


@attrs.frozen(eq=False)
class Appending:
    """Happenings on their way; the number of the first is `first`. Its events may come back before the outcome."""

    first: int
    _asked: Asked

    async def outcome(self) -> tuple[int, ...]:
        """The numbers of those that were refused. Raises Unavailable (503): they have not happened so far, but may."""
        reply = await self._asked.outcome()
        assert isinstance(reply, Appended)
        return reply.refused


class Questions:
    """All that waits to be asked."""

    def __init__(self) -> None:
        self._queue: deque[Asked] = deque()
        self._queued = trio.lowlevel.ParkingLot()
        # Of the last happening.
        self._number = 0

    def ask(self, make: Make, *, once: bool = False) -> Asked:
        """Ask for this. `once`: it must not have an effect under two ids. Raises Unavailable where too much waits."""
        if len(self._queue) >= _QUEUE_LIMIT:
            raise unavailable(f"{_QUEUE_LIMIT} requests wait for the engine")
        asked = Asked(make, trio.current_time() + _GIVE_UP_S, once)
        self._add(asked)
        return asked

    def append(self, count: int, make: Callable[[str, int], Request]) -> Appending:
        """Ask for so many happenings; `make` is told the number of the first, too. Raises Unavailable as `ask` does."""
        first = self._number + 1
        asked = self.ask(lambda node: make(node, first), once=True)
        self._number += count
        return Appending(first, asked)

    def tell(self, make: Make) -> None:
        """Have this done whenever it can be, but not under another id. There MUST be a limit to how much of it is."""
        self._add(Asked(make, math.inf, once=True, sent=True))

    def _add(self, asked: Asked) -> None:
        self._queue.append(asked)
        self._queued.unpark_all()

    def give_up_sent(self, why: str) -> None:
        """The node has another id from now on."""
        for asked in self._queue:
            if asked.once and asked.sent and not asked.done.is_set():
                asked.fail(why)

    async def wait(self) -> None:
        """Until there is something to be asked."""
        if not self._queue:
            await self._queued.park()

    async def ask_all(
        self, session: EngineSession, node: str, before: Sequence[Request], *, is_last: bool
    ) -> tuple[list[Reply], bool]:
        """Ask this, and then what waits, or much of it.

        Returns the replies to what was asked before, and whether the engine knows the node; where it does not, what it
        refused for that waits again, unless this `is_last` to be asked in the node's life. Raises LinkLost: all of it
        waits again.
        """
        batch: list[Asked] = []
        while self._queue and len(batch) < ASKED_AT_ONCE:
            asked = self._queue.popleft()
            if not asked.done.is_set():  # else it was given up
                batch.append(asked)
        sent_before = [asked.sent for asked in batch]
        try:
            for asked in batch:
                asked.sent = True
            replies = await session.call([*before, *(asked.make(node) for asked in batch)])
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        unknown: list[Asked] = []
        for asked, reply, sent in zip(batch, replies[len(before) :], sent_before, strict=True):
            if isinstance(reply, Unknown) and not is_last:
                asked.sent = sent
                unknown.append(asked)
            else:
                asked.answer(reply)
        self._queue.extendleft(reversed(unknown))
        return replies[: len(before)], not unknown
