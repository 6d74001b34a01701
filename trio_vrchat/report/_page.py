"""The page of a report: what is in it, in which order. It needs nothing else, no network and no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import escape

from .._messages import MESSAGE
from .._version import __version__
from . import _figures as figures
from ._data import Session
from ._html import document, facts, figure, head, long_table, numbers, text
from ._meetings import LOOK_S
from ._met import met, pairs_that_met
from ._movement import distances, paths
from ._network import network
from ._text import NONE, clean, clock, count, spoken


def page(session: Session, report: Callable[[float], None] = lambda _: None) -> str:
    """The whole page. `report` is told how much of it is drawn, from 0 to 1."""
    return document(
        f"Session of {_date(session)}",
        _lead(session),
        [
            ("summary", "Summary", _summary(session)),
            ("met", "Who met whom", met(session)),
            ("where", "Who was where, and when", _where(session)),
            ("paths", "Paths, gaze and speed", paths(session, report)),
            ("distances", "How far apart", distances(session)),
            ("speaking", "Who spoke, and when", _speaking(session)),
            ("network", "Network and clocks", network(session)),
            ("method", "How this was made", _method(session)),
        ],
    )


def _date(session: Session) -> str:
    try:
        day = datetime.fromtimestamp(session.started, UTC)
    except (ValueError, OverflowError, OSError):
        return "an unknown day"
    return f"{day.day} {day:%B %Y, %H:%M} UTC"


def _lead(session: Session) -> str:
    people, rooms = count(len(session.people), "person", "people"), count(len(session.rooms), "room")
    pairs = pairs_that_met(session)
    # (In two rooms, two people are two rows of the table.)
    met_somewhere = len({(pair.one, pair.other) for pair in pairs})
    who = f"{count(met_somewhere, 'pair')} of people met." if pairs else "Nobody met anybody."
    if pairs:
        first = pairs[0]
        who += (
            f" Longest together, for {spoken(first.together_s)}, were {text(first.one)} and {text(first.other)}, in "
            f"the room {text(first.room)}."
        )
    lost = f'<p class="bad">{escape(clean(session.lost))}.</p>' if session.lost else ""
    return f'<p class="lead">{people} in {rooms}, for {spoken(session.duration_s)}. {who}</p>{lost}'


def _summary(session: Session) -> Iterator[str]:
    manifest, messages = session.manifest, session.messages
    notes = manifest.get("notes")
    said: dict[str, int] = {}
    for person in session.people.values():
        for kind, times in person.said.items():
            said[kind] = said.get(kind, 0) + times
    lines = said.pop(MESSAGE, 0)
    events = ", ".join(f"{text(kind)}: {times:,}" for kind, times in sorted(said.items(), key=lambda item: -item[1]))
    rooms = ", ".join(text(room) for room in session.rooms)
    yield facts(
        "The recording",
        [
            ("File", text(session.file)),
            ("Started", escape(_date(session))),
            ("Duration", f"{spoken(session.duration_s)}, until the last message"),
            ("Notes", _notes(notes) if isinstance(notes, dict) else "none"),
            ("Recorded by", text(str(manifest.get("server", "not said")))),
            ("Names", "pseudonyms" if manifest.get("pseudonyms") is True else "as the users chose them"),
            ("People", f"{len(session.people):,}"),
            ("Rooms", f"{len(session.rooms):,}" + (f": {rooms}" if rooms else "")),
            ("Lines of chat", f"{lines:,} (what was said is not in this report)"),
            ("Other events", events or "none"),
            ("Transforms", f"{messages['transforms']:,}"),
            ("Round trips", f"{messages['round_trips']:,}"),
            ("Missing", " ".join(text(each) for each in (session.lost, *session.left_out) if each) or "nothing known"),
        ],
    )


def _notes(notes: dict[object, object]) -> str:
    return ", ".join(f"{text(str(key))} = {text(str(value))}" for key, value in notes.items()) or "none"


def _where(session: Session) -> Iterator[str]:
    if not session.rooms:
        yield "<p>Nobody was in any room.</p>"
    for room in session.rooms:
        tracks = session.in_room(room)
        yield f"<h3>Room {text(room)}</h3>"
        if not tracks:
            yield "<p>Nobody is known to have been in it.</p>"
            continue
        yield figure(figures.stays(session, room), f"<b>Who was in the room {text(room)}, and when.</b>")
        rows = [
            (
                text(name),
                clock(track.stays[0].start),
                clock(track.stays[-1].end),
                clock(track.present_s),
                len(track.stays),
            )
            for name, track in tracks.items()
        ]
        columns = [head("Who"), *numbers("came at", "last there<br>at", "time in<br>the room", "stays")]
        yield from long_table(f"Who was in the room {clean(room)}", columns, rows)


def _speaking(session: Session) -> Iterator[str]:
    picture = figures.speaking(session)
    if picture is None:
        yield "<p>Nobody said anything.</p>"
        return
    yield (
        "<p>Lines of chat (<code>msg</code>), and whatever else applications sent, by its type; what was said is not "
        "in this report. A <b>turn</b> is a line and those that follow it, until somebody else writes one in that "
        "room.</p>"
    )
    yield figure(picture, "<b>Who spoke when.</b>")
    kinds = figures.kinds_of_events(session)
    columns = [head("Who"), *numbers(*map(text, kinds), "turns", "first at", "last at")]
    rows = [
        (
            text(person.name),
            *(person.said.get(kind, NONE) for kind in kinds),
            person.turns or NONE,
            *map(clock, person.spoke),
        )
        for person in session.people.values()
        if person.spoke is not None
    ]
    yield from long_table("Who spoke how often", columns, rows)


def _method(session: Session) -> Iterator[str]:
    yield (
        f"<p>Made by trio_vrchat {escape(__version__)} from the recording alone, of every transform as it came in. "
        f"Who sends nothing is where they were. Meetings are looked at every {LOOK_S} s; paths, distances and marks "
        f"are kept every {session.step_s:g} s, the last place of each. Distances are in three dimensions, from head to "
        "head; way and speed are on the floor, and a jump, faster than anybody runs, is neither.</p>"
        "<p>The recording has all of it in full: <code>python -m trio_vrchat export</code> makes a table.</p>"
    )
