"""Servers that share a room, as small as they can be, and harm to their engine.

Each does what a real one does with its node, without its clients.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from trio_vrchat import Unavailable
from trio_vrchat._backplane import Engine, Event, Happening, Lease
from trio_vrchat._follower import CaughtUp, View
from trio_vrchat._memory_engine import MemoryEngine
from trio_vrchat._node import Hooks, Node

ROOM = "den"


@attrs.define(eq=False)
class Server:
    """A server with one room, and one member in it, who is named as the server."""

    name: str
    node: Node
    tasks: trio.Nursery
    # What the members were shown, and who is there.
    shown: list[Event] = attrs.field(factory=list)
    members: dict[str, str] = attrs.field(factory=dict)
    views: list[View] = attrs.field(factory=list)
    taken: list[str] = attrs.field(factory=list)
    moves: list[bytes] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    # As a store of transforms would be: the newest only.
    newest: bytes = b""

    def take_moves(self) -> bytes:
        newest, self.newest = self.newest, b""
        return newest

    async def say(self, body: str) -> None:
        refused = await self.append(Happening("say", self.name, self.name, body))
        assert not refused

    async def append(self, happening: Happening) -> tuple[int, ...]:
        floor = self.shown[-1].at if self.shown else 0
        return await self.node.append(ROOM, [happening], floor=floor, keep=1000, members_limit=0).outcome()

    async def be_there(self) -> None:
        """Follow the room, and be in it again whenever the engine says that one is not."""
        async with self.node.follow(ROOM, 1000) as happened:
            while True:
                for what in await happened():
                    if isinstance(what, View):
                        self._see(what)
                    elif not isinstance(what, CaughtUp):
                        self._show(what)
                while self.members.get(self.name) != self.node.id:
                    try:
                        await self.append(Happening("join", self.name, self.name))
                    except Unavailable:
                        break
                    self.members[self.name] = self.node.id

    def _see(self, view: View) -> None:
        self.views.append(view)
        there = {join.key: join.node for join in view.snapshot.members}
        self.members = there if view.complete else self.members | there
        if self.name not in there:
            self.members.pop(self.name, None)
        last = self.shown[-1].at if self.shown else 0
        self.shown += [event for event in view.snapshot.history if event.at > last]

    def _show(self, event: Event) -> None:
        if event.kind == "say":
            self.shown.append(event)
        elif event.kind == "join":
            self.members[event.key] = event.node
        else:
            self.members.pop(event.key, None)

    def lease(self, user: str, token: str) -> Lease:
        return Lease(key=user.lower(), look=user.lower(), user=user, node="", token=token)

    def bodies(self) -> list[str]:
        return [event.body for event in self.shown]


async def harm(
    engine: MemoryEngine, dice: random.Random, until: float, one_node: Callable[[], str], cut: Callable[[], object]
) -> None:
    """Cut links, and stop, hang and part the engine from one node, in any order; all is well again at the end."""
    while trio.current_time() < until:
        await trio.sleep(dice.uniform(0, 5))
        match dice.randrange(4):
            case 0:
                cut()
            case 1:
                engine.stop()
                await trio.sleep(dice.uniform(0, 8))
                engine.start()
            case 2:
                engine.hang()
                await trio.sleep(dice.uniform(0, 15))
                engine.resume()
            case 3:
                victim = one_node()
                engine.cut_off(victim)
                await trio.sleep(dice.uniform(0, 15))
                engine.let_in(victim)


@asynccontextmanager
async def servers(engine: Engine, *names: str, there: bool = True) -> AsyncIterator[list[Server]]:
    """Servers that are found by the engine, and grant names."""
    async with trio.open_nursery() as nursery:
        all_: list[Server] = []
        for number, name in enumerate(names):
            hooks = Hooks(
                taken=lambda lease, name=name: find(name).taken.append(lease.token),  # type: ignore[misc]
                take_moves=lambda name=name: find(name).take_moves(),  # type: ignore[misc]
                moves=lambda data, name=name: find(name).moves.append(data),  # type: ignore[misc]
                gone=lambda name=name: find(name).told.append("gone"),  # type: ignore[misc]
                back=lambda name=name: find(name).told.append("back"),  # type: ignore[misc]
            )
            tasks = await nursery.start(open_tasks)
            server = Server(name, Node(engine, hooks, random.Random(number)), tasks)
            all_.append(server)

        def find(name: str) -> Server:
            return next(server for server in all_ if server.name == name)

        for server in all_:
            server.tasks.start_soon(server.node.run)
            await server.node.ready()
            if there:
                server.tasks.start_soon(server.be_there)
        if there:
            while not all(server.members.keys() == {*names} for server in all_):  # noqa: ASYNC110  (nobody tells)
                await trio.sleep(0.01)
        yield all_
        nursery.cancel_scope.cancel()


async def open_tasks(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()
