"""WebSocket (RFC 6455) as far as a load client needs it: bytes in, bytes out, no sockets.

Rules:

- Client frames are masked (section 5.3), server frames must not be (section 5.1).
- `FrameReader` gives the same messages however the bytes are cut: a frame may arrive in many pieces, and many
  frames in one.
- It never holds more than one message of `MESSAGE_BYTES` and one read besides.
- No extension is offered, so none of the reserved bits may be set.

Theory of operation: the hot path is one whole frame inside one read. It costs a look at two to ten header
bytes and one copy of the payload, and nothing in the payload is looked at. Only the tail of a read that ends
inside a frame is kept; it is put before the next read. Text is not checked to be UTF-8: that is the server's
duty, and looking at every byte in Python would make the load client the bottleneck.
"""

import base64
import hashlib
import os
import random
import struct
from typing import Final

from attrs import define, field, frozen

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL_CLOSURE: Final = 1000
NO_CODE: Final = 1005  # what section 7.1.5 calls a close frame without a code
NO_CLOSE_FRAME: Final = 1006  # and a connection that ended without a close frame

# A list of 100,000 members in one message takes about 10 MB. No server has a reason to send more in one.
MESSAGE_BYTES: Final = 16 * 1024 * 1024
# http.server and h11 both stop at 64 KiB of headers; an answer to an upgrade has a few hundred bytes.
HANDSHAKE_BYTES: Final = 16 * 1024

_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_TWO_BYTE_LENGTH: Final = 126
_EIGHT_BYTE_LENGTH: Final = 127
_SHORTEST_FRAME: Final = 2
_LONGEST_CONTROL: Final = 125
_CLOSE_CODE_BYTES: Final = 2


class WireError(Exception):
    """The server broke a rule of RFC 6455; the message says which."""


@frozen
class Message:
    """A whole message, or one control frame: its opcode (never `CONTINUATION`) and its payload."""

    opcode: int
    payload: bytes


def client_frame(opcode: int, payload: bytes) -> bytes:
    """One final, masked frame."""
    size = len(payload)
    # The mask protects proxies from hostile scripts (section 10.3); here it only has to be right, not hard to
    # guess.
    key = random.getrandbits(32).to_bytes(4)
    if size < _TWO_BYTE_LENGTH:
        header = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 1 << 16:
        header = struct.pack("!BBH", _FIN | opcode, _MASKED | _TWO_BYTE_LENGTH, size)
    else:
        header = struct.pack("!BBQ", _FIN | opcode, _MASKED | _EIGHT_BYTE_LENGTH, size)
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
    return header + key + masked


def close_frame(code: int) -> bytes:
    """A masked close frame; one without a code for `NO_CODE`, which must not be sent (section 7.4.1)."""
    return client_frame(CLOSE, b"" if code == NO_CODE else code.to_bytes(_CLOSE_CODE_BYTES))


def close_code(payload: bytes) -> int:
    """The code in a close frame's payload, `NO_CODE` where it has none."""
    if not payload:
        return NO_CODE
    if len(payload) < _CLOSE_CODE_BYTES:
        raise WireError("a close frame with half a code")
    return int.from_bytes(payload[:_CLOSE_CODE_BYTES])


def new_key() -> str:
    """A fresh ``Sec-WebSocket-Key``."""
    return base64.b64encode(os.urandom(16)).decode()


def upgrade_request(host: str, path: str, key: str) -> bytes:
    """The client's half of the handshake (section 4.1); `host` as it stands in the URL, with its port."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def upgrade_answer_size(received: bytes | bytearray, key: str) -> int | None:
    """How many bytes at the start of `received` are the server's half of the handshake; None while it is
    incomplete.

    Raises:
        WireError: the answer is not a 101 to a request with `key`, or is too long.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > HANDSHAKE_BYTES:
            raise WireError(f"an answer to the handshake that is longer than {HANDSHAKE_BYTES} bytes")
        return None
    status, *lines = bytes(received[:end]).decode("latin-1").split("\r\n")
    if status.split(" ")[:2] != ["HTTP/1.1", "101"]:
        raise WireError(f"{status[:100]!r} in answer to the handshake instead of 101")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    digest = hashlib.sha1(key.encode() + _ACCEPT_SUFFIX, usedforsecurity=False).digest()
    if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise WireError("a Sec-WebSocket-Accept that does not fit the key")
    return end + 4


@define(eq=False)
class FrameReader:
    """Turns what a server sent after the handshake into messages.

    It MUST be fed every byte once and in order. It MUST NOT be used after it raised. What follows a close
    frame is dropped.
    """

    frames: int = 0
    """Frames read so far, fragments and control frames included."""
    _rest: bytearray = field(factory=bytearray)
    _fragments: bytearray = field(factory=bytearray)
    _fragments_opcode: int | None = None
    _ended: bool = False

    def feed(self, data: memoryview) -> list[Message]:
        """The messages that `data` completes, up to and including a close frame.

        Raises:
            WireError: the server broke the framing.
        """
        messages: list[Message] = []
        if self._rest:
            self._rest += data
            with memoryview(self._rest) as view:
                used = self._read(view, messages)
            del self._rest[:used]
        else:
            used = self._read(data, messages)
            self._rest += data[used:]
        if self._ended:
            self._rest.clear()
        return messages

    def _read(self, view: memoryview, messages: list[Message]) -> int:
        """Append what `view` completes to `messages`, and say how many of its bytes that took."""
        position, end = 0, len(view)
        while not self._ended and end - position >= _SHORTEST_FRAME:
            first, second = view[position], view[position + 1]
            start, length = position + 2, second & ~_MASKED
            if length >= _TWO_BYTE_LENGTH:
                start += 2 if length == _TWO_BYTE_LENGTH else 8
                if start > end:
                    break
                length = int.from_bytes(view[position + 2 : start])
            self._check(
                first, second, length
            )  # before the payload is there, so that no impossible length is waited for
            if start + length > end:
                break
            position = start + length
            self._take(first, bytes(view[start:position]), messages)
        return position

    def _check(self, first: int, second: int, length: int) -> None:
        opcode = first & 0xF
        if second & _MASKED:
            raise WireError("a masked frame")
        if first & _RESERVED:
            raise WireError("a frame with a reserved bit set, though no extension was agreed on")
        if opcode in (CLOSE, PING, PONG):
            if length > _LONGEST_CONTROL or not first & _FIN:
                raise WireError("a control frame that is fragmented or too long")
            return
        if opcode not in (CONTINUATION, TEXT, BINARY):
            raise WireError(f"a frame with the unknown opcode {opcode:#x}")
        if (opcode == CONTINUATION) != (self._fragments_opcode is not None):
            raise WireError("a fragment out of place")
        if len(self._fragments) + length > MESSAGE_BYTES:
            raise WireError(f"a message of more than {MESSAGE_BYTES} bytes")

    def _take(self, first: int, payload: bytes, messages: list[Message]) -> None:
        self.frames += 1
        opcode, final = first & 0xF, bool(first & _FIN)
        if opcode in (CLOSE, PING, PONG):
            messages.append(Message(opcode, payload))
            self._ended = opcode == CLOSE
        elif opcode != CONTINUATION and final:
            messages.append(Message(opcode, payload))
        else:
            if opcode != CONTINUATION:
                self._fragments_opcode = opcode
            self._fragments += payload
            if final:
                assert self._fragments_opcode is not None  # _check saw to it
                messages.append(Message(self._fragments_opcode, bytes(self._fragments)))
                self._fragments_opcode = None
                self._fragments.clear()
