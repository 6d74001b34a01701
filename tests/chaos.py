"""Three servers and a Redis as processes, a few hundred people, and everything that can happen to them.

    python -m tests.chaos [--seconds 60] [--people 300] [--seed N]

People talk and walk in rooms on all servers, through relays that cut their connections; some names are wanted by
several at once. Meanwhile, by a schedule that the seed makes, servers and Redis are stopped, continued, killed and
started again. At the end it holds that

- what came back to its sender is in the engine, once, and so in one order;
- everybody has heard that order, without a gap for as long as the server has not said that there may be one;
- all servers show the same members, each once;
- of those who want a name one has it, and a name has one password;
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
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import attrs
import psutil
import trio

import trio_vrchat
from tests.redis_server import RedisServer
from trio_vrchat import Client, Reconnected, RequestError, Said, Transform, Vector

SERVERS, ROOMS = 3, 12
_LOBBY = "lobby"
# What all people together say: one process hears it, some twenty times each.
_LINES_PER_S = 60.0
# Names that are wanted by one at each server.
_CONTESTED = 10
# What an auditor says, to know when it has heard all that was said before.
_END = "the end"
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
        # Who wants a name that is taken may try for as long as it takes.
        command += ["--login-failures-per-account", "0", "--login-failures-per-address", "0"]
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
    pause_s: float
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
                # Everybody's coming is told to all who are there: hearing of it would be all that this process does.
                await client.leave(_LOBBY)
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
            await trio.sleep(dice.expovariate(1 / self.pause_s))
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
class Rival:
    """Somebody who wants a name that others want, too, and tries again and again."""

    name: str
    password: str
    has_it: bool = False

    async def live(self, url: str, dice: random.Random) -> None:
        while True:
            try:
                async with trio_vrchat.open_client(url, self.name, self.password) as client:
                    self.has_it = True
                    async for _ in client:
                        pass
            except* (trio_vrchat.ClientError, RequestError):
                self.has_it = False
            await trio.sleep(dice.uniform(0.5, 1.5))


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
            self._stop_server_until_given_up,
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
        await self._stop_server_for(self.dice.uniform(0.5, 3.0))

    async def _stop_server_until_given_up(self) -> None:
        await self._stop_server_for(9.0)

    async def _stop_server_for(self, seconds: float) -> None:
        server = self.dice.choice(self.servers)
        server.send(signal.SIGSTOP)
        await trio.sleep(seconds)
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


async def read_history(room: str, url: str, histories: dict[str, list[tuple[float, str]]]) -> None:
    """Adds all that was said there, as the engine has it."""
    found = histories[room] = []
    async with trio_vrchat.open_client(url, f"auditor of {room}", "of auditor") as client:
        await client.join(room)
        await client.say(room, _END)
        async for event in client:
            if isinstance(event, Said) and event.room == room:
                found.append((event.time, event.data))
                if event.data == _END:
                    return


def some(things: Collection[object]) -> str:
    """The first few, and how many there are."""
    first = ", ".join(str(thing) for thing in itertools.islice(things, 3))
    return first if len(things) <= 3 else f"{first} … ({len(things)})"


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
            wrong.append(f"{person.name}: was told that these happened, and they have not: {some(sorted(missing))}")
        for piece in person.pieces:
            if unknown := [event for event in piece if event not in places]:
                wrong.append(f"{person.name}: heard what is not in the history: {some(unknown)}")
                continue
            heard = [places[event] for event in piece]
            if heard and heard != list(range(heard[0], heard[0] + len(heard))):
                gaps = [(one, other) for one, other in itertools.pairwise(heard) if other != one + 1]
                wrong.append(f"{person.name}: heard {len(heard)} events of {room} with gaps at {some(gaps)}")
        if not any(person.pieces):
            wrong.append(f"{person.name}: has heard nothing")
    return wrong


async def members_at(server: ServerProcess, room: str) -> list[str]:
    name = f"auditor {server.port} {room}"
    async with trio_vrchat.open_client(f"ws://{_LOOPBACK}:{server.port}/", name, "of auditor") as client:
        await client.join(room)
        return sorted(name for name in await client.members(room) if not name.startswith("auditor"))


async def holders_of_names(rivals: list[Rival]) -> list[str]:
    """The name of each who has it."""
    await trio.lowlevel.checkpoint()
    return sorted(rival.name for rival in rivals if rival.has_it)


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
    odd = sorted(((Counter(found) - Counter(wanted)) + (Counter(wanted) - Counter(found))).elements())
    wrong.append(f"{what}: {len(found)} in place of {len(wanted)}: {some(odd)}")


async def audit(chaos: Chaos, people: list[Person], rivals: list[Rival], auditor: ServerProcess) -> list[str]:
    """All that does not hold."""
    wrong = [f"{person.name}: its client has ended: {person.ended}" for person in people if person.ended]
    rooms = sorted({person.room for person in people})
    async with trio.open_nursery() as nursery:
        for room, (number, server) in itertools.product(rooms, enumerate(chaos.servers)):
            there = sorted(person.name for person in people if person.room == room)
            look = partial(members_at, server, room)
            nursery.start_soon(becomes, f"members of {room} at server {number}", there, look, _SETTLED_S, wrong)
        names = sorted({rival.name for rival in rivals})
        nursery.start_soon(becomes, "holders of names", names, partial(holders_of_names, rivals), _SETTLED_S, wrong)
    histories: dict[str, list[tuple[float, str]]] = {}
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + _SETTLED_S
        for room in rooms:
            nursery.start_soon(read_history, room, f"ws://{_LOOPBACK}:{auditor.port}/", histories)
    say(f"{sum(map(len, histories.values()))} lines in {len(rooms)} rooms")
    for room, history in histories.items():
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
    await becomes("members beside ghosts", there, partial(members_at, chaos.servers[1], room), _GHOSTS_S, wrong)
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
        pause_s = count / _LINES_PER_S
        people = [Person(f"p{number}", f"room {number // SERVERS % ROOMS}", pause_s) for number in range(count)]
        rivals = [Rival(f"wanted {number // SERVERS}", f"{number}") for number in range(SERVERS * _CONTESTED)]
        relays = [Relay(server) for server in servers]
        quiet = trio.Event()
        async with trio.open_nursery() as nursery:
            ports = [await nursery.start(relay.run) for relay in relays]
            for number, person in enumerate(people):
                url = f"ws://{_LOOPBACK}:{ports[number % SERVERS]}/"
                nursery.start_soon(person.live, url, random.Random(dice.random()), quiet)
            for number, rival in enumerate(rivals):
                url = f"ws://{_LOOPBACK}:{ports[number % SERVERS]}/"
                nursery.start_soon(rival.live, url, random.Random(dice.random()))
            with trio.move_on_after(_SETTLED_S + 5 * pause_s):
                while not all(any(person.pieces) for person in people):  # noqa: ASYNC110  (nobody tells)
                    await trio.sleep(0.1)
            if deaf := [person for person in people if not any(person.pieces)]:
                say(f"have heard nothing at the beginning: {some(deaf)}")
            chaos = Chaos(redis, servers, relays, dice)
            await chaos.run(seconds)
            quiet.set()
            say("looking")
            await trio.sleep(3)
            wrong = await audit(chaos, people, rivals, auditor)
            nursery.cancel_scope.cancel()
        if wrong:
            for server in servers:
                say(f"--- {server.log.name}\n{server.log.read_text()[-2000:]}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    asked = parser.parse_args()
    found = trio.run(main, asked.seconds, asked.people, asked.seed)
    for line in found:
        say(line)
    say("it does not hold" if found else "it holds")
    sys.exit(bool(found))
