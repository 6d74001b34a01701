"""Peers that do nothing, at the worst time."""

from __future__ import annotations

from trio_vrchat._frames import CLOSE, TEXT
from trio_vrchat.testing import client_frame

from ._registry import attack
from .client import Target

_SMALL_BUFFER_BYTES = 4096
_LINE = "x" * 30_000


@attack
async def no_login(target: Target) -> None:
    """A WebSocket, and not a word on it. A stock server keeps it for ever."""
    async with target.connect() as client:
        await target.hold(client)


@attack
async def half_a_frame(target: Target) -> None:
    """A member who stops in the midst of a frame, and reads. A stock server keeps it for ever."""
    async with target.login() as client:
        await client.send(client_frame(TEXT, b'{"room": "lobby", "data": "hello"}')[:20])
        await target.hold(client)


@attack
async def vanished(target: Target) -> None:
    """A member who answers no ping, as one whose Wi-Fi is gone. A stock server never asks, and keeps it for ever."""
    async with target.login() as client:
        await target.hold(client)


@attack
async def a_close_kept_open(target: Target) -> None:
    """Say goodbye, and keep the socket open. A stock server hangs up."""
    async with target.login() as client:
        await client.send_frame(CLOSE, (1000).to_bytes(2, "big"))
        await target.hold(client)


@attack
async def an_unanswered_close(target: Target) -> None:
    """Be sent a close frame, and do not answer it. A stock server waits for a minute."""
    async with target.connect() as client:
        if target.stock:
            await client.say("bye")
        await target.hold(client)


@attack
async def never_reads(target: Target) -> None:
    """A member who talks, and never reads what comes back. In a stock server it stops the whole chat, for ever."""
    async with target.login(receive_buffer_bytes=_SMALL_BUFFER_BYTES) as client:
        target.holding.set()
        # In the end the server has ended the connection, or reads no more of it.
        while True:
            await client.say({"room": "lobby", "data": _LINE})
