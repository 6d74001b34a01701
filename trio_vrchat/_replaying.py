"""A replay: recorded people as clients, each with a connection and a task of its own.

    Schedule ─▶ play, which waits until an act is due ─▶ the person's queue ─▶ its task ─▶ its client

- Nothing is done before it is due, and nothing is read of the recording that is not due.
- Joins, leaves and lines keep their order over all people: each is sent when the server has taken the one before, for
  two connections know no order. Where the server takes long, they do not wait for ever.
- Transforms wait for nobody but their own person. Where there is no room for one, it is left out and counted.
- Whom the server tells to slow down waits as it says, and then does again what was refused. Nobody waits for them;
  their transforms of that time are left out, and from then on every other one.
- Whoever is in no room any more is soon disconnected, so there are as many connections as people at once.
- A lost connection ends the replay: from then on it would show something else than what was recorded.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import attrs
import msgspec
import trio

from ._background import open_background
from ._client import Client
from ._codec import encode
from ._errors import (
    AccessDenied,
    CannotConnect,
    ClientError,
    Conflict,
    ConnectionLost,
    NotInRoom,
    ReplayError,
    RequestError,
    SlowDown,
    Unavailable,
)
from ._events import Refused, Said
from ._messages import JOIN, LEAVE, TRANSFORM
from ._reconnecting import LOBBY, pause_asked_for_s
from ._replay import Act, Schedule
from .recording import Recording

Connect = Callable[[str], AbstractAsyncContextManager[Client]]
"""Logs somebody of this name in; as `open_client` without `reconnect`."""

# The environment variable with everybody's password.
PASSWORD = "TRIO_VRCHAT_REPLAY_PASSWORD"
# What may wait for one person: some seconds of it, while its connection is slow.
_QUEUE_ACTS = 512
# For the server to take one act before the next one goes out all the same.
_PATIENCE_S = 5.0
# In no room, before the connection ends: from one room to the next there may be a moment without any.
_LINGER_S = 2.0
# After a 429 at least: by then the answer to what was not refused has come.
_SHORTEST_PAUSE_S = 1.0
# Transforms of which one is sent at least: of 90 a second, one.
_FEWEST = 64
# A server that refuses connections by their number counts them in a minute (HTTP status 503).
_NEW_CONNECTION_S, _NEW_CONNECTION_PAUSE_S = 65.0, 5.0
# Of the lines that need not be waited for, between two looks at what else there is to do. Well below what may wait.
_LINES_AT_ONCE = 100

_ADVICE = {
    1001: "the server has stopped",
    4008: "the replay does not keep up: choose a lower --speed or one --room",
    4009: "somebody else has logged in by that name",
}


@attrs.define(eq=False)
class Replayed:
    """What came of a replay: stays of people, acts that were sent, and how late the latest of them was, in seconds.

    `left_out` transforms were not sent, because the server or the machine was too slow; `missed` other acts had no
    effect, the first of them for the reason `why`.
    """

    stays: int = 0
    acts: int = 0
    latest_s: float = 0.0
    left_out: int = 0
    missed: int = 0
    why: str = ""


async def replay(
    session: Recording, connect: Connect, *, speed: float = 1.0, from_s: float = 0.0, room: str | None = None
) -> Replayed:
    """Let the people of a recording come back, once, from `from_s` on, so many times as fast as they were.

    Raises ReplayError where there is nothing to replay, where somebody cannot log in, or a connection is lost.
    """
    schedule = Schedule(session.manifest, from_s=from_s, room=room)
    async with open_background() as nursery:
        stage = _Stage(connect, nursery)
        with stage.going_on:
            await _play(session, schedule, stage, speed)
            await stage.clear()
        if stage.failure is not None:
            raise stage.failure
    if not stage.replayed.stays:
        raise ReplayError(f"there is nothing to replay in {session.path}: {schedule.why_nothing()}")
    return stage.replayed


async def _play(session: Recording, schedule: Schedule, stage: _Stage, speed: float) -> None:
    start = 0.0
    begun = False
    lines = 0
    for _, line in session.lines(("events", "transforms")):
        lines += 1
        for act in schedule.take(line):
            if not begun:
                start, begun = trio.current_time(), True
            due = start + act.at_s / speed
            # What is due already goes out together: a look at all that came costs more than what is sent.
            if due > trio.current_time():
                lines = 0
                await trio.sleep_until(due)
            await stage.hand_over(act, due)
        if lines >= _LINES_AT_ONCE:
            lines = 0
            await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class _Cue:
    """An act that is due. The server has taken it when `over` is set, as that before it when `before` is."""

    act: Act
    due: float
    before: trio.Event
    over: trio.Event


class _Stage:
    """Everybody who is there. Whoever fails ends it: `failure` says how, and `going_on` is cancelled."""

    def __init__(self, connect: Connect, nursery: trio.Nursery) -> None:
        self.connect = connect
        self.replayed = Replayed()
        self.failure: ReplayError | None = None
        self.going_on = trio.CancelScope()
        self._nursery = nursery
        self._people: dict[str, _Person] = {}
        self._gone = trio.lowlevel.ParkingLot()
        self._done = trio.Event()
        self._done.set()
        self._last = self._done

    async def hand_over(self, act: Act, due: float) -> None:
        """Tell the person to do this now. Waits where they are far behind, and then for what is no transform only."""
        person = self._people.get(act.person)
        if person is None:
            person = self._people[act.person] = _Person(act.person, self)
            self._nursery.start_soon(self._be, person, name=f"replay of {act.person}")
        if act.type == TRANSFORM:
            await person.take(_Cue(act, due, self._done, self._done))
        else:
            before, self._last = self._last, trio.Event()
            await person.take(_Cue(act, due, before, self._last))

    async def clear(self) -> None:
        """Nobody is told anything any more: wait until all have done what they were told, and have left."""
        for person in self._people.values():
            person.end()
        while self._people:
            await self._gone.park()

    async def _be(self, person: _Person) -> None:
        try:
            # No checkpoint between finding nothing to do and being gone.
            while person.has_something_to_do:
                await person.stay()
            del self._people[person.name]
            self._gone.unpark_all()
        except (ReplayError, ClientError) as error:
            self.fail(person.name, error)

    def fail(self, name: str, error: ReplayError | ClientError) -> None:
        """The replay has come to its end by this."""
        if self.failure is None:
            advice = _ADVICE.get(error.code, "") if isinstance(error, ConnectionLost) else ""
            self.failure = ReplayError(f"{name}: {error}" + (f" ({advice})" if advice else ""))
            self.failure.__cause__ = error
        self.going_on.cancel()


class _Echo:
    """What was said, until it has come back or was refused."""

    def __init__(self, act: Act) -> None:
        self.room = act.room
        self.settled = trio.Event()
        self.heard = False
        self.retry_after_s = 0.0
        self._type = act.type
        self._data = msgspec.json.decode(act.data)

    def is_this(self, said: Said) -> bool:
        return (said.room, said.type, said.data) == (self.room, self._type, self._data) and not said.from_history


class _Person:
    """Somebody who was recorded, on the stage."""

    def __init__(self, name: str, stage: _Stage) -> None:
        self.name = name
        self._stage = stage
        self._replayed = stage.replayed
        self._cues: deque[_Cue] = deque()
        self._told, self._taken = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        self._ending = self._behind = False
        # With the number of transforms that there were in each.
        self._rooms: dict[str, int] = {}
        self._echo: _Echo | None = None
        # What this server takes of our transforms: none until then, and later one of so many.
        self._quiet_until, self._every = -math.inf, 1

    # What there is to do

    @property
    def has_something_to_do(self) -> bool:
        return bool(self._cues)

    async def take(self, cue: _Cue) -> None:
        """Do this as soon as everything before it is done. Waits for room, where it is no transform."""
        while len(self._cues) >= _QUEUE_ACTS:
            if cue.act.type == TRANSFORM:
                self._replayed.left_out += 1
                return
            await self._taken.park()
        if self._behind:
            cue.over.set()
        self._cues.append(cue)
        self._told.unpark_all()

    def end(self) -> None:
        """Nothing will follow."""
        self._ending = True
        self._told.unpark_all()

    async def _next(self) -> _Cue | None:
        """None where nothing follows, or not soon after having left the last room."""
        with trio.move_on_after(math.inf if self._rooms else _LINGER_S):
            while not self._cues and not self._ending:
                self._behind = False
                await self._told.park()
        if not self._cues:
            return None
        self._taken.unpark_all()
        return self._cues.popleft()

    async def _wait_for_turn(self, cue: _Cue) -> None:
        with trio.move_on_after(_PATIENCE_S):
            await cue.before.wait()

    async def _fall_behind(self, seconds: float, cue: _Cue) -> None:
        """Wait in the middle of this act. Nobody waits for us until we have caught up."""
        self._behind = True
        for each in (cue, *self._cues):
            each.over.set()
        await trio.sleep(seconds)

    def _leave_out(self, cue: _Cue) -> None:
        cue.over.set()
        self._replayed.left_out += cue.act.type == TRANSFORM

    # Doing it

    async def stay(self) -> None:
        """Log in, do what there is to do, and log out once in no room any more, or where nothing will follow."""
        first = await self._next()
        assert first is not None
        if first.act.type != JOIN:
            # (The join before it was refused.)
            self._leave_out(first)
            return
        await self._wait_for_turn(first)
        async with AsyncExitStack() as files:
            client = await self._log_in(first, files)
            self._replayed.stays += 1
            self._rooms = {LOBBY: 0}
            nursery = await files.enter_async_context(open_background())
            nursery.start_soon(self._listen, client, name=f"ears of {self.name}")
            if first.act.room != LOBBY:
                await self._leave(client, LOBBY, first)
            cue: _Cue | None = first
            while cue is not None:
                await self._perform(client, cue)
                cue = await self._next()

    async def _log_in(self, cue: _Cue, files: AsyncExitStack) -> Client:
        asked_at = trio.current_time()
        while True:
            try:
                return await files.enter_async_context(self._stage.connect(self.name))
            except CannotConnect:
                # Whoever answered others may answer us later.
                if not self._replayed.stays or trio.current_time() - asked_at > _NEW_CONNECTION_S:
                    raise
                await self._fall_behind(_NEW_CONNECTION_PAUSE_S, cue)
            except (SlowDown, Unavailable) as error:
                await self._fall_behind(_pause_s(error), cue)
            except Conflict as error:
                raise ReplayError(
                    "the name is taken, or looks like one that is: is this recording being replayed there already?"
                ) from error
            except AccessDenied as error:
                raise ReplayError(
                    "the login is refused: where a server keeps accounts, each name needs one, all of them with the "
                    f"password in {PASSWORD}"
                ) from error
            except RequestError as error:
                raise ReplayError(f"the login is refused: {_in_words(error)}") from error

    async def _perform(self, client: Client, cue: _Cue) -> None:
        act = cue.act
        if act.type != JOIN and act.room not in self._rooms:
            self._leave_out(cue)
            return
        if act.type == TRANSFORM:
            number = self._rooms[act.room] = self._rooms[act.room] + 1
            if number % self._every or trio.current_time() < self._quiet_until:
                self._leave_out(cue)
                return
            self._count(cue)
            await _send(client, act)
            return
        await self._wait_for_turn(cue)
        self._count(cue)
        match act.type:
            case str(kind) if kind == JOIN:
                await self._join(client, act.room, cue)
            case str(kind) if kind == LEAVE:
                await self._leave(client, act.room, cue)
            case _:
                await self._say(client, cue)
        cue.over.set()

    def _count(self, cue: _Cue) -> None:
        self._replayed.acts += 1
        self._replayed.latest_s = max(self._replayed.latest_s, trio.current_time() - cue.due)

    async def _join(self, client: Client, room: str, cue: _Cue) -> None:
        while room not in self._rooms:
            try:
                await client.join(room)
            except SlowDown as error:
                await self._fall_behind(_pause_s(error), cue)
                continue
            except Conflict:
                pass  # (we are in it)
            except RequestError as error:
                self._miss(f"{self.name} could not join {room!r}: {_in_words(error)}")
                return
            self._rooms[room] = 0

    async def _leave(self, client: Client, room: str, cue: _Cue) -> None:
        self._rooms.pop(room, None)
        conversation = await client._line.conversation()
        while True:
            try:
                await conversation.tell(room, LEAVE)
            except SlowDown as error:
                await self._fall_behind(_pause_s(error), cue)
                continue
            except NotInRoom:
                pass  # (what was refused was something else: we had left)
            client._rooms.forget(room)
            return

    async def _say(self, client: Client, cue: _Cue) -> None:
        while True:
            echo = self._echo = _Echo(cue.act)
            await _send(client, cue.act)
            with trio.move_on_after(_PATIENCE_S):
                await echo.settled.wait()
            if echo.retry_after_s:
                await self._fall_behind(echo.retry_after_s, cue)
            if echo.heard or not echo.retry_after_s:
                break
        self._echo = None
        if not echo.heard:
            self._miss(f"{self.name} said something and did not hear it within {_PATIENCE_S:g} s")

    async def _listen(self, client: Client) -> None:
        try:
            async for event in client:
                match event:
                    case Said(user=user) if self._echo is not None and user == client.user:
                        if self._echo.is_this(event):
                            self._echo.heard = True
                            self._echo.settled.set()
                    case Refused(error=SlowDown() as error):
                        self._slow_down(error)
                    case Refused(error=error) if not isinstance(error, NotInRoom):
                        self._miss(f"{self.name} was refused something: {_in_words(error)}")
        except ConnectionLost as lost:
            self._stage.fail(self.name, lost)

    def _slow_down(self, error: SlowDown) -> None:
        """A transform was refused, or what was said: the server does not say which."""
        # (Of transforms it says so once a second only.)
        after_s = _pause_s(error)
        self._quiet_until = trio.current_time() + after_s
        echo = self._echo
        if echo is not None and error.detail.get("room") == echo.room and not echo.settled.is_set():
            echo.retry_after_s = after_s
            echo.settled.set()
        else:
            self._every = min(2 * self._every, _FEWEST)
            self._replayed.left_out += 1

    def _miss(self, why: str) -> None:
        self._replayed.missed += 1
        self._replayed.why = self._replayed.why or why


async def _send(client: Client, act: Act) -> None:
    """Send this act as it is. Raises ConnectionLost."""
    conversation = await client._line.conversation()
    message = b'{"room":%b,"type":%b,"data":%b}' % (encode(act.room), encode(act.type), act.data)
    await conversation.send(message.decode())


def _pause_s(error: RequestError) -> float:
    return max(_SHORTEST_PAUSE_S, pause_asked_for_s(error))


def _in_words(error: RequestError) -> str:
    limit = error.detail.get("limit")
    return f"{error}" + (f" ({limit}: {error.detail.get('value')})" if limit else "")
