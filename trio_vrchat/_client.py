"""A client for bots and tests: what it asks, what it is answered, what it hears.

Calls that the protocol answers wait for the answer; `say`, `move` and `leave` do not, because the protocol does not
answer them. While the connection is lost and the client is on its way back, calls wait; the way back is walked in
`_reconnecting.py`.
"""

from __future__ import annotations

from typing import Any

import attrs

from ._client_rooms import ClientRooms
from ._conversation import Conversation, Line, encoded
from ._errors import NotInRoom
from ._event_queue import EventQueue
from ._events import Event, Transform
from ._messages import JOIN, LEAVE, LIST, MESSAGE, TRANSFORM


class Client:
    """A user who is logged in. Made by `open_client`.

    An answer that is an error is raised as the RequestError class of its code; what JSON cannot say (NaN, an object of
    your own, half a surrogate pair) is a ValueError or TypeError, and nothing is sent. `say`, `move`, `leave` and
    `members` look up for themselves whether this user is in the room.

    A call may be cancelled; a request that is on its way is sent to its end first. Where the server takes nothing for
    five seconds, or does not answer a ping for twenty, the connection is lost.

    A call that is made while the client is on its way back waits until it is there. One that was on its way when the
    connection was lost raises ConnectionLost: whether the server has heard it is unknown, and the client goes on to
    reconnect. What was said comes back as Said if it was heard, and a room that was joined without an answer is left
    again. Once the client has ended for good, every call raises ConnectionLost.
    """

    def __init__(self, rooms: ClientRooms, events: EventQueue, line: Line) -> None:
        self._rooms = rooms
        self._events = events
        self._line = line

    @property
    def user(self) -> str:
        """This user's name as rooms show it."""
        return self._rooms.user

    # System requests

    async def ping(self) -> float:
        """Ask for a sign of life; returns the server's time, in seconds since the Unix epoch."""
        conversation = await self._line.conversation()
        return float((await conversation.system("ping"))["time"])

    async def rooms(self) -> dict[str, str]:
        """The open rooms' names, and the title of each ("" where it has none)."""
        conversation = await self._line.conversation()
        detail: dict[str, str] = (await conversation.system("rooms"))["detail"]
        return detail

    # Rooms

    async def join(self, room: str) -> tuple[str, ...]:
        """Join a room; returns the names of its members, this user's included, sorted without regard to case.

        Raises Conflict (already in it), BadRequest (not a name for a room), TooMuch (a limit).
        """
        if not isinstance(room, str):
            raise TypeError(f"a room is named by a str, not {room!r}")
        conversation = await self._line.conversation()
        return await conversation.ask(room, JOIN)

    async def members(self, room: str) -> tuple[str, ...]:
        """The names of a room's members, sorted without regard to case. Raises NotInRoom."""
        conversation = await self._in_room(room)
        return await conversation.ask(room, LIST)

    async def leave(self, room: str) -> None:
        """Leave a room; no event of it comes after this. Raises NotInRoom."""
        conversation = await self._in_room(room)
        self._rooms.forget(room)
        await conversation.send(encoded({"room": room, "type": LEAVE, "data": ""}))

    async def say(self, room: str, data: Any, type: str = MESSAGE) -> None:  # noqa: A002  (the protocol's word)
        """Say something in a room, or send an application's own event by its `type`. Raises NotInRoom.

        It comes back as a Said event like everybody's: that is the acknowledgement.
        """
        if type in (JOIN, LEAVE, LIST, TRANSFORM):
            raise ValueError(f"{type!r} is not something to say: use the method for it")
        text = encoded({"room": room, "type": type, "data": data})
        conversation = await self._in_room(room)
        await conversation.send(text)

    async def move(self, room: str, transform: Transform) -> None:
        """Be at `transform` in this room. It goes out with the next batch. Raises NotInRoom."""
        coordinates = (*attrs.astuple(transform.pos), *attrs.astuple(transform.rot))
        if not all(isinstance(coordinate, int | float) for coordinate in coordinates):
            raise TypeError(f"coordinates are numbers, not {coordinates!r}")
        data = transform.more | {"pos": attrs.asdict(transform.pos), "rot": attrs.asdict(transform.rot)}
        text = encoded({"room": room, "type": TRANSFORM, "data": data})
        conversation = await self._in_room(room)
        await conversation.send(text)

    async def _in_room(self, room: str) -> Conversation:
        conversation = await self._line.conversation()
        if room not in self._rooms:
            raise NotInRoom(f"not in room {room!r}: join it first", room=room)
        return conversation

    # Events

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ConnectionLost when the client has ended for good and all events were taken."""
        return await self._events.get()
