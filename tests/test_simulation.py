"""A crowd on a bad network, for hours of virtual time (see `tests/simulation`). `--seeds N` runs more of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation import invariants
from tests.simulation.kinds import Kind, kind_of
from tests.simulation.run import SimulationError, simulate

ROOT = Path(__file__).parent.parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        seeds: int = metafunc.config.getoption("--seeds")  # pyright: ignore[reportAssignmentType]
        metafunc.parametrize("seed", range(seeds))


def test_a_seed_keeps_every_promise(seed: int) -> None:
    report = simulate(seed)
    assert report.virtual_s >= 300
    assert report.acts > 100
    assert report.lines > 1000, "somebody has listened"


def test_a_few_seeds_are_of_all_kinds() -> None:
    assert {kind_of(seed) for seed in range(3)} == set(Kind)


def test_a_seed_is_the_same_in_every_process() -> None:
    """Not only here: sets and dicts of texts have another order in each process."""

    def replay(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", "5"]
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    first, second = replay("1"), replay("2")
    assert first == second
    assert "transcript" in first
    here = simulate(5)
    assert here.digest in first
    assert simulate(6, 60).digest != simulate(7, 60).digest


def test_a_failing_seed_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = []
    for _ in range(2):
        steps = iter(range(1999))

        def break_after_many_steps(*_: object, steps: Iterator[int] = steps) -> None:
            if next(steps, None) is None:
                raise AssertionError("something is missing")

        monkeypatch.setattr(invariants, "check", break_after_many_steps)
        with pytest.raises(SimulationError) as failure:
            simulate(3)
        messages.append(str(failure.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("seed 3, after ")
    assert "something is missing" in messages[0]
    assert "python -m tests.simulation --seed 3" in messages[0]
    assert messages[0].count("\n") > 20, "and the last acts"
