"""The engine in Redis (7 or later), by coredis. All that knows coredis is here.

coredis (6.9) is used crash-only, because that is how it holds. Left to mend itself, its iteration over publications
ends without a word when it reconnects, each reconnection and each cancelled pipeline costs its pool a place until there
is none, its retries write twice, and without a timeout an engine that hangs is waited for for ever. So:

- a session is two connections of its own, outside any pool: one asks, one receives;
- nothing is retried or reconnected, and everything has a deadline;
- what waits to be received has a limit of ours, coredis's own buffer having none;
- whatever goes wrong, in whatever shape it is raised, ends the session as LinkLost, once and for all. What was asked
  for can be asked for again in another: the script in `redis_engine.lua` sees to that.
"""

from __future__ import annotations

import importlib.resources
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import msgspec
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from ._background import open_background
from ._backplane import (
    ACCOUNTS_LIMIT,
    COMINGS_KEPT,
    READ_ON_LIMIT,
    SWEEP_LIMIT,
    EngineSession,
    Failed,
    LinkLost,
    Moves,
    Publication,
    Reply,
    Request,
    RoomEvents,
    Taken,
    Timing,
)
from ._redis_place import PREFIX, RedisPlace

_OLDEST_MAJOR = 7
# On a local network a call takes a millisecond; this is for one that hiccups.
_CALL_TIMEOUT_S = 2.0
# The connection that only receives would not notice that there is nobody at its other end.
_PING_INTERVAL_S = 3.0
# Whoever takes what is received does so at once: this is a process that stood still. As Redis's own limit for one who
# receives (client-output-buffer-limit pubsub).
_INBOX_LIMIT_BYTES = 32 * 1024 * 1024
_SCRIPT = importlib.resources.files("trio_vrchat").joinpath("redis_engine.lua").read_bytes()

_encode = msgspec.msgpack.encode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode
_decode_room_events = msgspec.msgpack.Decoder(RoomEvents).decode
_decode_taken = msgspec.msgpack.Decoder(Taken).decode

# It reports each lost connection with a traceback; who has lost a session says it once.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


class RedisEngine:
    """The Redis at this URL: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`; with `rediss://`, by TLS.

    All that it keeps there begins with `prefix` and the number of the database. `clock`, for tests, takes the place of
    Redis's own: microseconds since the Unix epoch. Raises ConfigError.
    """

    def __init__(
        self,
        url: str,
        timing: Timing | None = None,
        *,
        prefix: str = PREFIX,
        clock: Callable[[], int] | None = None,
    ) -> None:
        timing = timing or Timing()
        self._place = RedisPlace.of(url)
        self._tls = ssl.create_default_context() if self._place.tls else None
        self._prefix = self._place.prefix(prefix).encode()
        self._clock = clock
        self._settings: dict[str, int] = {
            "lease": round(timing.lease_s * 1e6),
            "gap": round(timing.gap_s * 1e6),
            "settle": round(timing.settle_s * 1e6),
            "comings_kept": COMINGS_KEPT,
            "read_on_limit": READ_ON_LIMIT,
            "sweep_limit": SWEEP_LIMIT,
            "accounts_limit": ACCOUNTS_LIMIT,
        }

    def __str__(self) -> str:
        return f"Redis at {self._place}"

    @asynccontextmanager
    async def session(self, node: str) -> AsyncIterator[EngineSession]:
        """As `Engine.session`."""
        async with open_background() as nursery:
            session = _Session(self._prefix, self._settings, self._clock)
            try:
                await session.open(nursery, self._connection, node)
            except Exception as error:
                raise LinkLost(f"{self}: {_why(error)}") from error
            yield session

    def _connection(self) -> TCPConnection:
        place = self._place
        return TCPConnection(
            TCPLocation(place.host, place.port),
            connect_timeout=_CALL_TIMEOUT_S,
            stream_timeout=_CALL_TIMEOUT_S,
            username=place.user,
            password=place.password,
            db=place.database,
            client_name="trio_vrchat",
            ssl_context=self._tls,
        )


class _Session:
    _asking: TCPConnection
    _receiving: TCPConnection
    _script: str

    def __init__(self, prefix: bytes, settings: dict[str, int], clock: Callable[[], int] | None) -> None:
        self._prefix = prefix
        self._settings = settings
        self._encoded_settings = _encode(settings)
        self._clock = clock
        self._connections: list[TCPConnection] = []
        self._why = ""
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._inbox_bytes = 0
        self._arrived = trio.lowlevel.ParkingLot()
        # By channel, those who wait for Redis to confirm that they listen to it, or no longer do.
        self._confirmations: dict[bytes, trio.Event] = {}
        self._moves = prefix + b"moves"
        self._rooms = prefix + b"to:"

    async def open(self, nursery: trio.Nursery, connection: Callable[[], TCPConnection], node: str) -> None:
        """Connect. Raises whatever coredis raises."""
        self._asking = await nursery.start(self._keep_connection, connection(), name="asking Redis")
        self._receiving = await nursery.start(self._keep_connection, connection(), name="receiving from Redis")
        version = self._asking.server_version or ""
        if int(version.partition(".")[0] or 0) < _OLDEST_MAJOR:
            raise LinkLost(f"it is version {version}, and must be {_OLDEST_MAJOR} or later")
        script = await self._asking.create_request(b"SCRIPT LOAD", _SCRIPT, decode=True)
        self._script = str(script)
        nursery.start_soon(self._receive_all, name="publications of Redis")
        nursery.start_soon(self._ping, name="pings to Redis")
        await self._change(b"SUBSCRIBE", [self._moves, self._prefix + b"node:" + node.encode()])

    async def _keep_connection(
        self, connection: TCPConnection, *, task_status: trio.TaskStatus[TCPConnection] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run a connection. It raises only until it is open; from then on its end is the session's."""
        status = _Started(connection, task_status)
        self._connections.append(connection)
        try:
            await connection.run(task_status=status)
        except Exception as error:
            if not status.is_open:
                # What coredis leaves open where it could not connect.
                for part in vars(connection).values():
                    if isinstance(part, MemoryObjectSendStream | MemoryObjectReceiveStream):
                        part.close()
                raise
            self._lose(error)
        else:
            self._lose(LinkLost("the connection was closed"))

    def _lose(self, error: BaseException) -> LinkLost:
        """The session is over; returns what is to be raised."""
        if not self._why:
            self._why = _why(error)
            for connection in self._connections:
                connection.invalidate()
            self._arrived.unpark_all()
            for confirmed in self._confirmations.values():
                confirmed.set()
        return LinkLost(self._why)

    def _check(self) -> None:
        if self._why:
            raise LinkLost(self._why)

    # Asking

    async def call(self, requests: Sequence[Request]) -> list[Reply]:
        self._check()
        settings = self._encoded_settings
        if self._clock is not None:
            settings = _encode(self._settings | {"now": self._clock()})
        replies: list[Reply] = []
        try:
            asked = [
                self._asking.create_request(b"EVALSHA", self._script, 1, self._prefix, _encode(request), settings)
                for request in requests
            ]
            for reply in asked:
                try:
                    encoded: Any = await reply
                    replies.append(_decode_reply(encoded))
                except (NoScriptError, ReadOnlyError):
                    raise  # another session loads the script again, and may find the primary
                except ResponseError as error:
                    replies.append(Failed(why=str(error)))
        except trio.Cancelled as cancelled:
            self._lose(cancelled)
            raise
        except Exception as error:
            raise self._lose(error) from error
        return replies

    async def publish(self, data: bytes) -> None:
        self._check()
        try:
            await self._asking.create_request(b"PUBLISH", self._moves, data)
        except trio.Cancelled as cancelled:
            self._lose(cancelled)
            raise
        except Exception as error:
            raise self._lose(error) from error

    # Receiving

    async def listen(self, rooms: Sequence[str]) -> None:
        await self._change(b"SUBSCRIBE", [self._rooms + room.encode() for room in rooms])

    async def stop_listening(self, rooms: Sequence[str]) -> None:
        await self._change(b"UNSUBSCRIBE", [self._rooms + room.encode() for room in rooms])

    async def _change(self, command: bytes, channels: list[bytes]) -> None:
        """Have Redis confirm this for each of the channels."""
        self._check()
        if not channels:
            return  # Redis would take it for all
        with trio.move_on_after(_CALL_TIMEOUT_S) as scope:
            try:
                # Two who change one channel go one after the other.
                for channel in channels:
                    while (other := self._confirmations.get(channel)) is not None:
                        await other.wait()
                confirmed = {channel: trio.Event() for channel in channels}
                self._confirmations |= confirmed
                self._receiving.send_command(command, *channels)
                for event in confirmed.values():
                    await event.wait()
            except trio.Cancelled as cancelled:
                self._lose(cancelled)
                raise
            except Exception as error:
                raise self._lose(error) from error
        if scope.cancelled_caught:
            raise self._lose(TimeoutError(f"no {command.decode()} within {_CALL_TIMEOUT_S:g} s"))
        self._check()

    async def _receive_all(self) -> None:
        """Take what Redis pushes, as it comes."""
        try:
            async with aclosing(self._receiving.push_messages) as messages:
                async for message in messages:
                    kind, channel, data = cast("tuple[bytes, bytes, bytes]", message)
                    if kind == b"message":
                        self._inbox.append((channel, data))
                        self._inbox_bytes += len(data)
                        if self._inbox_bytes > _INBOX_LIMIT_BYTES:
                            raise LinkLost(f"over {_INBOX_LIMIT_BYTES} bytes waited to be taken")
                        self._arrived.unpark_all()
                    elif (confirmed := self._confirmations.pop(channel, None)) is not None:
                        confirmed.set()
        except Exception as error:  # noqa: BLE001  (whatever coredis makes of it)
            self._lose(error)

    async def _ping(self) -> None:
        while not self._why:
            await trio.sleep(_PING_INTERVAL_S)
            try:
                await self._receiving.create_request(b"PING")
            except Exception as error:  # noqa: BLE001  (whatever coredis makes of it)
                self._lose(error)

    async def receive(self) -> Publication:
        await trio.lowlevel.checkpoint()
        while not self._inbox:
            self._check()
            await self._arrived.park()
        self._check()
        channel, data = self._inbox.popleft()
        self._inbox_bytes -= len(data)
        if channel == self._moves:
            return Moves(data)
        return (_decode_room_events if channel.startswith(self._rooms) else _decode_taken)(data)


class _Started:
    """Hands on that a connection is open, with the connection, which coredis does not."""

    def __init__(self, connection: TCPConnection, task_status: trio.TaskStatus[TCPConnection]) -> None:
        self._connection = connection
        self._task_status = task_status
        self.is_open = False

    def started(self, value: object = None) -> None:
        self.is_open = True
        self._task_status.started(self._connection)


def _why(error: BaseException) -> str:
    if isinstance(error, trio.Cancelled):
        return "a call was cut short"
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        if inner is None:
            return str(error) or type(error).__name__
        error = inner
