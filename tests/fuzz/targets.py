"""What is fuzzed: functions of some bytes that raise only where a promise is broken, and bytes to begin with.

Plain functions, so that any fuzzer, or none, can call them; `python -m tests.fuzz` has atheris do it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import attrs
import trio

from trio_vrchat import testing
from trio_vrchat._codec import parse, read_login, read_room_message, read_system_request, read_transform
from trio_vrchat._errors import RequestError
from trio_vrchat._frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, FrameMeter
from trio_vrchat.testing import client_frame, settle, upgrade_request

_TRANSFORM = b'{"room":"lobby","type":"transform","data":{"pos":{"x":1,"y":1.6e0},"rot":{"z":-0.5},"quat":[null]}}'
_MESSAGES = (
    b'{"system":"ping"}',
    b'{"system":"login","options":{"user":"Tibi","pass":"1234"}}',
    b'{"room":"den","type":"join","data":""}',
    '{"room":"lobby","data":"h\u00e9llo \\ud83d\\ude00"}'.encode(),
    _TRANSFORM,
)
_FRAMES = (
    client_frame(TEXT, _MESSAGES[0]),
    client_frame(TEXT, b"{", final=False) + client_frame(PING, b"p") + client_frame(CONTINUATION, b"}"),
    client_frame(BINARY, b"x" * 300),
    client_frame(CLOSE, b"\x03\xe8bye"),
)
_MESSAGE_LIMIT_BYTES = 1024


def codec(data: bytes) -> None:
    """A text is a message or refused, and nothing else."""
    text = data.decode(errors="replace")
    try:
        tree = parse(text)
    except RequestError:
        return
    with contextlib.suppress(RequestError):
        read_login(read_system_request(tree).options)
    try:
        transform = read_transform(bytes(read_room_message(text).data))
    except RequestError:
        return
    # What is relayed keeps the rules that were asked of what came.
    parse(transform.decode())


def frames(data: bytes) -> None:
    """The meter never raises, and judges the same however the bytes are split. The first byte says how."""
    size, stream = data[0] % 16 + 1 if data else 1, data[1:]
    whole, pieces, one_by_one = (FrameMeter(_MESSAGE_LIMIT_BYTES) for _ in range(3))
    sound = whole.feed(stream)
    assert 0 <= sound <= len(stream)
    assert not (whole.peer_closed and whole.violation), "what follows a close frame is not judged"
    sound_pieces = sum(pieces.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    assert sound_pieces == sound or (whole.violation and sound_pieces > sound), (sound_pieces, sound)
    position = 0
    while step := one_by_one.feed(stream[position:], 1):
        position += step
    assert position == sound, (position, sound)
    for meter in (pieces, one_by_one):
        assert meter.peer_closed == whole.peer_closed
        assert (meter.violation and meter.violation.code) == (whole.violation and whole.violation.code)


class _Warnings(logging.Handler):
    """Keeps what the server found worth a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


def opening(data: bytes) -> None:
    """A client that begins with these bytes ends alone. The first byte says how they are split and what follows."""
    size, after, stream = (data[0] % 64 + 1, data[0] // 64, data[1:]) if data else (1, 0, b"")
    warnings = _Warnings()
    logger = logging.getLogger("trio_vrchat")
    logger.addHandler(warnings)
    try:
        testing.run(_open_with, [stream[start : start + size] for start in range(0, len(stream), size)], after)
    finally:
        logger.removeHandler(warnings)
    assert not warnings.messages, warnings.messages


async def _open_with(pieces: list[bytes], after: int) -> None:
    async with testing.open_server() as server:
        tasks = trio.lowlevel.current_statistics().tasks_living
        client = await server.dial()
        for piece in pieces:
            client.send_bytes(piece)
            await settle()
        if after == 1:
            client.end()
        elif after == 2:
            client.reset()
        await settle()
        assert client.ended or after not in (1, 2), "who hangs up is not waited for"
        # Ten to log in, three for the closing handshake; a client that logged in may stay.
        await trio.sleep(15)
        client.reset()
        await settle()
        assert client.ended
        assert (server.statistics.connections, server.statistics.members) == (0, 0)
        assert trio.lowlevel.current_statistics().tasks_living == tasks


@attrs.frozen
class Target:
    """A function, inputs from which a fuzzer makes others, and words that it puts into them."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...]


_JSON_WORDS = tuple(
    rb'"room": "type": "data": "system": "options": "user": "pass": "pos": "x": {} [] "" , null 1e999 \ud83d'.split()
)
_HEADER_WORDS = tuple(
    (
        b"GET HEAD /healthz HTTP/1.0 Connection: close Host: Upgrade Sec-WebSocket- websocket Content-Length: chunked "
        b"\r\n \xff xn--a"
    ).split(b" ")
)
# Of frames: the opcode, and a length of each form.
_HEADS = (
    b"\x81\x80",
    b"\x01\x81",
    b"\x80\xfe\x00\x7e",
    b"\x82\xff" + bytes(5) + b"\x01\x00\x00",
    b"\x88\x82",
    b"\x89\x80",
)
_PAGE = b'GET /?a HTTP/1.1\r\nHost: memory\r\nAccept-Encoding: gzip;q=0.5, *\r\nIf-None-Match: W/"x"\r\n\r\n'
_SPLIT_AND_AFTER = (b"\x3f", b"\x47", b"\xbf")
TARGETS = {
    "codec": Target(codec, _MESSAGES, _JSON_WORDS),
    "frames": Target(frames, tuple(b"\x02" + frame for frame in (*_FRAMES, b"".join(_FRAMES))), _HEADS),
    "opening": Target(
        opening,
        tuple(
            first + upgrade_request(headers=headers) + b"".join(_FRAMES)
            for first in _SPLIT_AND_AFTER
            for headers in ("", "Origin: http://memory\r\nSec-WebSocket-Protocol: a, b\r\n", "Content-Length: 5\r\n")
        )
        + tuple(first + _PAGE + _PAGE.replace(b"GET", b"HEAD") + upgrade_request() for first in _SPLIT_AND_AFTER),
        _HEADER_WORDS,
    ),
}
