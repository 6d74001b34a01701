"""What must hold after each step."""

from __future__ import annotations

from collections.abc import Sequence, Set

from trio_vrchat._statistics import Statistics

from .model import LOBBY, Model
from .people import Person


def check(people: Sequence[Person], model: Model, statistics: Statistics, open_links: int) -> None:
    """Everybody who reads has seen all that happened, nothing is open, nobody is left, and the server counts right."""
    model.pass_deadlines()
    for person in people:
        if person.user.sees_all:
            assert person.observer is not None
            model.check_sound(person.user)
            person.views.check_caught_up(person.observer, model)
    doubt = model.in_doubt()
    assert 0 <= model.members() - statistics.members <= doubt, (
        f"{statistics.members} members, must be {model.describe()}"
    )
    rooms = len({LOBBY, *model.rooms})
    assert 0 <= rooms - statistics.rooms <= doubt, f"{statistics.rooms} rooms are open, must be {sorted(model.rooms)}"
    # The server may not have answered a handshake yet.
    assert statistics.connections <= open_links, f"{statistics.connections} connections, not {open_links}"


def check_heads(people: Sequence[Person], model: Model, resting: Set[str]) -> None:
    """Everybody who reads sees everybody where they are. (The first is a steward.)

    Of strangers those who are `resting`.
    """
    watched = people[0].observer
    assert watched is not None
    for person in people:
        observer = person.observer
        if observer is None or person.link is None or not person.link.caught_up:
            continue
        for log in model.rooms_of(person.user):
            room = log.room
            shown = observer.rooms[room].transforms
            for name, number in model.heads[room].items():
                place = shown.get(name, {}).get("pos", {}).get("x")
                assert place == number, f"{person.name} sees {name} in {room} at {place}, not at {number}"
            if room in watched.rooms:
                strangers = watched.rooms[room].transforms
                for name in resting & (shown.keys() | strangers.keys()):
                    assert shown.get(name) == strangers.get(name), f"{person.name} sees {name} elsewhere in {room}"
