"""A server's place among those that share its rooms: one session with the engine after the other, and what outlives
them.

    ask ──▶ questions ──▶ asking ──▶ session.call
    follow ──▶ listening ──▶ session.listen
    Follower ◀── receiving ◀── session.receive
    take_moves ──▶ moving ──▶ session.publish        one under way at a time, so that it is the newest that goes

- A request waits for seconds, also over the loss of a session (`_questions.py`); while the engine is away it is refused
  at once.
- A node that was swept goes on under another id. What it had sent under the old one is given up: nobody knows whether
  it happened, until it is read.
- Names are claimed again in each session, before anything else is asked.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import msgspec
import trio

from ._backplane import (
    AccountReply,
    AccountRequest,
    Alike,
    Append,
    Claim,
    Engine,
    EngineSession,
    Enter,
    Event,
    Gone,
    Granted,
    Happened,
    Happening,
    Held,
    Lease,
    LinkLost,
    Moves,
    OpenRooms,
    ReadOn,
    Refresh,
    Register,
    Release,
    Reply,
    Request,
    Retire,
    RoomEvents,
    Rooms,
    Settling,
    Snapshot,
    Standing,
    Sweep,
    Swept,
    Taken,
    Unknown,
)
from ._errors import Unavailable
from ._follower import Follower, News, View
from ._questions import ASKED_AT_ONCE, RETRY_AFTER_S, Appending, Asked, Make, Questions, unavailable

_BEAT_S = 1.0
# Between two attempts to find the engine: it is back within 5 s of its return, a call that hangs included.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
# A stop is not held up by an engine that does not answer.
_RETIRE_S = 2.0

_log = logging.getLogger("trio_vrchat.backplane")


@attrs.define(eq=False)
class _Followed:
    history: int
    follower: Follower = attrs.field(factory=Follower)
    arrived: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)


@attrs.frozen(eq=False)
class Hooks:
    """What a node tells its server. None of them may wait, or raise.

    - `taken`: this lease, which was held here, is another's now.
    - `take_moves`: the newest transforms as bytes for all nodes, empty where there are none; `moves`: those of some
      node.
    - `gone`: the engine is away; `back`: it is found again; `found`: it is found, the first time, too.
    """

    taken: Callable[[Lease], object] = lambda lease: None
    take_moves: Callable[[], bytes] = lambda: b""
    moves: Callable[[bytes], object] = lambda data: None
    gone: Callable[[], object] = lambda: None
    back: Callable[[], object] = lambda: None
    found: Callable[[], object] = lambda: None


class Node:
    """One server among others. `run` must run somewhere. `dice`: for ids and pauses."""

    def __init__(self, engine: Engine, hooks: Hooks, dice: random.Random) -> None:
        self._engine = engine
        self._hooks = hooks
        self._dice = dice
        # The newest last. An event of an older one can still be on its way when the next is in use.
        self._ids: deque[str] = deque(maxlen=16)
        self._new_id()
        self._registered = False
        self._retired = False
        # Whether everything can be asked.
        self.connected = False
        self._was_connected = False
        self._loss_is_said = False
        self._session_number = 0
        self._connection_changed = trio.lowlevel.ParkingLot()
        self._settled_at = math.inf
        self._questions = Questions()
        self._leases: dict[str, Lease] = {}
        self._followed: dict[str, _Followed] = {}
        # Rooms to which the session listens, and those where that may have to change.
        self._listened: set[str] = set()
        self._to_change: set[str] = set()
        self._changes = trio.lowlevel.ParkingLot()
        self._moved = trio.Event()
        self._running = trio.CancelScope()

    @property
    def id(self) -> str:
        """The newest."""
        return self._ids[-1]

    def _new_id(self) -> None:
        self._ids.append(f"{self._dice.getrandbits(64):016x}")

    def is_own(self, event: Event) -> bool:
        """Whether the event was made by this server: by `append`, or by a sweep of what it had before."""
        return event.node in self._ids

    async def ready(self) -> None:
        """Wait until the engine is found and grants new names."""
        while not self.connected:
            await self._connection_changed.park()
        await trio.sleep_until(self._settled_at)

    # Names

    async def claim(
        self, lease: Lease, *, beside: tuple[str, ...] = (), instead_of: str = ""
    ) -> Granted | Held | Alike:
        """Ask for a name; once granted it is kept until `release`, or until `taken` is told. `lease.node` is left out.

        Raises Unavailable (503): it is not this server's, and will not be.
        """
        asked = self._ask(lambda node: Claim(lease=_of(lease, node), beside=beside, instead_of=instead_of))
        try:
            reply = await asked.outcome()
        except (Unavailable, trio.Cancelled):
            self.release(lease)  # it may have been granted
            raise
        if isinstance(reply, Settling):
            raise unavailable("the engine has just begun, and those who had names come first", reply.microseconds / 1e6)
        assert isinstance(reply, Granted | Held | Alike)
        if isinstance(reply, Granted):
            self._leases[lease.key] = lease
        return reply

    def release(self, lease: Lease) -> None:
        """Give a name back, now or when the engine is found again. Does not wait."""
        if self._leases.get(lease.key) is lease:
            del self._leases[lease.key]
        # No more of them than there were leases; under another id there is nothing to give back.
        self._questions.tell(lambda node: Release(node=node, key=lease.key, token=lease.token))

    # Rooms

    def append(
        self, room: str, happenings: Sequence[Happening], *, floor: int, keep: int, members_limit: int
    ) -> Appending:
        """Let these happen, as `Append`. Does not wait. Raises Unavailable (503)."""
        self._check_connected()
        return self._questions.append(
            len(happenings),
            lambda node, first: Append(
                node=node,
                room=room,
                first=first,
                happenings=tuple(happenings),
                floor=floor,
                keep=keep,
                members_limit=members_limit,
            ),
        )

    async def rooms(self) -> tuple[str, ...]:
        """The names of the rooms that have members anywhere. Raises Unavailable (503)."""
        reply = await self._ask(lambda node: Rooms()).outcome()
        assert isinstance(reply, OpenRooms)
        return reply.rooms

    @asynccontextmanager
    async def follow(self, room: str, history: int) -> AsyncIterator[Callable[[], Awaitable[list[News]]]]:
        """Follow a room, in which nobody else does. What it gives returns what happened since; waits until something
        did.

        It begins with a view, which holds the last `history` events that were said. After a loss of the engine it says
        when everything that was missed was given.
        """
        assert room not in self._followed
        followed = self._followed[room] = _Followed(history)
        self._change(room)
        try:
            yield partial(self._next, room, followed)
        finally:
            del self._followed[room]
            self._change(room)

    def _change(self, room: str) -> None:
        self._to_change.add(room)
        self._changes.unpark_all()

    async def _next(self, room: str, followed: _Followed) -> list[News]:
        follower = followed.follower
        while not (happened := follower.take()):
            if not (follower.behind and self.connected and room in self._listened):
                await followed.arrived.park()
                continue
            try:
                await self._catch_up(room, followed)
            except Unavailable as error:
                _log.debug("room %r: %s", room, error)
                if self.connected:
                    await trio.sleep(RETRY_AFTER_S)
        return happened

    async def _catch_up(self, room: str, followed: _Followed) -> None:
        follower = followed.follower
        after, session_number = follower.last, self._session_number
        request: Request = (
            Enter(room=room, history=followed.history) if after is None else ReadOn(room=room, after=after)
        )
        reply = await self._ask(lambda node: request).outcome()
        if session_number != self._session_number:
            # It may have been asked again before the new session listened: what came in between would be missing.
            return
        if after is None:
            assert isinstance(reply, Snapshot)
            follower.view(View(reply, trio.current_time() >= self._settled_at))
        else:
            assert isinstance(reply, Happened | Gone)
            follower.read_on(reply)

    # Accounts

    async def ask_for_account(self, request: AccountRequest) -> AccountReply:
        """Have the engine do this, more than once where a session is lost meanwhile. Raises Unavailable (503)."""
        reply = await self._ask(lambda node: request).outcome()
        assert isinstance(reply, AccountReply)
        return reply

    # Transforms

    def move(self) -> None:
        """There is something for `take_moves`. Does not wait."""
        self._moved.set()

    # The engine

    def _check_connected(self) -> None:
        if not self.connected:
            raise unavailable("the engine is away")

    def _ask(self, make: Make) -> Asked:
        self._check_connected()
        return self._questions.ask(make)

    async def run(self) -> None:
        """Be connected whenever the engine is there, until `retire` or cancelled."""
        pause_s = _FIRST_PAUSE_S
        with self._running:
            while True:
                try:
                    async with self._engine.session(self.id) as session:
                        await self._stand(session)
                        pause_s = _FIRST_PAUSE_S
                        await self._converse(session)
                except LinkLost as error:
                    _log.log(logging.DEBUG if self._loss_is_said else logging.WARNING, "the engine is away: %s", error)
                    self._loss_is_said = True
                finally:
                    self._disconnect()
                await trio.sleep(pause_s * self._dice.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def retire(self) -> None:
        """Be gone at once for the other nodes, instead of after a while, and end `run`."""
        self._retired = True
        with trio.move_on_after(_RETIRE_S):
            try:
                await self._ask(lambda node: Retire(node=node)).outcome()
                swept: Reply = Swept(count=0, more=True)
                while isinstance(swept, Swept) and swept.more:
                    swept = await self._ask(lambda node: Sweep()).outcome()
            except Unavailable as error:
                _log.warning("the other servers will notice in some seconds that this one has stopped: %s", error)
        self._running.cancel()

    async def _stand(self, session: EngineSession) -> None:
        """Be who one was, and hold what one held."""
        begin = Refresh(node=self.id) if self._registered else Register(node=self.id)
        [standing] = await session.call([begin])
        if not isinstance(standing, Standing):
            raise self._refused(standing)
        self._registered = True
        self._note(standing)
        leases = list(self._leases.values())
        for start in range(0, len(leases), ASKED_AT_ONCE):
            some = leases[start : start + ASKED_AT_ONCE]
            replies = await session.call([Claim(lease=_of(lease, self.id), again=True) for lease in some])
            for lease, reply in zip(some, replies, strict=True):
                # (It may have been released meanwhile.)
                if isinstance(reply, Held) and self._leases.get(lease.key) is lease:
                    self._lose_name(lease)
                elif not isinstance(reply, Granted | Held):
                    raise self._refused(reply)

    def _note(self, standing: Standing) -> None:
        self._settled_at = trio.current_time() + standing.settles_in / 1e6

    def _refused(self, reply: Reply) -> LinkLost:
        """Why the session must end, where a reply is none that can be gone on with."""
        if not isinstance(reply, Unknown):
            return LinkLost(f"the engine answers with {reply}")
        self._new_id()
        self._registered = False
        self._questions.give_up_sent("nobody knows what became of it: the engine had given this server up")
        return LinkLost("the engine had given this server up")

    def _lose_name(self, lease: Lease) -> None:
        del self._leases[lease.key]
        self._hooks.taken(lease)

    async def _converse(self, session: EngineSession) -> None:
        """Do all that is done in a session. Raises LinkLost."""
        lost: list[LinkLost] = []
        async with trio.open_nursery() as nursery:

            async def until_lost(task: Callable[[EngineSession], Awaitable[None]]) -> None:
                try:
                    await task(session)
                except LinkLost as error:
                    lost.append(error)
                    nursery.cancel_scope.cancel()

            self._connect()
            for task in (self._asking, self._listening, self._receiving, self._moving, self._settling):
                nursery.start_soon(until_lost, task, name=f"backplane: {task.__name__.strip('_')}")
        if lost:
            raise lost[0]

    def _connect(self) -> None:
        self.connected = True
        if self._loss_is_said:
            _log.warning("the engine is found again")
            self._loss_is_said = False
        self._hooks.found()
        if self._was_connected:
            self._hooks.back()
        self._was_connected = True
        self._to_change = set(self._followed)
        self._connection_changed.unpark_all()

    def _disconnect(self) -> None:
        if not self.connected:
            return
        self.connected = False
        self._session_number += 1
        self._listened.clear()
        for followed in self._followed.values():
            followed.follower.lose()
        self._hooks.gone()

    async def _asking(self, session: EngineSession) -> None:
        beat_at = trio.current_time() + _BEAT_S
        swept_all = True
        while True:
            if swept_all:
                with trio.move_on_at(beat_at):
                    await self._questions.wait()
            beat: list[Request] = []
            if trio.current_time() >= beat_at:
                beat_at = trio.current_time() + _BEAT_S
                beat = [Refresh(node=self.id), Sweep()]
            elif not swept_all:
                beat = [Sweep()]
            if self._retired:
                beat = []
            swept_all = True
            replies, is_known = await self._questions.ask_all(session, self.id, beat, is_last=self._retired)
            if not is_known:
                raise self._refused(Unknown())
            for reply in replies:
                if isinstance(reply, Standing):
                    self._note(reply)
                elif isinstance(reply, Swept):
                    swept_all = not reply.more
                else:
                    raise self._refused(reply)

    async def _listening(self, session: EngineSession) -> None:
        while True:
            changes, self._to_change = self._to_change, set()
            wanted = sorted(room for room in changes if room in self._followed and room not in self._listened)
            unwanted = sorted(room for room in changes if room not in self._followed and room in self._listened)
            # First, so that who follows the room again meanwhile does not take it for listened to.
            self._listened.difference_update(unwanted)
            if unwanted:
                await session.stop_listening(unwanted)
            if wanted:
                await session.listen(wanted)
                self._listened.update(wanted)
                for room in wanted:
                    if (followed := self._followed.get(room)) is not None:
                        followed.arrived.unpark_all()
                    else:
                        self._to_change.add(room)
            if not self._to_change:
                await self._changes.park()

    async def _receiving(self, session: EngineSession) -> None:
        while True:
            publication = await session.receive()
            match publication:
                case RoomEvents(room=room):
                    if (followed := self._followed.get(room)) is not None:
                        followed.follower.publish(publication)
                        followed.arrived.unpark_all()
                case Taken(key=key, token=token):
                    lease = self._leases.get(key)
                    if lease is not None and lease.token == token:
                        self._lose_name(lease)
                case Moves(data=data):
                    self._hooks.moves(data)

    async def _moving(self, session: EngineSession) -> None:
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            if data := self._hooks.take_moves():
                await session.publish(data)

    async def _settling(self, session: EngineSession) -> None:
        await trio.sleep_until(self._settled_at)
        for followed in self._followed.values():
            followed.follower.settle()
            followed.arrived.unpark_all()
        await trio.sleep_forever()


def _of(lease: Lease, node: str) -> Lease:
    return msgspec.structs.replace(lease, node=node)
