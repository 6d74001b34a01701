"""One room's events as a node has them: what is missed, repeated or too much is asked for, and comes once."""

from __future__ import annotations

import pytest

from trio_vrchat import _follower
from trio_vrchat._backplane import Event, Gone, Happened, RoomEvents, Snapshot
from trio_vrchat._follower import CaughtUp, Follower, View


def event(at: int, body: str = "") -> Event:
    return Event(at, "a", at, "say", "tibi", "Tibi", body)


def events(*times: int) -> tuple[Event, ...]:
    return tuple(event(at) for at in times)


def published(after: int, *times: int) -> RoomEvents:
    return RoomEvents("den", after, events(*times))


def view(last: int, *, complete: bool = True) -> View:
    return View(Snapshot(last=last, members=(), history=(), forgotten_until=0), complete)


def happened(*times: int, more: bool = False) -> Happened:
    return Happened(events=events(*times), more=more)


@pytest.fixture
def follower() -> Follower:
    """One that has been shown the room as it is at 10."""
    follower = Follower()
    follower.view(view(10))
    assert follower.take() == [view(10)]
    return follower


def test_it_begins_with_a_view() -> None:
    follower = Follower()
    assert (follower.behind, follower.last) == (True, None)
    follower.view(view(10))
    assert (follower.behind, follower.last) == (False, 10)
    assert follower.take() == [view(10)]
    assert follower.take() == []


def test_what_follows_is_taken(follower: Follower) -> None:
    follower.publish(published(10, 11, 12))
    follower.publish(published(12, 13))
    assert follower.take() == [*events(11, 12, 13)]
    assert not follower.behind


def test_what_was_seen_is_not_shown_again(follower: Follower) -> None:
    follower.publish(published(8, 9, 10, 11))
    follower.publish(published(10, 11))
    assert follower.take() == [event(11)]
    assert not follower.behind


def test_after_a_gap_nothing_is_taken_before_it_is_filled(follower: Follower) -> None:
    follower.publish(published(11, 12))
    follower.publish(published(10, 11))
    assert follower.behind
    assert follower.take() == []
    follower.read_on(happened(11, 12))
    assert not follower.behind
    follower.publish(published(12, 13))
    assert follower.take() == [*events(11, 12, 13)]


def test_what_was_published_while_it_asked_is_asked_for_again(follower: Follower) -> None:
    follower.publish(published(11, 12))
    follower.publish(published(12, 13))
    follower.read_on(happened(11, 12))
    assert follower.behind
    follower.read_on(happened(13))
    assert not follower.behind
    assert follower.take() == [*events(11, 12, 13)]


def test_what_was_published_before_a_view_came_is_asked_for() -> None:
    follower = Follower()
    follower.publish(published(10, 11))
    follower.view(view(10))
    assert follower.behind
    follower.read_on(happened(11))
    assert not follower.behind
    later = Follower()
    later.publish(published(10, 11))
    later.view(view(11))
    assert not later.behind, "it is in the view"


def test_more_is_asked_for(follower: Follower) -> None:
    follower.lose()
    follower.read_on(happened(11, more=True))
    assert follower.behind
    follower.read_on(happened(12))
    assert not follower.behind


def test_what_is_gone_takes_a_new_view(follower: Follower) -> None:
    follower.lose()
    follower.read_on(Gone())
    assert (follower.behind, follower.last) == (True, None)


def test_after_a_loss_it_reads_on(follower: Follower) -> None:
    follower.publish(published(10, 11))
    follower.lose()
    assert (follower.behind, follower.last) == (True, 11)
    follower.publish(published(11, 12))
    assert follower.take() == [event(11)]
    follower.read_on(happened(12))
    assert follower.take() == [event(12), CaughtUp()]


def test_an_engine_that_counts_anew_is_not_waited_for(follower: Follower) -> None:
    follower.publish(published(20, 21))
    follower.lose()
    follower.read_on(Gone())
    follower.view(view(5))
    assert not follower.behind, "21 was another life's"


def test_what_is_not_complete_is_looked_at_again() -> None:
    follower = Follower()
    follower.view(view(10, complete=False))
    follower.publish(published(10, 11))
    assert follower.take() == [view(10, complete=False), event(11)]
    follower.settle()
    assert (follower.behind, follower.last) == (True, None)
    follower.view(view(11))
    follower.settle()
    assert not follower.behind


def test_what_nobody_takes_has_a_limit(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follower, "_WAITING_LIMIT", 100)
    for at in range(11, 31):
        follower.publish(RoomEvents("den", at - 1, (event(at, "x" * 10),)))
    assert follower.behind
    assert [what.at for what in follower.take() if isinstance(what, Event)] == [*range(11, 22)]
    follower.read_on(happened(22, 23))
    assert follower.behind, "30 was published"
    follower.read_on(Happened(events=tuple(event(at, "x" * 60) for at in range(24, 31)), more=False))
    assert follower.behind, "and did not fit"
    assert follower.last == 25
    follower.take()
    follower.read_on(happened(26, 27, 28, 29, 30))
    assert not follower.behind
