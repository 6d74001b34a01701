"""`bench --compare`: several servers in turn, and what is shown of them. `bench` over TLS."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trustme
from rich.console import Console

from trio_vrchat import bench
from trio_vrchat.bench import _load, _rounds, _server_process
from trio_vrchat.bench._usage import Meter

from .program import LOCAL, finished, started

FIGURES: dict[str, Any] = {each.name: 1 for each in attrs.fields(bench.Result)}
LISTENS = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(600)"


def result(cpu: float | None = 0.2, **figures: Any) -> bench.Result:
    nothing = {name: 0 for name in FIGURES if name.startswith(("chat_lines", "connections", "sends"))}
    given = {
        "close_codes": {},
        "server_cpu_fraction_by_process": [],
        "users_by_process": [],
        "load_cpu_fraction": 0.1,
        "server_cpu_fraction": cpu,
        "url": "ws://h/",
    }
    values: dict[str, Any] = FIGURES | nothing | given | {"engine_cpu_fraction": None} | figures
    return bench.Result(**values)


def command(script: str) -> str:
    return f'{sys.executable} -c "{script}"'


def shown(comparison: bench.Comparison) -> list[list[str]]:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(_rounds.table(comparison))
    rows = [line.strip("│┃ ") for line in console.export_text().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in row.split("│")] for row in rows]


def test_the_medians_stand_side_by_side() -> None:
    ours = [result(0.2, batches_per_s_mean=29.9), result(0.9, batches_per_s_mean=30.0), result(0.25)]
    other = [result(0.5, chat_lines_lost=2), result(0.4, connections_closed=1), result(0.6, load_cpu_fraction=0.95)]
    unknown = [result(None, chat_latency_p50_ms=None)]
    comparison = bench.Comparison(bench.Options(), {"trio_vrchat": ours, "other": other, "third": unknown})
    rows = shown(comparison)
    assert [row[0] for row in rows] == ["trio_vrchat", "other ?", "third"]
    assert [row[1] for row in rows] == ["25.0%", "50.0%", "-"]
    assert [row[2] for row in rows] == ["1.00", "2.00", "-"]
    assert rows[0][3] == "29.9"
    assert rows[2][4] == "-"
    assert [row[7] for row in rows] == ["0", "3", "0"]
    assert not comparison.sound


def test_each_round_measures_every_server(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, int | None]] = []
    said: list[str] = []

    def measure(options: bench.Options, target: Any, meter: Meter, progress: Any) -> bench.Result:
        assert meter.pid is not None
        measured.append((psutil.Process(meter.pid).cmdline()[-1], target.port))
        progress(0.5)
        return result(fps=options.fps)

    monkeypatch.setattr(_rounds, "measure", measure)
    monkeypatch.setattr(_server_process, "_command", lambda fps: [sys.executable, "-uc", OURS])
    others = {"first": command(LISTENS), "second": command(LISTENS + " # {fps}")}
    comparison = bench.compare(bench.Options(fps=12.5), others, 2, lambda what, share: said.append(what))
    assert [len(results) for results in comparison.results.values()] == [2, 2, 2]
    assert [port for _, port in measured[::3]] == [4711, 4711], "ours says where it listens"
    assert [words.partition("#")[2] for words, _ in measured[2::3]] == [" 12.5"] * 2
    assert all(f", {port}))" in words for words, port in measured[1::3])
    assert said == [f"{name}, {turn} of 2" for turn in (1, 2) for name in ("trio_vrchat", "first", "second")]
    assert comparison.sound
    assert {each.fps for results in comparison.results.values() for each in results} == {12.5}


OURS = "import time; print('ws://127.0.0.1:4711/'); time.sleep(600)"


@pytest.mark.parametrize(
    ("options", "commands", "rounds", "reason"),
    [
        (bench.Options(url="ws://h/"), {"a": "b"}, 1, "leave the url out"),
        (bench.Options(users=0), {"a": "b"}, 1, "users is 0"),
        (bench.Options(), {"trio_vrchat": "b"}, 1, "the name of our own"),
        (bench.Options(), {"a": "b"}, 0, "rounds is 0"),
    ],
)
def test_what_makes_no_sense(options: bench.Options, commands: dict[str, str], rounds: int, reason: str) -> None:
    with pytest.raises(bench.BenchError, match=reason):
        bench.compare(options, commands, rounds, lambda what, share: None)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "is empty"),
        ("server {prot}", "braces stand for {port} and {fps} only"),
        ("'server", "No closing quotation"),
        ("/no/such/program {port}", "cannot start a server with /no/such/program"),
        (command("import sys; sys.exit('tired')"), "before it listened, with status 1: tired"),
    ],
)
def test_commands_that_start_no_server(words: str, reason: str) -> None:
    def started() -> None:
        with _server_process.other_server(words, 20.0):
            raise AssertionError

    with pytest.raises(bench.BenchError, match=reason):
        started()


def test_a_server_that_never_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server_process, "_START_DEADLINE_S", 0.1)
    with (
        pytest.raises(bench.BenchError, match="did not listen within"),
        _server_process.other_server(command("import time; time.sleep(600)"), 20.0),
    ):
        pass


@pytest.mark.parametrize("words", ["nothing", "=command", "name=", "twice=a"])
def test_the_command_line_says_what_a_comparison_is_given(words: str) -> None:
    run = finished("bench", "--compare", words, "--compare", "twice=b")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "give NAME=COMMAND" in run.stderr
    assert run.stderr.count("\n") == 1


def test_our_own_server_beside_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_load, "_WARM_UP_S", 0.1)
    monkeypatch.setattr(_load, "_GOODBYE_S", 0.1)
    options = bench.Options(users=3, seconds=0.3, chat_hz=10)
    again = f"{sys.executable} -m trio_vrchat --host 127.0.0.1 --port {{port}} --fps {{fps}} --log-level 0"
    assert bench.main(options, json=True, others={"again": again}, rounds=1) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == ["trio_vrchat", "again"]
    assert [results[0]["chat_lines_delivered"] for results in figures.values()] == [9, 9]
    assert all(results[0]["server_cpu_s"] is not None for results in figures.values())
    assert [results[0]["fps"] for results in figures.values()] == [options.fps] * 2
    assert bench.main(options, json=False, others={"again": again}, rounds=1) == 0
    assert "medians of 1 rounds" in capsys.readouterr().out


# Over TLS


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_load, "_WARM_UP_S", 0.1)
    monkeypatch.setattr(_load, "_GOODBYE_S", 0.1)


@pytest.mark.usefixtures("brief")
def test_a_run_over_tls(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    with started(*LOCAL, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        url = re.search(r"wss://\S+", server.until("wss://", server.stdout)[-1])
        assert url
        options = bench.Options(url=url[0], users=5, seconds=0.5, chat_hz=40, pid=server.process.pid)
        measured = bench.run(options, lambda share: None)
    assert measured.sound
    assert measured.chat_lines_delivered == 20 * 5
    assert measured.batches_per_s_min > 0
    assert measured.megabytes_in_per_s > 0


@pytest.mark.usefixtures("brief")
def test_tls_to_a_server_that_speaks_none() -> None:
    with started(*LOCAL) as server:
        url = server.url().replace("ws://", "wss://")
        with pytest.raises(bench.BenchError, match=r"could not speak TLS \(.*is that a wss:// server"):
            bench.run(bench.Options(url=url, users=2, seconds=0.3), lambda share: None)
