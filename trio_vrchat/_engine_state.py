"""The engine's memory, as `_backplane` says that it behaves: what Redis does in a script, in plain Python.

It is the reference: whatever `redis_engine.lua` does, this does, and one set of tests holds both to the contract.
Nothing here waits, and nothing here reads a clock: `do` is told the time, in microseconds since the Unix epoch.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from operator import attrgetter

import attrs
import msgspec

from . import _backplane as backplane
from ._backplane import (
    ACCOUNTS_LIMIT,
    COMINGS_KEPT,
    JOIN,
    LEAVE,
    READ_ON_LIMIT,
    SAY,
    SWEEP_LIMIT,
    Account,
    Event,
    Happening,
    Lease,
    Publication,
    Reply,
    Request,
    RoomEvents,
    Taken,
    Timing,
)

_at = attrgetter("at")


@attrs.define(eq=False)
class _Node:
    # When it is dead, in microseconds.
    expires: int
    # The number of its last happening that was applied.
    applied: int = 0
    # (room, key); keys of names. Bounded by what the node itself holds.
    members: set[tuple[str, str]] = attrs.field(factory=set)
    names: set[str] = attrs.field(factory=set)


@attrs.define(eq=False)
class _Room:
    last: int = 0
    # The join of each member.
    members: dict[str, Event] = attrs.field(factory=dict)
    comings: list[Event] = attrs.field(factory=list)
    said: list[Event] = attrs.field(factory=list)
    # The time of the newest event that was dropped from each.
    comings_lost: int = 0
    said_lost: int = 0


class EngineState:
    """All that the engine knows.

    `to_room` and `to_node` are called with what is published, and to whom, in the middle of `do`. They MUST NOT call
    it.
    """

    def __init__(
        self,
        timing: Timing,
        to_room: Callable[[str, Publication], object],
        to_node: Callable[[str, Publication], object],
    ) -> None:
        self._lease, self._gap, self._settle = (
            round(seconds * 1e6) for seconds in (timing.lease_s, timing.gap_s, timing.settle_s)
        )
        self._to_room = to_room
        self._to_node = to_node
        self._nodes: dict[str, _Node] = {}
        self._names: dict[str, Lease] = {}
        self._looks: dict[str, dict[str, str]] = {}
        self._rooms: dict[str, _Room] = {}
        self._accounts: dict[str, Account] = {}
        # When a node was last heard of; 0: the memory is empty.
        self._beat = 0
        self._settled = 0

    def do(self, request: Request, now: int) -> Reply:
        """Do one thing, whole."""
        match request:
            case backplane.Register(node=node):
                self._note_beat(now)
                self._nodes.setdefault(node, _Node(0)).expires = now + self._lease
                return backplane.Standing(settles_in=max(0, self._settled - now))
            case backplane.Refresh(node=node):
                self._note_beat(now)
                if not self._lives(node):
                    return backplane.Unknown()
                self._nodes[node].expires = now + self._lease
                return backplane.Standing(settles_in=max(0, self._settled - now))
            case backplane.Retire(node=node):
                if node in self._nodes:
                    self._nodes[node].expires = 0
                return backplane.Done()
            case backplane.Claim():
                return self._claim(request, now)
            case backplane.Release():
                return self._release(request)
            case backplane.Append():
                return self._append(request, now)
            case backplane.Enter():
                return self._enter(request)
            case backplane.ReadOn():
                return self._read_on(request)
            case backplane.Rooms():
                return backplane.OpenRooms(
                    rooms=tuple(sorted(name for name, room in self._rooms.items() if room.members))
                )
            case backplane.Sweep():
                return self._sweep(now)
            case backplane.FindAccount(key=key):
                return _found(self._accounts.get(key))
            case backplane.AddAccount(account=account, beside=beside):
                return self._add_account(account, beside)
            case backplane.SetHash():
                return self._set_hash(request)
            case backplane.RemoveAccount(key=key):
                return _found(self._accounts.pop(key, None))
            case backplane.ListAccounts(after=after):
                keys = sorted(key for key in self._accounts if key > after)
                listed = tuple(self._accounts[key] for key in keys[:ACCOUNTS_LIMIT])
                return backplane.AccountList(accounts=listed, more=len(keys) > ACCOUNTS_LIMIT)

    # Nodes

    def _note_beat(self, now: int) -> None:
        if not self._beat:
            self._settled = now + self._settle
        elif now - self._beat > self._gap:
            for node in self._nodes.values():
                if node.expires:
                    node.expires = max(node.expires, now + self._settle)
        self._beat = now

    def _lives(self, node: str) -> bool:
        # Late, but not swept yet, it lives.
        return node in self._nodes and self._nodes[node].expires > 0

    def _sweep(self, now: int) -> Reply:
        count = 0
        for name, node in sorted(self._nodes.items(), key=lambda item: (item[1].expires, item[0])):
            if node.expires >= now:
                break
            # From here on it is dead, however many sweeps it takes.
            node.expires = 0
            for room, key in sorted(node.members)[: SWEEP_LIMIT - count]:
                join = self._rooms[room].members[key]
                self._happen(room, [(Happening(LEAVE, key, join.user), 0)], name, now, keep=0)
                count += 1
            for key in sorted(node.names)[: SWEEP_LIMIT - count]:
                self._forget_name(self._names[key])
                count += 1
            if node.members or node.names:
                return backplane.Swept(count=count, more=True)
            del self._nodes[name]
        return backplane.Swept(count=count, more=False)

    # Names

    def _claim(self, claim: backplane.Claim, now: int) -> Reply:
        lease = claim.lease
        if not self._lives(lease.node):
            return backplane.Unknown()
        held = self._names.get(lease.key)
        if held is not None:
            if held.token not in (lease.token, claim.instead_of):
                return backplane.Held(lease=held)
            if held.node != lease.node:
                self._to_node(held.node, Taken(held.key, held.token))
            self._forget_name(held)
        elif not claim.again:
            if now < self._settled:
                return backplane.Settling(microseconds=self._settled - now)
            alike = self._looks.get(lease.look, {})
            if set(alike) - set(claim.beside):
                return backplane.Alike(users=tuple(user for _, user in sorted(alike.items())))
        self._names[lease.key] = lease
        self._nodes[lease.node].names.add(lease.key)
        self._looks.setdefault(lease.look, {})[lease.key] = lease.user
        return backplane.Granted()

    def _release(self, release: backplane.Release) -> Reply:
        if not self._lives(release.node):
            return backplane.Unknown()
        held = self._names.get(release.key)
        if held is not None and held.token == release.token:
            self._forget_name(held)
        return backplane.Done()

    def _forget_name(self, lease: Lease) -> None:
        del self._names[lease.key]
        self._nodes[lease.node].names.discard(lease.key)
        alike = self._looks[lease.look]
        del alike[lease.key]
        if not alike:
            del self._looks[lease.look]

    # Rooms

    def _append(self, append: backplane.Append, now: int) -> Reply:
        if not self._lives(append.node):
            return backplane.Unknown()
        node = self._nodes[append.node]
        members = self._rooms[append.room].members if append.room in self._rooms else {}
        there = {key: join.node for key, join in members.items()}
        refused: list[int] = []
        happenings: list[tuple[Happening, int]] = []
        for number, happening in enumerate(append.happenings, append.first):
            if number <= node.applied:
                continue
            node.applied = number
            key = happening.key
            if happening.kind == JOIN:
                if append.members_limit and key not in there and len(there) >= append.members_limit:
                    refused.append(number)
                    continue
                there[key] = append.node
            elif there.get(key) != append.node:
                if happening.kind == SAY:
                    refused.append(number)
                continue
            elif happening.kind == LEAVE:
                del there[key]
            happenings.append((happening, number))
        if happenings:
            self._happen(append.room, happenings, append.node, now, floor=append.floor, keep=append.keep)
        return backplane.Appended(refused=tuple(refused))

    def _happen(
        self, name: str, happenings: list[tuple[Happening, int]], node: str, now: int, *, keep: int, floor: int = 0
    ) -> None:
        room = self._rooms.setdefault(name, _Room())
        after = room.last
        events: list[Event] = []
        for happening, number in happenings:
            room.last = max(now, room.last + 1, floor + 1)
            if not after and not events:
                # Whoever has seen something before has seen it in an engine that has lost its memory.
                room.comings_lost = room.last - 1
            key = happening.key
            event = Event(room.last, node, number, happening.kind, key, happening.user, happening.body)
            events.append(event)
            if event.kind == SAY:
                room.said.append(event)
                while len(room.said) > keep:
                    room.said_lost = room.said.pop(0).at
                continue
            before = room.members.pop(key, None)
            if before is not None:
                self._nodes[before.node].members.discard((name, key))
            if event.kind == JOIN:
                room.members[key] = event
                self._nodes[node].members.add((name, key))
            room.comings.append(event)
            if len(room.comings) > COMINGS_KEPT:
                room.comings_lost = room.comings.pop(0).at
        if not room.members:
            # No node has it open, so nobody reads on.
            room.comings.clear()
            room.comings_lost = room.last
        self._to_room(name, RoomEvents(name, after, tuple(events)))

    def _enter(self, enter: backplane.Enter) -> Reply:
        room = self._rooms.get(enter.room, _Room())
        older = len(room.said) - enter.history
        return backplane.Snapshot(
            last=room.last,
            members=tuple(sorted(room.members.values(), key=_at)),
            history=tuple(room.said[max(0, older) :]),
            forgotten_until=room.said[older - 1].at if older > 0 else room.said_lost,
        )

    def _read_on(self, read_on: backplane.ReadOn) -> Reply:
        room = self._rooms.get(read_on.room, _Room())
        after = read_on.after
        if after > room.last or after < max(room.comings_lost, room.said_lost):
            return backplane.Gone()
        events: list[Event] = []
        for kept in (room.comings, room.said):
            start = bisect.bisect_right(kept, after, key=_at)
            events += kept[start : start + READ_ON_LIMIT + 1]
        events.sort(key=_at)
        return backplane.Happened(events=tuple(events[:READ_ON_LIMIT]), more=len(events) > READ_ON_LIMIT)

    # Accounts

    def _add_account(self, account: Account, beside: tuple[str, ...]) -> Reply:
        there = self._accounts.get(account.key)
        if there is not None:
            return backplane.Done() if there.hash == account.hash else backplane.Found(account=there)
        alike = {other.key: other.name for other in self._accounts.values() if other.look == account.look}
        if set(alike) - set(beside):
            return backplane.Alike(users=tuple(name for _, name in sorted(alike.items())))
        self._accounts[account.key] = account
        return backplane.Done()

    def _set_hash(self, set_hash: backplane.SetHash) -> Reply:
        account = self._accounts.get(set_hash.key)
        if account is None:
            return backplane.NoAccount()
        if set_hash.instead_of and account.hash not in (set_hash.instead_of, set_hash.hash):
            return backplane.Changed()
        self._accounts[set_hash.key] = msgspec.structs.replace(account, hash=set_hash.hash)
        return backplane.Done()


def _found(account: Account | None) -> Reply:
    return backplane.NoAccount() if account is None else backplane.Found(account=account)
