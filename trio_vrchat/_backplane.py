"""What makes several servers one: the contract between a server (here a *node*), the engine, and the other nodes.

Nobody owns a room. Each node lets its own members happen, and what happens has its place in an order that the engine
keeps. The engine is a database with publications (Redis; `MemoryEngine` in tests); nodes never speak to each other but
through it. This module is the contract: what is asked, what is answered, what is published, and what each promises.

    node ── call(requests) ──▶ engine        each request is done whole; its reply says what came of it
    node ◀── receive() ─────── engine        what is published: events of rooms, names that were taken, transforms

**Nodes.** A node is one registration of one server, under an id that no other ever had. It is kept by `Refresh`; one
that has not been refreshed for `lease_s` is dead, and `Sweep`, which any node may ask for, makes its members leave and
frees its names. A node that was swept is `Unknown` to every request from then on, so that nothing of it that was still
on its way has an effect any more: the server MUST come back under a new id. `Retire` is the clean end: dead at once.

**Names** are leases: a name's key is held by at most one `Lease`, and that one by its node for as long as the node
lives. Leases are told apart by their tokens. `Claim` is granted where nobody holds the key, or whoever holds it has the
token `instead_of`, or the same token (so it may be repeated); the node of who was replaced is sent `Taken`. `Release`
frees a lease of that token, and does nothing to any other. What must travel with the name (the verifier of an `open`
login) is in its `secret`.

**Rooms.** `Append` gives happenings their places in the order of a room, and publishes them to all who listen to it,
the sender's node included: a node shows nothing that did not come back like this, and so each shows the same, in the
same order. An event's place is its time, `at`, in microseconds since the Unix epoch by the engine's clock: greater than
that of the event before it, and than `floor`, the last that the node has seen. So a room and a time name one event.
Happenings are numbered by their node, and one whose number is not greater than the last that was applied of this node
is dropped: after a lost session the same `Append` is sent again, and happens once. So a node MUST send its happenings
in the order of their numbers, and MUST NOT send one again after it has given one up that came later.
- A join is refused where the room is full. A join of a key that is there already moves it to the joining node.
- A leave and a `say` have an effect only for a member that is there by the same node.

What was said is kept, `keep` events of each room, also when the room is empty. Joins and leaves are kept for a while,
for those who read on.

**Reading.** `listen` comes first, then `Enter`: of what is received from then on, what is not after the snapshot's
`last` is in it already. Publications of a room name the event `after` which they follow; where that is not the last one
that the node has, something was lost, and `ReadOn` has it, or `Gone` where it is no longer kept, or where the engine
has lost its memory: then only a new snapshot helps.

**Accounts** are what users log in by, where servers have them in common: one for each key. Whoever has a session may
ask for them, registered or not. What was asked before a session was lost may be asked again: an account is told from
any other of its key by its hash, which is salted and so its own. `AddAccount` of one that is there already, and
`SetHash` of the hash that it has already, are `Done`. With `instead_of`, `SetHash` does nothing where somebody else has
changed the hash meanwhile.

**Transforms** have no place in any order, and are kept nowhere: `publish` sends bytes to all nodes, at most once. What
is in them is the nodes' own affair.

**Loss and return.** Everything of an `EngineSession` fails with `LinkLost` for good as soon as anything does. What was
under way may or may not have had its effect. Its owner leaves the session, waits a moment, opens a new one, listens to
its rooms, refreshes, claims its names again and reads on. What the engine does about its own absence:
- Where nobody has refreshed anything for `gap_s`, it was away (or stopped), and not they: every node then has
  `settle_s` to come back, before anybody can be swept.
- Where it has lost its memory (restarted without persistence), every node is `Unknown` to it. For `settle_s` from the
  first registration on, new names are not granted (`Settling`), only those that their nodes claim `again`: whoever held
  a name has it before somebody else asks for it. The very first registration cannot be told from this.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import attrs
import msgspec

from ._errors import VrchatError

# Of joins and leaves of one room: what a node that was away for a moment still finds.
COMINGS_KEPT = 1000
# What one `ReadOn` returns, and what one `Sweep` removes: some milliseconds of an engine that does one thing at a time.
READ_ON_LIMIT = 200
SWEEP_LIMIT = 200
# What one `ListAccounts` returns, likewise.
ACCOUNTS_LIMIT = 200

JOIN: Literal["join"] = "join"
LEAVE: Literal["leave"] = "leave"
SAY: Literal["say"] = "say"
Kind = Literal["join", "leave", "say"]


class LinkLost(VrchatError):
    """The session with the engine is over. The message says why."""


@attrs.frozen
class Timing:
    """How long the engine waits for nodes, in seconds. All nodes of one engine MUST have the same."""

    # Whoever died is gone within 10 s: this, and a sweep a second.
    lease_s: float = 6.0
    # Three refreshes of a node that is alone.
    gap_s: float = 3.0
    # A call that hangs takes 2 s to be given up, and the pause after it is at most 1 s.
    settle_s: float = 4.0


# What is asked and answered. Each class is a map with its own name in it, so that a script can tell them apart.


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag=str.lower):
    """The base of requests and replies."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a name.

    - `key`, `look`: of the name, as `_names` makes them; `user` is the name as it is shown.
    - `token`: no other lease ever had it.
    - `secret`: what the holder's server wants another server to know, as text.
    """

    key: str
    look: str
    user: str
    node: str
    token: str
    secret: str = ""


class Happening(msgspec.Struct, frozen=True, array_like=True):
    """What a member of this node does. `body`: of a `say`, its type and data as the nodes write them; else empty."""

    kind: Kind
    key: str
    user: str
    body: str = ""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """A happening in its place. A leave that a sweep has made has the number 0."""

    at: int
    node: str
    number: int
    kind: Kind
    key: str
    user: str
    body: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user who may log in.

    - `key`, `look`: of the name, as `_names` makes them; `name` is its own spelling.
    - `hash`: of the password, with its parameters and its salt. Not for a log.
    - `created`: in seconds since the Unix epoch.
    """

    key: str
    look: str
    name: str
    hash: str
    role: str
    created: float

    def __repr__(self) -> str:
        return f"Account({self.name!r}, {self.role})"


class Register(Message, frozen=True):
    """Begin as this node, or go on as it. Reply: Standing."""

    node: str


class Refresh(Message, frozen=True):
    """Live on. Reply: Standing, Unknown."""

    node: str


class Retire(Message, frozen=True):
    """Be dead, so that the next `Sweep` finds it. Reply: Done."""

    node: str


class Claim(Message, frozen=True):
    """Take a name. `lease.node` is who asks. Reply: Granted, Held, Alike, Settling, Unknown.

    - `beside`: keys of names of the same look that it may stand beside.
    - `again`: the node had this very lease before, so what it looks like was settled then.
    - `instead_of`: the token of the lease to replace; "" for none.
    """

    lease: Lease
    beside: tuple[str, ...] = ()
    again: bool = False
    instead_of: str = ""


class Release(Message, frozen=True):
    """Give a name back. Reply: Done, Unknown."""

    node: str
    key: str
    token: str


class Append(Message, frozen=True):
    """Let these happen in a room. Reply: Appended, Unknown.

    `first` is the number of the first; `members_limit` 0 is no limit; `keep` is how many that were said are kept.
    """

    node: str
    room: str
    first: int
    happenings: tuple[Happening, ...]
    floor: int = 0
    keep: int = 10_000
    members_limit: int = 0


class Enter(Message, frozen=True):
    """What is a room now, with the last `history` events that were said in it? Reply: Snapshot."""

    room: str
    history: int


class ReadOn(Message, frozen=True):
    """What happened in a room after the event at this time? Reply: Happened, Gone."""

    room: str
    after: int


class Rooms(Message, frozen=True):
    """Which rooms have members? Reply: OpenRooms."""


class Sweep(Message, frozen=True):
    """Remove some of what dead nodes have left. Reply: Swept."""


class FindAccount(Message, frozen=True):
    """Which account is it? Reply: Found, NoAccount."""

    key: str


class AddAccount(Message, frozen=True):
    """Let there be this account. Reply: Done; Found (the key is this one's); Alike.

    `beside`: keys of accounts of the same look that it may stand beside.
    """

    account: Account
    beside: tuple[str, ...] = ()


class SetHash(Message, frozen=True):
    """Give an account another password. `instead_of`: only if this is its hash; "" for any. Reply: Done, NoAccount,
    Changed."""

    key: str
    hash: str
    instead_of: str = ""


class RemoveAccount(Message, frozen=True):
    """Let there be no such account. Reply: Found (as it was), NoAccount."""

    key: str


class ListAccounts(Message, frozen=True):
    """Which accounts are there, of those whose keys come after this one? Reply: AccountList."""

    after: str = ""


AccountRequest = FindAccount | AddAccount | SetHash | RemoveAccount | ListAccounts
Request = Register | Refresh | Retire | Claim | Release | Append | Enter | ReadOn | Rooms | Sweep | AccountRequest


class Standing(Message, frozen=True):
    """The node is registered. New names are granted in so many microseconds (0: now)."""

    settles_in: int


class Unknown(Message, frozen=True):
    """The node that asks is not registered, or was swept. Nothing was done."""


class Done(Message, frozen=True):
    """It is so, whether or not it was so before."""


class Granted(Message, frozen=True):
    """The name is this lease's."""


class Held(Message, frozen=True):
    """The name is another lease's."""

    lease: Lease


class Alike(Message, frozen=True):
    """Names of the same look are held, and not all are among those that the claim may stand beside; or accounts are
    there, likewise. In the order of their keys."""

    users: tuple[str, ...]


class Settling(Message, frozen=True):
    """No new names for so many microseconds: those who had names before come first."""

    microseconds: int


class Appended(Message, frozen=True):
    """It has happened, but for the joins and what else is `refused`, by number."""

    refused: tuple[int, ...] = ()


class Snapshot(Message, frozen=True):
    """A room as it is.

    - `last`: the time of its last event; 0 where there never was one.
    - `members`: the join of each, in their order.
    - `history`: what was last said, oldest first; `forgotten_until` is the time of the newest that was said before
      those (0: there is none).
    """

    last: int
    members: tuple[Event, ...]
    history: tuple[Event, ...]
    forgotten_until: int


class Happened(Message, frozen=True):
    """What came after, in order; `more`: and there is more after that."""

    events: tuple[Event, ...]
    more: bool


class Gone(Message, frozen=True):
    """What came after is not known, or not all of it: take a new snapshot. So it is for what is before a room's
    first."""


class OpenRooms(Message, frozen=True):
    """Rooms with members, sorted by name."""

    rooms: tuple[str, ...]


class Swept(Message, frozen=True):
    """So many leaves and names; `more`: ask again."""

    count: int
    more: bool


class Found(Message, frozen=True):
    """The account."""

    account: Account


class NoAccount(Message, frozen=True):
    """There is none of this key."""


class Changed(Message, frozen=True):
    """The account has another hash than that which was to be replaced. Nothing was done."""


class AccountList(Message, frozen=True):
    """Accounts in the order of their keys, by code points; `more`: ask again, for those after the last."""

    accounts: tuple[Account, ...]
    more: bool


class Failed(Message, frozen=True):
    """The engine could not do this one thing (it is full, it is a replica, or a bug). Nothing was done."""

    why: str


AccountReply = Done | Alike | Found | NoAccount | Changed | AccountList
Reply = (
    Standing
    | Unknown
    | Granted
    | Held
    | Settling
    | Appended
    | Snapshot
    | Happened
    | Gone
    | OpenRooms
    | Swept
    | AccountReply
    | Failed
)


# What is published.


class RoomEvents(msgspec.Struct, frozen=True, array_like=True):
    """These happened in a room, one right after the other, the first right after the event at `after`."""

    room: str
    after: int
    events: tuple[Event, ...]


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """The lease of this token is no longer this node's: somebody else has the name."""

    key: str
    token: str


class Moves(msgspec.Struct, frozen=True, array_like=True):
    """What a node has sent by `publish`, this one's own included."""

    data: bytes


Publication = RoomEvents | Taken | Moves


class EngineSession(Protocol):
    """One conversation with the engine, made by `Engine.session`.

    - Every method raises LinkLost once any has, also those that wait in other tasks.
    - No method waits longer for the engine than some seconds; `receive` may.
    - `receive` MUST be called again without waiting for anything that takes time: what is not taken is kept in memory.
      Only one task may call it.
    """

    async def call(self, requests: Sequence[Request]) -> list[Reply]:
        """Have these done, one after the other, in one round trip; the replies are in the same order.

        Others' requests may come between. Cancelled, it ends the session: nobody knows what was done.
        """
        ...

    async def listen(self, rooms: Sequence[str]) -> None:
        """From when this returns, receive all that happens in these rooms."""
        ...

    async def stop_listening(self, rooms: Sequence[str]) -> None:
        """Receive no more from these rooms. What was on its way may still come."""
        ...

    async def publish(self, data: bytes) -> None:
        """Send this to all nodes that have a session now, at most once."""
        ...

    async def receive(self) -> Publication:
        """The next that was published; of one room in the room's order."""
        ...


class Engine(Protocol):
    """Where to find the engine. It holds no connection; each session has its own."""

    def session(self, node: str) -> AbstractAsyncContextManager[EngineSession]:
        """Converse as this node, until the end of the body. What is meant for the node is received from the start.

        Raises LinkLost where the engine is not to be found. Entering and leaving take some seconds at most.
        """
        ...
