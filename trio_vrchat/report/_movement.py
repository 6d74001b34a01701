"""The sections of a report on paths, gaze and speed, and on how far apart people were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from . import _figures as figures
from . import _maps as maps
from ._data import Session
from ._html import Column, figure, head, long_table, numbers, text
from ._meetings import NEAR_M
from ._met import pairs_that_met
from ._text import NONE, clock, count, number


def paths(session: Session, report: Callable[[float], None]) -> Iterator[str]:
    """Rooms from above, each person's path, and a table. `report` is told how much is drawn, from 0 to 1."""
    moved = {key for key, track in session.tracks.items() if track.transforms}
    if not moved:
        yield "<p>Nobody moved: there are no transforms.</p>"
        return
    yield (
        "<p>Rooms are seen from above, in metres: x to the right, and what is forward at rest (less z) is up. In the "
        "pictures of people, a ring is where a path begins and a square where it ends; the line is broken where "
        "somebody jumped. Arrows show where they looked, at even times: a short one up or down. All pictures of a room "
        "show the same square.</p>"
    )
    yield figure(maps.time_scale(session), "The colours of lines and arrows in the pictures of people: when it was.")
    pairs = {(pair.room, pair.one, pair.other): at for at, pair in enumerate(pairs_that_met(session), 1)}
    done = 0
    for room in session.rooms:
        tracks = {name: track for name, track in session.in_room(room).items() if (room, name) in moved}
        if not tracks:
            continue
        area = maps.area_of(session, room)
        yield f"<h3>Room {text(room)} from above</h3>"
        many = (
            f"<b>Where people were.</b> The paths of more than {maps.PATHS} could not be told apart: they are below, "
            "one by one."
        )
        few = "<b>Everybody's path</b>, with a dot where it begins."
        yield figure(maps.room_map(session, room, area, pairs), few if len(tracks) <= maps.PATHS else many)
        yield '<div class="people">'
        for name, track in tracks.items():
            outside = any(not area.holds(place) for _, place, _, _ in track.path(session.step_s))
            jumps = f", {count(track.jumps, 'jump')}" if track.jumps else ""
            beyond = ". Some of the path lies outside" if outside else ""
            caption = f"<b>{text(name)}</b>, {track.walked_m:,.0f} m on foot{jumps}{beyond}"
            yield figure(maps.path(session, room, name, area), caption)
            done += 1
            report(done / len(moved))
        yield "</div>"
    yield from _table(session)


def _table(session: Session) -> Iterator[str]:
    columns = [
        head("Who"),
        Column("in the room"),
        *numbers(
            "on foot<br>(m)",
            "time<br>walking",
            "of the time<br>there",
            "speed while<br>walking (m/s)",
            "fastest<br>(m/s)",
            "jumps",
        ),
    ]
    rows = []
    for (room, name), track in session.tracks.items():
        if track.transforms:
            fastest = max((speed for _, speed in track.speeds(session.step_s)), default=0.0)
            rows.append(
                (
                    text(name),
                    text(room),
                    f"{track.walked_m:,.1f}",
                    clock(track.walking_s),
                    f"{100 * track.walking_s / track.present_s:.0f} %" if track.present_s else NONE,
                    number(track.walking_m / track.walking_s if track.walking_s else math.nan, 2),
                    number(fastest, 2),
                    track.jumps or NONE,
                )
            )
    yield from long_table("How far and how fast", columns, rows)


def distances(session: Session) -> Iterator[str]:
    """How far apart those were who were together longest, or came nearest."""
    pairs = figures.closest_pairs(session)
    if not pairs:
        yield "<p>No two people moved in one room at the same time.</p>"
        return
    if len(pairs) == figures.DISTANCE_PAIRS:
        which = f"Shown are {len(pairs)} pairs: those who were together longest, and then those who came nearest."
    elif len(session.people) <= figures.PEOPLE_FOR_ALL_PAIRS:
        which = "Shown are all pairs that were in one room."
    else:
        which = f"Shown are all pairs that came nearer than {NEAR_M:.0f} m."
    yield figure(
        figures.distance(session, pairs),
        f"<b>How far it was from head to head.</b> Green is nearer than {NEAR_M:.0f} m; a gap is where one of them was "
        f"not there, and what is further than the figure is high is not drawn. {which}",
    )
