"""The command line: where settings come from, and what is said to whoever gives a wrong one."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

import trio_vrchat
import trio_vrchat.__main__ as command_line
from trio_vrchat import _supervisor, bench
from trio_vrchat._config import option_of
from trio_vrchat._errors import WorkerError

from .program import LOCAL, LOOPBACK, environment, finished, started


def main(*arguments: str) -> int:
    """The same without a process: its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["trio-vrchat", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def assert_one_line_error(status: int, stdout: str, stderr: str, *parts: str) -> None:
    assert stderr.startswith("trio-vrchat: error: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith("\n")
    for part in parts:
        assert part in stderr
    assert (status, stdout) == (2, "")


# What is wrong is one line


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = str(other.getsockname()[1])
        run = finished("--host", LOOPBACK, "--port", port)
    assert_one_line_error(run.returncode, run.stdout, run.stderr, LOOPBACK, port, "in use")


def test_a_bad_option_is_one_line_of_the_process() -> None:
    run = finished("--port", "abc")
    assert_one_line_error(run.returncode, run.stdout, run.stderr, "abc")


@pytest.fixture
def refuses(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asserts that a command line is refused in one line which has these parts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environment())
    monkeypatch.setattr(command_line, "configure", lambda level, as_json: None)
    monkeypatch.setattr(command_line, "run", lambda config, started: pytest.fail(f"would have run {config}"))

    def check(arguments: Sequence[str], *parts: str) -> None:
        status = main(*arguments)
        printed = capfd.readouterr()
        assert_one_line_error(status, printed.out, printed.err, *parts)

    return check


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--port", "abc"), ("--port must be a whole number from 0 to 65535, not 'abc'", "trio-vrchat --help")),
        (("--port", "65536"), ("--port must", "not 65536")),
        (("--port", "4.5"), ("--port must", "not '4.5'")),
        (("--port",), ("--port needs a value",)),
        (("--tls", "on"), ("--tls must be auto, or be left out, not 'on'",)),
        (("--tls", "auto", "--tls-cert", "a", "--tls-key", "b"), ("tls_cert and tls_key must be left out",)),
        (("users", "list"), ("neither --store nor --backplane is given", "trio-vrchat users list --help")),
        (("users", "list", "--store"), ("--store needs a value",)),
        (("--fps", "nan"), ("--fps must be a number from 0.1 to 1000, not nan",)),
        (("--log-level", "4"), ("--log-level must be 0, 1, 2 or 3, not 4",)),
        (("--page=maybe",), ("--page must be true or false, not 'maybe'",)),
        (("--log-json=maybe",), ("--log-json must be true or false, not 'maybe'",)),
        (("--workers", "0"), ("--workers must be a whole number from 1 to 256, not 0",)),
        (("--workers", "two"), ("--workers must be a whole number from 1 to 256, not 'two'",)),
        (("--workers", "2", "--store", "a.db"), ("workers is 2, so store must be left out",)),
        (("--workers", "2"), ("workers is 2, so backplane must be set",)),
        (("--prot", "4"), ("--prot", "Did you mean --port?")),
        (("--start-time", "4"), ("Unknown option: --start-time",)),
        (("--a\nb",), ("--a\\nb",)),
        (("brunch",), ("unexpected argument 'brunch'",)),
        (("--config", "missing.toml"), ("'missing.toml' of --config", "No such file")),
        (("replay",), ("FILE is missing", "trio-vrchat replay --help")),
        (("replay", "a", "--speed", "fast"), ("--speed", "fast", "trio-vrchat replay --help")),
        (("bench", "--users", "many"), ("--users", "many", "trio-vrchat bench --help")),
    ],
)
def test_a_bad_option_is_one_line(
    arguments: tuple[str, ...], parts: tuple[str, ...], refuses: Callable[..., None]
) -> None:
    refuses(arguments, *parts)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("TRIO_VRCHAT_PORT", "abc", "TRIO_VRCHAT_PORT must be a whole number from 0 to 65535, not 'abc'"),
        ("TRIO_VRCHAT_PORT", "", "TRIO_VRCHAT_PORT must be a whole number from 0 to 65535, not ''"),
        ("TRIO_VRCHAT_KEEP", "0", "TRIO_VRCHAT_KEEP must be a whole number from 1 to 10000000, not 0"),
        ("TRIO_VRCHAT_LOG_JSON", "maybe", "TRIO_VRCHAT_LOG_JSON must be true or false, not 'maybe'"),
        ("TRIO_VRCHAT_LOG_LEVEL", "9", "TRIO_VRCHAT_LOG_LEVEL must be 0, 1, 2 or 3, not 9"),
        ("TRIO_VRCHAT_CONFIG", "missing.toml", "'missing.toml' of TRIO_VRCHAT_CONFIG"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(
    variable: str, value: str, problem: str, refuses: Callable[..., None]
) -> None:
    os.environ[variable] = value
    refuses([], problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port = ]", "a.toml is not TOML: Invalid value (at line 1, column 8)"),
        ("port = 'x'\nport = 'y'", "a.toml is not TOML"),
        ("prot = 4000", "a.toml: there is no setting 'prot'; did you mean 'port'?"),
        ("log-level = 1", "a.toml: there is no setting 'log-level'; did you mean 'log_level'?"),
        ("start_time = 5", "a.toml: there is no setting 'start_time'"),
        ("config = 'b.toml'", "a.toml: there is no setting 'config'"),
        ("port = 70000", "port in a.toml must be a whole number from 0 to 65535, not 70000"),
        ("port = '4000'", "port in a.toml must be a whole number from 0 to 65535, not '4000'"),
        ("port = 4.5", "port in a.toml must be a whole number from 0 to 65535, not 4.5"),
        ("port = true", "port in a.toml must be a whole number from 0 to 65535, not True"),
        ("port = [1]", "port in a.toml must be a single value, not [1]"),
        ("[port]\nx = 1", "port in a.toml must be a single value, not {'x': 1}"),
        ("host = 5", "host in a.toml must be an address or a host name, or be left out, not 5"),
        ("workers = 1.5", "workers in a.toml must be a whole number from 1 to 256, not 1.5"),
        ("log_level = true", "log_level in a.toml must be 0, 1, 2 or 3, not True"),
        ("log_json = 'yes'", "log_json in a.toml must be true or false, not 'yes'"),
        ("x = " + "[" * 5000, "a.toml is not TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(text: str, problem: str, refuses: Callable[..., None]) -> None:
    Path("a.toml").write_text(text)
    refuses(["--config", "a.toml"], problem)


# Where settings come from


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the server would be run with, given a command line, an environment and a file."""

    def parse(*arguments: str, variables: dict[str, str] | None = None, file: str = "") -> dict[str, Any]:
        (tmp_path / "a.toml").write_text(file)
        run_with: dict[str, Any] = {}
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", environment(variables))
            patch.setattr(command_line, "run", lambda config, started: run_with.update(attrs.asdict(config)))
            patch.setattr(
                command_line, "configure", lambda level, as_json: run_with.update(log_level=level, log_json=as_json)
            )
            assert main("--config", str(tmp_path / "a.toml"), *arguments) == 0
        return run_with

    return parse


default = trio_vrchat.Config()
# The fields that have an option, and its name.
FIELDS = {field.name: option for field in attrs.fields(trio_vrchat.Config) if (option := option_of(field)) is not None}
DEFAULTS = attrs.asdict(default) | {"log_level": 2, "log_json": False}


def test_every_setting_has_a_default(settings_of: Callable[..., dict[str, Any]]) -> None:
    assert settings_of() == DEFAULTS


def test_each_setting_can_come_from_everywhere(settings_of: Callable[..., dict[str, Any]]) -> None:
    values: dict[str, Any] = {"host": "192.0.2.7", "port": 4000, "fps": 12.5, "history": 7}
    values |= {"auth": "accounts", "store": "chat.db", "tls_cert": "a.pem", "tls_key": "b.pem"}
    values |= {"allow_origins": ("https://a.example", "null"), "exempt_networks": ("10.0.0.0/8",)}
    values |= {"page": False, "metrics_networks": ("192.0.2.0/24", "::/0")}
    values |= {"record": "study", "recordings": "studies", "note": ("a=b", "c=d"), "pseudonyms": "key"}
    values |= {"trust_proxy": ("10.1.0.0/16", "fd00::/8"), "backplane": "redis://192.0.2.7"}
    values["tls"] = None  # not beside a certificate of one's own
    values |= {name: 1 + getattr(default, name) for name in FIELDS if name not in values}
    expected = DEFAULTS | values | {"log_level": 1, "log_json": True}
    given = {name: value for name, value in values.items() if value is not None}
    options = [f"--{FIELDS[name].replace('_', '-')}={_text(value)}" for name, value in given.items()]
    assert settings_of(*options, "--log-level=1", "--log-json") == expected
    variables = {f"TRIO_VRCHAT_{FIELDS[name].upper()}": _text(value) for name, value in given.items()}
    variables |= {"TRIO_VRCHAT_LOG_LEVEL": "1", "TRIO_VRCHAT_LOG_JSON": "true"}
    assert settings_of(variables=variables) == expected
    file = "".join(f"{FIELDS[name]} = {json.dumps(value)}\n" for name, value in given.items())
    assert settings_of(file=file + "log_level = 1\nlog_json = true\n") == expected


def test_an_option_of_several_can_be_given_again(settings_of: Callable[..., dict[str, Any]]) -> None:
    settings = settings_of("--allow-origin", "https://a.example", "--allow-origin", "null")
    assert settings["allow_origins"] == ("https://a.example", "null")


def test_tls_of_its_own_can_come_from_everywhere(settings_of: Callable[..., dict[str, Any]]) -> None:
    for found in (
        settings_of("--tls", "auto"),
        settings_of(variables={"TRIO_VRCHAT_TLS": "auto"}),
        settings_of(file='tls = "auto"\n'),
    ):
        assert found == DEFAULTS | {"tls": "auto"}


def test_metrics_from_nowhere(settings_of: Callable[..., dict[str, Any]]) -> None:
    assert settings_of("--metrics", "")["metrics_networks"] == ()
    assert settings_of(variables={"TRIO_VRCHAT_METRICS": ""})["metrics_networks"] == ()
    assert settings_of(file="metrics = []\n")["metrics_networks"] == ()


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value).lower() if value is False else str(value)


def test_the_command_line_comes_before_the_environment_and_that_before_the_file(
    settings_of: Callable[..., dict[str, Any]],
) -> None:
    settings = settings_of(
        "--port=1",
        "--no-log-json",
        variables={"TRIO_VRCHAT_PORT": "2", "TRIO_VRCHAT_FPS": "2", "TRIO_VRCHAT_LOG_JSON": "true"},
        file="port = 3\nfps = 3\nhistory = 3\nlog_json = true\nlog_level = 3\n",
    )
    assert settings == DEFAULTS | {"port": 1, "fps": 2.0, "history": 3, "log_level": 3, "log_json": False}


def test_other_variables_are_ignored(settings_of: Callable[..., dict[str, Any]]) -> None:
    others = ("START_TIME", "FOO", "PORT_X", "NO_LOG_JSON", "HELP", "SETTINGS", "")
    assert settings_of(variables={f"TRIO_VRCHAT_{name}": "5" for name in others}) == DEFAULTS


def test_a_process_takes_them(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('host = "127.0.0.1"\nlog_level = 0\n')
    variables = {"TRIO_VRCHAT_PORT": "0", "TRIO_VRCHAT_LOG_JSON": "1", "TRIO_VRCHAT_CONFIG": str(tmp_path / "a.toml")}
    with started(variables=variables) as program:
        assert program.url().startswith("ws://127.0.0.1:")
        assert json.loads(program.until("listening", program.stderr)[-1])["logger"] == "trio_vrchat.server"


# Workers


def test_their_number_can_come_from_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[tuple[int, Any, dict[str, Any]]] = []
    monkeypatch.setattr(command_line, "configure", lambda level, as_json: None)
    monkeypatch.setattr(command_line, "run", lambda config, started: ran.append((1, config, {})))
    monkeypatch.setattr(_supervisor, "check_for_workers", lambda config, workers: None)
    monkeypatch.setattr(_supervisor, "run_workers", lambda config, workers, **log: ran.append((workers, config, log)))
    (tmp_path / "a.toml").write_text("workers = 4\n")
    for arguments, variables in (
        (["--workers=2", "--port=0", "--log-level=1", "--log-json"], {"TRIO_VRCHAT_WORKERS": "3"}),
        ([], {"TRIO_VRCHAT_WORKERS": "3"}),
        (["--config", str(tmp_path / "a.toml")], {}),
        (["--workers", "1"], {}),
    ):
        monkeypatch.setattr(os, "environ", environment(variables))
        assert main(*arguments) == 0
    quiet = {"log_level": 2, "log_json": False}
    assert ran == [
        (2, trio_vrchat.Config(port=0), {"log_level": 1, "log_json": True}),
        (3, default, quiet),
        (4, default, quiet),
        (1, default, {}),
    ]


def test_windows_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(trio_vrchat.ConfigError, match=r"workers must be 1 on Windows.*not 2"):
        _supervisor.check_for_workers(default, 2)


def test_workers_that_end_again_and_again_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run_workers(config: trio_vrchat.Config, workers: int, *, log_level: int, log_json: bool) -> None:
        raise WorkerError("worker 2 has\nended")

    monkeypatch.setattr(os, "environ", environment())
    monkeypatch.setattr(command_line, "configure", lambda level, as_json: None)
    monkeypatch.setattr(_supervisor, "check_for_workers", lambda config, workers: None)
    monkeypatch.setattr(_supervisor, "run_workers", run_workers)
    assert main("--workers", "2") == 1, "nothing is wrong with what was asked for: it may be tried again"
    assert capfd.readouterr().err == "trio-vrchat: error: worker 2 has\\nended\n"


# Help


def test_version() -> None:
    run = finished("--version")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"trio-vrchat {trio_vrchat.__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_fits_a_terminal_and_has_every_option(flag: str) -> None:
    run = finished(flag)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= 80
    options = set(re.findall(r"--([a-z-]+)", run.stdout))
    ours = {option.replace("_", "-") for option in FIELDS.values()}
    assert ours | {"config", "workers", "log-level", "log-json", "version", "help"} <= options
    assert not {"start-time", "seed"} & options
    assert "bench" in run.stdout


def test_every_setting_has_a_help_text() -> None:
    assert set(command_line.help_texts()) == {field.name for field in attrs.fields(trio_vrchat.Config)}


# bench


def test_bench_passes_its_options_and_ends_with_the_value_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[bench.Options, dict[str, Any]]] = []

    def fake(options: bench.Options, **more: Any) -> int:
        runs.append((options, more))
        return 1

    monkeypatch.setattr(bench, "main", fake)
    # Neither is for the bench.
    monkeypatch.setenv("TRIO_VRCHAT_FPS", "x")
    monkeypatch.setenv("TRIO_VRCHAT_CONFIG", "x")
    given = (
        "bench --url ws://a:1/ --users 2 --rooms 2 --send-hz 3 --chat-hz 4.5 --seconds 6 --fps 7 --pid 8 "
        "--motion a/b.mcap --json"
    )
    compared = ["bench", "--compare", "a=one {port}", "--compare", "b=two --x=1", "--rounds", "5"]
    scaled = ["bench", "--workers", "1,2,4", "--backplane", "redis://h/1"]
    for arguments in (given.split(), ["bench"], compared, scaled):
        assert main(*arguments) == 1
    expected = bench.Options(
        url="ws://a:1/",
        users=2,
        rooms=2,
        send_hz=3.0,
        chat_hz=4.5,
        seconds=6.0,
        fps=7.0,
        pid=8,
        motion=Path("a/b.mcap"),
    )
    usual: dict[str, Any] = {"json": False, "others": {}, "workers": [], "backplane": None, "rounds": 3}
    assert runs == [
        (expected, usual | {"json": True}),
        (bench.Options(), usual),
        (bench.Options(), usual | {"others": {"a": "one {port}", "b": "two --x=1"}, "rounds": 5}),
        (bench.Options(), usual | {"workers": [1, 2, 4], "backplane": "redis://h/1"}),
    ]


def test_bench_refuses_in_one_line() -> None:
    run = finished("bench", "--users", "0")
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)


def test_what_only_linux_has_is_not_needed_for_the_import() -> None:
    code = (
        "import ctypes, multiprocessing, os, select, socket, subprocess, tempfile, time, trio\n"
        "del os.O_NONBLOCK, select.epoll, time.CLOCK_MONOTONIC\n"
        "import trio_vrchat, trio_vrchat.__main__, trio_vrchat.testing; print('imported')"
    )
    run = finished(command=("-c", code))
    assert run.stdout.split() == ["imported"], run.stderr


def test_what_a_server_does_not_need_is_not_imported() -> None:
    heavy = "{'cyclopts', 'rich', 'trio_vrchat.bench'}"
    code = (
        f"import sys, trio_vrchat; print({heavy} & set(sys.modules))\n"
        "from trio_vrchat.__main__ import _app; _app().parse_args([]); print('trio_vrchat.bench' in sys.modules)"
    )
    run = finished(command=("-c", code))
    assert run.stdout.split() == ["set()", "False"]


def test_what_one_worker_does_not_need_is_not_imported() -> None:
    code = (
        "import sys; from trio_vrchat import __main__\n"
        "__main__.run = lambda config, started: print(*sys.modules)\n"
        "__main__.main()"
    )
    run = finished(*LOCAL, "--workers", "1", command=("-c", code))
    imported = run.stdout.split()
    assert "trio_vrchat._server" in imported, run.stderr
    assert not [name for name in imported if "worker" in name or "supervis" in name or "restart" in name]
    # Nor what a server needs that shares no rooms, and records nothing.
    assert not {"coredis", "trio_vrchat._sharing", "trio_vrchat._node", "mcap", "zstandard"} & set(imported)
