"""A room that servers share, on one of them: its task.

    room's channel ─▶ turn ─▶ node.append ─▶ engine ─▶ node.follow ─▶ turn ─▶ presence ─▶ outboxes
                       └─ List, Resume: at once ──────────────────────────────▲

- A turn hands what the server's own members do to the engine, and waits for the answer; what they see is what the
  engine gives back, theirs and the others' alike. Meanwhile it goes on with batches, and with what comes back.
- Without the engine a join and what is said is refused (503), a leave is shown here at once, and told to the engine
  when that is back. Transforms go on among those who are here.
- At each frame it notes which of its own members have moved, where others are elsewhere.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
import trio

from ._backplane import JOIN, LEAVE, Happening
from ._codec import encode_notice
from ._errors import RequestError, TooMuch, Unavailable
from ._follower import CaughtUp, News, View
from ._frames import text_frame
from ._members import Event, Join, Leave, Member, Resume, Say
from ._mirror import Mirror
from ._movements import Moved, Movement
from ._names import name_key
from ._node import Node
from ._questions import Appending
from ._room import Room, Surroundings

# Between two looks at whether the engine has all who are here.
_RETRY_S = 1.0

# What a turn asks of the engine, and for whom: None where a member is told to it again.
_Asked = tuple[Happening, Join | Leave | Say | None]


@attrs.frozen(eq=False)
class Shared:
    """What the shared rooms of one server have in common."""

    node: Node
    # Those that are open here.
    rooms: dict[str, SharedRoom] = attrs.field(factory=dict)
    # By room and key of name, who has left without the engine's knowing it: no more than were there.
    leaving: dict[tuple[str, str], Happening] = attrs.field(factory=dict)
    moved: Moved = attrs.field(factory=Moved)

    def note(self, room: str, members: list[Member]) -> None:
        """The others are to be told where these members are."""
        if members:
            self.moved.add(room, members)
            self.node.move()

    def forget(self, room: str) -> None:
        """A room is closed here."""
        del self.rooms[room]
        self.moved.forget(room)


class SharedRoom(Room):
    """A room that other servers have open, too."""

    is_shared = True

    def __init__(self, shared: Shared, name: str, surroundings: Surroundings, predecessor: Room | None) -> None:
        super().__init__(name, surroundings, predecessor)
        self._shared = shared
        self._node = node = shared.node
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
            self._shared.note(self.name, [member for member in self.presence.audience() if member.moved])
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
            self._shared.note(self.name, [member for member in self.presence.audience() if member.received])

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
        self._shared.rooms[self.name] = self
        try:
            async with trio.open_nursery() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._follow, name=f"news of room {self.name!r}")
                await super()._take_turns()
                await self._close()
                tasks.cancel_scope.cancel()
        finally:
            self._shared.forget(self.name)

    async def _close(self) -> None:
        """The last leave may not have come back: the room does not wait for it, but counts and records it."""
        before = len(self.presence.audience())
        await self._apply(self.mirror.close())
        self._statistics.members += len(self.presence.audience()) - before

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
                        here += self.mirror.part(member)
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
                self._shared.leaving.pop((self.name, happening.key), None)
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
            if number not in refused:
                if happening.kind == JOIN:
                    self.mirror.told(happening)
                continue
            if happening.kind == JOIN:
                self.mirror.answered(happening)
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
        if not self._node.connected:
            events += self._give_up_unseen()
        return events

    def _give_up_unseen(self) -> list[Event]:
        """Nobody knows when the engine is back to show what has happened: who waits to see a join waits no longer."""
        events: list[Event] = []
        for member in self.mirror.unseen():
            key = name_key(member.name)
            self._shared.leaving[self.name, key] = Happening(LEAVE, key, member.name)
            events += self.mirror.refuse(member, Unavailable("the engine is away", retry_after=_RETRY_S))
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
                self._shared.leaving[self.name, key] = Happening(LEAVE, key, happening.user)
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
                    events += self.mirror.lose() + self._give_up_unseen()
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
