"""RFC 6455 as others read it: the Autobahn fuzzing client against an echo behind our connections.

The suite is the one that WebSocket libraries are commonly measured by. It is Python 2.7, so it gets an environment of
its own, which is kept in pytest's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from tests.conftest import NO_PYTHON_2
from tests.program import started

PACKAGES = Path(__file__).parent / "autobahn.txt"
# The last virtualenv that makes environments for Python 2.7.
VIRTUALENV = "virtualenv==20.21.1"
# Of the suite in PACKAGES.
CASES = 517
# permessage-deflate, which the server does not offer.
NOT_IMPLEMENTED = {12, 13}
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
# The suite takes 40 s. For what would never end.
DEADLINE_S = 900


def python_2() -> str:
    """The path of a Python 2.7; skips the test where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    in_path = (shutil.which(name) for name in ("python2.7", "python2"))
    for name in (*filter(None, in_path), *map(str, pyenv.glob("versions/2.7*/bin/python2.7"))):
        # A name in the PATH may be a shim that leads nowhere.
        code = "import sys; assert sys.version_info[:2] == (2, 7)"
        if not subprocess.run([name, "-c", code], capture_output=True, timeout=60, check=False).returncode:
            return name
    pytest.skip(f"{NO_PYTHON_2}: neither in the PATH nor with pyenv; the Autobahn test suite runs on nothing newer")


def run(command: Iterable[str | Path], **variables: str) -> None:
    """Run a command that must succeed."""
    environment = os.environ | variables
    done = subprocess.run(
        list(command), capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def fuzzing_client(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `wstest`, installed."""
    python = python_2()
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("autobahn")
    # Written last, so that an installation that broke off is begun anew.
    complete = folder / "complete.txt"
    if not complete.exists() or complete.read_text() != PACKAGES.read_text():
        shutil.rmtree(folder)
        tools = tmp_path_factory.mktemp("virtualenv")
        run([sys.executable, "-m", "pip", "install", "-q", "--target", tools, VIRTUALENV])
        run([sys.executable, "-m", "virtualenv", "-q", "-p", python, folder], PYTHONPATH=os.fspath(tools))
        run([folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", PACKAGES])
        shutil.copy(PACKAGES, complete)
    return folder / "bin" / "wstest"


@attrs.frozen
class Case:
    """How one case went: what the server did with the frames, and how the connection ended."""

    name: str
    behavior: str
    close: str

    @property
    def group(self) -> int:
        return int(self.name.partition(".")[0])

    @property
    def result(self) -> str:
        return self.behavior if self.close in PASSED else f"{self.behavior} with its end {self.close}"

    @property
    def passed(self) -> bool:
        unimplemented = self.behavior == "UNIMPLEMENTED" and self.group in NOT_IMPLEMENTED
        return (self.behavior in PASSED or unimplemented) and self.close in PASSED


def run_cases(fuzzing_client: Path, url: str, names: list[str], folder: Path) -> list[Case]:
    folder.mkdir()
    specification = {
        "outdir": os.fspath(folder),
        "servers": [{"agent": "trio_vrchat", "url": url}],
        "cases": names,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "specification.json").write_text(json.dumps(specification))
    run([fuzzing_client, "-m", "fuzzingclient", "-s", folder / "specification.json"])
    results = json.loads((folder / "index.json").read_text())["trio_vrchat"]
    return [Case(name, result["behavior"], result["behaviorClose"]) for name, result in results.items()]


def table(cases: Iterable[Case]) -> str:
    groups: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for case in cases:
        groups[case.group][case.result] += 1
    return "\n".join(
        f"  {group:2}: " + ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        for group, counts in sorted(groups.items())
    )


def test_the_autobahn_suite(
    fuzzing_client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent)
    with started(command=("-m", "tests.echo_server")) as server:
        url = server.until("ws://", server.stdout)[-1]
        cases = run_cases(fuzzing_client, url, ["*"], tmp_path / "first")
        suspects = [case.name for case in cases if not case.passed]
        # Many cases give an answer one second, which a loaded machine may not have had: what broke a rule breaks it
        # again.
        again = run_cases(fuzzing_client, url, suspects, tmp_path / "again") if suspects else []
    with capsys.disabled():
        print(f"\nAutobahn, {len(cases)} cases by group:\n{table(cases)}")  # noqa: T201
        if again:
            print(f"not passed, and run again:\n{table(again)}")  # noqa: T201
    assert len(cases) == CASES
    assert [case for case in again if not case.passed] == []
    assert len(again) == len(suspects)
