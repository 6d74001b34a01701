"""What is said over the wire, as values (protocol, chapters 1 and 2).

The classes a client's message is decoded into are also its check: msgspec refuses what does not fit their types, and
says where. What a server says to a member is built as bytes by `_codec`, once for everybody.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import attrs
import msgspec

JOIN, LEAVE, LIST, MESSAGE, TRANSFORM = "join", "leave", "list", "msg", "transform"


@attrs.frozen
class SystemRequest:
    """`{"system": NAME, "options": {...}}`"""

    system: str
    options: dict[str, Any] = attrs.Factory(dict)


# The `options` of `login` and `resume`; other keys are left alone. ("pass" is no name for an attribute.)
LoginOptions = TypedDict(
    "LoginOptions", {"user": str, "pass": str, "resume": NotRequired[bool], "notices": NotRequired[bool]}
)


class ResumeOptions(TypedDict):
    """What a client that comes back says: its token, and the time up to which it has seen each room."""

    session: str
    seen: NotRequired[dict[str, float]]


class ClockOptions(TypedDict):
    """A client's estimate of the server's clock: seconds to add to its own, and how far off that may be."""

    offset: float
    bound: float


class RecordOptions(TypedDict):
    """Whether to record from now on, and what its manifest notes."""

    on: bool
    notes: NotRequired[dict[str, str]]


class RecordingsOptions(TypedDict):
    """Which recording's details; left out: the list of all."""

    number: NotRequired[int]


class PlaybackOptions(TypedDict):
    """Which recording and room, and so many seconds of it from a time on; `seek`: from there anew."""

    number: int
    room: str
    time: float
    seconds: float
    seek: NotRequired[bool]


# The next are what most messages are made of. msgspec makes its own structures in half the time that it needs for
# attrs' classes.


class RoomMessage(msgspec.Struct, frozen=True, gc=False):
    """`{"room": ROOM, "type": TYPE, "data": DATA}`; `data` stays as it was written."""

    room: str
    data: msgspec.Raw
    type: str = MESSAGE


class Coordinates(msgspec.Struct, frozen=True, gc=False):
    """`{"x": , "y": , "z": }`: metres of a `pos`, radians of a `rot`."""

    x: float | msgspec.UnsetType = msgspec.UNSET
    y: float | msgspec.UnsetType = msgspec.UNSET
    z: float | msgspec.UnsetType = msgspec.UNSET


class TransformData(msgspec.Struct, frozen=True, gc=False):
    """The `data` of a `transform`, as far as the server looks at it."""

    pos: Coordinates | msgspec.UnsetType = msgspec.UNSET
    rot: Coordinates | msgspec.UnsetType = msgspec.UNSET


class Quaternion(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """`{"x": , "y": , "z": , "w": }`."""

    x: float
    y: float
    z: float
    w: float


class PlainCoordinates(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Coordinates and nothing else."""

    x: float
    y: float
    z: float


class PlainHand(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Where a hand is, and how it is turned."""

    pos: PlainCoordinates
    rot: PlainCoordinates | None = None
    quat: Quaternion | None = None


class PlainHands(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Those of them that are tracked."""

    left: PlainHand | None = None
    right: PlainHand | None = None


class PlainTransformData(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The `data` of a transform that holds what the protocol names (chapter 2), and nothing else."""

    pos: PlainCoordinates
    rot: PlainCoordinates
    quat: Quaternion | None = None
    hands: PlainHands | None = None
    t: float | None = None


class PlainMessage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A room message and nothing else."""

    room: str
    type: str
    data: msgspec.Raw


# Why the server ends a connection: WebSocket close codes beside those of RFC 6455, section 7.4.1.
NO_LOGIN, TOO_SLOW, TAKEN_OVER = 4001, 4008, 4009

# Codes and texts of the answers that are not errors; those of the errors are in `_errors`.
OK = (200, "Ok.")
ACCESS_GRANTED = (202, "Access granted.")
LISTING = (212, "Listing information.")
PONG = (220, "Pong.")
