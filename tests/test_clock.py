"""The server's wall clock: what `time` can be relied on for (protocol, chapter 2, Order)."""

import itertools
import json
import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_vrchat._clock import WallClock
from trio_vrchat._codec import encode_entry

TODAY = 1.8e9


@attrs.define
class Machine:
    """A machine's two clocks, each set by hand."""

    monotonic: float = 1000.0
    wall: float = TODAY
    reads: int = 0

    def read(self) -> float:
        self.reads += 1
        return self.wall

    def clock(self, start: float | None = None) -> WallClock:
        return WallClock(lambda: self.monotonic, start, self.read)

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


def test_without_a_start_the_time_is_the_machines() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == TODAY
    machine.advance(7.5)
    assert clock.now() == TODAY + 7.5


def test_a_given_start_is_the_time_at_the_start_and_the_machines_is_never_read() -> None:
    machine = Machine()
    clock = machine.clock(start=1000.5)
    assert clock.now() == 1000.5
    machine.monotonic += 3600.0
    machine.wall -= 1e6
    assert clock.now() == 4600.5
    assert clock.stamp() == 4600.5
    assert machine.reads == 0


def test_a_start_of_zero_is_a_start() -> None:
    machine = Machine()
    clock = machine.clock(start=0.0)
    assert clock.now() == 0.0
    machine.advance(1.0)
    assert clock.now() == 1.0
    assert machine.reads == 0


@pytest.mark.parametrize("drift", [0.25, 0.9, 1.0, -0.25, -0.9, -1.0])
def test_a_drift_of_up_to_a_second_is_not_followed(drift: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.advance(10.0)
    machine.wall += drift
    assert clock.now() == TODAY + 10.0


@pytest.mark.parametrize("drift", [1.001, 2.0, 3600.0, -1.001, -2.0, -1e6])
def test_a_drift_of_more_than_a_second_is_followed_at_once(drift: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.advance(10.0)
    machine.wall += drift
    assert clock.now() == pytest.approx(TODAY + 10.0 + drift, abs=1e-6)
    machine.advance(5.0)
    assert clock.now() == pytest.approx(TODAY + 15.0 + drift, abs=1e-6)


def test_after_a_correction_the_clock_counts_on_from_there() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += 100.0
    assert clock.now() == TODAY + 100.0
    machine.wall += 0.75  # not followed: the drift is counted from the last correction
    machine.monotonic += 1.0
    assert clock.now() == TODAY + 101.0


def test_a_stamp_is_the_time_where_the_clock_runs() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(5):
        machine.advance(0.5)
        assert clock.stamp() == clock.now() == machine.wall


def test_stamps_grow_by_a_microsecond_where_the_clock_stands_still() -> None:
    stamps = [stamp() for stamp in itertools.repeat(Machine().clock().stamp, 100)]
    assert stamps[0] == TODAY
    for before, after in itertools.pairwise(stamps):
        assert after - before == pytest.approx(1e-6, abs=3e-7)


@pytest.mark.parametrize("start", [2.0**40, 0.0, 1.0, TODAY, 4e9])
def test_ten_thousand_stamps_in_a_row_are_distinct_as_json(start: float) -> None:
    clock = Machine().clock(start)
    entries = [encode_entry(clock.stamp(), b'"Tibi"', b'"msg"', b'""') for _ in range(10_000)]
    times = [json.loads(entry)["time"] for entry in entries]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert times[-1] - start < 0.02 + 10_000 * math.ulp(start)


def test_stamps_grow_while_the_wall_clock_goes_back() -> None:
    machine = Machine()
    clock = machine.clock()
    first = clock.stamp()
    machine.wall -= 3600.0
    assert clock.now() == TODAY - 3600.0
    second = clock.stamp()
    assert first < second < first + 0.001
    machine.advance(3601.0)
    assert clock.stamp() == TODAY + 1.0


def test_now_does_not_use_up_stamps() -> None:
    clock = Machine().clock()
    assert clock.now() == clock.now() == clock.stamp() == TODAY


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e5, 1e5))),
    st.one_of(st.none(), st.floats(0, 4e9)),
)
def test_stamps_grow_whatever_the_clocks_do(steps: list[tuple[float, float]], start: float | None) -> None:
    machine = Machine()
    clock = machine.clock(start)
    stamps = [clock.stamp()]
    for passed, jump in steps:
        machine.advance(passed)
        machine.wall += jump
        stamps += [clock.stamp(), clock.stamp()]
        if start is None:
            assert abs(clock.now() - machine.wall) <= 1.0
    times = [float(json.dumps(stamp)) for stamp in stamps]
    assert all(before < after for before, after in itertools.pairwise(times))
