"""What is wrong in the framing: RFC 6455, sections 5.2, 5.4 and 5.5."""

from __future__ import annotations

import random

from trio_vrchat._frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from trio_vrchat.testing import client_frame

from ._registry import at_once, attack
from .client import Connection, Target

# Over the limit of either server: 64 KiB, and for a stock server 1 MiB.
_OVERSIZE_BYTES = (1 << 20) + 1
_FRAGMENTS = 50_000
_GARBAGE_BYTES = 200_000


async def _send_and_hold(target: Target, data: bytes) -> None:
    async with target.connect() as client:
        await client.send(data)
        await target.hold(client)


@attack
async def oversize_then_ping(target: Target) -> None:
    """A message over the limit, and a ping behind it. A stock server process dies of it."""
    await _send_and_hold(target, client_frame(TEXT, b"x" * _OVERSIZE_BYTES) + client_frame(PING, b"") * 3)


@attack
async def oversize_kept_open(target: Target) -> None:
    """A message over the limit, and the socket kept open. A stock server says 1009 and never frees it."""
    async with target.connect() as client:
        await client.send_frame(TEXT, b"x" * _OVERSIZE_BYTES)
        await _read_the_close(client)
        await target.hold(client)


async def _read_the_close(client: Connection) -> None:
    while client.close_code is None and await client.read() is not None:
        pass


@attack
async def a_ping_that_crosses_the_close(target: Target) -> None:
    """A ping right where the server sends its own close frame. A stock server process dies of it.

    Here it is the close of somebody whose name is taken over (4009).
    """
    name = next(target.names)
    async with target.login(name) as client, target.connect() as other:
        if target.stock:
            await client.say("bye")
        else:
            await other.login(name)
        await _read_the_close(client)
        for _ in range(20):
            await client.send_frame(PING, b"crossing")
        await target.hold(client)


@attack
async def bad_utf8(target: Target) -> None:
    """Text that is no UTF-8. A stock server hangs up without a close code."""
    await _send_and_hold(target, client_frame(TEXT, b'{"system": "\xff"}'))


@attack
async def a_reserved_bit(target: Target) -> None:
    """A reserved bit. A stock server hangs up without a close code."""
    await _send_and_hold(target, b"\xc1" + client_frame(TEXT, b"{}")[1:])


@attack
async def an_unmasked_frame(target: Target) -> None:
    """A frame without a mask. A stock server hangs up without a close code."""
    await _send_and_hold(target, b"\x81\x02{}")


@attack
async def an_exabyte_announced(target: Target) -> None:
    """The header of a frame that will never end. A stock server waits for it for ever."""
    await _send_and_hold(target, b"\x81\xff\x0f" + b"\xff" * 7 + bytes(4))


@attack
async def endless_empty_fragments(target: Target) -> None:
    """One message in empty pieces, which no limit on its size ends. A stock server takes any number."""
    await _send_fragments(target, b"")


@attack
async def tiny_fragments(target: Target) -> None:
    """One message in pieces of one large character. A stock server keeps each as an object of its own."""
    await _send_fragments(target, "😀".encode())


async def _send_fragments(target: Target, piece: bytes) -> None:
    """Fragments; then a ping, whose pong says that all of them were taken."""
    async with target.connect() as client:
        await client.send_frame(TEXT, piece, final=False)
        for _ in range(_FRAGMENTS // 500):
            await client.send(client_frame(CONTINUATION, piece, final=False) * 500)
        await client.send_frame(PING, b"all taken")
        await client.read()
        await target.hold(client)


@attack
async def resets_in_a_frame(target: Target) -> None:
    """Members who are gone in the midst of a frame."""
    frame = client_frame(TEXT, b'{"room": "lobby", "data": "hello"}')

    async def reset_at(cut: int) -> None:
        async with target.login() as client:
            await client.send(frame[:cut])
            client.reset()

    await at_once(reset_at, range(1, len(frame)))


@attack
async def garbage_frames(target: Target) -> None:
    """Frames of every kind, drawn at random, some of them broken."""

    async def send(seed: int) -> None:
        draw = random.Random(seed)
        async with target.login() as client:
            for _ in range(draw.randint(1, 12)):
                opcode = draw.choice([TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11])
                frame = client_frame(opcode, draw.randbytes(draw.choice([0, 1, 2, 40, 126, 300])))
                if draw.random() < 0.1:
                    frame = bytes([frame[0] ^ 1 << draw.randrange(8)]) + frame[1:]
                await client.send(frame)

    await at_once(send, range(30))


@attack
async def garbage_bytes(target: Target) -> None:
    """Bytes drawn at random, as a member."""
    draw = random.Random(2)
    async with target.login() as client:
        await client.send(draw.randbytes(_GARBAGE_BYTES))
        await target.hold(client)
