"""A recording as a page that says who was where, when, and with whom.

    from trio_vrchat import recording, report

    with recording.open("study/2026-11-27T131205Z.mcap") as opened:
        session = report.reduce(opened)
    print([(pair.one, pair.other, pair.together_s) for pair in session.pairs])

`reduce` reads a recording once, in bounded memory, to what can be shown; it needs no more than the plain install.
`page` makes HTML of that, and needs matplotlib.

Reading order: `_track.py` is one person's path in one room, `_meetings.py` who was near whom there, and `_data.py`
fills both from a recording. `_canvas.py`, `_figures.py` and `_maps.py` draw, and alone know matplotlib. `_html.py` has
the pieces of a page, `_page.py` is the page, with the larger of its sections in `_met.py`, `_movement.py` and
`_network.py`; `_text.py` is how times and names are written.
"""

from collections.abc import Callable

from ._data import Person, Sample, Session, reduce
from ._meetings import Meeting, Pair
from ._track import Stay, Track

__all__ = ["Meeting", "Pair", "Person", "Sample", "Session", "Stay", "Track", "page", "reduce"]


def page(session: Session, tell: Callable[[float], None] = lambda _: None) -> str:
    """The whole page, as HTML. `tell` is told how much of it is drawn, from 0 to 1.

    Raises ImportError without matplotlib.
    """
    from ._page import page as made  # noqa: PLC0415  (nobody else waits for matplotlib)

    return made(session, tell)
