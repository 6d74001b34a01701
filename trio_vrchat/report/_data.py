"""A recording, reduced in one pass to what a report shows.

    recording ─▶ Reduction ─▶ Session ─▶ `_figures.py`, `_page.py`

Memory is bounded, however long the recording and whoever was there: paths are kept in slots (`_track.py`),
measurements thinned out (`Sample`), and people, rooms and kinds of events counted up to a limit. What a limit left out
is said in `Session.left_out`. What people said is not looked at: only when, and what kind of event it was.

Times are seconds since the start of the recording. What is said to be older (who was there when it began) is of its
beginning.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec

from .. import recording
from .._clock import time_of
from .._errors import RecordingError
from .._messages import JOIN, LEAVE, MESSAGE
from .._recording_file import Kind
from ._lines import Happened, Moved, decode_clock, decode_happened, decode_moved, decode_round_trip
from ._meetings import Meetings, Pair, RoomMeetings
from ._track import FIRST_STEP_S, SLOTS, Track, look_of

# What a page can show: more people are a crowd, and want another tool.
PEOPLE, ROOMS, TRACKS = 200, 50, 1000
# Kinds of events; applications name theirs as they like.
KINDS_OF_EVENTS = 10
OTHER_KIND = "(other)"
_VALUES = 4096
# As in `web/pose.js`: a figure's numbers have to be some.
_POSITION_LIMIT_M = 10_000.0
# Nobody captured anything before 1970, or will in thirty thousand years.
_CAPTURE_LIMIT_S = 1e12
# Messages between two looks at how far it is.
_REPORT_MESSAGES = 20_000


class Sample:
    """Values, of which at most `_VALUES` are kept, evenly; the largest is always known."""

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self._values: list[float] = []
        self._every = 1

    def add(self, value: float) -> None:
        """Count one."""
        if value > self.largest or not self.count:
            self.largest = value
        if self.count % self._every == 0:
            self._values.append(value)
            if len(self._values) == _VALUES:
                del self._values[1::2]
                self._every *= 2
        self.count += 1

    def quantile(self, share: float) -> float:
        """The least value that this share of all values does not pass; NaN where there are none."""
        if not self._values:
            return math.nan
        return sorted(self._values)[max(0, math.ceil(share * len(self._values)) - 1)]


@attrs.define(eq=False)
class Person:
    """What one user did, over all rooms.

    - `said`: how often, by the type of event. `turns`: lines of chat before which somebody else spoke in that room.
    - `marks`: by the type of event, the slots in which there were any.
    - `spoke`: first and last time, or None.
    - `round_trips`: seconds of the server's pings. `intervals`: seconds from transform to transform.
    - `delays`: seconds from a transform's capture to its arrival, where the client says when it captured it.
    - `clock`: seconds to add to the client's clock and how far off that may be, by its last estimate, or None;
      `clock_least` and `clock_most` are of all its estimates.
    """

    name: str
    said: dict[str, int] = attrs.field(factory=dict)
    turns: int = 0
    marks: dict[str, set[int]] = attrs.field(factory=dict)
    spoke: tuple[float, float] | None = None
    round_trips: Sample = attrs.field(factory=Sample)
    intervals: Sample = attrs.field(factory=Sample)
    delays: Sample = attrs.field(factory=Sample)
    clock: tuple[float, float] | None = None
    clock_least: float = math.inf
    clock_most: float = -math.inf


@attrs.frozen
class Session:
    """What is known of a recording.

    - `file`: the recording's name, without the folder: a report is passed on.
    - `manifest`, `lost`: as of the recording.
    - `started`: seconds since the Unix epoch. `duration_s`: until the last message.
    - `people`: by name, in the order in which they came. `rooms`: in the order in which there was something.
    - `tracks`: by room and name.
    - `pairs`: who came near each other, those who were together longest first.
    - `messages`: how many there are of each kind.
    - `left_out`: sentences on what is missing.
    - `step_s`: the length of the slots of tracks and marks.
    """

    file: str
    manifest: Mapping[str, Any]
    lost: str
    started: float
    duration_s: float
    people: Mapping[str, Person]
    rooms: tuple[str, ...]
    tracks: Mapping[tuple[str, str], Track]
    pairs: tuple[Pair, ...]
    messages: Mapping[Kind, int]
    left_out: tuple[str, ...]
    step_s: float

    def in_room(self, room: str) -> dict[str, Track]:
        """The tracks of a room, by name, in the order of the first to come."""
        found = {user: track for (where, user), track in self.tracks.items() if where == room}
        return dict(sorted(found.items(), key=lambda item: item[1].stays[0].start))


def reduce(session: recording.Recording, report: Callable[[], None] = lambda: None) -> Session:
    """Read the whole recording. Raises RecordingError where a message in it is not what the format says."""
    reduction = Reduction(time_of(session.manifest.get("started")))
    for number, (kind, line) in enumerate(session.lines()):
        if number % _REPORT_MESSAGES == 0:
            report()
        try:
            reduction.take(kind, line)
        except msgspec.MsgspecError as error:
            raise RecordingError(
                f"message {number + 1} of {session.path}, one of its {kind}, is none of version 1: {error}"
            ) from error
    return reduction.finish(session)


class Reduction:
    """What is known so far. `started`: seconds since the Unix epoch, or None: the first message's time."""

    def __init__(self, started: float | None = None) -> None:
        self._started = started
        self._now = 0.0
        self._step = FIRST_STEP_S
        self._people: dict[str, Person] = {}
        self._rooms: dict[str, RoomMeetings] = {}
        self._tracks: dict[tuple[str, str], Track] = {}
        self._meetings = Meetings()
        self._messages: dict[Kind, int] = {"events": 0, "transforms": 0, "round_trips": 0, "clocks": 0}
        self._kinds: set[str] = set()
        self._last_to_speak: dict[str, str] = {}
        self._of_too_many = 0
        self._of_nobody_there = 0

    def take(self, kind: Kind, line: bytes) -> None:
        """One message of the recording. Raises msgspec.MsgspecError where it is none."""
        self._messages[kind] += 1
        match kind:
            case "transforms":
                self._moved(decode_moved(line))
            case "events":
                self._happened(decode_happened(line))
            case "round_trips":
                trip = decode_round_trip(line)
                self._pass(trip.time)
                if (person := self._person(trip.user)) is not None:
                    person.round_trips.add(trip.round_trip_s)
            case "clocks":
                clock = decode_clock(line)
                self._pass(clock.time)
                if (person := self._person(clock.user)) is not None:
                    person.clock = clock.offset_s, clock.bound_s
                    person.clock_least = min(person.clock_least, clock.offset_s)
                    person.clock_most = max(person.clock_most, clock.offset_s)

    def finish(self, session: recording.Recording) -> Session:
        """All that there is to know."""
        for track in self._tracks.values():
            track.finish(self._now)
        for room in self._rooms.values():
            room.finish(self._now)
        pairs = sorted(
            self._meetings.pairs.values(), key=lambda pair: (-pair.together_s, pair.closest_m, pair.one, pair.other)
        )
        file = os.path.basename(session.path)
        return Session(
            file=file,
            manifest=session.manifest,
            lost=session.lost.replace(session.path, file),
            started=self._started or 0.0,
            duration_s=self._now,
            people=self._people,
            rooms=tuple(self._rooms),
            tracks=self._tracks,
            pairs=tuple(pairs),
            messages=self._messages,
            left_out=tuple(self._left_out()),
            step_s=self._step,
        )

    def _left_out(self) -> list[str]:
        found = []
        if self._of_too_many:
            found.append(
                f"A report holds {PEOPLE} people, {ROOMS} rooms, and {TRACKS} people in rooms. Of those who came "
                f"later, and of other rooms, {self._of_too_many} messages are left out."
            )
        if self._meetings.left_out:
            found.append(f"A report holds {len(self._meetings.pairs)} pairs. Those who met later are left out.")
        if self._of_nobody_there:
            found.append(
                f"{self._of_nobody_there} transforms are of people who were not in their room at that moment, and are "
                "left out."
            )
        return found

    def _pass(self, time: float) -> float:
        """It is now this time, on the server's clock; returns it since the start. It never runs backwards."""
        if self._started is None:
            self._started = time
        self._now = max(self._now, time - self._started)
        while self._now >= SLOTS * self._step:
            self._step *= 2
            for track in self._tracks.values():
                track.halve()
            for person in self._people.values():
                person.marks = {kind: {slot // 2 for slot in slots} for kind, slots in person.marks.items()}
        return self._now

    def _person(self, name: str) -> Person | None:
        person = self._people.get(name)
        if person is None:
            if len(self._people) >= PEOPLE:
                self._of_too_many += 1
                return None
            person = self._people[name] = Person(name)
        return person

    def _room(self, name: str) -> RoomMeetings | None:
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= ROOMS:
                self._of_too_many += 1
                return None
            room = self._rooms[name] = RoomMeetings(name, self._meetings)
        return room

    def _happened(self, event: Happened) -> None:
        now = self._pass(event.time)
        if (person := self._person(event.user)) is None or (room := self._room(event.room)) is None:
            return
        if event.type == JOIN:
            key = (event.room, event.user)
            if key not in self._tracks and len(self._tracks) >= TRACKS:
                self._of_too_many += 1
                return
            self._tracks.setdefault(key, Track()).join(now)
        elif event.type == LEAVE:
            room.leave(now, event.user)
            if (track := self._tracks.get((event.room, event.user))) is not None:
                track.leave(now)
        else:
            self._said(now, person, event)

    def _said(self, now: float, person: Person, event: Happened) -> None:
        kind = event.type
        if kind not in self._kinds:
            if len(self._kinds) >= KINDS_OF_EVENTS and kind != MESSAGE:
                kind = OTHER_KIND
            else:
                self._kinds.add(kind)
        person.said[kind] = person.said.get(kind, 0) + 1
        person.marks.setdefault(kind, set()).add(int(now / self._step))
        person.spoke = (now if person.spoke is None else person.spoke[0]), now
        if kind == MESSAGE:
            person.turns += self._last_to_speak.get(event.room) != person.name
            self._last_to_speak[event.room] = person.name

    def _moved(self, moved: Moved) -> None:
        now = self._pass(moved.time)
        track = self._tracks.get((moved.room, moved.user))
        if track is None or not track.is_here:
            if moved.user in self._people and moved.room in self._rooms:
                self._of_nobody_there += 1
            else:
                self._of_too_many += 1
            return
        pos, rot, captured = moved.data.pos, moved.data.rot, moved.data.t
        place = _bounded(pos.x), _bounded(pos.y), _bounded(pos.z)
        interval = track.move(now, int(now / self._step), place, look_of((rot.x, rot.y, rot.z), moved.data.quat))
        self._rooms[moved.room].place(now, moved.user, place)
        person = self._people[moved.user]
        if interval is not None:
            person.intervals.add(interval)
        # (False and True are no times either.)
        if isinstance(captured, int | float) and 1 < captured < _CAPTURE_LIMIT_S:
            person.delays.add(moved.time - captured)


def _bounded(value: float) -> float:
    if -_POSITION_LIMIT_M <= value <= _POSITION_LIMIT_M:
        return value
    return math.copysign(_POSITION_LIMIT_M, value)
