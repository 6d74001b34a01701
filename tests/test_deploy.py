"""What is in `deploy/`: a unit that systemd takes, and command lines that are the program's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

import trio_vrchat.__main__ as command_line
from trio_vrchat import Config, _supervisor
from trio_vrchat._config import option_of

from .program import environment

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "trio-vrchat.service"
INSTALLED = "/opt/trio_vrchat/bin/trio-vrchat"
VARIABLES = {
    f"TRIO_VRCHAT_{option.upper()}"
    for option in (
        *(option_of(field) for field in attrs.fields(Config)),
        "workers",
        "log_level",
        "log_json",
        "config",
    )
    if option is not None
}


def workers_of(arguments: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, Config]:
    """What the program would run, given these."""
    ran: list[tuple[int, Config]] = []
    assert set(variables) <= VARIABLES
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", environment(variables))
        patch.setattr(sys, "argv", ["trio-vrchat", *arguments])
        patch.setattr(command_line, "configure", lambda level, as_json: None)
        patch.setattr(_supervisor, "check_for_workers", lambda config, workers: None)
        patch.setattr(_supervisor, "run_workers", lambda config, workers, **log: ran.append((workers, config)))
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    assert ended.value.code == 0
    [found] = ran
    return found


# systemd


def test_the_unit_runs_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = UNIT.read_text().splitlines()
    values = [line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#")]
    [command] = [value for key, value in values if key == "ExecStart"]
    program, *arguments = shlex.split(command)
    assert program == INSTALLED
    variables = dict(value.split("=", 1) for key, value in values if key == "Environment")
    assert variables.pop("XDG_DATA_HOME") == "%S"
    assert workers_of(arguments, variables, monkeypatch)[0] == 4
    assert ("RestartPreventExitStatus", str(command_line._USAGE_ERROR)) in values
    assert ("KillMode", "mixed") in values


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here (Debian: apt-get install systemd)")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(INSTALLED, sys.executable))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(unit)], capture_output=True, text=True, check=False
    )
    exposure = re.search(r"Overall exposure level for \S+: (\d+\.\d)", judged.stdout)
    assert exposure, judged.stderr
    # Of 10. The network is what it is for.
    assert float(exposure[1]) <= 2.0


# Containers


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def test_the_composed_server_is_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    services = composed()["services"]
    server = services["server"]
    workers, config = workers_of(server["command"], server["environment"], monkeypatch)
    assert workers == 2
    assert config.trust_proxy == (f"{services['caddy']['networks']['default']['ipv4_address']}/32",)
    for published in (server["ports"][0].split(":")[1], services["caddy"]["command"][-1].removeprefix("server:")):
        assert published == str(config.port)
    assert f"127.0.0.1:{config.port}/healthz" in server["healthcheck"]["test"][-1]
    assert server["environment"]["TRIO_VRCHAT_BACKPLANE"].startswith("redis://redis:")
    assert int(server["stop_grace_period"].removesuffix("s")) > config.drain_s + 3


def test_what_the_composition_names_is_there() -> None:
    composition = composed()
    services = composition["services"]
    assert set(services["server"]["depends_on"]) < set(services)
    for service in services.values():
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in composition["volumes"]
    build = services["server"]["build"]
    root = DEPLOY / build["context"]
    assert (root / build["dockerfile"]).is_file()
    # What the image is built from is all that a wheel is made of.
    needed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert needed == {"LICENSE", "README.md", "pyproject.toml", "requirements.lock", "trio_vrchat"}
    assert all((root / name).exists() for name in needed)
