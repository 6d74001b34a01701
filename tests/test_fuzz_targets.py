"""The targets of `tests/fuzz`, each for a bounded number of inputs; `python -m tests.fuzz` goes on for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

# So many that each takes some seconds: an opening is a server's whole life.
RUNS = {"codec": 100_000, "frames": 5_000, "opening": 500}


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzer_starts_from_keeps_the_promises(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_coverage_leads_to_keeps_the_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install -e '.[fuzz]', on Linux")
    monkeypatch.chdir(Path(__file__).parent.parent)
    command = [sys.executable, "-m", "tests.fuzz", name, "--runs", str(RUNS[name])]
    done = subprocess.run(command, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-5000:].decode(errors="replace")
    assert f"Done {RUNS[name]} runs".encode() in done.stderr
