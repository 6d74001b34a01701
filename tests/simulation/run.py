"""A seed, from the first login to the last leave."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from random import Random

import attrs
import trio

from trio_vrchat import Config, testing
from trio_vrchat.testing import MemoryServer

from .bounds import watched_outboxes
from .crowd import Flooder, Garbage, Silent, Stranger
from .engine import check_empty, open_engine
from .kinds import Kind, kind_of
from .model import WATCHED, Model, User
from .people import Person
from .scheduler import seeded_scheduler
from .world import World

# Longer than any deadline of the server and the grace after it.
_ALL_IS_OVER_S = 90.0
# Of what did not hold: a payload can be long.
_MESSAGE_LENGTH = 2000


class SimulationError(AssertionError):
    """An invariant does not hold. The message has the seed and the last acts."""


@attrs.frozen
class Report:
    """What a seed has done."""

    seed: int
    virtual_s: float
    acts: int
    lines: int  # events that an observer has compared with a room's order
    frames: int
    digest: str


def simulate(seed: int, virtual_s: float | None = None) -> Report:
    """Run a seed, for so many virtual seconds or as many as the seed says. Raises SimulationError."""
    with seeded_scheduler(seed), watched_outboxes(), tempfile.TemporaryDirectory() as directory:
        return testing.run(_simulate, seed, virtual_s, Path(directory) / "store")


async def _simulate(seed: int, virtual_s: float | None, store: Path) -> Report:
    dice = Random(seed)
    # Without latency all that goes by the engine and back does so at one instant, so that what the model says of a
    # server that is alone holds of this one, too, and at once.
    engine = open_engine(latency_s=0.0) if kind_of(seed) is Kind.SHARED else None
    # The engine keeps what was said, as a store does, and in its place.
    config = _settings(dice, store if engine is None else None)
    stores = config.store is not None or engine is not None
    duration_s = virtual_s or dice.choice((600.0, 600.0, 1200.0, 3600.0))
    acts: deque[str] = deque(maxlen=30)
    ended_at = 0.0
    try:
        async with testing.open_server(config, backplane=engine) as server:
            tasks = trio.lowlevel.current_statistics().tasks_living
            world = World(server, config, dice, Model(config.resume_grace_s, stores=stores), acts)
            try:
                await _live(world, duration_s)
                await _end(world, tasks)
            finally:
                ended_at = trio.current_time()
        _check_nothing_left(server, rooms=0)
        if engine is not None:
            check_empty(engine)
    except Exception as error:
        last = "\n  ".join(acts)
        raise SimulationError(
            f"seed {seed}, after {ended_at:.3f} virtual seconds: {_what_failed(error)}\n"
            f"replay: python -m tests.simulation --seed {seed}\n"
            f"last acts:\n  {last}"
        ) from error
    return Report(
        seed,
        trio.current_time(),
        world.act_count,
        sum(person.views.lines for person in world.people),
        world.transcript.frames,
        world.transcript.digest(),
    )


def _what_failed(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH]


def _settings(dice: Random, store: Path | None) -> Config:
    return Config(
        seed=dice.getrandbits(32),
        # (In memory the server writes its files on the spot, without a thread.)
        store=str(store) if dice.random() < 0.4 and store is not None else None,
        fps=dice.choice((5, 20)),
        history=dice.choice((0, 3, 50)),
        history_limit_bytes=dice.choice((3000, 256 * 1024)),
        outbox_limit_frames=dice.choice((12, 256)),
        outbox_limit_bytes=dice.choice((64 * 1024, 1024 * 1024)),
    )


async def _live(world: World, duration_s: float) -> None:
    dice = world.dice

    def user(name: str, *, honest: bool = True, tight: bool = False) -> User:
        world.model.users[name] = User(name, honest, tight=tight)
        return world.model.users[name]

    steward = Person(user("steward"), resumes=False)
    world.people.append(steward)
    await world.login(steward)
    for room in WATCHED[1:]:
        steward.send(world, room, "join")
    await world.pass_time(1)
    world.people += [Person(user(f"honest {number}"), resumes=dice.random() < 0.6) for number in range(14)]
    world.people += [
        Person(user(f"slow {number}", tight=dice.random() < 0.5), resumes=dice.random() < 0.5, slow=True)
        for number in range(4)
    ]
    kinds = (Silent, Silent, Flooder, Flooder, Garbage, Garbage, Stranger, Stranger)
    world.crowd += [kind(user(f"{kind.__name__} {number}", honest=False)) for number, kind in enumerate(kinds)]
    actors: list[Person | Stranger] = [*world.people[1:], *world.people[1:], *world.crowd]
    while trio.current_time() < duration_s:
        if dice.random() < 0.05:
            await world.rush()
        else:
            await world.act(dice.choice(actors))
        # People are busy for a while, and then nothing happens but keepalive.
        pause_s = dice.choice((0.0, 0.0, 0.01, 0.1, 0.5, 2.0))
        await world.pass_time(dice.uniform(20, 120) if dice.random() < 0.02 else pause_s)


async def _end(world: World, tasks: int) -> None:
    """Everybody goes; then nothing may be left of anybody."""
    steward = world.people[0]
    for person in world.people[1:]:
        if person.link is not None:
            world.model.lost(person.user, session_stays=person.resumes)
            person.link.raw.reset()
            world.leave(person.link)
            person.link = None
            await world.pass_time(0.01)
    for stranger in world.crowd:
        if stranger.link is not None:
            stranger.hang_up(world)
            await world.pass_time(0.01)
    await world.pass_time(_ALL_IS_OVER_S)
    assert world.model.members() == len(WATCHED), f"left: {world.model.describe()}"
    link = steward.link
    assert link is not None
    link.close(lambda: world.closed(steward, link))
    await world.pass_time(10)
    await _check_names_are_free(world)
    _check_nothing_left(world.server, rooms=1)
    left = trio.lowlevel.current_statistics().tasks_living
    assert left == tasks, f"{left} tasks are left of {tasks}"


async def _check_names_are_free(world: World) -> None:
    """Nobody holds a name any more: another password gets it."""
    for name in world.model.users:
        client = await world.server.login(name, "another password")
        codes = [message["response"]["code"] for message in client.messages() if message["info"] != "user"]
        assert codes == [202], f"the name {name!r} is not free: {codes}"
        client.close()
        await testing.settle()
        client.take_bytes()
        await testing.settle()
        assert client.ended


def _check_nothing_left(server: MemoryServer, *, rooms: int) -> None:
    statistics = server.statistics
    left = (statistics.connections, statistics.members, statistics.rooms, statistics.sessions)
    assert left == (0, 0, rooms, 0), f"connections, members, rooms and sessions are left: {left}"
