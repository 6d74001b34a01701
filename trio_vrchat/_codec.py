"""Bytes ↔ messages: what a client's text means, and how the server's answers are written.

Reading goes in steps, because the protocol fixes the order of the checks (chapter 1): `parse` raises 406 and nothing
else; between it and the others the session checks the login (403); `read_system_request`, `read_room_message` and
`read_transform` raise 400.

msgspec's typed decoding skips what it is not asked for, and `msgspec.Raw` is not looked into: a number that is not
finite, or half a surrogate pair, would pass in a part of `data` that the server never reads and break a client that
does. So `parse` decodes every message whole (half a microsecond for a transform), and only then is it taken apart.
What is relayed is the client's own bytes: no number is ever converted.

Nearly all messages are transforms, and nearly all of these hold the same few numbers: `read_plain_transform` decodes
such a one by types that leave nothing unread, in half the time.

Writing joins fragments: each entry of a payload is encoded once, however many messages hold it.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from ._errors import BadRequest, InvalidStructure
from ._messages import (
    TRANSFORM,
    ClockOptions,
    LoginOptions,
    PlainMessage,
    PlainTransformData,
    PlaybackOptions,
    RecordingsOptions,
    RecordOptions,
    ResumeOptions,
    RoomMessage,
    SystemRequest,
    TransformData,
)
from ._names import name_key

# Protocol, chapter 1.
NESTING_LIMIT = 64
USER_NAME_LIMIT = 32
ROOM_NAME_LIMIT = 64
# msgspec refuses what is too large for a double, except integers, of which Python has no largest. One of up to 308
# digits fits.
_LONGEST_FINITE = 308
_DIGITS_AS_ZEROS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# What each byte adds to the depth, as a signed byte; all others add nothing.
_STEPS = bytes({0x5B: 1, 0x7B: 1, 0x5D: 0xFF, 0x7D: 0xFF}.get(byte, 0) for byte in range(256))
_STEPLESS = bytes(byte for byte in range(256) if not _STEPS[byte])

_T = TypeVar("_T")

_decode_any = msgspec.json.Decoder().decode
_decode_room_message = msgspec.json.Decoder(RoomMessage).decode
_decode_plain_message = msgspec.json.Decoder(PlainMessage).decode
_decode_plain_transform = msgspec.json.Decoder(PlainTransformData).decode
_decode_transform = msgspec.json.Decoder(TransformData).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.encode


def parse(text: str) -> dict[str, Any]:
    """The message as plain values. Raises InvalidStructure (406) where a rule for every message is broken."""
    try:
        tree = _decode_any(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # msgspec's, UnicodeError, and int()'s limit on digits are ValueErrors
        raise InvalidStructure(f"not a JSON text that the protocol allows: {error}") from None
    if type(tree) is not dict:
        raise InvalidStructure(f"a message is a JSON object, not {_kind(tree)}")
    # Nearly every message is too short for what a closer look would find; for nearly all others two counts prove it.
    if len(text) > 2 * NESTING_LIMIT and (text.count("{") + text.count("[") > NESTING_LIMIT or _has_long_digits(text)):
        _look_closer(text)
    return tree


def _kind(value: object) -> str:
    names: dict[type, str] = {
        list: "an array",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _look_closer(text: str) -> None:
    """Check the text, not the tree: of two equal keys the tree keeps only the last, and the text is what is relayed.

    All of it in C: the longest message holds 65,000 brackets or quotes, and everybody waits while they are counted.
    """
    # What is left between quotes, once those in strings are gone, is outside and inside of strings by turns.
    bare = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    steps = array("b", bare.encode().translate(_STEPS, _STEPLESS))
    if max(itertools.accumulate(steps), default=0) > NESTING_LIMIT:
        raise InvalidStructure(f"nesting is at most {NESTING_LIMIT} deep")
    if _has_long_digits(bare) and any(
        len(number) > _LONGEST_FINITE and math.isinf(float(number)) for number in _NUMBER.findall(bare)
    ):
        raise InvalidStructure("a number is larger than any double")


def _has_long_digits(text: str) -> bool:
    # (Not by a pattern: it would begin anew at each of the digits of a number that is just too short.)
    return len(text) > _LONGEST_FINITE and b"0" * (_LONGEST_FINITE + 1) in text.encode().translate(_DIGITS_AS_ZEROS)


def read_plain_transform(text: bytes) -> tuple[str, bytes] | None:
    """The room and the data of a transform that holds what every transform does, and nothing else.

    None where the steps must be gone: where `parse`, `read_room_message` and `read_transform` might find anything
    amiss, or change anything. `text` is UTF-8.
    """
    # (An escape could be a key written twice, and of a `data` that comes first nobody would look at the numbers.)
    if b"\\" in text or text.count(b'"data"') != 1:
        return None
    try:
        message = _decode_plain_message(text)
        if message.type != TRANSFORM:
            return None
        data = bytes(message.data)
        _decode_plain_transform(data)
    except (ValueError, RecursionError):
        return None
    return message.room, data


def read_system_request(tree: dict[str, Any]) -> SystemRequest:
    """Raises BadRequest (400)."""
    return _converted(tree, SystemRequest, "")


def read_login(options: dict[str, Any]) -> LoginOptions:
    """Raises BadRequest (400)."""
    login: LoginOptions = _converted(options, LoginOptions, "options: ")
    check_user_name(login["user"])
    return login


def read_resume(options: dict[str, Any]) -> ResumeOptions:
    """Raises BadRequest (400)."""
    return _converted(options, ResumeOptions, "options: ")


def read_clock(options: dict[str, Any]) -> ClockOptions:
    """Raises BadRequest (400)."""
    return _converted(options, ClockOptions, "options: ")


def read_record(options: dict[str, Any]) -> RecordOptions:
    """Raises BadRequest (400)."""
    return _converted(options, RecordOptions, "options: ")


def read_recordings(options: dict[str, Any]) -> RecordingsOptions:
    """Raises BadRequest (400)."""
    return _converted(options, RecordingsOptions, "options: ")


def read_playback(options: dict[str, Any]) -> PlaybackOptions:
    """Raises BadRequest (400)."""
    return _converted(options, PlaybackOptions, "options: ")


def _converted(value: object, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{where}{error}") from None


def read_room_message(text: str) -> RoomMessage:
    """Raises BadRequest (400). The room's name is not checked here: one that the user is in has been."""
    try:
        return _decode_room_message(text)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def check_name(name: str, limit: int, what: str) -> None:
    """Raises BadRequest (400) where `name` is not one that the protocol allows (chapter 1)."""
    if not name:
        raise BadRequest(f"a name of a {what} must not be empty")
    if len(name) > limit:
        raise BadRequest(f"a name of a {what} is at most {limit} characters long, not {len(name)}")
    if not name.isprintable() and any(unicodedata.category(character) in ("Cc", "Cf") for character in name):
        raise BadRequest(f"a name of a {what} holds no control or format characters")


def check_user_name(name: str) -> None:
    """Raises BadRequest (400) where `name` is not one that a user may have."""
    check_name(name, USER_NAME_LIMIT, "user")
    if not name_key(name):
        raise BadRequest("nothing of that name of a user would be seen")


def read_transform(data: bytes | msgspec.Raw) -> bytes:
    """The `data` of a transform with its coordinates complete. Raises BadRequest (400) where one is of the wrong kind.

    A client that sends all six gets its own bytes relayed.
    """
    try:
        transform = _decode_transform(data)
    except msgspec.ValidationError as error:
        raise BadRequest(f"data: {error}") from None
    for group in (transform.pos, transform.rot):
        if not group or group.x is msgspec.UNSET or group.y is msgspec.UNSET or group.z is msgspec.UNSET:
            return _completed(data)
    return bytes(data)


def _completed(data: bytes | msgspec.Raw) -> bytes:
    parts: dict[str, Any] = dict(_decode_parts(data))
    for group in ("pos", "rot"):
        given = _decode_parts(parts[group]) if group in parts else {}
        parts[group] = {"x": 0.0, "y": 0.0, "z": 0.0} | given
    return encode(parts)


def encode_entry(time: float, user: bytes, kind: bytes, data: bytes) -> bytes:
    """One entry of a payload. All but `time` are JSON already."""
    return b'{"time":%b,"user":%b,"type":%b,"data":%b}' % (encode(time), user, kind, data)


def encode_payload(room: bytes, entries: Iterable[bytes]) -> bytes:
    """A message of a room. `room` and the entries are JSON already."""
    return b'{"info":"user","room":%b,"payload":[%b]}' % (room, b",".join(entries))


def encode_answer(time: float, code: int, text: str, detail: dict[str, Any]) -> bytes:
    """A system message (protocol, chapter 2)."""
    info = "system" if code < 400 else "error"
    return encode({"info": info, "response": {"time": time, "code": code, "msg": text, "detail": detail}})


def encode_notice(time: float, room: str, notice: dict[str, Any]) -> bytes:
    """What only those are told who asked for it (README, "Rooms on several servers")."""
    return encode({"info": "notice", "room": room, "notice": {"time": time} | notice})
