"""The page's modules that know no document, in Node: `tests/web/*.test.mjs`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "web"
PAGE = Path(__file__).parent.parent / "trio_vrchat" / "web"


@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.test.mjs")))
def test_in_node(name: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("Node is not installed")
    # A browser knows from the page that its scripts are modules; Node asks a package.json.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(PAGE, tmp_path / "trio_vrchat" / "web")
    shutil.copytree(TESTS, tmp_path / "tests" / "web")
    command = [node, "--test", os.fspath(tmp_path / "tests" / "web" / name)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
