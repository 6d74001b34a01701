"""A server that says only what a test tells it to: the other side of `testing.RawClient`.

For what a real server does only by rare chance: a connection that is lost between two certain messages, an answer that
never comes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import trio_vrchat
from trio_vrchat._background import open_background
from trio_vrchat._frames import CLOSE, PING, PONG, TEXT
from trio_vrchat._memory_stream import Pipe, stream_pair
from trio_vrchat._open_client import client_by_dialing

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ScriptedConnection:
    def __init__(self, up: Pipe, down: Pipe) -> None:
        self._up = up
        self._down = down
        self._unparsed = b""

    async def accept(self) -> None:
        """The WebSocket handshake."""
        while b"\r\n\r\n" not in self._unparsed:
            self._unparsed += await self._up.read(None)
        head, _, self._unparsed = self._unparsed.partition(b"\r\n\r\n")
        [key] = [line.split()[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX, usedforsecurity=False).digest())
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    async def receive(self) -> dict[str, Any]:
        """The client's next message, or `{"close": CODE}`. Answers pings on the way. Fails after a minute."""
        with trio.fail_after(60):
            return await self._receive()

    async def answer_pings(self) -> None:
        """Answer pings until the client closes, and nothing else."""
        while "close" not in await self._receive():
            pass

    async def _receive(self) -> dict[str, Any]:
        while True:
            opcode, payload = await self._receive_frame()
            if opcode == TEXT:
                message: dict[str, Any] = json.loads(payload)
                return message
            if opcode == CLOSE:
                return {"close": int.from_bytes(payload[:2], "big")}
            if opcode == PING:
                self._write_frame(PONG, payload)

    async def _receive_frame(self) -> tuple[int, bytes]:
        """One frame of a client: masked, and here never longer than 64 KiB."""
        head = await self._receive_exactly(2)
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(await self._receive_exactly(2), "big")
        mask = await self._receive_exactly(4)
        payload = await self._receive_exactly(length)
        return head[0] & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    async def _receive_exactly(self, count: int) -> bytes:
        while len(self._unparsed) < count:
            more = await self._up.read(None)
            assert more, "the client has hung up without a close frame"
            self._unparsed += more
        data, self._unparsed = self._unparsed[:count], self._unparsed[count:]
        return data

    def answer(self, code: int, time: float = 0.0, **detail: Any) -> None:
        info = "system" if code < 400 else "error"
        response = {"time": time, "code": code, "msg": "", "detail": detail}
        self._send({"info": info, "response": response})

    def entries(self, room: str, *entries: tuple[float, str, str, Any]) -> None:
        """Entries of a room as one message: each time, user, type and data."""
        keys = ("time", "user", "type", "data")
        payload = [dict(zip(keys, entry, strict=True)) for entry in entries]
        self._send({"info": "user", "room": room, "payload": payload})

    def members(self, room: str, **joined_at: float) -> None:
        """A room's list."""
        self.entries(room, *((time, user, "join", "") for user, time in joined_at.items()))

    def _send(self, message: dict[str, Any]) -> None:
        self._write_frame(TEXT, json.dumps(message).encode())

    def close(self, code: int) -> None:
        self._write_frame(CLOSE, code.to_bytes(2, "big"))

    def reset(self) -> None:
        """The client's reads and writes fail, after it has read what is there."""
        self._down.ended = True
        self._up.reset = True
        self._down.change()
        self._up.change()

    def _write_frame(self, opcode: int, payload: bytes) -> None:
        length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
        self._write(bytes([0x80 | opcode]) + length + payload)

    def _write(self, data: bytes) -> None:
        self._down.data += data
        self._down.change()


class ScriptedServer:
    def __init__(self) -> None:
        self.listens = True
        self.dialed_at: list[float] = []
        self._dialed, self._accepted = trio.open_memory_channel[ScriptedConnection](8)

    async def dial(self) -> trio.abc.Stream:
        """Connects a client: for `client_by_dialing`."""
        await trio.lowlevel.checkpoint()
        self.dialed_at.append(trio.current_time())
        if not self.listens:
            raise trio_vrchat.CannotConnect("nobody listens")
        client_end, _, up, down = stream_pair("client")
        self._dialed.send_nowait(ScriptedConnection(up, down))
        return client_end

    async def accept(self) -> ScriptedConnection:
        """The next connection, after its WebSocket handshake."""
        connection = await self._accepted.receive()
        await connection.accept()
        return connection

    def close(self) -> None:
        self._dialed.close()
        self._accepted.close()


@asynccontextmanager
async def open_scripted(
    *, reconnect: bool = True, seed: int = 1, user: str = "Tibi"
) -> AsyncIterator[tuple[ScriptedServer, ScriptedConnection, trio_vrchat.Client]]:
    """A scripted server, its first connection, and a client who has logged in on it.

    The session is "first"; in the lobby are the client's user, since 100, and Anna, since 90.
    """
    server = ScriptedServer()
    connections: list[ScriptedConnection] = []

    async def let_in() -> None:
        connection = await server.accept()
        login = await connection.receive()
        assert login["options"].pop("resume", False) is reconnect
        assert login == {"system": "login", "options": {"user": user, "pass": "secret"}}
        connection.answer(202, 100, **({"session": "first", "grace_s": 30.0, "user": user} if reconnect else {}))
        connection.members("lobby", **{"Anna": 90, user: 100})
        connections.append(connection)

    async with open_background() as nursery:
        nursery.start_soon(let_in)
        async with client_by_dialing(
            server.dial,
            "memory",
            "/",
            user,
            "secret",
            reconnect=reconnect,
            dice=random.Random(seed),
            wall_clock=trio.current_time,
        ) as client:
            [connection] = connections
            yield server, connection, client
    server.close()
