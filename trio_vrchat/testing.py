"""The server in memory, for tests: the real WebSocket handshake and framing, no sockets, and time that you set.

    async def test_hello() -> None:
        async with testing.open_server() as server:
            tibi = await server.login("Tibi")
            anna = await server.login("Anna")
            tibi.send({"room": "lobby", "data": "hello"})
            await testing.settle()
            assert anna.entries("lobby")[-1]["data"] == "hello"

    testing.run(test_hello)

`run` runs it under a `trio.testing.MockClock` that jumps as soon as every task waits, so that an hour of the server's
life takes as long as the work in it; with pytest-trio, ask for its `autojump_clock` fixture instead and write async
tests. Nothing here needs more than the plain install.

What makes two runs the same, frame for frame: the time starts at `start_time` and moves only by the mock clock; the
server draws nothing at random; batches list members in the order of their joins. What is left is trio's scheduler,
which runs tasks that wake at one instant in random order. So do one act, then `await settle()`, wherever the order of
two acts matters: two people who talk at once are two acts, 50 heads that move at once are one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import msgspec
import trio
import trio.testing

from ._background import open_background
from ._client import Client
from ._config import Config
from ._errors import CannotConnect
from ._frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from ._login import Authenticator
from ._memory_engine import MemoryEngine as MemoryEngine  # noqa: PLC0414  (people import it from here)
from ._memory_stream import MemoryListener, Pipe, stream_pair
from ._open_client import client_by_dialing
from ._server import Handle, run_server
from ._statistics import Statistics

START_TIME = 1_600_000_000.0
# RFC 6455, section 1.3
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = base64.b64encode(b"a key for tests.")
_MASK = b"\x5a\xa5\x3c\xc3"

_T = TypeVar("_T")


def run(main: Callable[..., Awaitable[_T]], *args: object) -> _T:
    """`trio.run` under a mock clock that jumps when every task waits."""
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


async def settle() -> None:
    """Wait until the server has nothing left to do at this moment."""
    await trio.testing.wait_all_tasks_blocked()


class RawClient:
    """A client of which you see every frame, and which does only what you tell it.

    It has no task: `send` puts bytes on the wire, and what the server has written is there to be taken. While nobody
    takes it, it is a client that does not read: after 64 KiB the server's writes wait, and a ping that is not taken is
    not answered, so that it is cut off after `keepalive_interval_s` and `keepalive_timeout_s`.
    """

    def __init__(self, up: Pipe, down: Pipe) -> None:
        self._up = up
        self._down = down
        self._unparsed = bytearray()
        self._message = bytearray()
        self.close_code: int | None = None
        """The code of the server's close frame, once it has been taken."""
        self.pings = 0
        """Pings taken; each was answered with its pong."""

    # Out

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send one message: an object as JSON, a str as a text frame as it is, bytes as a binary frame."""
        if isinstance(message, bytes):
            self.send_frame(BINARY, message)
        elif isinstance(message, str):
            self.send_frame(TEXT, message.encode())
        else:
            self.send_frame(TEXT, msgspec.json.encode(message))

    def send_frame(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        """Send one frame, masked as RFC 6455, section 5.3, asks of a client."""
        self.send_bytes(client_frame(opcode, payload, final=final))

    def send_bytes(self, data: bytes) -> None:
        """Put these bytes on the wire, whatever they are."""
        self._up.data += data
        self._up.change()

    def close(self, code: int = 1000) -> None:
        """Send a close frame."""
        self.send_frame(CLOSE, code.to_bytes(2, "big"))

    def end(self) -> None:
        """Send nothing more: the server reads the end of the stream."""
        self._up.ended = True
        self._up.change()

    def reset(self) -> None:
        """Break the connection: the server's reads and writes fail."""
        for pipe in (self._up, self._down):
            pipe.reset = True
            pipe.change()

    # In

    @property
    def ended(self) -> bool:
        """Whether the server has freed the connection."""
        return self._up.reader_closed

    @property
    def unread_bytes(self) -> int:
        """What the server has written and nobody has taken."""
        return len(self._down.data)

    def take_bytes(self, max_bytes: int | None = None) -> bytes:
        """What the server has written and was not taken before; at most so many bytes of it, for a slow reader."""
        return self._down.take(max_bytes)

    def texts(self) -> list[str]:
        """The text messages that have come since they were last taken. Answers pings on the way."""
        self._unparsed += self.take_bytes()
        return list(self._parse())

    def messages(self) -> list[dict[str, Any]]:
        """`texts`, decoded."""
        return [msgspec.json.decode(text) for text in self.texts()]

    def entries(self, room: str) -> list[dict[str, Any]]:
        """The entries of this room that have come since messages were last taken; other messages are dropped."""
        messages = (message for message in self.messages() if message["info"] == "user")
        payloads = (message["payload"] for message in messages if message["room"] == room)
        return list(itertools.chain.from_iterable(payloads))

    def _parse(self) -> Iterator[str]:
        unparsed = self._unparsed
        while len(unparsed) >= 2:
            length, start = unparsed[1], 2
            if length >= 126:
                start = 4 if length == 126 else 10
                length = int.from_bytes(unparsed[2:start], "big")
            if len(unparsed) < start + length:
                return
            first, payload = unparsed[0], bytes(unparsed[start : start + length])
            del unparsed[: start + length]
            opcode = first & 0x0F
            if opcode in (TEXT, CONTINUATION):
                self._message += payload
                if first & 0x80:
                    yield self._message.decode()
                    self._message.clear()
            elif opcode == PING:
                self.pings += 1
                self.send_frame(PONG, payload)
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005


def client_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame from a client as bytes, masked (RFC 6455, sections 5.2 and 5.3)."""
    length = len(payload)
    head = bytes([opcode | (0x80 if final else 0)])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
    mask = (_MASK * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(length, "big")
    return head + _MASK + masked


@attrs.frozen(eq=False)
class MemoryServer:
    """A running server without sockets."""

    handle: Handle
    _listener: MemoryListener
    _numbers: Iterator[int] = attrs.field(init=False, factory=lambda: itertools.count(1))

    @property
    def statistics(self) -> Statistics:
        """The server's live figures."""
        return self.handle.statistics

    async def dial(self, *, address: str | None = None, buffer_bytes: int | None = None) -> RawClient:
        """Connect, and send nothing: not even the WebSocket handshake.

        `address` is the IP address that the server believes to be at the other end; without one it applies no limit by
        address. `buffer_bytes` is what the client's buffer holds (64 KiB unless said): while so much is not taken, the
        server's writes wait.
        """
        number = next(self._numbers)
        source = (address, number) if address else None
        _, server_end, up, down = stream_pair(f"headset {number}", source, down_bytes=buffer_bytes)
        await self._listener.streams.send(server_end)
        return RawClient(up, down)

    async def connect(self, path: str = "/", *, address: str | None = None, headers: str = "") -> RawClient:
        """Connect, with the WebSocket handshake. Raises ConnectionError with the answer if the server refuses it.

        `headers` are more lines of the request, each with its CRLF.
        """
        client = await self.dial(address=address)
        client.send_bytes(upgrade_request(path, headers=headers))
        await settle()
        head, _, rest = client.take_bytes().partition(b"\r\n\r\n")
        accept = base64.b64encode(hashlib.sha1(_KEY + _ACCEPT_SUFFIX, usedforsecurity=False).digest())
        if not head.startswith(b"HTTP/1.1 101 ") or accept not in head:
            raise ConnectionError(f"the server refused the handshake: {head[:200]!r}")
        client._unparsed += rest
        return client

    async def login(
        self, user: str, password: str = "secret", *, resume: bool = False, address: str | None = None
    ) -> RawClient:
        """Connect and log in. What the server says to that is the first to be taken."""
        client = await self.connect(address=address)
        options = {"user": user, "pass": password} | ({"resume": True} if resume else {})
        client.send({"system": "login", "options": options})
        await settle()
        return client

    @asynccontextmanager
    async def open_client(
        self, user: str, password: str = "secret", *, reconnect: bool = True, transforms: bool = True
    ) -> AsyncIterator[Client]:
        """`trio_vrchat.open_client` on this server. The pauses before it reconnects are the same in each run."""
        number = next(self._numbers)

        async def dial() -> trio.abc.Stream:
            client_end, server_end, _, _ = stream_pair(f"headset {number}")
            try:
                await self._listener.streams.send(server_end)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise CannotConnect("the server has stopped") from None
            return client_end

        async with client_by_dialing(
            dial,
            "memory",
            "/",
            user,
            password,
            reconnect=reconnect,
            dice=random.Random(number),
            wall_clock=trio.current_time,
            transforms=transforms,
        ) as client:
            yield client


def upgrade_request(path: str = "/", *, headers: str = "") -> bytes:
    """The request that opens a WebSocket. `headers` are more lines, each with its CRLF."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: memory\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY.decode()}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    ).encode()


@asynccontextmanager
async def open_server(
    config: Config | None = None,
    *,
    authenticate: Authenticator | None = None,
    backplane: MemoryEngine | None = None,
) -> AsyncIterator[MemoryServer]:
    """Run a server on streams in memory; at the end it is stopped as a real one is.

    What blocks on a real one, the files of a store and the hashing of passwords, is done on the spot, so that virtual
    time does not run away from it. Without `config.start_time` its time starts at START_TIME, so that a test knows
    every `time` it sees; without `config.seed` it is 0, so that session tokens are the same in each run.

    Servers with one `backplane` share their rooms. The first takes some seconds of virtual time to start, as on a Redis
    that has just begun.
    """
    config = config or Config()
    number = 0 if backplane is None else next(backplane.numbers)
    config = attrs.evolve(
        config,
        start_time=START_TIME if config.start_time is None else config.start_time,
        seed=number if config.seed is None else config.seed,
    )
    listener = MemoryListener()
    async with open_background() as nursery:
        handle = await nursery.start(_serve_in_memory, config, listener, authenticate, backplane)
        yield MemoryServer(handle, listener)


async def _serve_in_memory(
    config: Config,
    listener: MemoryListener,
    authenticate: Authenticator | None,
    backplane: MemoryEngine | None,
    *,
    task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED,
) -> None:
    with contextlib.closing(listener.streams):
        await run_server(
            config,
            listeners=[listener],
            authenticate=authenticate,
            backplane=backplane,
            in_thread=lambda: _on_the_spot,
            task_status=task_status,
        )


async def _on_the_spot(function: Callable[[], _T]) -> _T:
    # A thread takes time that no mock clock knows of.
    await trio.lowlevel.checkpoint()
    return function()
