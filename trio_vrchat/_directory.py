"""Name → room: the one place where rooms are opened and closed.

A room is open while somebody holds an entrance to it. The first entrance opens it, the last to be closed closes it, and
neither awaits anything in between, so that no join can fall into a room that is just closing. The room's task ends by
itself when its channel is empty and every end of it is closed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import attrs
import trio

from ._clock import WallClock
from ._config import Config
from ._errors import InternalError, RequestError, TooMuch
from ._frame_clock import FrameClock
from ._history import Held
from ._members import Event, Join, Leave, Member
from ._observer import Observation, Observer
from ._room import HistoryStore, Room, Surroundings
from ._statistics import Statistics

LOBBY = "lobby"
# A room empties its channel in milliseconds; this is for a machine that stood still.
_LEAVE_TIMEOUT_S = 5.0
# Of what is shared each question to the engine has its own, shorter deadline.
_JOIN_TIMEOUT_S = 15.0

_log = logging.getLogger("trio_vrchat.room")


class Entrance:
    """One connection's hold on one room: its own clone of the room's channel."""

    def __init__(self, room: Room, closed: Callable[[], None]) -> None:
        self._room = room
        # Hands the room a transform. (No method of ours: it is called for each.)
        self.move = room.move
        self._events = room.events.clone()
        self._closed = closed

    async def send(self, event: Event) -> None:
        """Hand the room an event; waits while the room has its hands full. Raises InternalError if it is broken."""
        try:
            await self._events.send(event)
        except trio.BrokenResourceError:
            raise self._broken() from None

    def _broken(self) -> InternalError:
        return InternalError(f"room {self._room.name!r} has lost its task")

    def offer(self, event: Event) -> bool:
        """Hand the room an event if it takes one now; says whether it did. Raises InternalError if it is broken."""
        try:
            self._events.send_nowait(event)
        except trio.WouldBlock:
            return False
        except trio.BrokenResourceError:
            raise self._broken() from None
        return True

    def count(self, size: int) -> None:
        """Count so many bytes that somebody is about to say. Raises SlowDown (429)."""
        self._room.rate.count(size, trio.current_time())

    def hold_for(self, member: Member, seen: float | None) -> Held:
        """Let the room hold what the member has not seen, until `drop`."""
        return self._room.presence.history.hold(member.joined_at, seen)

    def drop(self, held: Held) -> None:
        """Let the room hold it no longer."""
        self._room.presence.history.drop(held)

    async def join(self, member: Member, refused: Callable[[], object]) -> None:
        """Hand the room a join; where servers share the room, wait until it has happened.

        `refused` is called where it has not, or where the member cannot stay, whether or not somebody still waits.
        Raises TooMuch (413), Unavailable (503), and InternalError if the room is broken.
        """
        if not self._room.is_shared:
            await self.send(Join(member))
            return
        outcome: list[RequestError | None] = []
        settled = trio.Event()

        def settle(error: RequestError | None) -> None:
            if error is not None:
                refused()
            outcome.append(error)
            settled.set()

        await self.send(Join(member, settled=settle))
        with trio.move_on_after(_JOIN_TIMEOUT_S):
            await settled.wait()
        if not outcome:
            raise self._broken()
        if outcome[0] is not None:
            raise outcome[0]

    async def leave(self, member: Member) -> None:
        """Send the member's leave, whatever is being cancelled around it, and give the entrance back."""
        settled = trio.Event()
        with trio.move_on_after(_LEAVE_TIMEOUT_S, shield=True) as scope:
            # A broken room has lost its members with its task.
            with contextlib.suppress(trio.BrokenResourceError):
                await self._events.send(Leave(member, settled=settled.set))
                if self._room.is_shared:
                    await settled.wait()
        if scope.cancelled_caught:
            _log.error("room %r takes no events: the leave of %r is lost", self._room.name, member.name)
        self.give_back()

    def give_back(self) -> None:
        """Close the entrance; the last one to be given back closes the room."""
        self._events.close()
        self._closed()


# What makes rooms: `Room`, or what makes rooms that servers share.
MakeRoom = Callable[[str, Surroundings, Room | None], Room]


@attrs.define(eq=False)
class _Open:
    room: Room
    entrances: int = 0


class Directory:
    """The open rooms of one server. The lobby is always among them."""

    def __init__(
        self,
        config: Config,
        clock: WallClock,
        frame_clock: FrameClock,
        statistics: Statistics,
        rooms: trio.Nursery,
        store: HistoryStore | None = None,
        observation: Observation | None = None,
        make_room: MakeRoom = Room,
    ) -> None:
        self._config = config
        self.clock = clock
        self._surroundings = Surroundings(config, clock, frame_clock, statistics, observation or Observation(), store)
        self._make_room = make_room
        self._statistics = statistics
        self._nursery = rooms
        self._open: dict[str, _Open] = {}
        # Rooms that are closed and whose tasks still empty their channels: of each name the last. Each task takes its
        # own out.
        self._closing: dict[str, Room] = {}
        # Rooms that have a task: those open, and of one name any number that are closing.
        self._running = 0
        self._lobby = self.enter(LOBBY)

    def enter(self, name: str) -> Entrance:
        """An entrance to the room of this name, which is opened if nobody has it open. Raises TooMuch (413)."""
        entry = self._open.get(name)
        limit = self._config.members_per_room
        # The lobby has one that is no member's.
        if entry is not None and limit and entry.entrances - (name == LOBBY) >= limit:
            raise TooMuch(f"room {name!r} is full", limit="members_per_room", value=limit)
        if entry is None:
            limit = self._config.rooms_limit
            # What is still closing counts: opening and leaving in a loop would make any number of those.
            if limit and self._running >= limit:
                raise TooMuch("there are too many rooms", limit="rooms_limit", value=limit)
            predecessor = self._closing.get(name)
            room = self._make_room(name, self._surroundings, predecessor)
            entry = self._open[name] = _Open(room)
            self._statistics.rooms += 1
            self._running += 1
            self._nursery.start_soon(self._run, room, name=f"room {name!r}")
        entry.entrances += 1
        return Entrance(entry.room, lambda: self._leave(name))

    def _leave(self, name: str) -> None:
        # No checkpoint from here to the end: whoever enters now gets a new room.
        entry = self._open[name]
        entry.entrances -= 1
        if entry.entrances == 0:
            del self._open[name]
            self._closing[name] = entry.room
            self._statistics.rooms -= 1
            entry.room.events.close()

    async def _run(self, room: Room) -> None:
        await room.run()
        self._running -= 1
        if self._closing.get(room.name) is room:
            del self._closing[room.name]

    def titles(self) -> dict[str, str]:
        """The open rooms' names, and the title of each: "" where it has none."""
        return dict.fromkeys(self._open, "")

    def show(self, observer: Observer) -> None:
        """Tell somebody who begins to watch who is in which room, and where."""
        for entry in self._open.values():
            entry.room.presence.show(observer)

    def close(self) -> None:
        """Let go of the lobby: its task ends when the last connection has."""
        self._lobby.give_back()
