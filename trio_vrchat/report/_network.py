"""The section of a report on each person's network and clock."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ._data import Person, Sample, Session
from ._html import head, long_table, numbers, text
from ._text import NONE, number
from ._track import SILENCE_S


def network(session: Session) -> Iterator[str]:
    """What the columns mean, and the table."""
    yield (
        "<p>A <b>round trip</b> is how long the answer to a ping of the server's took. <b>On the way</b> is the time "
        "from a transform's capture to its arrival, where the client says when that was. A client sends nothing while "
        f"nobody moves: a <b>silence</b> is counted only where nothing came for more than {SILENCE_S} s and the head "
        "was elsewhere after it. The <b>clock</b> is what a client has to add to its own to have the server's, by its "
        "last estimate, and how far off that may be. Of two figures, half of all values are at most the first, and 95 "
        "of 100 at most the second; a third is the largest.</p>"
    )
    columns = [
        head("Who"),
        *numbers(
            "transforms",
            "a second,<br>while there",
            "ms<br>apart",
            "silences",
            "longest<br>(s)",
            "round<br>trips",
            "round trip<br>(ms)",
            "on the<br>way (ms)",
            "clock<br>(ms)",
            "clock<br>moved by",
        ),
    ]
    yield from long_table("Each person's network", columns, [_row(session, each) for each in session.people.values()])


def _row(session: Session, person: Person) -> tuple[object, ...]:
    tracks = [track for (_, name), track in session.tracks.items() if name == person.name]
    transforms = sum(track.transforms for track in tracks)
    there = sum(track.present_s for track in tracks)
    longest = max((track.longest_silence_s for track in tracks), default=0.0)
    trips = person.round_trips
    return (
        text(person.name),
        f"{transforms:,}",
        number(transforms / there if there else math.nan),
        _milliseconds(person.intervals),
        sum(track.silences for track in tracks) or NONE,
        number(longest or math.nan),
        f"{trips.count:,}",
        _milliseconds(trips) + (f" / {1000 * trips.largest:,.0f}" if trips.count else ""),
        _milliseconds(person.delays),
        f"{1000 * person.clock[0]:+,.0f} ± {1000 * person.clock[1]:,.0f}" if person.clock else NONE,
        f"{1000 * (person.clock_most - person.clock_least):,.0f} ms" if person.clock else NONE,
    )


def _milliseconds(sample: Sample) -> str:
    if not sample.count:
        return NONE
    return " / ".join(f"{1000 * sample.quantile(share):,.0f}" for share in (0.5, 0.95))
