"""One server, from the first login to the last leave."""

from __future__ import annotations

from pathlib import Path
from random import Random

import trio

from trio_vrchat import Config, testing
from trio_vrchat.testing import MemoryServer

from .crowd import Flooder, Garbage, Silent, Stranger
from .diary import Diary
from .engine import check_empty, open_engine
from .model import WATCHED, Model, User
from .people import Person
from .world import World

# Longer than any deadline of the server and the grace after it.
_ALL_IS_OVER_S = 90.0


async def live(seed: int, virtual_s: float | None, store: Path, diary: Diary, *, shared: bool) -> None:
    """Run a seed; `shared`: with an engine. Raises AssertionError, or what the server does."""
    dice = Random(seed)
    # Without latency all that goes by the engine and back does so at one instant, so that what the model says of a
    # server that is alone holds of this one, too, and at once.
    engine = open_engine(latency_s=0.0) if shared else None
    # The engine keeps what was said, as a store does, and in its place.
    config = _settings(dice, store if engine is None else None)
    stores = config.store is not None or engine is not None
    duration_s = virtual_s or dice.choice((600.0, 600.0, 1200.0, 3600.0))
    async with testing.open_server(config, backplane=engine) as server:
        tasks = trio.lowlevel.current_statistics().tasks_living
        model = Model(config.resume_grace_s, stores=stores)
        world = World(server, config, dice, model, diary.acts, diary.transcript)
        try:
            await _live(world, duration_s)
            await _end(world, tasks)
        finally:
            diary.ended_at = trio.current_time()
            diary.act_count = world.act_count
            diary.lines = sum(person.views.lines for person in world.people)
    _check_nothing_left(server, rooms=0)
    if engine is not None:
        check_empty(engine)


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
