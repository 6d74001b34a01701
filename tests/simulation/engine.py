"""The engine of servers that share their rooms, as the simulation needs it."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import trio

from trio_vrchat import testing
from trio_vrchat._backplane import SAY, Publication, RoomEvents
from trio_vrchat.testing import MemoryEngine


class SpiedEngine(MemoryEngine):
    """An engine that remembers, by room and what it was, when something was said, though it lose its memory."""

    def __init__(self, *, latency_s: float) -> None:
        super().__init__(latency_s=latency_s, clock=_microseconds)
        self.said: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)

    def _to_room(self, room: str, publication: Publication) -> None:
        super()._to_room(room, publication)
        assert isinstance(publication, RoomEvents)
        for event in publication.events:
            if event.kind == SAY:
                data = str(msgspec.json.decode("{" + event.body + "}")["data"])
                assert data not in self.said[room], f"{event.user} has said {data} in {room} twice"
                self.said[room][data] = (event.user, event.at)


def open_engine(*, latency_s: float) -> MemoryEngine:
    """An engine whose clock shows the same as the servers'."""
    return MemoryEngine(latency_s=latency_s, clock=_microseconds)


def _microseconds() -> int:
    """Rounded up, so that no event is earlier than what a server has answered before it in the same instant: by that
    an observer tells what is history."""
    now = testing.START_TIME + trio.current_time()
    at = round(now * 1e6)
    return at if at / 1e6 >= now else at + 1


def check_empty(engine: MemoryEngine) -> None:
    """When all servers have stopped, nothing is left of them but what was said."""
    state = engine._state
    assert not state._names, f"names are left: {sorted(state._names)}"
    members = {name: sorted(room.members) for name, room in state._rooms.items() if room.members}
    assert not members, f"members are left: {members}"
    assert not state._nodes, f"servers are left: {sorted(state._nodes)}"
