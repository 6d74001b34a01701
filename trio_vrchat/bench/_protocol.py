"""The chat protocol as the load test speaks it: what its users say, and what it looks for in what they hear.

Rules:

- What users send is complete and valid: a server may check all of it.
- What users hear is read no further than counting needs.

Theory of operation: nearly everything that arrives are batches of transforms, the same bytes for every
member. Decoding each copy would cost more than the server spends on sending it. So a message that starts like
a room message, in either of the ways in which JSON is usually written, is searched for two patterns:
``"transform"``, one for each entry of a batch, and the run's own chat mark. Inside a JSON string a quotation
mark is escaped, so the mark cannot begin inside what somebody said, and of other words only a name or a chat
line that is, or ends in, ``"transform`` would be counted as a transform: the load test's own users have and
say no such thing. A message that is byte for byte the one before it has the same contents; that holds for
most, and comparing costs a small part of searching. Messages that start differently are decoded: they are
errors, answers, or room messages with another order of keys.
"""

import json
import math
import re
from typing import Final

import msgspec
from attrs import define, frozen

from ._wire import TEXT, WireError, client_frame

# Where everybody is who logs in.
LOBBY: Final = "lobby"

# One lap of a walker's circle. With 20 transforms a second it takes 13 s at walking speed.
_LAP_STEPS: Final = 256
_LAP_RADIUS_M: Final = 2.0
_EYE_HEIGHT_M: Final = 1.6

_ROOM_MESSAGE_STARTS: Final = (b'{"info":"user"', b'{"info": "user"')
_TRANSFORM: Final = b'"transform"'


@frozen
class Response:
    """What answers and errors carry."""

    code: int
    msg: str = ""


@frozen
class Entry:
    """An event of a room; its data and time are not looked at."""

    user: str
    type: str


@frozen
class Envelope:
    """Any message of a server."""

    info: str
    room: str = ""
    response: Response | None = None
    payload: tuple[Entry, ...] = ()


@frozen
class Contents:
    """What a message counts for.

    Attributes:
        transforms: entries of a batch.
        lines: the numbers of this run's chat lines in it, in their order.
        error_code: the code, where it is an error.
    """

    transforms: int = 0
    lines: tuple[int, ...] = ()
    error_code: int | None = None


_decoder: Final = msgspec.json.Decoder(Envelope)


def read_message(payload: bytes) -> Envelope:
    """Decode a message.

    Raises:
        WireError: it is not a message of the protocol.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{payload[:100]!r}, which is not a message of the protocol ({error})") from error


def login_frame(user: str) -> bytes:
    """A login; for a server that knows no accounts any password will do."""
    return _text_frame({"system": "login", "options": {"user": user, "pass": "bench"}})


def join_frame(room: str) -> bytes:
    """A user joins a room."""
    return _text_frame({"room": room, "type": "join", "data": ""})


def leave_frame(room: str) -> bytes:
    """And leaves it."""
    return _text_frame({"room": room, "type": "leave", "data": ""})


def lap() -> list[bytes]:
    """One lap of a walker: a transform's data as JSON for each step."""
    steps = []
    for step in range(_LAP_STEPS):
        turn = 2 * math.pi * step / _LAP_STEPS
        position = {
            "x": round(_LAP_RADIUS_M * math.cos(turn), 4),
            "y": round(_EYE_HEIGHT_M + 0.03 * math.sin(16 * turn), 4),
            "z": round(_LAP_RADIUS_M * math.sin(turn), 4),
        }
        rotation = {
            "x": round(0.2 * math.sin(3 * turn), 4),
            "y": round(-turn, 4),
            "z": round(0.05 * math.cos(turn), 4),
        }
        steps.append(_json({"pos": position, "rot": rotation}))
    return steps


def transform_frame(data: bytes, room: str) -> bytes:
    """The frame that says that the user is at `data`, a transform's as JSON, in this room."""
    return client_frame(TEXT, b'{"room":%b,"type":"transform","data":%b}' % (_json(room), data))


def _text_frame(message: dict[str, object]) -> bytes:
    return client_frame(TEXT, _json(message))


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@define(eq=False)
class ChatMark:
    """Chat lines that carry their number, and a mark by which they are told from everybody else's, earlier
    runs' included."""

    run: str
    room: str = LOBBY

    def frame(self, line: int) -> bytes:
        """The frame that says line number `line`."""
        return _text_frame({"room": self.room, "type": "msg", "data": f"bench {self.run} {line} and how are you all?"})


class Scanner:
    """Says what each message counts for; see the module's theory of operation."""

    def __init__(self, mark: ChatMark) -> None:
        self._mark = f'"bench {mark.run} '.encode()
        self._numbered = re.compile(rb"(?<!\\)" + re.escape(self._mark) + rb"(\d{1,9}) ")
        self._last_payload: bytes | None = None
        self._last_contents = Contents()

    def scan(self, payload: bytes) -> Contents:
        """What one text message counts for.

        Raises:
            WireError: it is not a message of the protocol.
        """
        if payload != self._last_payload:
            self._last_contents = self._search(payload)
            self._last_payload = payload
        return self._last_contents

    def _search(self, payload: bytes) -> Contents:
        if not payload.startswith(_ROOM_MESSAGE_STARTS):
            envelope = read_message(payload)
            if envelope.info == "error":
                return Contents(error_code=0 if envelope.response is None else envelope.response.code)
            if envelope.info != "user":
                return Contents()
        # Most messages hold no chat: the plain search is several times as quick as the expression.
        lines = tuple(map(int, self._numbered.findall(payload))) if self._mark in payload else ()
        return Contents(transforms=payload.count(_TRANSFORM), lines=lines)
