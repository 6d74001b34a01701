"""What was said in the rooms that several servers share, in the one order in which everybody must see it."""

from __future__ import annotations

import bisect
from typing import Any

import attrs

from trio_vrchat import testing

from .engine import SpiedEngine
from .harm import Harm, Host

Entry = dict[str, Any]


@attrs.define(eq=False)
class Stay:
    """What one connection was shown of one room, from its list on."""

    room: str
    viewer: str
    host: Host
    members: set[str]
    opened_at: float
    # By their places in the room's order.
    said: list[int] = attrs.field(factory=list)
    transforms: dict[str, int] = attrs.field(factory=dict)
    latest: float = 0.0
    # When its viewer has left it.
    left_at: float = 0.0
    # What it was last told of the engine, and how much it had seen then.
    notice: str = ""
    seen_at_notice: int = 0
    # Between which of `said` it was told that nothing is missing.
    complete: list[tuple[int, int]] = attrs.field(factory=list)

    def note(self, entry: Entry) -> None:
        """Its viewer is shown this next."""
        time, user = entry["time"], entry["user"]
        assert time > self.latest, f"{self.viewer} sees {entry} after what was at {self.latest} in {self.room}"
        self.latest = time
        match entry["type"]:
            case "join":
                assert user not in self.members, f"{self.viewer} sees {user} join {self.room} twice"
                self.members.add(user)
            case "leave":
                assert user in self.members, f"{self.viewer} sees {user} leave {self.room}, and did not see it there"
                self.members.discard(user)
                self.transforms.pop(user, None)


# Where a server makes up an event, the time of what comes next is later there, by a microsecond for each.
_SHIFT_S = 1e-3


@attrs.define(eq=False)
class Ledger:
    """All rooms, as the engine had them. `kept`: how much a server that was away can learn of at least."""

    engine: SpiedEngine
    harm: Harm
    kept: int
    lines: int = 0

    def note(self, stay: Stay, entry: Entry) -> None:
        """Somebody is shown what somebody has said. No two say the same."""
        self.lines += 1
        user, at = self.engine.said[stay.room].get(entry["data"], ("", 0))
        assert entry["user"] == user, f"{stay.viewer} sees {entry} in {stay.room}, which is not what was said"
        shift = abs(entry["time"] - at / 1e6)
        away = any(start <= at / 1e6 - testing.START_TIME <= end for start, end in stay.host.gaps)
        assert shift < _SHIFT_S if away else not shift, f"{stay.viewer} sees {entry} in {stay.room}, said at {at}"
        assert not stay.said or at > stay.said[-1], f"{stay.viewer} sees {entry} in {stay.room} too late, or again"
        stay.said.append(at)

    def count(self, room: str) -> int:
        """How much was said there."""
        return len(self.engine.said[room])

    def last(self, room: str) -> int:
        """When something was last said there."""
        return max((at for _, at in self.engine.said[room].values()), default=0)

    def check(self, stay: Stay) -> None:
        """Of what was said between the first and the last that it was shown, it was shown all."""
        if not stay.said:
            return
        shown = set(stay.said)
        for what, (_, at) in self.engine.said[stay.room].items():
            time = at / 1e6 - testing.START_TIME
            missed = stay.said[0] < at < stay.said[-1] and at not in shown
            if not missed or self.harm.was_lost(stay.host, time):
                continue
            assert self._too_much(stay, time), f"{stay.viewer} on server {stay.host.number} has missed {what} at {time}"
            index = bisect.bisect(stay.said, at)
            told = [claim for claim in stay.complete if claim[0] <= index < claim[1]]
            assert not told, f"{stay.viewer} has missed {what} and was told that nothing is missing"

    def _too_much(self, stay: Stay, time: float) -> bool:
        """Whether more was said while its server was away than is kept for it."""
        times = [at / 1e6 - testing.START_TIME for _, at in self.engine.said[stay.room].values()]
        return any(
            start <= time <= end and sum(start <= each <= end for each in times) > self.kept
            for start, end in _merged(stay.host.gaps)
        )


def _merged(gaps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that overlap as one: in between the server was not there for long enough to learn of anything."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(gaps):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
