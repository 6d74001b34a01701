"""What one observed user has seen, laid beside the logs of the rooms."""

from __future__ import annotations

import attrs
import msgspec

from tests.observer import Observer, SeenRoom

from .log import Entry, Happened
from .model import Model, Start, User

# A history's entries are measured as this test writes them; a number may be written a little differently.
_SLACK_BYTES = 300


@attrs.frozen
class Limits:
    """How much a history may hold."""

    events: int
    bytes: int


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

    def look(self, observer: Observer, limits: Limits, *, caught_up: bool) -> None:
        """Compare what has come since the last time."""
        for name, seen in [*observer.past[self._past :], *observer.rooms.items()]:
            if name in observer.returning and seen is observer.rooms.get(name):
                continue  # not shown yet on this connection
            view = self._views.get(seen)
            if view is None:
                view = self._views[seen] = self._open(name, seen, observer, limits)
            log = view.start.log
            for entry in seen.events[view.looked :]:
                log.see(view.position, entry, self.user.name)
                view.position += 1
                self.lines += 1
            view.looked = len(seen.events)
            members = log.events[view.position - 1].members
            assert seen.members == members, f"{self.user.name} sees {seen.members} in {name}, there are {members}"
            # (Of a view that ended with its connection the history may never have come.)
            whole = caught_up and seen is observer.rooms.get(name)
            if not view.history_checked and (seen.history is not None or seen.live or whole):
                view.history_checked = True
                self._check_history(view, seen, observer, limits)
        for _, seen in observer.past[self._past :]:
            self._views.pop(seen, None)
        self._past = len(observer.past)

    def _open(self, name: str, seen: SeenRoom, observer: Observer, limits: Limits) -> _View:
        starts = self.user.starts[name]
        assert starts, f"{self.user.name} is shown {name} and has not joined it"
        start = starts.popleft()
        join = {"user": self.user.name, "type": "join", "data": "", "time": seen.joined_at}
        start.join.check(join, self.user.name)
        # Those who came in the same moment are in the list.
        position, events, listed_at = start.position, start.log.events, seen.events[0]["time"]
        while position < len(events) and events[position].type == "join" and _time_of(events[position]) <= listed_at:
            position += 1
        if seen.unsorted is not None:
            position, history = self._place(start, seen, limits)
            observer.sort(name, history)
        return _View(start, position, position)

    def _place(self, start: Start, seen: SeenRoom, limits: Limits) -> tuple[int, int]:
        """Where in the order somebody came back who did so in a hurry, and how many entries were history.

        There must be a place where everything fits: the list, the history before it, and all that came after it.
        """
        entries, events = seen.unsorted or [], start.log.events
        for position in range(start.position, len(events) + 1):
            count = len(entries) - (len(events) - position)
            if count < 0 or events[position - 1].members != seen.members:
                continue
            wanted = _unseen(start, position)
            error = _history_error(wanted, entries[:count], limits, _with_what_is_held(seen, wanted, limits))
            if not error and _all_equal(events[position:], entries[count:]):
                return position, count
        raise AssertionError(
            f"{self.user.name} came back to {start.log.room}, and no place in its order fits {entries}"
        )

    def _check_history(self, view: _View, seen: SeenRoom, observer: Observer, limits: Limits) -> None:
        start, shown = view.start, seen.history or []
        name, room = self.user.name, start.log.room
        wanted = _unseen(start, view.began)
        error = _history_error(wanted, shown, limits, _with_what_is_held(seen, wanted, limits))
        assert not error, f"{name} is shown a history of {room} that {error}"
        for event, entry in zip(wanted[len(wanted) - len(shown) :], shown, strict=True):
            event.check(entry, name)
        if start.seen is not None:
            granted = next(answer for answer in observer.answers if answer["code"] == 202)
            complete = granted["detail"]["complete"][room]
            # Nobody is owed what was said before the join.
            owed = start.log.events[start.log.events.index(start.join) :]
            missing = [event.data for event in wanted[: len(wanted) - len(shown)] if event in owed]
            assert complete == (not missing), f"{name} in {room}: complete is {complete}, missing is {missing}"

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


def _unseen(start: Start, position: int) -> list[Happened]:
    """What a history may hold that is shown here."""
    known = start.log.history(position)
    return [event for event in known if start.seen is None or _time_of(event) > start.seen]


def _with_what_is_held(seen: SeenRoom, wanted: list[Happened], limits: Limits) -> Limits:
    """A resume is promised what was said between its answer and its welcome, beside what the history holds."""
    meanwhile = [event for event in wanted if event.time is not None and event.time >= seen.shown_at]
    return Limits(limits.events + len(meanwhile), limits.bytes + sum(len(_encoded(event)) for event in meanwhile))


def _history_error(wanted: list[Happened], shown: list[Entry], least: Limits, most: Limits) -> str:
    """What is wrong with a history: it must be the last events, as many as the limits allow."""
    if len(shown) > min(len(wanted), most.events):
        return f"has {len(shown)} events"
    expected = wanted[len(wanted) - len(shown) :]
    if not _all_equal(expected, shown):
        return f"holds {shown}"
    size = sum(len(_encoded(event)) for event in expected)
    if size > most.bytes + _SLACK_BYTES:
        return f"has {size} bytes"
    if len(shown) < min(len(wanted), least.events):
        more = size + len(_encoded(wanted[-len(shown) - 1]))
        if more <= least.bytes - _SLACK_BYTES:
            return f"has {len(shown)} of {len(wanted)} events"
    return ""


def _all_equal(events: list[Happened], entries: list[Entry]) -> bool:
    return len(events) == len(entries) and all(
        (event.user, event.type, event.data) == (entry["user"], entry["type"], entry["data"])
        and event.time in (None, entry["time"])
        for event, entry in zip(events, entries, strict=True)
    )


def _time_of(event: Happened) -> float:
    return float("inf") if event.time is None else event.time


def _encoded(event: Happened) -> bytes:
    return msgspec.json.encode({"time": event.time or 1.0, "user": event.user, "type": event.type, "data": event.data})
