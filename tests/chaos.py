"""Three servers and a Redis as processes, a hundred people and more, and everything that can happen to them.

    python -m tests.chaos [--seconds 30] [--people 120] [--seed N]

People talk and walk in rooms on all servers, through relays that cut their connections. Meanwhile, by a schedule that
the seed makes, servers and Redis are stopped, continued, killed and started again. At the end it holds that

- what came back to its sender is in the engine, once, and so in one order;
- everybody has heard that order, without a gap for as long as the server has not said that there may be one;
- all servers show the same members, each once, and a name has one password;
- the people of a server that is killed and stays dead are gone in ten seconds;
- no server has grown.

Exit status 0, or 1 and what does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import attrs
import psutil
import trio

import trio_vrchat
from tests.redis_server import RedisServer
from trio_vrchat import Client, Reconnected, RequestError, Said, Transform, Vector

SERVERS, ROOMS = 3, 6
_LOOPBACK = "127.0.0.1"
# What three servers and a Redis need to find each other again, on a machine that has much else to do.
_SETTLED_S = 15.0
_GHOSTS_S = 10.0
_MEMORY_LIMIT = 300 * 1024 * 1024


def free_port() -> int:
    with socket.socket() as free:
        free.bind((_LOOPBACK, 0))
        port: int = free.getsockname()[1]
        return port


@attrs.define(eq=False)
class ServerProcess:
    """A server on a port of its own, which it has again when it is started again."""

    backplane: str
    log: Path
    options: tuple[str, ...] = ()
    port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "trio_vrchat", "--host", _LOOPBACK, "--port", f"{self.port}"]
        command += ["--backplane", self.backplane, "--log-level", "1", *self.options]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    async def answers(self) -> None:
        """Wait until it listens."""
        while True:
            try:
                stream = await trio.open_tcp_stream(_LOOPBACK, self.port)
            except OSError:
                await trio.sleep(0.1)
            else:
                await stream.aclose()
                return


class Relay:
    """Carries connections to a server, and cuts them."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._open: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host=_LOOPBACK)
            task_status.started(listener.socket.getsockname()[1])
            await trio.serve_listeners(self._serve, [listener], handler_nursery=nursery)

    async def _serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                async with (
                    await trio.open_tcp_stream(_LOOPBACK, self._server.port) as server,
                    client,
                    trio.open_nursery() as nursery,
                ):
                    for source, target in ((client, server), (server, client)):
                        nursery.start_soon(self._carry, source, target, nursery.cancel_scope)
            except OSError:
                await trio.aclose_forcefully(client)
            finally:
                self._open.discard(scope)

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            async for data in source:
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()

    def cut(self, dice: random.Random, share: float) -> None:
        for scope in list(self._open):
            if dice.random() < share:
                scope.cancel()


@attrs.define(eq=False)
class Person:
    """Somebody in one room."""

    name: str
    room: str
    # What was heard there, as (time, data), in pieces: a new one where something may be missing before it.
    pieces: list[list[tuple[float, str]]] = attrs.field(factory=lambda: [[]])
    ended: str = ""

    async def live(self, url: str, dice: random.Random, quiet: trio.Event) -> None:
        try:
            async with (
                trio_vrchat.open_client(url, self.name, f"of {self.name}") as client,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._talk, client, dice, quiet)
                await client.join(self.room)
                async for event in client:
                    if isinstance(event, Reconnected) and not event.complete.get(self.room, False):
                        self.pieces.append([])
                    elif isinstance(event, Said) and event.room == self.room:
                        self.pieces[-1].append((event.time, event.data))
        except* trio_vrchat.ClientError as group:
            self.ended = f"{group.exceptions[0]}"

    async def _talk(self, client: Client, dice: random.Random, quiet: trio.Event) -> None:
        for number in itertools.count():
            await trio.sleep(dice.expovariate(1.0))
            if quiet.is_set():
                return
            try:
                await client.say(self.room, f"{self.name}-{number}")
                await client.move(self.room, Transform(pos=Vector(float(number))))
            except (trio_vrchat.ConnectionLost, RequestError):
                pass

    def own(self) -> set[str]:
        """What has come back: the acknowledgements."""
        return {data for piece in self.pieces for _, data in piece if data.startswith(f"{self.name}-")}


@attrs.define(eq=False)
class Chaos:
    """What is done to whom."""

    redis: RedisServer
    servers: list[ServerProcess]
    relays: list[Relay]
    dice: random.Random

    async def run(self, seconds: float) -> None:
        acts: list[Callable[[], Awaitable[None]]] = [
            self._cut_people,
            self._cut_servers,
            self._stop_server,
            self._kill_server,
            self._stop_redis,
            self._kill_redis,
        ]
        until = trio.current_time() + seconds
        # Each at least once, where there is time.
        self.dice.shuffle(acts)
        for number in itertools.count():
            if trio.current_time() > until:
                return
            act = acts[number] if number < len(acts) else self.dice.choice(acts)
            say(f"{act.__name__.strip('_').replace('_', ' ')}")
            await act()
            await trio.sleep(self.dice.uniform(0.5, 2.0))

    async def _cut_people(self) -> None:
        self.dice.choice(self.relays).cut(self.dice, 0.3)

    async def _cut_servers(self) -> None:
        self.redis.command(f"CLIENT KILL TYPE {self.dice.choice(('pubsub', 'normal'))}")

    async def _stop_server(self) -> None:
        server = self.dice.choice(self.servers)
        server.send(signal.SIGSTOP)
        # Some of these are long enough to be given up by the others.
        await trio.sleep(self.dice.choice((0.5, 3.0, 9.0)))
        server.send(signal.SIGCONT)

    async def _kill_server(self) -> None:
        server = self.dice.choice(self.servers)
        server.kill()
        await trio.sleep(self.dice.uniform(0.0, 3.0))
        server.start()

    async def _stop_redis(self) -> None:
        self.redis.hang()
        await trio.sleep(self.dice.uniform(0.2, 5.0))
        self.redis.resume()

    async def _kill_redis(self) -> None:
        self.redis.stop()
        await trio.sleep(self.dice.uniform(0.0, 2.0))
        await trio.to_thread.run_sync(self.redis.start)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a program for a terminal)


async def history_of(room: str, url: str) -> list[tuple[float, str]]:
    """All that was said there, as the engine has it."""
    found: list[tuple[float, str]] = []
    async with trio_vrchat.open_client(url, "auditor", "of auditor") as client:
        await client.join(room)
        with trio.move_on_after(2):
            async for event in client:
                if isinstance(event, Said) and event.room == room:
                    found.append((event.time, event.data))
    return found


def check_order(people: list[Person], room: str, history: list[tuple[float, str]]) -> list[str]:
    """What of the order does not hold."""
    wrong: list[str] = []
    places = {event: place for place, event in enumerate(history)}
    said = [data for _, data in history]
    if len(set(said)) < len(said):
        wrong.append(f"{room}: {len(said) - len(set(said))} events happened twice")
    if [time for time, _ in history] != sorted({time for time, _ in history}):
        wrong.append(f"{room}: its times do not increase")
    for person in people:
        if missing := person.own() - set(said):
            wrong.append(f"{person.name}: was told that {sorted(missing)} happened, and they have not")
        for piece in person.pieces:
            if unknown := [event for event in piece if event not in places]:
                wrong.append(f"{person.name}: heard {unknown}, and nobody else did")
                continue
            heard = [places[event] for event in piece]
            if heard and heard != list(range(heard[0], heard[0] + len(heard))):
                gaps = [(one, other) for one, other in itertools.pairwise(heard) if other != one + 1]
                wrong.append(f"{person.name}: heard {len(heard)} events of {room} with gaps at {gaps}")
        if not any(person.pieces):
            wrong.append(f"{person.name}: has heard nothing")
    return wrong


async def members_at(server: ServerProcess, room: str) -> list[str]:
    name = f"auditor {server.port} {room}"
    async with trio_vrchat.open_client(f"ws://{_LOOPBACK}:{server.port}/", name, "of auditor") as client:
        await client.join(room)
        return sorted(name for name in await client.members(room) if not name.startswith("auditor"))


async def becomes(
    what: str, wanted: list[str], look: Callable[[], Awaitable[list[str]]], seconds: float, wrong: list[str]
) -> None:
    """Wait until it is as wanted; adds what is wrong."""
    found: list[str] = []
    with trio.move_on_after(seconds):
        while True:
            with suppress(RequestError, trio_vrchat.ClientError):
                found = await look()
            if found == wanted:
                return
            await trio.sleep(0.2)
    odd = sorted(set(found) ^ set(wanted))
    wrong.append(f"{what}: {len(found)} members in place of {len(wanted)}, {odd[:5]} …")


async def audit(chaos: Chaos, people: list[Person], auditor: ServerProcess) -> list[str]:
    """All that does not hold."""
    wrong = [f"{person.name}: its client has ended: {person.ended}" for person in people if person.ended]
    rooms = sorted({person.room for person in people})
    async with trio.open_nursery() as nursery:
        for room, (number, server) in itertools.product(rooms, enumerate(chaos.servers)):
            there = sorted(person.name for person in people if person.room == room)
            look = partial(members_at, server, room)
            nursery.start_soon(becomes, f"{room} at server {number}", there, look, _SETTLED_S, wrong)
    for room in rooms:
        history = await history_of(room, f"ws://{_LOOPBACK}:{auditor.port}/")
        say(f"{room}: {len(history)} events")
        wrong += check_order([person for person in people if person.room == room], room, history)
    for server in chaos.servers:
        try:
            async with trio_vrchat.open_client(f"ws://{_LOOPBACK}:{server.port}/", people[0].name, "of nobody"):
                wrong.append("a name has two passwords")
        except trio_vrchat.Conflict:
            pass
        assert server.process is not None
        memory = psutil.Process(server.process.pid).memory_info().rss
        say(f"a server has {memory / 2**20:.0f} MiB")
        if memory > _MEMORY_LIMIT:
            wrong.append(f"a server has {memory / 2**20:.0f} MiB")
    say("killing a server for good")
    chaos.servers[0].kill()
    left = {person.name for number, person in enumerate(people) if number % SERVERS}
    room = rooms[0]
    there = sorted(person.name for person in people if person.room == room and person.name in left)
    await becomes("ghosts", there, partial(members_at, chaos.servers[1], room), _GHOSTS_S, wrong)
    return wrong


async def main(seconds: float, count: int, seed: int) -> list[str]:
    """Run it; returns what does not hold."""
    say(f"seed {seed}")
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        redis = RedisServer(Path(folder), free_port())
        stack.callback(redis.stop)
        await trio.to_thread.run_sync(redis.start)
        options = ("--history", "10000", "--history-limit-bytes", f"{1 << 24}", "--outbox-limit-bytes", f"{1 << 24}")
        servers = [ServerProcess(redis.url, Path(folder) / f"server{number}.log") for number in range(SERVERS)]
        auditor = ServerProcess(redis.url, Path(folder) / "auditor.log", options)
        for server in (*servers, auditor):
            stack.callback(server.kill)
            server.start()
        for server in (*servers, auditor):
            await server.answers()
        people = [Person(f"p{number}", f"room {number // SERVERS % ROOMS}") for number in range(count)]
        relays = [Relay(server) for server in servers]
        quiet = trio.Event()
        async with trio.open_nursery() as nursery:
            ports = [await nursery.start(relay.run) for relay in relays]
            for number, person in enumerate(people):
                url = f"ws://{_LOOPBACK}:{ports[number % SERVERS]}/"
                nursery.start_soon(person.live, url, random.Random(dice.random()), quiet)
            with trio.fail_after(_SETTLED_S):
                while not all(any(person.pieces) for person in people):  # noqa: ASYNC110  (nobody tells)
                    await trio.sleep(0.1)
            chaos = Chaos(redis, servers, relays, dice)
            await chaos.run(seconds)
            quiet.set()
            say("looking")
            await trio.sleep(3)
            wrong = await audit(chaos, people, auditor)
            nursery.cancel_scope.cancel()
        if wrong:
            for server in servers:
                say(f"--- {server.log.name}\n{server.log.read_text()[-2000:]}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    asked = parser.parse_args()
    found = trio.run(main, asked.seconds, asked.people, asked.seed)
    for line in found:
        say(line)
    say("it does not hold" if found else "it holds")
    sys.exit(bool(found))
