"""What a server shares with others by its node: rooms, names and transforms.

    room's channel ─▶ turn ─▶ node.append ─▶ engine ─▶ node.follow ─▶ turn ─▶ presence ─▶ outboxes
                       └─ List, Resume: at once ──────────────────────────────▲

- A turn of a shared room hands what its own members do to the engine, and waits for the answer; what they see is what
  the engine gives back, theirs and the others' alike. Meanwhile it goes on with batches, and with what comes back.
- Without the engine a join and what is said is refused (503), a leave is shown here at once, and told to the engine
  when that is back. Transforms go on among those who are here.
- At each frame the rooms note which of their own members have moved, where others are elsewhere; the node publishes
  that once, and the others' next frame shows it. What was lost on the way comes within two seconds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any, Literal

import attrs
import trio

from ._backplane import (
    JOIN,
    LEAVE,
    Alike,
    Engine,
    Granted,
    Happening,
    Lease,
)
from ._codec import encode_notice
from ._config import Config
from ._errors import Conflict, RequestError, TooMuch, Unavailable
from ._follower import CaughtUp, News, View
from ._frames import text_frame
from ._members import Event, Join, Leave, Member, Resume, Say
from ._mirror import Mirror, Moved, Movement, read_movements
from ._names import are_look_alikes, name_key, skeleton
from ._node import Appending, Hooks, Node
from ._room import Room, Surroundings

# What was lost of transforms is seen again so soon.
_KEYFRAME_S = 2.0
# Between two attempts to tell the engine what it did not take.
_RETRY_S = 1.0
# Each try that fails is somebody else's success.
_CLAIMS = 5

_log = logging.getLogger("trio_vrchat.backplane")

# What a turn asks of the engine, and for whom: None where a member is told to it again.
_Asked = tuple[Happening, Join | Leave | Say | None]


class SharedRoom(Room):
    """A room that other servers have open, too."""

    is_shared = True

    def __init__(self, sharing: Sharing, name: str, surroundings: Surroundings, predecessor: Room | None) -> None:
        # The engine keeps the history, whatever store there is.
        super().__init__(name, attrs.evolve(surroundings, store=None), predecessor)
        self._sharing = sharing
        self._node = node = sharing.node
        self.mirror = Mirror(self.presence, lambda: node.id, node.is_own)
        # What the node gives, and that the engine is gone, until the next turn. The node gives more when it was taken.
        self._news: list[News | Literal["gone"]] = []
        self._news_taken = trio.lowlevel.ParkingLot()
        # Whether the engine may not have all who are here.
        self._may_miss = False
        self._tasks: trio.Nursery | None = None

    # What the server tells it

    def tick(self, due: float) -> None:
        """As `Room.tick`; and note who has moved."""
        if self.mirror.strangers:
            self._sharing.note(self.name, [member for member in self.presence.audience() if member.moved])
        super().tick(due)

    def take_movements(self, node: str, movements: list[Movement]) -> None:
        """Members at another node have moved."""
        moved = False
        for movement in movements:
            member = self.mirror.find(movement.key, node)
            if member is not None and (member.received is None or member.received[0] != movement.time):
                member.move(movement.time, movement.data)
                moved = True
        if moved:
            self._frame_clock.arm(self)

    def note_all(self) -> None:
        """Have the others told where everybody is."""
        if self.mirror.strangers:
            self._sharing.note(self.name, [member for member in self.presence.audience() if member.received])

    def lose(self) -> None:
        """The engine is gone."""
        self._news.append("gone")
        self._wake()

    def look(self) -> None:
        """The engine may not have all who are here."""
        self._may_miss = True
        self._wake()

    # Its tasks

    async def _take_turns(self) -> None:
        self._sharing.rooms[self.name] = self
        try:
            async with trio.open_nursery() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._follow, name=f"news of room {self.name!r}")
                await super()._take_turns()
                tasks.cancel_scope.cancel()
        finally:
            self._sharing.forget(self.name)

    async def _follow(self) -> None:
        async with self._node.follow(self.name, self._config.history) as happened:
            while True:
                news = await happened()
                self._news += news
                self._wake()
                while self._news:
                    await self._news_taken.park()

    async def _let_happen(self, events: list[Event]) -> None:
        await self._see()
        here: list[Event] = []
        asked: list[_Asked] = []
        if self._may_miss and self._node.connected:
            self._may_miss = False
            asked += [(happening, None) for happening in self.mirror.missing()]
        for event in events:
            match event:
                case Join():
                    asked.append((self.mirror.join(event), event))
                case Leave(member):
                    if (happening := self.mirror.leave(member)) is not None:
                        asked.append((happening, event))
                    else:
                        event.settled()
                case Say():
                    if (happening := self.mirror.say(event)) is not None:
                        asked.append((happening, event))
                case Resume(member) if member not in self.presence:
                    # The connection before was lost while its join was on the way; it is welcomed on this one.
                    member.outbox = event.outbox
                    event.resumed(True)
                case _:
                    here.append(event)
        await self._apply(here)
        if asked:
            await self._ask(asked)

    async def _ask(self, asked: list[_Asked]) -> None:
        assert self._tasks is not None
        try:
            appending = self._node.append(
                self.name,
                [happening for happening, _ in asked],
                floor=self.mirror.last,
                keep=self._config.keep_events,
                members_limit=self._config.members_per_room,
            )
        except Unavailable as error:
            await self._apply(self._fail(asked, error, may_happen=False))
            return
        for happening, event in asked:
            if happening.kind == JOIN:
                self._sharing.leaving.pop((self.name, happening.key), None)
            elif isinstance(event, Leave):
                event.settled()
        outcome: list[tuple[int, ...] | Unavailable] = []
        self._tasks.start_soon(self._wait_for, appending, outcome, name=f"answer to room {self.name!r}")
        while not outcome:
            await self._waiting.park()
            await self._tick_if_due()
            await self._see()
        if isinstance(refused := outcome[0], Unavailable):
            await self._apply(self._fail(asked, refused, may_happen=True))
        else:
            await self._apply(self._refuse(asked, appending.first, refused))

    async def _wait_for(self, appending: Appending, outcome: list[tuple[int, ...] | Unavailable]) -> None:
        try:
            outcome.append(await appending.outcome())
        except Unavailable as error:
            outcome.append(error)
        self._waiting.unpark_all()

    def _refuse(self, asked: list[_Asked], first: int, refused: tuple[int, ...]) -> list[Event]:
        """The engine has answered: all has happened but for what it has refused. Returns what that changes here."""
        events: list[Event] = []
        for number, (happening, event) in enumerate(asked, first):
            if happening.kind == JOIN:
                self.mirror.answered(happening)
            if number not in refused:
                continue
            if isinstance(event, Say):
                # It is not there, as far as the engine knows, but will be in a moment; or its name is lost.
                self._answer(event.member, Unavailable("not in the room yet", retry_after=_RETRY_S))
                self._may_miss = True
            elif happening.kind == JOIN:
                limit = self._config.members_per_room
                error = TooMuch(f"room {self.name!r} is full", limit="members_per_room", value=limit)
                if isinstance(event, Join):
                    events += self.mirror.refuse(event.member, error)
                elif (member := self.mirror.own(happening.key)) is not None:
                    self._answer(member, error)
                    events += self.mirror.refuse(member, error)
        return events

    def _fail(self, asked: list[_Asked], error: RequestError, *, may_happen: bool) -> list[Event]:
        """The engine has not answered. Returns what that changes here."""
        events: list[Event] = []
        for happening, event in asked:
            key = happening.key
            match event:
                case Say(member):
                    self._answer(member, error)
                case Leave():
                    event.settled()
                    events += self.mirror.depart(happening)
                case Join(member):
                    self.mirror.answered(happening)
                    events += self.mirror.refuse(member, error)
                case None:
                    self.mirror.answered(happening)
                    self._may_miss = True
            if isinstance(event, Leave) or (isinstance(event, Join) and may_happen):
                self._sharing.leaving[self.name, key] = Happening(LEAVE, key, happening.user)
        if self._may_miss and self._tasks is not None:
            self._tasks.start_soon(self._look_later, name=f"another look at room {self.name!r}")
        return events

    async def _look_later(self) -> None:
        await trio.sleep(_RETRY_S)
        self.look()

    async def _see(self) -> None:
        """Show what the node has given."""
        while self._news:
            news, self._news = self._news, []
            self._news_taken.unpark_all()
            events: list[Event] = []
            for what in news:
                if what == "gone":
                    events += self.mirror.lose()
                elif not isinstance(what, CaughtUp):
                    self._may_miss = self._may_miss or isinstance(what, View) or what.kind == LEAVE
                    events += self.mirror.see(what)
                    continue
                await self._apply(events)
                events = []
                self._notify({"engine": "gone"} if what == "gone" else self._what_was_missed())
            await self._apply(events)
        if self.mirror.node_came:
            self.mirror.node_came = False
            self.note_all()

    def _what_was_missed(self) -> dict[str, Any]:
        return {"engine": "back", "missed": self.mirror.missed, "complete": self.mirror.missed_all}

    def _notify(self, notice: dict[str, Any]) -> None:
        if members := [member for member in self.presence.audience() if member.notices]:
            frame = text_frame(encode_notice(self._clock.now(), self.name, notice))
            for member in members:
                member.outbox.offer(frame)


class Sharing:
    """One server among others. Its `run` must run somewhere; `taken` is told of names that somebody else has now."""

    def __init__(self, engine: Engine, config: Config, dice: random.Random) -> None:
        self._config = config
        self._dice = dice
        self.node = Node(
            engine,
            Hooks(
                taken=self._lose_name,
                take_moves=lambda: self._moved.take(self.node.id),
                moves=self._take_movements,
                gone=self._lose,
                back=self._look,
            ),
            dice,
        )
        self.taken: Callable[[Lease], object] = lambda lease: None
        # Those that are open here.
        self.rooms: dict[str, SharedRoom] = {}
        # By room and key of name, who has left without the engine's knowing it: no more than were there.
        self.leaving: dict[tuple[str, str], Happening] = {}
        self._moved = Moved()

    def make_room(self, name: str, surroundings: Surroundings, predecessor: Room | None) -> Room:
        """As `MakeRoom`."""
        return SharedRoom(self, name, surroundings, predecessor)

    async def run(self) -> None:
        """Be one of the servers, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.node.run, name="backplane: node")
            nursery.start_soon(self._send_keyframes, name="backplane: keyframes")
            nursery.start_soon(self._tell_of_leaves, name="backplane: leaves")

    async def stop(self) -> None:
        """Be gone for the other servers."""
        await self.node.retire()

    def note(self, room: str, members: list[Member]) -> None:
        """The others are to be told where these members are."""
        if members:
            self._moved.add(room, members)
            self.node.move()

    def forget(self, room: str) -> None:
        """A room is closed here."""
        del self.rooms[room]
        self._moved.forget(room)

    def _take_movements(self, data: bytes) -> None:
        try:
            movements = read_movements(data)
        except ValueError as error:
            _log.debug("transforms of another version: %s", error)
            return
        for name, moved in movements.rooms.items():
            if (room := self.rooms.get(name)) is not None:
                room.take_movements(movements.node, moved)

    def _lose_name(self, lease: Lease) -> None:
        self.taken(lease)

    def _lose(self) -> None:
        for room in self.rooms.values():
            room.lose()

    def _look(self) -> None:
        for room in self.rooms.values():
            room.look()

    async def _send_keyframes(self) -> None:
        while True:
            await trio.sleep(_KEYFRAME_S)
            for room in self.rooms.values():
                room.note_all()

    async def _tell_of_leaves(self) -> None:
        while True:
            await trio.sleep(_RETRY_S)
            for room, key in list(self.leaving):
                if not self.node.connected:
                    break
                leave = self.leaving.get((room, key))
                if leave is not None:
                    await self._tell_of_leave(room, leave)

    async def _tell_of_leave(self, name: str, leave: Happening) -> None:
        room = self.rooms.get(name)
        floor = 0 if room is None else room.mirror.last
        try:
            appending = self.node.append(name, [leave], floor=floor, keep=self._config.keep_events, members_limit=0)
            await appending.outcome()
        except Unavailable:
            return
        # (Who joins again meanwhile is after it in the engine's order.)
        if self.leaving.get((name, leave.key)) is leave:
            del self.leaving[name, leave.key]

    # Names

    async def claim(self, user: str, secret: str, accepts: Callable[[str], bool]) -> Lease | None:
        """As `Names.claim`."""
        lease = Lease(
            key=name_key(user),
            look=skeleton(user),
            user=user,
            node="",
            token=f"{self._dice.getrandbits(128):032x}",
            secret=secret,
        )
        instead_of = ""
        beside: tuple[str, ...] = ()
        for _ in range(_CLAIMS):
            reply = await self.node.claim(lease, beside=beside, instead_of=instead_of)
            if isinstance(reply, Granted):
                return lease
            if isinstance(reply, Alike):
                for other in reply.users:
                    if are_look_alikes(user, other):
                        raise Conflict(f"the name {user!r} looks like {other!r}, which is in use")
                beside = tuple(name_key(other) for other in reply.users)
            elif accepts(reply.lease.secret):
                instead_of = reply.lease.token
            else:
                return None
        raise Conflict(f"the name {user!r} goes from hand to hand")

    def release(self, lease: object) -> None:
        """As `Names.release`."""
        assert isinstance(lease, Lease)
        self.node.release(lease)
