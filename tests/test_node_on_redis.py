"""Servers that share a room over a real Redis, which is killed, stopped and restarted under them."""

from __future__ import annotations

import itertools
from pathlib import Path

import trio

from tests.redis_server import needs_redis, running_redis
from tests.sharing_servers import Server, servers
from tests.waiting import until
from trio_vrchat import Unavailable
from trio_vrchat._backplane import Happening
from trio_vrchat._redis_engine import RedisEngine

pytestmark = needs_redis


async def test_what_was_acknowledged_is_everywhere_once_whatever_happens_to_redis(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    async def talk(server: Server) -> None:
        for number in itertools.count():
            body = f"{server.name}{number}"
            if server.members.get(server.name) == server.node.id:
                try:
                    if not await server.append(Happening("say", server.name, server.name, body)):
                        acknowledged.append(body)
                except Unavailable:
                    pass
            await trio.sleep(0.005)

    async def heard(count: int) -> None:
        """Wait until so many more were acknowledged."""
        wanted = len(acknowledged) + count
        await until(lambda: len(acknowledged) >= wanted)

    with running_redis(tmp_path / "redis") as redis:
        async with servers(RedisEngine(redis.url), "a", "b", "c") as [a, b, c]:
            async with trio.open_nursery() as nursery:
                for server in (a, b, c):
                    nursery.start_soon(talk, server)
                await heard(100)
                for kind in ("pubsub", "normal"):
                    redis.command(f"CLIENT KILL TYPE {kind}")
                    await heard(50)
                redis.stop()
                await until(lambda: not any(server.node.connected for server in (a, b, c)))
                redis.start()
                await heard(50)
                redis.hang()
                await until(lambda: not any(server.node.connected for server in (a, b, c)))
                redis.resume()
                await heard(50)
                nursery.cancel_scope.cancel()
            last = acknowledged[-1]
            await until(lambda: all(last in server.bodies() for server in (a, b, c)))
            await a.say("the last")
            await until(lambda: all(server.bodies()[-1] == "the last" for server in (a, b, c)))
            assert a.shown == b.shown == c.shown
            bodies = a.bodies()
            assert len(set(bodies)) == len(bodies)
            assert set(acknowledged) <= set(bodies)
            assert a.members == {server.name: server.node.id for server in (a, b, c)}
