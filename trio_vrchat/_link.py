"""One WebSocket connection of a client: text in, text out, and an end with a close code.

- `open_link` dials, shakes hands, and closes politely at the end, also where it is cancelled: the server keeps the
  place of a user whose connection just vanished, so a client that leaves for good has to say so.
- A link is lost once. What was received before that can still be taken; nothing can be sent any more.
- A peer that vanished without a word is noticed: it does not answer a ping.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio_websocket

from ._background import open_background
from ._errors import CannotConnect, ConnectionLost

# A batch of a thousand members with hands.
_MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
# Many round trips, and a server that comes back and greets everybody at once.
_HANDSHAKE_TIMEOUT_S = 10.0
# As long as the server waits for our answer to its close frame.
_CLOSE_TIMEOUT_S = 3.0
# As long as the server waits for us.
_SEND_TIMEOUT_S = 5.0
# The server's own figures; `websockets` has the same in both directions.
_PING_INTERVAL_S = 20.0
_PONG_TIMEOUT_S = 20.0
_ABNORMAL = 1006

Dial = Callable[[], Awaitable[trio.abc.Stream]]
"""Connects to the server, with TLS still to be spoken where it is an SSLStream. Raises CannotConnect."""


@asynccontextmanager
async def open_link(dial: Dial, host: str, target: str) -> AsyncIterator[Link]:
    """Connect, and be connected until the end of the body. `host` and `target` are those of the HTTP request.

    Raises CannotConnect.
    """
    stream = await dial()
    try:
        async with open_background() as nursery:
            reader = _Reader(nursery)
            try:
                websocket = await _handshake(reader, stream, host, target)
                link = Link(websocket, stream)
                nursery.start_soon(link.keep_alive, name="keepalive of a link")
                try:
                    yield link
                finally:
                    if not reader.ended:
                        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                            await websocket.aclose()
            finally:
                reader.scope.cancel()
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await trio.aclose_forcefully(stream)


class Link:
    """A connection over which both sides may speak. Made by `open_link`."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._websocket = websocket
        self._stream = stream
        self._cut_because = ""

    @property
    def alive(self) -> bool:
        """Whether there is any use in sending."""
        return self._websocket.closed is None and not self._cut_because

    async def receive(self) -> str:
        """The next text. Raises ConnectionLost when there will be no more."""
        try:
            message = await self._websocket.get_message()
        except trio_websocket.ConnectionClosed:
            raise self._lost() from None
        return message if isinstance(message, str) else message.decode()

    async def send(self, text: str) -> None:
        """Send a text to its end, whatever is being cancelled: of half a message the server could not read on.

        Raises ConnectionLost, and ends the link, where the server takes nothing for five seconds.
        """
        with trio.move_on_after(_SEND_TIMEOUT_S, shield=True) as sending:
            try:
                await self._websocket.send_message(text)
            except trio_websocket.ConnectionClosed:
                raise self._lost() from None
        if sending.cancelled_caught:
            await self._cut(f"the server took nothing for {_SEND_TIMEOUT_S:g} s")
            raise self._lost()

    async def keep_alive(self) -> None:
        """Ping now and then, and end the link where the answer does not come. A task of its own."""
        for number in itertools.count():
            await trio.sleep(_PING_INTERVAL_S)
            with trio.move_on_after(_PONG_TIMEOUT_S) as waiting:
                try:
                    await self._websocket.ping(number.to_bytes(8, "big"))
                except trio_websocket.ConnectionClosed:
                    return
            if waiting.cancelled_caught:
                await self._cut(f"the server did not answer a ping within {_PONG_TIMEOUT_S:g} s")
                return

    async def _cut(self, because: str) -> None:
        # A message may have been cut in the middle: nothing that came after it could be read.
        self._cut_because = because
        await trio.aclose_forcefully(self._stream)

    def _lost(self) -> ConnectionLost:
        closed = self._websocket.closed
        if self._cut_because or closed is None:
            return ConnectionLost(_ABNORMAL, self._cut_because)
        return ConnectionLost(int(closed.code), closed.reason or "")


class _Reader:
    """Stands where the library wants a nursery for its reader, which has no other way to say that it has ended.

    Cancellation does not reach it: it is there to hear the server's answer to our close frame. `scope` ends it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.scope = trio.CancelScope(shield=True)
        self.handshake = trio.CancelScope()
        self.how_it_ended = f"no answer within {_HANDSHAKE_TIMEOUT_S:g} s"
        self.ended = False

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader, name="WebSocket reader")

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        with self.scope:
            try:
                await reader()
                self.how_it_ended = "it hung up"
            except trio_websocket.ConnectionRejected as rejection:
                self.how_it_ended = f"it answered with HTTP status {rejection.status_code}"
            except Exception as error:  # noqa: BLE001  (whatever the server sent to confuse the library)
                self.how_it_ended = f"it answered with something else: {error}"
        self.ended = True
        self.handshake.cancel()


async def _handshake(
    reader: _Reader, stream: trio.abc.Stream, host: str, target: str
) -> trio_websocket.WebSocketConnection:
    reader.handshake.deadline = trio.current_time() + _HANDSHAKE_TIMEOUT_S
    with reader.handshake:
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
