"""`open_client`: from a URL to a user who is logged in, and to a closed connection at the end."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio_websocket

from ._background import open_background
from ._client import Client
from ._errors import CannotConnect

# A batch of a thousand members with hands.
_MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
_HANDSHAKE_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 3.0


@asynccontextmanager
async def open_client(
    url: str, user: str, password: str, *, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    """Connect to a server, log in, and be in its lobby.

    `url` is `ws://host:port/` or `wss://host:port/`; `ssl_context` is for certificates that the system does not know.

        async with trio_vrchat.open_client("ws://127.0.0.1:42069/", "Tibi", "1234") as client:
            await client.say("lobby", "hello")
            async for event in client:
                print(event)

    Raises ValueError (no such URL), CannotConnect, AccessDenied or Conflict (the login was refused).
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"a URL begins with ws://host or wss://host, not {url!r}")
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "wss" else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    stream: trio.abc.Stream
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise CannotConnect(f"nobody answers at {url}: {error}") from error
    if parts.scheme == "wss":
        stream = trio.SSLStream(stream, ssl_context or ssl.create_default_context(), server_hostname=host)
    async with client_on_stream(stream, parts.netloc.rpartition("@")[2], target, user, password) as client:
        yield client


@asynccontextmanager
async def client_on_stream(
    stream: trio.abc.Stream, host: str, target: str, user: str, password: str
) -> AsyncIterator[Client]:
    """`open_client` on a stream that is connected already; it is closed at the end."""
    try:
        async with open_background() as nursery:
            websocket = await _handshake(nursery, stream, host, target)
            client = Client(user, websocket)
            nursery.start_soon(client.read, name=f"reader of {user}")
            try:
                await client.log_in(password)
                yield client
            finally:
                # Where we are cancelled, so is the library's reader, and nobody would hear the server's answer.
                with trio.move_on_after(_CLOSE_TIMEOUT_S):
                    await websocket.aclose()
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await trio.aclose_forcefully(stream)


class _Reader:
    """Stands where the library wants a nursery for its reader, which has no other way to say that it has ended."""

    def __init__(self, nursery: trio.Nursery, handshake: trio.CancelScope) -> None:
        self._nursery = nursery
        self._handshake = handshake
        self.how_it_ended = f"no answer within {_HANDSHAKE_TIMEOUT_S:g} s"

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader, name="WebSocket reader")

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
            self.how_it_ended = "it hung up"
        except trio_websocket.ConnectionRejected as rejection:
            self.how_it_ended = f"it answered with HTTP status {rejection.status_code}"
        except Exception as error:  # noqa: BLE001  (whatever the server sent to confuse the library)
            self.how_it_ended = f"it answered with something else: {error}"
        self._handshake.cancel()


async def _handshake(
    nursery: trio.Nursery, stream: trio.abc.Stream, host: str, target: str
) -> trio_websocket.WebSocketConnection:
    handshake = trio.move_on_after(_HANDSHAKE_TIMEOUT_S)
    reader = _Reader(nursery, handshake)
    with handshake:
        if isinstance(stream, trio.SSLStream):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                raise CannotConnect(f"no TLS with {host}: {error.__cause__ or error}") from error
        return await trio_websocket.wrap_client_stream(
            reader,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            stream,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            host,
            target,
            max_message_size=_MESSAGE_LIMIT_BYTES,
            receive_buffer_size=None,
        )
    raise CannotConnect(f"no WebSocket handshake with {host}: {reader.how_it_ended}")
