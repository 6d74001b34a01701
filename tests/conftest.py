"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A failing example is printed with what reproduces it; the machine's speed is no reason to fail.
settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TRIO_VRCHAT_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("\nA test was skipped that should have run here.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
