"""One simulated connection: WebSocket frames over a network that delays, splits, stalls and cuts.

The server's end is a RawClient of `trio_vrchat.testing`, whose pipes are the kernel's buffers. What a client sends
waits here until the network hands it on; what the server wrote stays in its pipe while the network or the client
stands still, and fills it.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import trio

from trio_vrchat._frames import CLOSE, PING, PONG, TEXT
from trio_vrchat.testing import RawClient, client_frame, upgrade_request

from .scheduler import settle

# Each costs a settling of everything; so many show what a thousand would.
_PIECES_AT_MOST = 16
# An honest client's pace, stricter than the server's limit: what a stall has held back does not come as one burst.
_EVENTS_AT_ONCE, _EVENTS_PER_S = 12, 5.0


@functools.lru_cache(maxsize=64)
def _decoded(payload: bytes) -> dict[str, Any]:
    """A room sends the same bytes to everybody: they are decoded once. Nobody changes what comes out."""
    message: dict[str, Any] = msgspec.json.decode(payload)
    return message


class Transcript:
    """A hash of every frame that every client was sent, in the order in which they were taken."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.frames = 0

    def note(self, link: int, opcode: int, payload: bytes) -> None:
        self.frames += 1
        self._hash.update(b"%d %d %d " % (link, opcode, len(payload)))
        self._hash.update(payload)

    def digest(self) -> str:
        return self._hash.hexdigest()


@attrs.define(eq=False)
class _Packet:
    data: bytes
    due: float
    # Whether it counts as an event for the pace.
    event: bool
    delivered: Callable[[], object]


def _nothing() -> None:
    pass


@attrs.define(eq=False)
class Link:
    """A client's side of one connection."""

    number: int
    raw: RawClient
    transcript: Transcript
    # The network's faults.
    delay_s: float = 0.0
    piece_bytes: int = 0  # a packet is handed on in pieces of so many bytes; 0: whole
    up_stands: bool = False
    down_stands: bool = False
    cut: bool = False  # nothing passes any more, and nobody says so
    # Bytes that the client reads at a time, at each look; 0: all.
    reads_bytes: int = 0
    paced: bool = True
    # Until when the server may still end it for what the network did.
    doubted_until: float = 0.0

    upgraded: bool = False
    ended: bool = False  # the client has seen the end: a close frame, or the end of the stream
    close_code: int | None = None
    _up: deque[_Packet] = attrs.field(factory=deque)
    _down: deque[tuple[float, bytes]] = attrs.field(factory=deque)
    _unparsed: bytearray = attrs.field(factory=bytearray)
    _texts: deque[bytes] = attrs.field(factory=deque)
    _pace: float = _EVENTS_AT_ONCE
    _paced_at: float = 0.0

    # Up

    def open(self) -> None:
        """Send the upgrade request."""
        self._send(upgrade_request())

    def send(self, message: dict[str, Any], delivered: Callable[[], object] = _nothing) -> None:
        """Send one message; `delivered` is called when its last byte has reached the server's buffer."""
        event = message.get("type") != "transform"
        self._send(client_frame(TEXT, msgspec.json.encode(message)), delivered, event=event)

    def send_bytes(self, data: bytes, delivered: Callable[[], object] = _nothing) -> None:
        self._send(data, delivered)

    def close(self, delivered: Callable[[], object]) -> None:
        """Send a close frame."""
        self._send(client_frame(CLOSE, (1000).to_bytes(2, "big")), delivered)

    def _send(self, data: bytes, delivered: Callable[[], object] = _nothing, *, event: bool = False) -> None:
        self._up.append(_Packet(data, trio.current_time() + self.delay_s, event, delivered))

    @property
    def lost(self) -> bool:
        """Whether nothing that is sent will arrive."""
        return self.cut or self.ended or self.raw.ended

    @property
    def flows(self) -> bool:
        """Whether what the server writes is taken as it comes."""
        return not (self.cut or self.down_stands or self.reads_bytes)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the server."""
        return not self._up

    def next_arrival(self, after: float) -> float:
        """When the next bytes arrive, at either end, that are still on their way; infinity where none are."""
        dues = [packet.due for packet in self._up] + [due for due, _ in self._down]
        return min((due for due in dues if due > after), default=math.inf)

    @property
    def trusted(self) -> bool:
        """Whether what the server writes has been taken as it comes for so long that the server can have no reason to
        end the connection.
        """
        return self.flows and trio.current_time() >= self.doubted_until

    @property
    def caught_up(self) -> bool:
        """Whether the client has seen all that the server has written."""
        return self.flows and not self._down and not self.raw.unread_bytes

    async def hand_on(self) -> bool | None:
        """Hand the next packet that is due to the server, in its pieces.

        None where there is none; else whether something comes of it that others may see.
        """
        if not self._up or self.up_stands or self.lost:
            return None
        packet = self._up[0]
        now = trio.current_time()
        if packet.due > now or (packet.event and self.paced and not self._may_send(now)):
            return None
        self._up.popleft()
        size = len(packet.data)
        step = max(self.piece_bytes, -(-size // _PIECES_AT_MOST)) if self.piece_bytes else size
        for start in range(0, size, step):
            if start:
                await settle()
            self.raw.send_bytes(packet.data[start : start + step])
        packet.delivered()
        return packet.delivered is not _nothing

    def _may_send(self, now: float) -> bool:
        self._pace = min(_EVENTS_AT_ONCE, self._pace + (now - self._paced_at) * _EVENTS_PER_S)
        self._paced_at = now
        if self._pace < 1:
            return False
        self._pace -= 1
        return True

    # Down

    def take(self) -> bool:
        """Take what has come; say whether there was something. Answers pings."""
        if self.cut or self.down_stands:
            return False
        now = trio.current_time()
        data = self.raw.take_bytes(self.reads_bytes or None) if self.raw.unread_bytes else b""
        if data:
            self._down.append((now + self.delay_s, data))
        came = False
        while self._down and self._down[0][0] <= now:
            self._unparsed += self._down.popleft()[1]
            came = True
        if came:
            self._parse()
        if self.raw.ended and not self._down and not self.raw.unread_bytes:
            self.ended = True
        return came or bool(data)

    def messages(self) -> list[dict[str, Any]]:
        """What was taken and not yet looked at."""
        texts, self._texts = self._texts, deque()
        return [_decoded(text) for text in texts]

    def _parse(self) -> None:
        unparsed = self._unparsed
        if not self.upgraded:
            head, end, rest = bytes(unparsed).partition(b"\r\n\r\n")
            if not end:
                return
            self.transcript.note(self.number, 0, head)
            self.upgraded = head.startswith(b"HTTP/1.1 101 ")
            unparsed[:] = rest
            if not self.upgraded:
                unparsed.clear()
        while len(unparsed) >= 2:
            first, length, start = unparsed[0], unparsed[1], 2
            assert first & 0xF0 == 0x80, f"a server's frame is whole and has no reserved bits: {first:#x}"
            assert length < 128, "a server's frame has no mask"
            if length >= 126:
                start = 4 if length == 126 else 10
                length = int.from_bytes(unparsed[2:start], "big")
            if len(unparsed) < start + length:
                return
            payload = bytes(unparsed[start : start + length])
            del unparsed[: start + length]
            self._frame(first & 0x0F, payload)

    def _frame(self, opcode: int, payload: bytes) -> None:
        assert self.close_code is None, "nothing follows a close frame"
        self.transcript.note(self.number, opcode, payload)
        if opcode == TEXT:
            self._texts.append(payload)
        elif opcode == PING:
            self._send(client_frame(PONG, payload))
        elif opcode != PONG:  # (random bytes can be a ping)
            assert opcode == CLOSE, f"a server sends no frame with opcode {opcode:#x}"
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.ended = True
            if not self.cut:
                self.raw.send_bytes(client_frame(CLOSE, payload[:2]))
