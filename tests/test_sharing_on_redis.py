"""Servers that share their rooms over a real Redis, with real clients: it is killed, stopped and started again."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

import trio_vrchat
from tests.redis_server import needs_redis, running_redis
from tests.waiting import until
from trio_vrchat import Client, Config, ConnectionLost, Handle, Moved, RequestError, Said, Transform, Vector

pytestmark = needs_redis


@asynccontextmanager
async def serving(url: str, count: int) -> AsyncIterator[list[Handle]]:
    config = Config.unlimited(host="127.0.0.1", port=0, backplane=url)
    async with trio.open_nursery() as nursery:
        yield [await nursery.start(trio_vrchat.serve, config) for _ in range(count)]
        nursery.cancel_scope.cancel()


class Person:
    """A client, and what it has heard said in the lobby since it came."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[tuple[float, str, object]] = []
        self.where: dict[str, float] = {}

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionLost):
            async for event in self.client:
                if isinstance(event, Said) and not event.from_history:
                    self.heard.append((event.time, event.user, event.data))
                elif isinstance(event, Moved):
                    self.where[event.user] = event.transform.pos.x


async def test_clients_of_several_servers_are_in_one_room(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as redis:
        async with serving(redis.url, 3) as servers, AsyncExitStack() as stack, trio.open_nursery() as nursery:
            people: list[Person] = []
            for number, handle in enumerate(servers):
                client = trio_vrchat.open_client(handle.urls[0], f"{number}", "1234")
                people.append(Person(await stack.enter_async_context(client)))
                nursery.start_soon(people[-1].listen)
            for person in people:
                assert await person.client.members("lobby") == ("0", "1", "2")
            for number, person in enumerate(people):
                await person.client.move("lobby", Transform(pos=Vector(number)))
            await until(lambda: all(person.where == {"0": 0, "1": 1, "2": 2} for person in people))

            stop = False
            heard = itertools.count()

            async def talk(person: Person) -> None:
                while not stop:
                    await person.client.say("lobby", next(heard))
                    await trio.sleep(0.01)

            async def more(count: int) -> None:
                """Wait until so many more were heard."""
                wanted = len(people[0].heard) + count
                await until(lambda: len(people[0].heard) >= wanted)

            for person in people:
                nursery.start_soon(talk, person)
            await more(100)
            for kind in ("pubsub", "normal"):
                redis.command(f"CLIENT KILL TYPE {kind}")
                await more(50)
            for lose, find in ((redis.stop, redis.start), (redis.hang, redis.resume)):
                lose()
                await _refused(people[0])
                find()
                await more(50)
            stop = True
            with trio.fail_after(20):
                while True:  # until the engine takes it
                    await people[0].client.say("lobby", "the last")
                    with trio.move_on_after(1):
                        await until(lambda: all(person.heard[-1][2] == "the last" for person in people))
                        break
            assert people[0].heard == people[1].heard == people[2].heard
            said = [data for _, _, data in people[0].heard if data != "the last"]
            assert len(said) == len(set(said)), "each once"

            # On another server, the same user.
            again = await stack.enter_async_context(trio_vrchat.open_client(servers[1].urls[0], "0", "1234"))
            assert await again.members("lobby") == ("0", "1", "2")
            with pytest.raises(RequestError):
                async with trio_vrchat.open_client(servers[2].urls[0], "0", "other"):
                    pass
            await people[1].client.say("lobby", "bye")
            await until(lambda: people[2].heard[-1][2] == "bye")
            assert people[0].heard[-1][2] == "the last", "it has been closed"
            await stack.aclose()


async def _refused(person: Person) -> None:
    """Wait until the server knows that the engine is away."""
    with trio.fail_after(20):
        while True:
            try:
                await person.client.rooms()
            except trio_vrchat.Unavailable:
                return
            await trio.sleep(0.05)


async def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_vrchat._redis_engine", None)
    with pytest.raises(trio_vrchat.ConfigError, match=r"pip install 'trio-vrchat\[redis\]'"):
        await trio_vrchat.serve(Config(port=0, backplane="redis://127.0.0.1"))
