"""When a worker that has ended is started again."""

from __future__ import annotations

import itertools

from trio_vrchat._restarts import DELAYS_S, STEADY_S, Restarts


def test_who_has_served_for_a_while_is_started_again_at_once_and_for_ever() -> None:
    restarts = Restarts()
    assert [restarts.ended(STEADY_S) for _ in range(100)] == [0.0] * 100


def test_who_ends_at_once_is_tried_later_and_later_and_then_given_up() -> None:
    restarts = Restarts()
    delays = [restarts.ended(0.0) for _ in DELAYS_S]
    assert delays == list(DELAYS_S)
    assert all(sooner < later for sooner, later in itertools.pairwise(DELAYS_S))
    assert restarts.ended(STEADY_S - 0.001) is None
    assert restarts.in_a_row == len(DELAYS_S) + 1


def test_a_while_of_service_forgives_what_was_before() -> None:
    restarts = Restarts()
    for _ in range(3):
        assert [restarts.ended(0.0) for _ in DELAYS_S] == list(DELAYS_S)
        assert restarts.ended(STEADY_S) == 0.0
