"""Several servers of one engine, who visits them, and a step: something happens, time passes, everything is checked."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import msgspec
import trio

from trio_vrchat import Config

from .diary import Diary
from .harm import RECOVERED_S, SOON_S, Harm, Host, Uplink
from .ledger import Ledger, Stay
from .scheduler import settle
from .visitor import ROOMS, Connection, Visitor

_PASSWORD = "secret"


@attrs.define(eq=False)
class Town:
    """Everything that a seed makes."""

    config: Config
    dice: Random
    harm: Harm
    ledger: Ledger
    diary: Diary
    tasks: trio.Nursery
    visitors: list[Visitor] = attrs.field(factory=list)
    connections: list[Connection] = attrs.field(factory=list)
    # Stays that are over, and not yet checked.
    past: list[Stay] = attrs.field(factory=list)
    _connection_count: int = 0
    _server_count: int = 0

    # Servers

    def start_server(self) -> str:
        """One more. It takes its time."""
        self._server_count += 1
        host = Host(self._server_count, Uplink(self.harm.engine))
        self.tasks.start_soon(host.run, self.config, self.harm.add)
        return f"server {host.number} starts"

    def stop_server(self, host: Host, *, kill: bool) -> str:
        """It goes, with a word to the others or without."""
        for visitor in self.visitors:
            if host in visitor.acts:
                visitor.act_at(host)
        if kill:
            self.harm.kill(host)
        host.stopping.set()
        return f"server {host.number} {'dies' if kill else 'stops'}"

    def _running(self) -> list[Host]:
        return [host for host in self.harm.hosts if host.runs]

    # Acts

    async def act(self, visitor: Visitor) -> str:
        """Let it do one thing, and say what."""
        dice, connection = self.dice, visitor.connection
        if connection is None:
            return await self._login(visitor)
        if not connection.idle:
            return "waits"
        rooms = connection.rooms
        choice = dice.random()
        if choice < 0.45 and rooms:
            return self._say(visitor, connection, dice.choice(rooms))
        if choice < 0.6 and rooms:
            visitor.number += 1
            room = dice.choice(rooms)
            visitor.places[room] = visitor.number
            connection.raw.send({"room": room, "type": "transform", "data": {"pos": {"x": visitor.number}}})
            return f"moves in {room}"
        if choice < 0.82:
            return self._change_room(visitor, connection, dice.choice(ROOMS))
        if choice < 0.87 and rooms:
            room = dice.choice(rooms)
            connection.ask({"room": room, "type": "list", "data": ""}, "list")
            return f"asks who is in {room}"
        if choice < 0.94:
            return await self._login(visitor)
        if choice < 0.97:
            return await self._be_a_rival(visitor, connection)
        connection.end(self)
        return "is gone"

    def _say(self, visitor: Visitor, connection: Connection, room: str) -> str:
        count = self.dice.choice((1, 1, 2, 5))
        for _ in range(count):
            visitor.number += 1
            text = f"{visitor.name} {visitor.number}"
            visitor.unheard.add(text)
            connection.says += 1
            connection.ask({"room": room, "data": text})
        return f"says {count} lines in {room}, up to {visitor.number}"

    def _change_room(self, visitor: Visitor, connection: Connection, room: str) -> str:
        visitor.act_at(connection.host)
        visitor.places.pop(room, None)
        if room not in connection.rooms:
            connection.ask({"room": room, "type": "join", "data": ""}, room)
            return f"joins {room}"
        connection.ask({"room": room, "type": "leave", "data": ""})
        connection.ask({"system": "ping"}, "pong")
        connection.stays[room].left_at = trio.current_time()
        return f"leaves {room}"

    async def _login(self, visitor: Visitor) -> str:
        host = self.dice.choice(self._running())
        older = visitor.connection
        visitor.act_at(host)
        connection = await self._connect(visitor, host)
        if older is not None:
            visitor.older.append(older)
            connection.comes_from = older.host
        connection.waits_for.add("lobby")
        options = {"user": visitor.name, "pass": _PASSWORD, "notices": connection.notices}
        connection.ask({"system": "login", "options": options}, "login")
        visitor.connection = connection
        if older is not None and self.dice.random() < 0.2:
            older.end(self)
            visitor.places.clear()
        return f"logs in on server {host.number}"

    async def _connect(self, visitor: Visitor, host: Host) -> Connection:
        self._connection_count += 1
        raw = await host.server.connect()
        notices = self.dice.random() < 0.6
        connection = Connection(visitor, host, raw, notices, trio.current_time(), self._connection_count)
        self.connections.append(connection)
        return connection

    async def _be_a_rival(self, visitor: Visitor, connection: Connection) -> str:
        """Somebody else asks for the name."""
        host = self.dice.choice(self._running())
        raw = await host.server.connect()
        held = host.is_well and connection.host.is_well and connection.logged_in and not visitor.in_doubt
        raw.send({"system": "login", "options": {"user": visitor.name, "pass": "wrong"}})
        visitor.act_at(host)
        await self.pass_time(SOON_S / 2)
        codes = [message["response"]["code"] for message in raw.messages() if message["info"] != "user"]
        raw.reset()
        if held and host.is_well and connection.host.is_well and not connection.ended:
            assert codes == [409], f"somebody else asks for the name of {visitor.name}, and is answered {codes}"
        visitor.act_at(host)
        if 202 in codes:
            # Its own server could not defend it.
            for each in (connection, *visitor.older):
                each.replaced = True
        return f"has a rival on server {host.number}, who is answered {codes}"

    # Time

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and take and check what comes."""
        end = trio.current_time() + seconds
        while True:
            await settle()
            for connection in self.connections:
                connection.take(self)
            self.connections = [connection for connection in self.connections if not connection.ended]
            for visitor in self.visitors:
                visitor.forget_acts()
                visitor.older = [older for older in visitor.older if not older.ended]
            self._check_members()
            now = trio.current_time()
            if now >= end:
                return
            await trio.sleep_until(min(end, now + 1.0))

    def note_frame(self, number: int, message: dict[str, Any]) -> None:
        """For the transcript."""
        self.diary.transcript.note(number, 1, msgspec.json.encode(message))

    # What must hold

    def _check_members(self) -> None:
        """Everybody is shown who is there, as far as it can be known."""
        inside: dict[str, dict[str, Host]] = {room: {} for room in ROOMS}
        doubtful = {visitor.name for visitor in self.visitors if visitor.in_doubt}
        for visitor in self.visitors:
            connection = visitor.connection
            if connection is None:
                continue
            if not (connection.host.is_well or connection.host.is_dead):
                doubtful.add(visitor.name)
            for room in connection.rooms:
                inside[room][visitor.name] = connection.host
        for connection in self.connections:
            connection.check_notices()
            name, host = connection.visitor.name, connection.host
            if connection.replaced or not connection.logged_in:
                continue
            for room in connection.rooms:
                shown = connection.stays[room].members
                beside = {other for other, at in inside[room].items() if at is host} - doubtful
                assert beside <= shown, f"{name} does not see {beside - shown} in {room}, who is on the same server"
                if not host.is_well:
                    continue
                there = {other for other, at in inside[room].items() if at is host or not at.is_dead}
                wrong = (there ^ shown) - doubtful
                assert not wrong, f"{name} on server {host.number} sees {shown} in {room}; of {wrong} it is wrong"

    async def check_rest(self) -> None:
        """All is well, and has been for some time, and nobody does anything: nothing is open."""
        await self.pass_time(RECOVERED_S + SOON_S)
        for stay in self.past:
            self.ledger.check(stay)
        self.past.clear()
        for host in self._running():
            here = [each for each in self.connections if each.host is host and each.logged_in]
            members = sum(len(each.rooms) for each in here)
            counted = host.server.statistics.members
            assert counted == members, f"server {host.number} counts {counted} members, not {members}"
        for connection in self.connections:
            name = connection.visitor.name
            assert connection.idle, f"{name} waits for {connection.waits_for} and {connection.says} lines"
            for room in connection.rooms:
                stay = connection.stays[room]
                self.ledger.check(stay)
                last, count = self.ledger.last(room), self.ledger.count(room)
                if not self.harm.losses:
                    least = min(count, self.ledger.kept)
                    assert len(stay.said) >= least, f"{name} was shown {len(stay.said)} of {count} events of {room}"
                    assert not stay.said or stay.said[-1] == last, f"{name} has not seen the last event of {room}"
                self._check_places(name, stay)

    def _check_places(self, name: str, stay: Stay) -> None:
        for visitor in self.visitors:
            place = visitor.places.get(stay.room)
            if place is not None and visitor.connection is not None and stay.room in visitor.connection.rooms:
                shown = stay.transforms.get(visitor.name)
                assert shown == place, f"{name} sees {visitor.name} in {stay.room} at {shown}, not at {place}"
