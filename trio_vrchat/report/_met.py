"""The section of a report on who met whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from . import _figures as figures
from ._data import Session
from ._html import MOST_ROWS, Column, figure, head, long_table, numbers, table, text
from ._meetings import MEETING_S, NEAR_M, PAUSE_S, Pair
from ._text import NONE, clock, count

# People that one line names.
_NAMES_IN_A_LINE = 8


def pairs_that_met(session: Session) -> list[Pair]:
    """In the order of the table: a pair's place in it is its number."""
    return [pair for pair in session.pairs if pair.met]


def met(session: Session) -> Iterator[str]:
    """Tables and pictures."""
    yield (
        f"<p>Two people <b>met</b> when their heads were less than {NEAR_M:.0f} m apart, in the same room, for "
        f"{MEETING_S:.0f} seconds or longer. Who parted for less than {PAUSE_S:.0f} seconds had not parted. "
        "Times are since the start, in minutes and seconds, with hours before them where there are any.</p>"
    )
    pairs = pairs_that_met(session)
    if not pairs:
        yield "<p><b>Nobody met anybody.</b></p>"
    else:
        yield from _table(pairs)
    if (picture := figures.meetings(session)) is not None:
        most = figures.MEETING_ROWS
        which = f"The {most} pairs of {len(pairs)} that were together longest" if len(pairs) > most else "All pairs"
        yield figure(picture, f"<b>When they were together.</b> {which}, in the order in which they first met.")
    if (picture := figures.matrix(session)) is not None:
        yield figure(
            picture, "<b>How long each was together with each</b>, over all rooms. An empty field: they did not meet."
        )
    if len(session.people) > 2:
        yield from _each_person(session, pairs)
    yield from _passed([pair for pair in session.pairs if not pair.met])


def _table(pairs: Sequence[Pair]) -> Iterator[str]:
    columns = [
        Column("No.", "number"),
        head("Who"),
        Column("with whom"),
        Column("in the room"),
        *numbers(
            "together",
            "first<br>met at",
            "last<br>until",
            "times<br>met",
            "longest",
            "closest<br>(m)",
            "only<br>passed",
        ),
    ]
    rows = [
        (
            at,
            text(pair.one),
            text(pair.other),
            text(pair.room),
            clock(pair.together_s),
            *_times(pair),
            pair.met,
            clock(max((each.end - each.start for each in pair.meetings), default=math.nan)),
            f"{pair.closest_m:.2f}",
            pair.passed or NONE,
        )
        for at, pair in enumerate(pairs, 1)
    ]
    yield from long_table("Pairs that met, those who were together longest first", columns, rows)


def _times(pair: Pair) -> tuple[str, str]:
    if not pair.meetings:
        return NONE, NONE
    return clock(pair.meetings[0].start), clock(pair.meetings[-1].end)


def _each_person(session: Session, pairs: Sequence[Pair]) -> Iterator[str]:
    partners: dict[str, dict[str, float]] = {name: {} for name in session.people}
    for pair in pairs:
        for one, other in ((pair.one, pair.other), (pair.other, pair.one)):
            partners[one][other] = partners[one].get(other, 0.0) + pair.together_s
    rows = []
    for name, others in partners.items():
        longest = sorted(others.items(), key=lambda item: (-item[1], item[0]))
        named = ", ".join(f"{text(other)} ({clock(seconds)})" for other, seconds in longest[:_NAMES_IN_A_LINE])
        more = f", and {len(longest) - _NAMES_IN_A_LINE} more" if len(longest) > _NAMES_IN_A_LINE else ""
        rows.append((text(name), len(others), named + more or "nobody"))
    columns = [head("Who"), *numbers("met so<br>many"), Column("whom, and how long, the longest first", "names")]
    yield from long_table("Whom each person met, over all rooms", columns, rows)


def _passed(pairs: Sequence[Pair]) -> Iterator[str]:
    if not pairs:
        return
    columns = [head("Who"), Column("whom"), Column("in the room"), *numbers("times", "closest (m)")]
    rows = [
        (text(pair.one), text(pair.other), text(pair.room), pair.passed, f"{pair.closest_m:.2f}")
        for pair in pairs[:MOST_ROWS]
    ]
    yield (
        f"<details><summary>{count(len(pairs), 'more pair')} only passed, nearer than {NEAR_M:.0f} m for less than "
        f"{MEETING_S:.0f} seconds</summary>{table('Pairs that only passed each other', columns, rows)}</details>"
    )
