"""Too much of what is allowed. A stock server survives these: it has nothing that could be full but its memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import trio

from trio_vrchat._frames import PING, PONG, TEXT
from trio_vrchat.testing import client_frame

from ._registry import attack
from .client import Connection, Target, until

_CONNECTIONS = 300
_CONNECTIONS_IN_A_ROW = 10
_PIECE_FRAMES = 50
_FLOOD_S = 1.5
_ALL_SENT = b"all of it was sent"


async def _flood(target: Target, frames: Sequence[bytes], *, times: int) -> None:
    """Send these frames so many times, as a member who reads what comes back.

    It is over when the server has dealt with all of it, or has made it wait for so long that no more harm is done.
    """
    repeated = max(1, _PIECE_FRAMES // len(frames))
    piece = b"".join(frames) * repeated
    async with target.login() as client, trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + _FLOOD_S

        async def send() -> None:
            for _ in range(max(1, times // repeated)):
                await client.send(piece)
            await client.send_frame(PING, _ALL_SENT)

        nursery.start_soon(send)
        tail = b""
        while _ALL_SENT not in tail and (data := await client.receive()):
            tail = tail[-len(_ALL_SENT) :] + data
        nursery.cancel_scope.cancel()


def _room_message(data: Any, **keys: str) -> bytes:
    return client_frame(TEXT, json.dumps({"room": "lobby", "data": data} | keys).encode())


@attack
async def chat_flood(target: Target) -> None:
    """Thousands of lines, as fast as they go."""
    await _flood(target, [_room_message("flood")], times=5000)


@attack
async def large_line_flood(target: Target) -> None:
    """Lines of nearly 64 KiB, which everybody in the room would have to take."""
    await _flood(target, [_room_message("x" * 65_000)], times=200)


@attack
async def transform_flood(target: Target) -> None:
    """Thousands of moves."""
    await _flood(target, [_room_message({"pos": {"x": 1.0}}, type="transform")], times=10_000)


@attack
async def large_transform_flood(target: Target) -> None:
    """Moves of nearly 64 KiB: a batch holds the latest of everybody."""
    await _flood(target, [_room_message({"avatar": "x" * 65_000}, type="transform")], times=400)


@attack
async def ping_flood(target: Target) -> None:
    """Thousands of WebSocket pings, each of which asks for a pong."""
    await _flood(target, [client_frame(PING, b"x" * 125)], times=20_000)


@attack
async def pong_flood(target: Target) -> None:
    """Thousands of pongs that nobody asked for."""
    await _flood(target, [client_frame(PONG, b"")], times=20_000)


@attack
async def error_flood(target: Target) -> None:
    """Thousands of messages that are each answered with an error."""
    broken = ["{", "[]", '{"system": 1}', '{"system": "no such"}', '{"room": "none", "data": 1}', '{"room": "lobby"}']
    await _flood(target, [client_frame(TEXT, text.encode()) for text in broken], times=1000)


@attack
async def list_flood(target: Target) -> None:
    """Thousands of short requests with a long answer: the members, and the rooms."""
    rooms = client_frame(TEXT, b'{"system": "rooms"}')
    await _flood(target, [_room_message("", type="list"), rooms], times=2000)


@attack
async def join_and_leave_flood(target: Target) -> None:
    """A room opened and closed, thousands of times."""
    both = [_room_message("", room="den", type="join"), _room_message("", room="den", type="leave")]
    await _flood(target, both, times=2000)


@attack
async def room_flood(target: Target) -> None:
    """A thousand rooms opened."""
    await _flood(target, [_room_message("", room=f"room {n}", type="join") for n in range(1000)], times=1)


@attack
async def deep_json(target: Target) -> None:
    """JSON nested 30,000 deep, in each of the ways."""
    deep = [opening * 30_000 + closing * 30_000 for opening, closing in (("[", "]"), ("[", ""), ('{"a":', ""))]
    deep.append('{"room": "lobby", "data": ' + "[" * 30_000 + "]" * 30_000 + "}")
    await _flood(target, [client_frame(TEXT, text[:65_000].encode()) for text in deep], times=25)


@attack
async def huge_numbers(target: Target) -> None:
    """Numbers of 60,000 digits, and numbers that are none."""
    numbers = [
        "9" * 60_000,
        "1e999999999",
        "-0." + "0" * 60_000 + "1",
        "NaN",
        "Infinity",
        "1e-999999999",
        "1" + "e9" * 9,
    ]
    texts = [f'{{"room": "lobby", "data": {number}}}' for number in numbers]
    texts += [f'{{"room": "lobby", "type": "transform", "data": {{"pos": {{"x": {n}}}}}}}' for n in numbers]
    await _flood(target, [client_frame(TEXT, text.encode()) for text in texts], times=10)


@attack
async def many_connections(target: Target) -> None:
    """Hundreds of connections at once, of which each does nothing; then all are reset."""
    async with trio.open_nursery() as nursery:
        opened: list[Connection] = []

        async def connect() -> None:
            try:
                async with target.dial() as client:
                    await client.upgrade()
                    opened.append(client)
                    await client.read_to_the_end()
            except (trio.BrokenResourceError, ConnectionError):
                pass
            finally:
                ended.release()

        ended = trio.Semaphore(0)
        for _ in range(_CONNECTIONS):
            nursery.start_soon(connect)
        # All are open, or the server has ended them.
        await until(lambda: len(opened) + ended.value >= _CONNECTIONS)
        nursery.cancel_scope.cancel()


@attack
async def connections_in_a_row(target: Target) -> None:
    """Connections, one after the other, each reset after its handshake."""
    for _ in range(_CONNECTIONS_IN_A_ROW):
        async with target.dial() as client:
            await client.upgrade()
            client.reset()
