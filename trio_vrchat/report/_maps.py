"""Rooms from above."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap

from ._canvas import COLOURS, GRID, INK, PALE, WIDTH_IN, Picture, drawing, finished, in_legend, over_time, span
from ._data import Session
from ._meetings import Meeting
from ._text import clock, count, short
from ._track import Place, Track

# A room of so many is drawn as paths; of more, as where people were.
PATHS = len(COLOURS)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
# From dark to what is still seen on white.
_TIME_COLOURS = LinearSegmentedColormap.from_list("time", ["#2a0a4a", "#1f5a9c", "#0f9b8e", "#7fc241"])
_METRES = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_LEAST_HALF_M, _MARGIN = 2.0, 1.1
# As many say where somebody was.
_PLACES_OF_A_TRACK = 2000
_ARROWS = 24
# Of how many colours a path is.
_PIECES = 16
# Across the picture of a path: more places look no different.
_POINTS_ACROSS = 300
# How many meetings a map shows, and how large one is there, as a share of half its side.
_MEETING_PLACES, _MEETING_PLACE = 30, 0.085
_SPEEDS_ACROSS = 200

_Step = tuple[float, Place, tuple[float, float], bool]


@attrs.frozen
class Area:
    """What a map shows: the middle, x and z, and half the side of the square, in metres."""

    x: float
    z: float
    half: float

    def holds(self, place: Place) -> bool:
        """Whether the place is in it."""
        return abs(place[0] - self.x) <= self.half and abs(place[2] - self.z) <= self.half


def area_of(session: Session, room: str) -> Area:
    """A square that holds nearly all places of a room: a few that are far away would make the rest a dot."""
    places = np.array(
        [
            (place[0], place[2])
            for track in session.in_room(room).values()
            for _, place, _, _ in _every(track.path(session.step_s), _PLACES_OF_A_TRACK)
        ]
    )
    if not len(places):
        return Area(0.0, 0.0, _LEAST_HALF_M)
    low, high = np.quantile(places, (0.005, 0.995), axis=0)
    reach = max(*(high - low), _LEAST_HALF_M)
    near = places[np.all((places >= low - reach) & (places <= high + reach), axis=1)]
    low, high = near.min(axis=0), near.max(axis=0)
    x, z = (low + high) / 2
    return Area(float(x), float(z), max(_LEAST_HALF_M, float(max(high - low)) / 2 * _MARGIN))


def _every(path: Sequence[_Step], most: int) -> Sequence[_Step]:
    return path[:: max(1, len(path) // most)]


def _map(axes: Axes, area: Area, label: bool = True) -> None:
    axes.set_xlim(area.x - area.half, area.x + area.half)
    # -z is forward: up, as on a map.
    axes.set_ylim(area.z + area.half, area.z - area.half)
    axes.set_aspect("equal")
    step = next((tick for tick in _METRES if 2 * area.half / tick <= 6), area.half)
    for axis, middle in ((axes.xaxis, area.x), (axes.yaxis, area.z)):
        first = math.ceil((middle - area.half) / step) * step
        axis.set_ticks(list(np.arange(first, middle + area.half, step)))
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=2, labelsize=8 if label else 7)
    if label:
        axes.set_xlabel("x (metres)")
        axes.set_ylabel("z (metres); up is forward")


def _lines(track: Track, step: float, area: Area) -> list[list[tuple[float, float, float]]]:
    """The path in pieces without a break, each of x, z and time, without what is too near to be seen apart."""
    least = 2 * area.half / _POINTS_ACROSS
    pieces: list[list[tuple[float, float, float]]] = []
    for time, (x, _, z), _, broken in track.path(step):
        if broken or not pieces:
            pieces.append([])
        elif math.hypot(x - pieces[-1][-1][0], z - pieces[-1][-1][1]) < least:
            continue
        pieces[-1].append((x, z, time))
    return pieces


def room_map(session: Session, room: str, area: Area, numbers: Mapping[tuple[str, str, str], int]) -> Picture:
    """A room from above: paths of a few, or where many were; and where they met.

    `numbers`: of each pair, by room and names, its number in the table.
    """
    tracks = {name: track for name, track in session.in_room(room).items() if track.transforms}
    few = len(tracks) <= PATHS
    with drawing(WIDTH_IN, 5.6) as figure:
        axes = figure.add_axes((0.075, 0.1, 5.0 / WIDTH_IN, 5.0 / 5.6))
        _map(axes, area)
        if few:
            for number, (name, track) in enumerate(tracks.items()):
                colour, dash = COLOURS[number], _DASHES[number]
                for part, piece in enumerate(_lines(track, session.step_s, area)):
                    axes.plot(
                        [x for x, _, _ in piece],
                        [z for _, z, _ in piece],
                        color=colour,
                        linestyle=dash,
                        linewidth=1.2,
                        alpha=0.85,
                        label=in_legend(short(name)) if part == 0 else None,
                    )
                    if part == 0:
                        axes.plot(*piece[0][:2], marker="o", color=colour, markersize=6)
        else:
            places = [
                place for track in tracks.values() for place in track.held(session.step_s).values() if area.holds(place)
            ]
            hexagons = axes.hexbin(
                [place[0] for place in places],
                [place[2] for place in places],
                C=[session.step_s] * len(places),
                reduce_C_function=np.sum,
                gridsize=36,
                extent=(area.x - area.half, area.x + area.half, area.z - area.half, area.z + area.half),
                cmap="Blues",
                linewidths=0.2,
                vmin=0,
            )
            bar = figure.add_axes((0.64, 0.12, 0.016, 0.3))
            figure.colorbar(hexagons, cax=bar, format=lambda seconds, _: clock(seconds))
            bar.set_title("time spent there,\nall together (min:s)", fontsize=8.5, loc="left")
        shown = _meeting_places(axes, session, room, area, numbers)
        if few or shown:
            handles, _ = axes.get_legend_handles_labels()
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, handlelength=3.2)
        what = "the paths" if few else "where people were"
        where = f", and the places of {count(shown, 'long meeting')}" if shown else ""
        return finished(
            figure, f"The room {short(room)} from above: {what} of {count(len(tracks), 'person', 'people')}{where}."
        )


def _meeting_places(
    axes: Axes, session: Session, room: str, area: Area, numbers: Mapping[tuple[str, str, str], int]
) -> int:
    found = [
        (met, numbers[pair.room, pair.one, pair.other])
        for pair in session.pairs
        if pair.room == room and (pair.room, pair.one, pair.other) in numbers
        for met in pair.meetings
        if area.holds((met.x, 0.0, met.z))
    ]
    found.sort(key=lambda one: one[0].start - one[0].end)
    shown: list[tuple[Meeting, int]] = []
    for met, pair in found:
        # Of those who would hide each other, the longest.
        apart = _MEETING_PLACE * area.half
        if all(math.hypot(met.x - other.x, met.z - other.z) > apart for other, _ in shown):
            shown.append((met, pair))
        if len(shown) == _MEETING_PLACES:
            break
    for number, (met, pair) in enumerate(shown):
        axes.plot(
            met.x,
            met.z,
            linestyle="none",
            marker="o",
            markersize=13,
            markerfacecolor="white",
            markeredgecolor=INK,
            alpha=0.9,
            label="a long meeting, by its\npair's number in the table" if number == 0 else None,
        )
        axes.text(met.x, met.z, f"{pair}", ha="center", va="center_baseline", fontsize=7 if pair < 100 else 6)
    return len(shown)


def time_scale(session: Session) -> Picture:
    """What the colours of paths say."""
    with drawing(4.2, 0.62) as figure:
        axes = figure.add_axes((0.05, 0.62, 0.9, 0.3))
        axes.imshow(
            np.linspace(0, 1, 64)[None, :],
            aspect="auto",
            cmap=_TIME_COLOURS,
            extent=(0, span(session.duration_s), 0, 1),
        )
        axes.set_yticks([])
        over_time(axes, session.duration_s)
        axes.grid(False)
        axes.tick_params(labelsize=7.5)
        axes.set_xlabel("")
        return finished(figure, "The scale of colours over time: dark at the start, light at the end.")


def path(session: Session, room: str, name: str, area: Area) -> Picture:
    """Somebody's path from above with where they looked, and beneath it how fast they were."""
    track = session.tracks[room, name]
    duration = span(session.duration_s)
    with drawing(2.9, 3.75) as figure:
        axes = figure.add_axes((0.12, 0.31, 0.85, 0.85 * 2.9 / 3.75))
        _map(axes, area, label=False)
        pieces = _lines(track, session.step_s, area)
        coloured = list(_in_colours(pieces, duration))
        axes.add_collection(
            LineCollection(
                [line for line, _ in coloured],
                colors=[_TIME_COLOURS(share) for _, share in coloured],
                linewidths=1.1,
                capstyle="round",
            )
        )
        _arrows(axes, track, session, area)
        if pieces:
            axes.plot(*pieces[0][0][:2], marker="o", markersize=7, markerfacecolor="white", markeredgecolor=INK)
            axes.plot(*pieces[-1][-1][:2], marker="s", markersize=6, color=INK)
        below = figure.add_axes((0.12, 0.075, 0.85, 0.14))
        _speeds(below, track, session)
        return finished(
            figure,
            f"{short(name)} in {short(room)}: the path from above with arrows for where they looked, and the speed "
            f"over time. {track.walked_m:.0f} metres on foot.",
        )


def _in_colours(
    pieces: list[list[tuple[float, float, float]]], duration: float
) -> Iterator[tuple[list[tuple[float, float]], float]]:
    """Lines of one colour each, and which: a share of the session."""
    for piece in pieces:
        line: list[tuple[float, float]] = []
        share = int(piece[0][2] / duration * _PIECES) / _PIECES
        for x, z, time in piece:
            line.append((x, z))
            now = int(time / duration * _PIECES) / _PIECES
            if now != share and len(line) > 1:
                yield line, share
                line = [(x, z)]
            share = now
        if len(line) > 1:
            yield line, share


def _arrows(axes: Axes, track: Track, session: Session, area: Area) -> None:
    """Where they looked, at even times: of each stretch of time the first place that is known."""
    every = max(session.duration_s / _ARROWS, session.step_s)
    chosen: dict[int, tuple[float, float, float, float, float]] = {}
    for time, place, look, _ in track.path(session.step_s):
        if area.holds(place):
            chosen.setdefault(int(time / every), (place[0], place[2], *look, time))
    if not chosen:
        return
    x, z, look_x, look_z, times = np.array(list(chosen.values())).T
    axes.quiver(
        x,
        z,
        look_x,
        look_z,
        times,
        cmap=_TIME_COLOURS,
        clim=(0, span(session.duration_s)),
        angles="xy",
        scale_units="xy",
        scale=1 / (0.16 * area.half),
        width=0.011,
        headwidth=4,
        headlength=4.5,
        headaxislength=4,
        edgecolors="white",
        linewidths=0.35,
        zorder=3,
    )


def _speeds(axes: Axes, track: Track, session: Session) -> None:
    speeds = track.speeds(session.step_s)
    axes.set_xlim(0, span(session.duration_s))
    if speeds:
        step = speeds[1][0] - speeds[0][0] if len(speeds) > 1 else session.duration_s
        # A figure is so wide; the fastest of what falls together is what is seen.
        group = max(1, len(speeds) // _SPEEDS_ACROSS)
        times: list[float] = []
        values: list[float] = []
        for at in range(0, len(speeds), group):
            if times and speeds[at][0] - times[-1] > 1.5 * step * group:
                times.append(speeds[at][0])
                values.append(math.nan)
            times.append(speeds[at][0])
            values.append(max(speed for _, speed in speeds[at : at + group]))
        axes.fill_between(times, values, color=PALE, linewidth=0)
        axes.plot(times, values, color=COLOURS[0], linewidth=0.8)
        axes.set_ylim(0, max(1.5, *(speed for _, speed in speeds)) * 1.08)
    else:
        axes.set_ylim(0, 1.5)
    axes.tick_params(length=2, labelsize=7)
    axes.set_xticks([0, session.duration_s], ["0:00", clock(session.duration_s)])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.locator_params(axis="y", nbins=3)
    axes.set_title("speed (m/s)", fontsize=7.5, loc="left", pad=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
