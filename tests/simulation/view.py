"""What one observed user has seen, laid beside the logs of the rooms."""

from __future__ import annotations

import attrs
import msgspec

from tests.observer import Observer, SeenRoom

from .log import Happened
from .model import Model, Start, User

# A history's entries are measured as this test writes them; a number may be written a little differently.
_SLACK_BYTES = 300


@attrs.define(eq=False)
class _View:
    """One stay in one room, or the part of it that came over one connection."""

    start: Start
    began: int
    position: int
    looked: int = 1  # events of the SeenRoom, which begin with one that stands for the list
    history_checked: bool = False


@attrs.define(eq=False)
class Views:
    """All that one user has seen. `lines` counts the events that were compared."""

    user: User
    lines: int = 0
    _views: dict[SeenRoom, _View] = attrs.field(factory=dict)
    _past: int = 0

    def forget(self) -> None:
        """The session was over; another observer begins."""
        self._views.clear()
        self._past = 0

    def look(self, observer: Observer, limits: tuple[int, int], *, caught_up: bool) -> None:
        """Compare what has come since the last time."""
        for name, seen in [*observer.past[self._past :], *observer.rooms.items()]:
            if name in observer.returning and seen is observer.rooms.get(name):
                continue  # not shown yet on this connection
            view = self._views.get(seen)
            if view is None:
                view = self._views[seen] = self._open(name, seen)
            log = view.start.log
            for entry in seen.events[view.looked :]:
                log.see(view.position, entry, self.user.name)
                view.position += 1
                self.lines += 1
            view.looked = len(seen.events)
            members = log.events[view.position - 1].members
            assert seen.members == members, f"{self.user.name} sees {seen.members} in {name}, there are {members}"
            if not view.history_checked and (seen.history is not None or seen.live or caught_up):
                view.history_checked = True
                self._check_history(view, seen, observer, limits)
        for _, seen in observer.past[self._past :]:
            self._views.pop(seen, None)
        self._past = len(observer.past)

    def _open(self, name: str, seen: SeenRoom) -> _View:
        starts = self.user.starts[name]
        assert starts, f"{self.user.name} is shown {name} and has not joined it"
        start = starts.popleft()
        join = {"user": self.user.name, "type": "join", "data": "", "time": seen.joined_at}
        start.join.check(join, self.user.name)
        # Those who came in the same moment are in the list.
        position, events, listed_at = start.position, start.log.events, seen.events[0]["time"]
        while position < len(events) and events[position].type == "join" and _time_of(events[position]) <= listed_at:
            position += 1
        if not start.exact:
            # The first event that it sees says where: what is before it must be in the list and the history.
            first = seen.events[1]["time"] if len(seen.events) > 1 else None
            position = next((at for at in range(position, len(events)) if events[at].time == first), len(events))
        return _View(start, position, position)

    def _check_history(self, view: _View, seen: SeenRoom, observer: Observer, limits: tuple[int, int]) -> None:
        start, name = view.start, self.user.name
        room = start.log.room
        known = start.log.history(view.began)
        wanted = [event for event in known if start.seen is None or event.time is None or event.time > start.seen]
        shown = seen.history or []
        expected = wanted[len(wanted) - len(shown) :] if shown else []
        assert len(expected) == len(shown), f"{name} is shown a history of {room} that is too long: {shown}"
        for event, entry in zip(expected, shown, strict=True):
            event.check(entry, name)
        events_limit, bytes_limit = limits
        assert len(shown) <= events_limit, f"{name} is shown {len(shown)} events of {room}"
        size = sum(len(_encoded(event)) for event in expected)
        assert size <= bytes_limit + _SLACK_BYTES, f"{name} is shown {size} bytes of {room}"
        if len(shown) < min(len(wanted), events_limit):
            size = sum(len(_encoded(event)) for event in wanted[-len(shown) - 1 :])
            assert size > bytes_limit - _SLACK_BYTES, f"{name} is shown {len(shown)} of {len(wanted)} events of {room}"
        if start.seen is not None:
            granted = next(answer for answer in observer.answers if answer["code"] == 202)
            complete = granted["detail"]["complete"][room]
            assert complete == (len(shown) == len(wanted)), f"{name} in {room}: complete is {complete}"

    def check_caught_up(self, observer: Observer, model: Model) -> None:
        """Whoever has seen everything that was sent must have seen everything that happened."""
        name = self.user.name
        assert not observer.returning, f"{name} is not shown {observer.returning} on its new connection"
        for log in model.rooms_of(self.user):
            assert not self.user.starts[log.room], f"{name} is not shown its join to {log.room}"
            view = self._views.get(observer.rooms[log.room])
            assert view is not None
            assert view.start.log is log
            missing = [(event.user, event.type, event.data) for event in log.events[view.position :]]
            assert not missing, f"{name} has not seen in {log.room}: {missing}"


def _time_of(event: Happened) -> float:
    return float("inf") if event.time is None else event.time


def _encoded(event: Happened) -> bytes:
    return msgspec.json.encode({"time": event.time or 1.0, "user": event.user, "type": event.type, "data": event.data})
