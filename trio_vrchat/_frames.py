"""WebSocket frames as bytes (RFC 6455, section 5.2): those the server builds, and a meter for those it is sent.

A frame from a server is not masked, so one frame is the same bytes for every recipient: `text_frame` builds it once
and any number of connections write it.

`whole_text` reads the frames that nearly all frames of a client are: a text message in one piece. What it does not
read goes through `FrameMeter`, header by header, before the WebSocket library sees it. The library counts characters
of whole messages, so that empty fragments pass it without end, and it answers a broken frame by silence; the meter
counts bytes and fragments and names the close code. It never looks into a payload.
"""

from __future__ import annotations

from ._errors import FrameViolation

# RFC 6455, section 5.2
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN = 0x80
_RESERVED_BITS = 0x70
_MASKED = 0x80
_MASK_BYTES = 4
_LENGTH_IN_2_BYTES, _LENGTH_IN_8_BYTES = 126, 127
# Section 5.5: a control frame carries at most 125 bytes.
_CONTROL_LIMIT_BYTES = 125
# Section 7.4.1
PROTOCOL_ERROR, MESSAGE_TOO_BIG = 1002, 1009

# A message of the largest size has no honest reason to come in pieces of fewer bytes, and each piece is kept by the
# library as an object of its own: without a limit, empty ones would fill the memory. 64 KiB are 4096 pieces at most.
_BYTES_PER_FRAGMENT = 16


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < _LENGTH_IN_2_BYTES:
        return bytes((_FIN | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((_FIN | opcode, _LENGTH_IN_2_BYTES)) + length.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, _LENGTH_IN_8_BYTES)) + length.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """One whole text message from a server. `payload` is UTF-8."""
    return _frame(TEXT, payload)


def ping_frame() -> bytes:
    """A ping from a server."""
    return _frame(PING, b"")


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame from a server. A reason over 123 bytes is cut: section 5.5 has no room for more."""
    text = reason.encode()[: _CONTROL_LIMIT_BYTES - 2].decode(errors="ignore").encode()
    return _frame(CLOSE, code.to_bytes(2, "big") + text)


_WHOLE_TEXT = _FIN | TEXT
_SHORT_HEADER_BYTES, _MIDDLE_HEADER_BYTES = 2 + _MASK_BYTES, 4 + _MASK_BYTES


def whole_text(data: bytes, start: int, limit_bytes: int) -> tuple[bytes, int] | None:
    """The text message that begins at `start`, as UTF-8, and the place where it ends.

    None where something else is: another kind of frame, a part of a message, a frame that breaks a rule, text that is
    no UTF-8, a message of more than `limit_bytes`.
    """
    end = len(data)
    begin = start + _SHORT_HEADER_BYTES
    if end < begin or data[start] != _WHOLE_TEXT:
        return None
    length = data[start + 1] - _MASKED  # (negative where there is no mask)
    if length >= _LENGTH_IN_2_BYTES:
        begin = start + _MIDDLE_HEADER_BYTES
        if length == _LENGTH_IN_8_BYTES or end < begin:
            return None
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        if length < _LENGTH_IN_2_BYTES:
            return None
    stop = begin + length
    if length < 0 or stop > end or length > limit_bytes:
        return None
    mask = data[begin - _MASK_BYTES : begin] * (length // _MASK_BYTES + 1)
    masked = int.from_bytes(data[begin:stop], "little")
    text = (masked ^ int.from_bytes(mask[:length], "little")).to_bytes(length, "little")
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return None
    return text, stop


class FrameMeter:
    """Checks the headers of the frames that one client sends, as their bytes come in, split anywhere.

    - `feed` MUST be given every byte after the handshake, once, in order; but whole text messages may be left out
      `between_messages`.
    - `between_messages`: a new message may begin here.
    - `peer_closed` turns true with the header of the client's close frame. What follows it has no meaning
      (section 5.5.1): it is not judged and not to be passed on.
    - `pongs` counts pongs, `frames` all frames, and `messages` the data messages of which the last frame has begun.
    - `violation` says what broke the rules: 1002 where a header breaks section 5.2, 5.4 or 5.5; 1009 where a message
      announces more bytes than the limit, or comes in more pieces than one for each 16 bytes of the limit. The rest of
      the stream has no meaning after it.
    """

    __slots__ = (
        "_fragments",
        "_fragments_limit",
        "_header",
        "_limit_bytes",
        "_message_bytes",
        "_payload_left",
        "between_messages",
        "frames",
        "messages",
        "peer_closed",
        "pongs",
        "violation",
    )

    def __init__(self, message_limit_bytes: int) -> None:
        self._limit_bytes = message_limit_bytes
        self._fragments_limit = message_limit_bytes // _BYTES_PER_FRAGMENT
        self._header = bytearray()
        self._payload_left = 0
        self._fragments = 0  # of the message that is under way; 0 between messages
        self._message_bytes = 0
        self.between_messages = True
        self.frames = 0
        self.messages = 0
        self.pongs = 0
        self.peer_closed = False
        self.violation: FrameViolation | None = None

    def feed(self, data: bytes | bytearray, limit_frames: int | None = None) -> int:
        """Read on. Returns how many of these bytes may be passed on: up to a violation or the end of a close frame.

        With `limit_frames`, up to the end of so many frames at most; the bytes behind them MUST be fed again.
        """
        taken = self._feed(data, limit_frames)
        self.between_messages = not (
            self._payload_left or self._fragments or self._header or self.peer_closed or self.violation
        )
        return taken

    def _feed(self, data: bytes | bytearray, limit_frames: int | None) -> int:
        if self.violation is not None:
            return 0
        position, end = 0, len(data)
        frame_start = frames = 0
        header = self._header
        while position < end:
            if self._payload_left:
                step = min(self._payload_left, end - position)
                self._payload_left -= step
                position += step
                continue
            if not header:
                if self.peer_closed or frames == limit_frames:
                    return position
                frames += 1
                frame_start = position
            wanted = self._header_bytes() - len(header)
            header += data[position : position + wanted]
            position += wanted
            if len(header) == self._header_bytes():
                try:
                    self._begin_frame()
                except FrameViolation as violation:
                    self.violation = violation
                    return frame_start
                header.clear()
        return end

    def _header_bytes(self) -> int:
        """How long this header is, as far as its bytes tell."""
        if len(self._header) < 2:
            return 2
        length = self._header[1] & 0x7F
        extra = 2 if length == _LENGTH_IN_2_BYTES else 8 if length == _LENGTH_IN_8_BYTES else 0
        return 2 + extra + (_MASK_BYTES if self._header[1] & _MASKED else 0)

    def _begin_frame(self) -> None:
        self.frames += 1
        first, second = self._header[0], self._header[1]
        final, opcode = bool(first & _FIN), first & 0x0F
        if first & _RESERVED_BITS:
            raise FrameViolation(PROTOCOL_ERROR, "a reserved bit is set and no extension was agreed on")
        if not second & _MASKED:
            raise FrameViolation(PROTOCOL_ERROR, "a client's frame must be masked")
        length = second & 0x7F
        if length == _LENGTH_IN_2_BYTES:
            length = int.from_bytes(self._header[2:4], "big")
            if length < _LENGTH_IN_2_BYTES:
                raise FrameViolation(PROTOCOL_ERROR, f"the length {length} is not in its shortest form")
        elif length == _LENGTH_IN_8_BYTES:
            length = int.from_bytes(self._header[2:10], "big")
            if length < 1 << 16 or length >> 63:
                raise FrameViolation(PROTOCOL_ERROR, f"the length {length} is not in its shortest form")
        if opcode >= CLOSE:
            self._begin_control_frame(opcode, length, final)
        else:
            self._begin_data_frame(opcode, length, final)
        self._payload_left = length

    def _begin_control_frame(self, opcode: int, length: int, final: bool) -> None:
        if opcode > PONG:
            raise FrameViolation(PROTOCOL_ERROR, f"opcode {opcode:#x} is reserved")
        if not final or length > _CONTROL_LIMIT_BYTES:
            raise FrameViolation(PROTOCOL_ERROR, "a control frame must be whole and of at most 125 bytes")
        if opcode == CLOSE:
            self.peer_closed = True
        elif opcode == PONG:
            self.pongs += 1

    def _begin_data_frame(self, opcode: int, length: int, final: bool) -> None:
        if opcode > BINARY:
            raise FrameViolation(PROTOCOL_ERROR, f"opcode {opcode:#x} is reserved")
        if (opcode == CONTINUATION) != (self._fragments > 0):
            raise FrameViolation(PROTOCOL_ERROR, "a continuation frame and a message must follow each other")
        self._fragments += 1
        self._message_bytes += length
        if self._message_bytes > self._limit_bytes:
            raise FrameViolation(MESSAGE_TOO_BIG, f"a message is at most {self._limit_bytes} bytes")
        if self._fragments > self._fragments_limit:
            raise FrameViolation(MESSAGE_TOO_BIG, f"a message has at most {self._fragments_limit} fragments")
        if final:
            self.messages += 1
            self._fragments = 0
            self._message_bytes = 0
