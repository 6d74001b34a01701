"""What scanners and broken clients send before there is a WebSocket."""

from __future__ import annotations

import trio

from trio_vrchat.testing import upgrade_request

from ._registry import attack
from .client import Target

# A burst: how soon the server accepts decides whether a connection was reset before it was accepted.
_RESETS = 50
_BYTE_EVERY_S = 0.1


async def _send_head(target: Target, name: bytes, value: bytes) -> None:
    """One upgrade request with one header replaced, or added."""
    lines = [line for line in upgrade_request().split(b"\r\n") if line and not line.lower().startswith(name.lower())]
    async with target.dial() as client:
        await client.send(b"\r\n".join([*lines, b"%b: %b" % (name, value), b"", b""]))
        await client.read_answer()


@attack
async def host_in_bytes(target: Target) -> None:
    """`Host: \\xff`. A stock server process dies of it."""
    await _send_head(target, b"Host", b"\xff")


@attack
async def host_in_broken_punycode(target: Target) -> None:
    """`Host: xn--a`. A stock server process dies of it."""
    await _send_head(target, b"Host", b"xn--a")


@attack
async def connection_in_bytes(target: Target) -> None:
    """A byte that is no ASCII in `Connection`. A stock server process dies of it."""
    await _send_head(target, b"Connection", b"Upgrade, \xff")


@attack
async def protocol_in_bytes(target: Target) -> None:
    """A byte that is no ASCII in `Sec-WebSocket-Protocol`. A stock server process dies of it."""
    await _send_head(target, b"Sec-WebSocket-Protocol", b"\x80")


@attack
async def extensions_in_bytes(target: Target) -> None:
    """A byte that is no ASCII in `Sec-WebSocket-Extensions`. A stock server process dies of it."""
    await _send_head(target, b"Sec-WebSocket-Extensions", b"\xff")


@attack
async def resets_before_accept(target: Target) -> None:
    """Connect and reset at once."""
    for _ in range(_RESETS):
        async with target.dial() as client:
            client.reset()


@attack
async def resets_in_the_handshake(target: Target) -> None:
    """Send a whole upgrade request and reset at once, so that the server's answer, or its look at the peer, fails."""
    for _ in range(_RESETS):
        async with target.dial() as client:
            await client.send(upgrade_request())
            client.reset()


@attack
async def no_handshake(target: Target) -> None:
    """Connect and send nothing. A stock server waits for a minute."""
    async with target.dial() as client:
        await target.hold(client)


@attack
async def half_a_handshake(target: Target) -> None:
    """Send half a request and nothing more. A stock server waits for a minute."""
    async with target.dial() as client:
        await client.send(upgrade_request()[:60])
        await target.hold(client)


@attack
async def slow_header(target: Target) -> None:
    """Send a request byte by byte, and headers without end (slowloris). A stock server waits for a minute."""
    async with target.dial() as client, trio.open_nursery() as nursery:
        await client.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                await client.send(b"X: y\r\n")
                await trio.sleep(_BYTE_EVERY_S)

        nursery.start_soon(drip)
        await target.hold(client)
        nursery.cancel_scope.cancel()


@attack
async def hang_up_in_the_handshake(target: Target) -> None:
    """Send half a request and the end of the stream. A stock server waits for the rest for a minute."""
    async with target.dial() as client:
        await client.send(upgrade_request()[:60])
        client.end()
        await target.hold(client)


@attack
async def plain_get(target: Target) -> None:
    """Ask for a page, as a browser or a scanner does. A stock server answers 400, and waits for a minute."""
    async with target.dial() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: memory\r\n\r\n")
        await client.read_answer()
        await target.hold(client)


@attack
async def tls_to_a_plain_port(target: Target) -> None:
    """The start of a TLS handshake. A stock server waits for a minute."""
    async with target.dial() as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2)
        await target.hold(client)


@attack
async def a_head_without_an_end(target: Target) -> None:
    """A megabyte of headers. A stock server answers 400 at 16 KiB, and waits for a minute."""
    async with target.dial() as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(1000):
            await client.send(b"X: y\r\n" * 170)
        await target.hold(client)


@attack
async def a_foreign_origin(target: Target) -> None:
    """A page of another site connects, is refused, and keeps its socket open. A stock server never frees it."""
    async with target.dial() as client:
        status = await client.upgrade("Origin: https://attacker.example\r\n")
        # Not even an attacker who is refused for another reason, such as too many connections, may get past it.
        assert status != 101, "a page of another site was let in"
        await target.hold(client)
