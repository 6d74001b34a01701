"""Who is in a room, and what happens to them there: the values that a room's state is changed by."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ._codec import encode, encode_entry
from ._errors import RequestError
from ._history import Held
from ._messages import JOIN, TRANSFORM
from ._outbox import Outbox

_JOIN_JSON, _TRANSFORM_JSON = encode(JOIN), encode(TRANSFORM)
_NO_DATA = b'""'


@attrs.define(eq=False)
class Member:
    """A user in one room, from one join to the leave that ends it."""

    name: str
    outbox: Outbox
    # Whether the connection is this server's: who is not here is shown, and offered nothing.
    here: bool = True
    # Whether to be told when the engine of shared rooms goes, and comes back.
    notices: bool = False
    # Name as JSON; what sorts it in a list.
    name_json: bytes = attrs.field(init=False)
    sort_key: tuple[str, str] = attrs.field(init=False)
    # The entry that shows this member in every list, and its time.
    join_entry: bytes = attrs.field(init=False, default=b"")
    joined_at: float = attrs.field(init=False, default=0.0)
    # Whether the current transform is still to go into a batch.
    moved: bool = attrs.field(init=False, default=False)
    # Whether this member could not take the last batch, so that the next must hold everything.
    missed: bool = attrs.field(init=False, default=False)
    # The current transform, and when it was received.
    received: tuple[float, bytes] | None = attrs.field(init=False, default=None)
    _transform_entry: bytes = attrs.field(init=False, default=b"")

    def __attrs_post_init__(self) -> None:
        self.name_json = encode(self.name)
        self.sort_key = (self.name.casefold(), self.name)

    def show_since(self, time: float) -> None:
        """Be shown in lists from now on as who joined at this time."""
        self.join_entry = encode_entry(time, self.name_json, _JOIN_JSON, _NO_DATA)

    def move(self, time: float, data: bytes) -> None:
        """The server received this transform at `time`; it takes the place of the one before."""
        self.received = (time, data)
        self._transform_entry = b""
        self.moved = True

    def transform_entry(self) -> bytes:
        """The current transform as an entry; empty where there is none. Encoded when it is first asked for."""
        if not self._transform_entry and self.received:
            time, data = self.received
            self._transform_entry = encode_entry(time, self.name_json, _TRANSFORM_JSON, data)
        return self._transform_entry


def _ignore(*_: object) -> None:
    pass


@attrs.define(eq=False)
class Join:
    """`settled`, where the room is shared: it has happened, or why it has not, or why the member cannot stay."""

    member: Member
    time: float = 0.0
    settled: Callable[[RequestError | None], object] = _ignore


@attrs.define(eq=False)
class Leave:
    """`settled`, where the room is shared: whatever is asked of the engine from now on comes after it."""

    member: Member
    time: float = 0.0
    settled: Callable[[], object] = _ignore


@attrs.define(eq=False)
class Say:
    """`msg`, or an application's own type. `data` is JSON."""

    member: Member
    type: str
    data: bytes
    time: float = attrs.field(init=False, default=0.0)
    entry: bytes = attrs.field(init=False, default=b"")


@attrs.frozen
class List:
    """`member` asked who is there."""

    member: Member


@attrs.frozen
class Resume:
    """`member` is on another connection from here on, whose outbox this is.

    It is shown what was `held` for it, or else the history as on joining. `resumed` is told, before anything is
    offered, whether that is all that there was to hold.
    """

    member: Member
    outbox: Outbox
    held: Held | None
    resumed: Callable[[bool], object]


# What happens in a room that servers share.


@attrs.frozen
class Heard:
    """Something was said, by somebody on whatever server; `entry` is JSON."""

    time: float
    entry: bytes


@attrs.frozen
class Replace:
    """One user's member gives its place to another of the same name, on another connection."""

    before: Member
    member: Member
    time: float


Event = Join | Leave | List | Say | Resume | Heard | Replace
