"""What attacks are made of: where to strike, and a connection that does only what it is told.

A *target* is a server and what has to be known of it: how somebody gets in, and how it is brought to close. A
*connection* is a raw socket with the few bytes of WebSocket that an attacker needs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import trio

from trio_vrchat.bench._wire import CLOSE, TEXT, FrameReader, Message
from trio_vrchat.testing import client_frame, upgrade_request

_READ_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.02
# Each attacker comes from an address of its own, as in a network: all of 127.0.0.0/8 is this machine.
_ADDRESSES = (f"127.66.{number // 250 % 250}.{1 + number % 250}" for number in itertools.count())
_RUN = secrets.token_hex(4)
_NAMES = (f"{_RUN} {number}" for number in itertools.count(1))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; between two looks the machine is the server's."""
    while True:
        if condition():
            return
        await trio.sleep(_LOOK_EVERY_S)


@attrs.define(eq=False)
class Target:
    """A server to attack, from one address.

    - `stock`: it is the stock server, which has no login and closes who says "bye".
    - `holding`: set once the attack has done all it does, and only holds its connections until the server ends them.
    - `close_codes`: with which codes it ended those; None where it was silent.
    """

    host: str
    port: int
    stock: bool = False
    address: str = attrs.field(factory=lambda: next(_ADDRESSES))
    holding: trio.Event = attrs.field(factory=trio.Event)
    close_codes: list[int | None] = attrs.field(factory=list)
    names: Iterator[str] = _NAMES

    @contextlib.asynccontextmanager
    async def dial(self, *, receive_buffer_bytes: int = 0) -> AsyncIterator[Connection]:
        """A connection over TCP. It is closed at the end."""
        with trio.socket.socket() as raw:
            if receive_buffer_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await raw.bind((self.address, 0))
            await raw.connect((self.host, self.port))
            yield Connection(raw)

    @contextlib.asynccontextmanager
    async def connect(self, *, receive_buffer_bytes: int = 0) -> AsyncIterator[Connection]:
        """A WebSocket connection. Raises ConnectionRefusedError."""
        async with self.dial(receive_buffer_bytes=receive_buffer_bytes) as connection:
            status = await connection.upgrade()
            if status != 101:
                raise ConnectionRefusedError(f"an upgrade was answered with {status}")
            yield connection

    @contextlib.asynccontextmanager
    async def login(self, name: str = "", *, receive_buffer_bytes: int = 0) -> AsyncIterator[Connection]:
        """A connection of somebody who is in the lobby. Raises ConnectionRefusedError."""
        async with self.connect(receive_buffer_bytes=receive_buffer_bytes) as connection:
            if not self.stock:
                response = await connection.login(name or next(self.names))
                if response.get("code") != 202:
                    raise ConnectionRefusedError(f"a login was answered with {response}")
            yield connection

    async def hold(self, *connections: Connection) -> None:
        """Keep these open, and read them, until the server has ended all of them."""
        self.holding.set()
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(connection.read_to_the_end)
        self.close_codes += [connection.close_code for connection in connections]


@attrs.define(eq=False)
class Connection:
    """A socket to the server, and what came on it."""

    socket: trio.socket.SocketType
    reader: FrameReader = attrs.field(factory=FrameReader)
    close_code: int | None = None
    """The code of the server's close frame, once it has come."""
    _upgraded: bool = False
    _messages: list[Message] = attrs.field(factory=list)

    async def send(self, data: bytes) -> None:
        """Send these bytes, whatever they are. Raises BrokenResourceError once the server has hung up."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[await self.socket.send(rest) :]
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_frame(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        await self.send(client_frame(opcode, payload, final=final))

    async def say(self, message: str | dict[str, Any]) -> None:
        """Send one text message."""
        text = message if isinstance(message, str) else json.dumps(message)
        await self.send_frame(TEXT, text.encode())

    async def receive(self) -> bytes:
        """What comes next; empty where nothing will."""
        try:
            return await self.socket.recv(_READ_BYTES)
        except OSError:
            return b""

    async def upgrade(self, headers: str = "") -> int:
        """Make it a WebSocket; returns the status of the answer, 0 where none came."""
        await self.send(upgrade_request(headers=headers))
        return await self.read_answer()

    async def read_answer(self) -> int:
        """Read the head of an HTTP answer; returns its status, 0 where none came."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self.receive()
            if not data:
                return 0
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status == 101:
            self._upgraded = True
            self._feed(rest)
        return status

    async def login(self, name: str, password: str = "secret", **options: Any) -> dict[str, Any]:
        """Log in; returns the answer, empty where none came."""
        await self.say({"system": "login", "options": {"user": name, "pass": password, **options}})
        return await self.read_response()

    async def read_response(self) -> dict[str, Any]:
        """The next answer to a system request, or the next error; empty where none came."""
        while (message := await self.read()) is not None:
            if message.opcode == TEXT and b'"response"' in message.payload:
                response: dict[str, Any] = json.loads(message.payload).get("response", {})
                if response:
                    return response
        return {}

    async def read(self) -> Message | None:
        """The next message or control frame; None once the server has closed or hung up."""
        while not self._messages:
            data = await self.receive()
            if not data:
                return None
            self._feed(data)
        message = self._messages.pop(0)
        if message.opcode == CLOSE:
            self.close_code = int.from_bytes(message.payload[:2])
        return message

    async def read_to_the_end(self) -> None:
        """Read, and answer nothing, until the server hangs up."""
        while data := await self.receive():
            if self._upgraded:
                self._feed(data)

    def _feed(self, data: bytes) -> None:
        for message in self.reader.feed(memoryview(data)):
            self._messages.append(message)
            if message.opcode == CLOSE:
                self.close_code = int.from_bytes(message.payload[:2])

    def end(self) -> None:
        """Send nothing more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End it as a crashed program does: the server's reads and writes fail."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
