"""The figures over time, and of who was with whom."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._canvas import (
    COLOURS,
    INK,
    STRIPE,
    WIDTH_IN,
    Picture,
    drawing,
    finished,
    in_legend,
    over_time,
    rows,
    rows_height,
    side_of,
)
from ._data import Session
from ._meetings import NEAR_M
from ._text import clock, count, short

MEETING_ROWS, MATRIX_PEOPLE, DISTANCE_PAIRS = 40, 60, 6
# Of more people the pairs that never met are not looked at: there are too many.
PEOPLE_FOR_ALL_PAIRS = 24
_MARKS = ("|", "^", "o", "s", "D", "v", "P", "X", "<", ">", "*", "d")
# Of the width of a figure, as far as one can see two marks, bars or turns of a line apart.
_MARKS_ACROSS, _BARS_ACROSS, _POINTS_ACROSS = 600, 400, 1500
_HIGHEST_M = 8


# Rows of bars and marks over time


def stays(session: Session, room: str) -> Picture:
    """Who was in the room when."""
    tracks = session.in_room(room)
    with drawing(WIDTH_IN, rows_height(len(tracks))) as figure:
        axes = rows(figure, session.duration_s, [short(name) for name in tracks])
        least = session.duration_s / _BARS_ACROSS
        for row, track in enumerate(tracks.values()):
            bars = [(stay.start, max(stay.end - stay.start, least)) for stay in track.stays]
            axes.broken_barh(bars, (row - 0.32, 0.64), color=COLOURS[0], linewidth=0)
        return finished(
            figure, f"Bars over time: who was in the room {short(room)} when. The table below has the same in numbers."
        )


def meetings(session: Session) -> Picture | None:
    """Who was together when, those who were together longest, in the order in which they met; None where nobody was."""
    pairs = [pair for pair in session.pairs if pair.meetings][:MEETING_ROWS]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: pair.meetings[0].start)
    rooms = [room for room in session.rooms if any(pair.room == room for pair in pairs)]
    labels = [f"{short(pair.one, 16)} + {short(pair.other, 16)}" for pair in pairs]
    legend_in = 0.35 if len(rooms) > 1 else 0.1
    with drawing(WIDTH_IN, rows_height(len(pairs)) + legend_in) as figure:
        axes = rows(figure, session.duration_s, labels, legend_in)
        least = session.duration_s / _BARS_ACROSS
        shown: set[str] = set()
        for row, pair in enumerate(pairs):
            bars = [(met.start, max(met.end - met.start, least)) for met in pair.meetings]
            at = min(rooms.index(pair.room), len(COLOURS) - 1)
            name = short(pair.room) if at < len(COLOURS) - 1 or len(rooms) == len(COLOURS) else "other rooms"
            axes.broken_barh(
                bars,
                (row - 0.32, 0.64),
                facecolor=COLOURS[at],
                linewidth=0,
                label=None if name in shown else in_legend(f"in {name}"),
            )
            shown.add(name)
        if len(rooms) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderaxespad=0.2)
        return finished(
            figure, f"Bars over time: when which two people were together, {len(pairs)} pairs. The table has the same."
        )


def speaking(session: Session) -> Picture | None:
    """Who spoke when, and what kind of event it was; None where nobody did."""
    people = [person for person in session.people.values() if person.said]
    if not people:
        return None
    kinds = kinds_of_events(session)
    legend_in = 0.15 + 0.22 * math.ceil(len(kinds) / 6)
    with drawing(WIDTH_IN, rows_height(len(people)) + legend_in) as figure:
        axes = rows(figure, session.duration_s, [short(person.name) for person in people], legend_in)
        bin_s = max(session.duration_s / _MARKS_ACROSS, session.step_s)
        for number, kind in enumerate(kinds):
            dots = {
                (int(slot * session.step_s / bin_s) * bin_s, row)
                for row, person in enumerate(people)
                for slot in person.marks.get(kind, ())
            }
            axes.plot(
                [time for time, _ in sorted(dots)],
                [row for _, row in sorted(dots)],
                linestyle="none",
                marker=_MARKS[number % len(_MARKS)],
                markersize=9 if number == 0 else 5,
                color=COLOURS[number % len(COLOURS)],
                label=in_legend(short(kind, 16)),
                clip_on=False,
            )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False, borderaxespad=0.2)
        return finished(
            figure, f"Marks over time: when {count(len(people), 'person', 'people')} spoke. The table has the numbers."
        )


def kinds_of_events(session: Session) -> list[str]:
    """The types of what was said: chat first, then the most frequent."""
    totals: dict[str, int] = {}
    for person in session.people.values():
        for kind, times in person.said.items():
            totals[kind] = totals.get(kind, 0) + times
    return sorted(totals, key=lambda kind: (kind != "msg", -totals[kind], kind))


# Who with whom


def matrix(session: Session) -> Picture | None:
    """How long each was together with each; None where nobody was, or where two people are all there is."""
    together: dict[tuple[str, str], float] = {}
    totals: dict[str, float] = {}
    for pair in session.pairs:
        if pair.met:
            together[pair.one, pair.other] = together.get((pair.one, pair.other), 0.0) + pair.together_s
            for name in (pair.one, pair.other):
                totals[name] = totals.get(name, 0.0) + pair.together_s
    if len(totals) < 3:
        return None
    chosen = set(sorted(totals, key=lambda name: (-totals[name], name))[:MATRIX_PEOPLE])
    names = [name for name in session.people if name in chosen]
    values = np.zeros((len(names), len(names)))
    for (one, other), seconds in together.items():
        if one in chosen and other in chosen:
            a, b = names.index(one), names.index(other)
            values[a, b] = values[b, a] = seconds
    labels = [short(name, 16) for name in names]
    cell = min(0.5, max(0.17, 6.0 / len(names)))
    margin = side_of(labels)
    side = cell * len(names)
    with drawing(margin + side + 1.3, margin + side + 0.1) as figure:
        across, down = figure.get_size_inches()
        axes = figure.add_axes((margin / across, 0.1 / down, side / across, side / down))
        shown = np.ma.masked_equal(values, 0)
        edges = np.arange(len(names) + 1) - 0.5
        mesh = axes.pcolormesh(edges, edges, shown, cmap="cividis_r", vmin=0, edgecolors="white", linewidth=0.4)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_facecolor(STRIPE)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(names)), labels, rotation=90)
        axes.set_yticks(range(len(names)), labels)
        axes.tick_params(length=0)
        if cell >= 0.4:
            for a, b in zip(*np.nonzero(values), strict=True):
                dark = values[a, b] > 0.45 * values.max()
                colour = "white" if dark else INK
                axes.text(b, a, clock(float(values[a, b])), ha="center", va="center", fontsize=7.5, color=colour)
        bar = figure.add_axes(((margin + side + 0.2) / across, 0.1 / down, 0.15 / across, min(side, 2.0) / down))
        figure.colorbar(mesh, cax=bar, format=lambda seconds, _: clock(seconds))
        bar.set_title("together\n(min:s)", fontsize=8, loc="left")
        return finished(
            figure, f"A grid of {len(names)} people: the darker a field, the longer those two were together."
        )


# Distances


def closest_pairs(session: Session) -> list[tuple[str, str, str]]:
    """Room and names of those whose distance is shown: who were together longest, then who came nearest."""
    found = [(pair.room, pair.one, pair.other) for pair in session.pairs][:DISTANCE_PAIRS]
    if len(found) == DISTANCE_PAIRS or len(session.people) > PEOPLE_FOR_ALL_PAIRS:
        return found
    known = {(pair.room, pair.one, pair.other) for pair in session.pairs}
    others: list[tuple[float, tuple[str, str, str]]] = []
    for room in session.rooms:
        names = sorted(session.in_room(room))
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                if (room, one, other) not in known and (apart := distances(session, room, one, other)):
                    others.append((min(apart.values()), (room, one, other)))
    return found + [pair for _, pair in sorted(others)[: DISTANCE_PAIRS - len(found)]]


def distances(session: Session, room: str, one: str, other: str) -> dict[int, float]:
    """How far two were from each other, in metres, in each slot in which both were there."""
    here, there = (session.tracks[room, name].held(session.step_s) for name in (one, other))
    return {slot: math.dist(here[slot], there[slot]) for slot in sorted(here.keys() & there.keys())}


def distance(session: Session, pairs: Sequence[tuple[str, str, str]]) -> Picture:
    """How far these were from each other, over time: a row each."""
    height = 0.55 + 1.05 * len(pairs)
    with drawing(WIDTH_IN, height) as figure:
        for number, (room, one, other) in enumerate(pairs):
            bottom = (height - 1.05 * (number + 1)) / height
            axes = figure.add_axes((0.06, bottom, 0.915, 0.72 / height))
            apart = distances(session, room, one, other)
            times, values = _unbroken(apart, session.step_s)
            axes.axhspan(0, NEAR_M, color="#e7f0e4", linewidth=0)
            axes.plot(times, values, color=COLOURS[0], linewidth=1.1)
            near = [min(value, NEAR_M) for value in values]
            axes.fill_between(times, near, NEAR_M, where=[v < NEAR_M for v in values], color="#7fb573", linewidth=0)
            axes.set_ylim(0, _HIGHEST_M)
            axes.set_yticks(range(0, _HIGHEST_M + 1, 2), [f"{metres} m" for metres in range(0, _HIGHEST_M + 1, 2)])
            where = f"   (in {short(room)})" if len(session.rooms) > 1 else ""
            axes.set_title(f"{short(one)} and {short(other)}{where}", loc="left", fontsize=9, pad=3)
            over_time(axes, session.duration_s)
            axes.spines["left"].set_visible(True)
            axes.tick_params(length=2, labelsize=8)
            if number < len(pairs) - 1:
                axes.set_xlabel("")
                axes.set_xticklabels([])
        return finished(
            figure,
            f"Lines over time: how far apart {count(len(pairs), 'pair')} of people were, in metres, from head to head.",
        )


def _unbroken(apart: dict[int, float], step: float) -> tuple[list[float], list[float]]:
    """Times and distances, the nearest of what falls together, with a gap where one of them was away."""
    group = max(1, math.ceil(len(apart) / _POINTS_ACROSS))
    nearest: dict[int, float] = {}
    for slot, metres in apart.items():
        nearest[slot // group] = min(metres, nearest.get(slot // group, math.inf))
    times: list[float] = []
    values: list[float] = []
    last: int | None = None
    for at, metres in nearest.items():
        if last is not None and at > last + 1:
            times.append(at * group * step)
            values.append(math.nan)
        times.append(at * group * step)
        values.append(metres)
        last = at
    return times, values
