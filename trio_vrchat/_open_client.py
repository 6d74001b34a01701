"""`open_client`: from a URL to a user who is logged in, and to a closed connection at the end."""

from __future__ import annotations

import random
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from ._background import open_background
from ._client import Client
from ._errors import CannotConnect
from ._link import Dial, open_link
from ._reconnecting import Connecting


@asynccontextmanager
async def open_client(
    url: str,
    user: str,
    password: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    reconnect: bool = True,
    transforms: bool = True,
) -> AsyncIterator[Client]:
    """Connect to a server, log in, and be in its lobby.

    `url` is `ws://host:port/` or `wss://host:port/`; `ssl_context` is for certificates that the system does not know.

        async with trio_vrchat.open_client("ws://127.0.0.1:42069/", "Tibi", "1234") as client:
            await client.say("lobby", "hello")
            async for event in client:
                print(event)

    Where the connection is lost later, the client comes back by itself, into the rooms that it was in, and says so
    with the events Disconnected and Reconnected. It raises ConnectionLost where it does not come back: with close code
    4009 this user has come on another connection, or the reason says how the server refused the login. With
    `reconnect=False` every lost connection is the end, and the server does not keep this user's place.

    With `transforms=False` there are no events Moved, for a program that does not look where people are: in a full room
    they are most of its work.

    Raises ValueError (no such URL), CannotConnect, and the RequestError of a login that was refused: AccessDenied,
    Conflict (the name is taken), BadRequest (it is no name), SlowDown, Unavailable.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"a URL begins with ws://host or wss://host, not {url!r}")
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    tls = (ssl_context or ssl.create_default_context()) if parts.scheme == "wss" else None

    async def dial() -> trio.abc.Stream:
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise CannotConnect(f"nobody answers at {url}: {error}") from error
        return trio.SSLStream(stream, tls, server_hostname=host) if tls else stream

    # Nobody can guess when this client comes back.
    dice = random.Random()
    network_host = parts.netloc.rpartition("@")[2]
    async with client_by_dialing(
        dial,
        network_host,
        target,
        user,
        password,
        reconnect=reconnect,
        dice=dice,
        wall_clock=time.time,
        transforms=transforms,
    ) as client:
        yield client


@asynccontextmanager
async def client_by_dialing(
    dial: Dial,
    host: str,
    target: str,
    user: str,
    password: str,
    *,
    reconnect: bool,
    dice: random.Random,
    wall_clock: Callable[[], float],
    transforms: bool = True,
) -> AsyncIterator[Client]:
    """`open_client` over the streams that `dial` gives, one for each attempt; each is closed at its end."""
    connecting = Connecting(
        user,
        password,
        partial(open_link, dial, host, target),
        reconnect=reconnect,
        dice=dice,
        wall_clock=wall_clock,
        transforms=transforms,
    )
    async with open_background() as nursery:
        await nursery.start(connecting.run, name=f"connection of {user}")
        yield Client(connecting.rooms, connecting.events, connecting.line)
