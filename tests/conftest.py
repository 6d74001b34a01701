"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A failing example is printed with what reproduces it; the machine's speed is no reason to fail.
settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")

# The one skip that is allowed everywhere, by how its reason begins: no package registry has this interpreter.
NO_PYTHON_2 = "no Python 2.7"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seeds N`: how many seeds of the simulation to run."""
    parser.addoption("--seeds", type=int, default=3, help="seeds of the simulation to run (tests/simulation)")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("TRIO_VRCHAT_NO_SKIPS") or reporter is None:
        return
    # What a report says of a skip is the file, the line and the reason.
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])]
    if not all(reason.startswith(NO_PYTHON_2) for reason in reasons):
        reporter.write_line("\nA test was skipped that should have run here.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
