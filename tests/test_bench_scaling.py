"""`bench --workers`: one server as several numbers of processes, and the Redis by which they share their rooms."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from rich.console import Console

from trio_vrchat import bench
from trio_vrchat.bench import _load, _redis, _rounds, _scaling, _server_process, _usage

from .program import LOOPBACK, finished
from .redis_server import RedisServer, needs_redis, running_redis
from .test_bench_compare import result, shown

NOWHERE = "redis://127.0.0.1:1/0"


# What is shown


def test_what_sharing_costs_stands_beside_the_rest() -> None:
    alone = [result(0.2, users_by_process=[100])]
    two = [
        result(0.5, engine_cpu_fraction=0.031, server_cpu_fraction_by_process=[0.3, 0.2, 0], users_by_process=[60, 40]),
        result(0.4, engine_cpu_fraction=0.011, server_cpu_fraction_by_process=[0.2, 0.2, 0], users_by_process=[51, 49]),
        result(0.6, engine_cpu_fraction=0.021, server_cpu_fraction_by_process=[0.5, 0.1, 0], users_by_process=[50, 50]),
    ]
    rows = shown(bench.Comparison(bench.Options(), {"alone": alone, "2": two}, "workers"))
    assert [row[:5] for row in rows] == [["alone", "20.0%", "1.00", "-", "-"], ["2", "50.0%", "2.50", "30.0%", "2.1%"]]
    assert [row[-1] for row in rows] == ["100", "40-60"]


def test_what_a_server_that_does_not_keep_up_has_cost_is_marked() -> None:
    sound = [result(fps=20.0, batches_per_s_mean=20.0, send_hz=20.0)]
    both = [result(fps=20.0, batches_per_s_mean=14.0, send_hz=20.0, load_cpu_fraction=0.95)]
    comparison = bench.Comparison(bench.Options(), {"alone": sound, "1": both}, "workers")
    assert [row[0] for row in shown(comparison)] == ["alone", "1 ?!"]
    caption = str(_rounds.table(comparison).caption)
    assert "?: the load process was so busy" in caption
    assert "!: not all batches came" in caption
    assert _rounds.table(bench.Comparison(bench.Options(), {"alone": sound})).caption is None


def test_the_table_fits_a_terminal() -> None:
    wide = result(
        3.991,
        engine_cpu_fraction=0.999,
        server_cpu_fraction_by_process=[0.999],
        users_by_process=[105, 95],
        fps=150.0,
        send_hz=20.0,
        users=200,
        batches_per_s_mean=119.9,
        chat_latency_p50_ms=123.45,
        chat_latency_p99_ms=234.5,
        chat_latency_max_ms=345.6,
        chat_lines_lost=9999,
        server_rss_mb=345.0,
        load_cpu_fraction=0.99,
    )
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(_rounds.table(bench.Comparison(bench.Options(), {"alone": [wide], "4": [wide]}, "workers")))
    lines = [line for line in console.export_text().splitlines() if line.startswith("│")]
    assert len(lines) == 2
    assert "alone ?!" in lines[0]
    assert "…" not in lines[0]


# What is measured


def test_a_meter_reads_the_engine_too() -> None:
    engine = iter([5.0, 5.5])
    meter = _usage.Meter(None, lambda: next(engine))
    before = meter.read()
    assert before.server is None
    assert before.engine is not None
    after = _usage.Reading(None, (before.engine[0] + 2.0, 5.5))
    assert after.cost_since(before) == _usage.Cost(engine_cpu_fraction=0.25)
    assert _usage.Meter().read() == _usage.Reading(None, None)


def test_what_a_server_has_cost_between_two_moments() -> None:
    before = _usage.Reading(_usage.Usage(10.0, {1: 5.0, 2: 0.0}, 1), None)
    after = _usage.Reading(_usage.Usage(12.0, {1: 5.5, 2: 1.5}, 3_000_000), None)
    assert after.cost_since(before) == _usage.Cost(2.0, 1.0, [0.75, 0.25], 3.0, None)
    gone = _usage.Reading(None, None)
    assert gone.cost_since(before) == _usage.Cost()


class FakeRedis:
    """Keeps rooms from `said` to "forget"; says in `said` what it is asked."""

    def __init__(self, said: list[str], url: str) -> None:
        self._said = said
        self._url = url

    def __enter__(self) -> Self:
        self._said.append(f"connect to {self._url}")
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def keeps_rooms(self) -> bool:
        return False

    def forget_rooms(self) -> None:
        self._said.append("forget")

    def cpu_s(self) -> float:
        return 1.5


PRINTS_URL = "import time; print('ws://127.0.0.1:4711/'); time.sleep(600)"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of Redis, and of servers that do nothing, in that order."""
    said: list[str] = []
    monkeypatch.setattr(_scaling, "Redis", lambda url: FakeRedis(said, url))
    monkeypatch.setattr(_server_process, "_command", lambda fps: [sys.executable, "-uc", PRINTS_URL, f"--fps={fps:g}"])
    return said


def test_each_round_measures_every_number_of_workers(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(options: bench.Options, target: Any, meter: _usage.Meter, progress: Callable[[float], None]) -> Any:
        assert meter.pid is not None
        more = psutil.Process(meter.pid).cmdline()[3:]
        asked.append(f"{' '.join(more)} on {target.port}, engine {meter.engine_cpu_s and meter.engine_cpu_s()}")
        progress(0.5)
        return result(fps=options.fps)

    monkeypatch.setattr(_rounds, "measure", measure)
    shown: list[str] = []
    comparison = bench.scale(bench.Options(fps=12.5), [1, 4], "redis://h/", 2, lambda what, _: shown.append(what))
    connect = "connect to redis://h/"
    a_round = ["--fps=12.5 on 4711, engine None"]
    for number in (1, 4):
        a_round += [
            connect,
            f"--fps=12.5 --workers {number} --backplane redis://h/ on 4711, engine 1.5",
            "forget",
        ]
    assert asked == [connect, *a_round, *a_round]
    names = ["alone", "1", "4"]
    assert {name: len(results) for name, results in comparison.results.items()} == dict.fromkeys(names, 2)
    assert shown == [f"workers {name}, {turn} of 2" for turn in (1, 2) for name in names]


def test_whatever_happens_redis_is_left_as_it_was(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[psutil.Process] = []

    def measure(options: bench.Options, target: Any, meter: _usage.Meter, progress: Any) -> Any:
        if meter.engine_cpu_s is None:
            return result()
        processes.append(psutil.Process(meter.pid))
        raise KeyboardInterrupt

    monkeypatch.setattr(_rounds, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench.scale(bench.Options(), [2], "redis://h/", 1, lambda what, share: None)
    assert asked[-1] == "forget"
    assert [process.is_running() for process in processes] == [False]


# What makes no sense


@pytest.mark.parametrize(
    ("options", "workers", "backplane", "rounds", "reason"),
    [
        (bench.Options(url="ws://h/"), [1], NOWHERE, 1, "url is 'ws://h/': .* leave the url out"),
        (bench.Options(users=0), [1], NOWHERE, 1, "users is 0"),
        (bench.Options(), [1], NOWHERE, 0, "rounds is 0"),
        (bench.Options(), [], NOWHERE, 1, "workers is nothing: give numbers of processes"),
        (bench.Options(), [0, 1], NOWHERE, 1, "workers is 0,1: give numbers of processes from 1 up"),
        (bench.Options(), [2, 2], NOWHERE, 1, "workers is 2,2: .*, each once"),
        (bench.Options(), [1, 2], None, 1, "workers is 1,2, so backplane must be set"),
        (bench.Options(), [1], "http://h/", 1, "backplane must be redis://"),
        (bench.Options(), [1], NOWHERE, 1, r"cannot reach Redis at 127\.0\.0\.1:1 \(.*refused\): is it running there"),
    ],
)
def test_what_cannot_be_measured(
    options: bench.Options, workers: list[int], backplane: str | None, rounds: int, reason: str
) -> None:
    with pytest.raises(bench.BenchError, match=reason):
        bench.scale(options, workers, backplane, rounds, lambda what, share: None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--workers", "1,2"], "backplane must be set"),
        (["--workers", "1,many", "--backplane", NOWHERE], "--workers '1,many': give numbers of processes"),
        (["--workers", "", "--backplane", NOWHERE], "--workers '': give numbers of processes"),
        (["--backplane", NOWHERE], "workers is nothing"),
        (["--workers", "1", "--backplane", NOWHERE], "is it running there?"),
        (["--workers", "1", "--backplane", NOWHERE, "--compare", "a=b"], "compare is a: leave it out"),
        (["--workers", "1", "--backplane", NOWHERE, "--url", "ws://h/"], "leave the url out"),
    ],
)
def test_the_command_line_says_in_one_line_what_cannot_be_measured(arguments: list[str], reason: str) -> None:
    run = finished("bench", *arguments)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert run.stderr.startswith("trio-vrchat: error: ")
    assert reason in run.stderr


# What is asked of Redis


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The URL of somebody who gives this answer to whatever it is asked first, and hangs up."""

    def talk() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(answer)

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"redis://:secret@{LOOPBACK}:{listener.getsockname()[1]}/3"
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", r"cannot reach Redis at 127\.0\.0\.1:\d+ \(it hung up\)"),
        (b"HTTP/1.1 400 Bad request\r\n", r"\(it has answered b'HTTP/1.1 400 Bad request\\r\\n'\)"),
        (b"$many\r\n", r"cannot reach Redis"),
        (b"-WRONGPASS invalid\r\n", r"refuses \(WRONGPASS invalid\): check the URL"),
    ],
)
def test_what_is_no_redis_of_ours(answer: bytes, reason: str) -> None:
    with answering(answer) as url, pytest.raises(bench.BenchError, match=reason) as raised:
        _redis.Redis(url)
    assert "secret" not in str(raised.value)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@needs_redis
def test_only_what_servers_keep_in_that_database_is_removed(redis: RedisServer) -> None:
    for key in ("trio_vrchat:0:room:lobby", "trio_vrchat:1:room:lobby", "somebody:else"):
        redis.command(f"SET {key} x")
    with _redis.Redis(f"{redis.url}/1") as empty:
        assert not empty.keeps_rooms()
    with _redis.Redis(f"{redis.url}/0") as full:
        assert full.keeps_rooms()
        full.forget_rooms()
        assert not full.keeps_rooms()
    assert redis.command("DBSIZE") == ":2"


@needs_redis
def test_more_than_one_answer_of_keys_is_removed(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis, "_KEYS_AT_ONCE", 1)
    for number in range(40):
        redis.command(f"SET trio_vrchat:0:{number} x")
    with _redis.Redis(redis.url) as full:
        full.forget_rooms()
    assert redis.command("DBSIZE") == ":0"


@needs_redis
def test_redis_says_what_it_has_cost(redis: RedisServer) -> None:
    with _redis.Redis(redis.url) as connection:
        before = connection.cpu_s()
        assert before > 0
        while connection.cpu_s() <= before:
            redis.command("PING")


@needs_redis
def test_redis_with_a_password(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as server:
        server.command("ACL SETUSER bench on >good ~* +@all")
        url = server.url.replace("redis://", "redis://bench:good@")
        with _redis.Redis(url) as connection:
            assert not connection.keeps_rooms()
        with pytest.raises(bench.BenchError, match=r"refuses \(WRONGPASS"):
            _redis.Redis(url.replace("good", "bad"))


@needs_redis
def test_rooms_of_other_servers_are_left_alone(redis: RedisServer) -> None:
    redis.command("SET trio_vrchat:0:room:lobby x")
    reason = r"servers have rooms in database 0 of Redis at 127\.0\.0\.1:\d+, and the load would be in them"
    with pytest.raises(bench.BenchError, match=reason):
        bench.scale(bench.Options(), [1], redis.url, 1, lambda what, share: None)
    assert redis.command("DBSIZE") == ":1"


@needs_redis
def test_one_process_and_two(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_load, "_WARM_UP_S", 0.1)
    monkeypatch.setattr(_load, "_GOODBYE_S", 0.1)
    options = bench.Options(users=6, rooms=2, seconds=0.5, chat_hz=10)
    assert bench.main(options, json=True, workers=[1, 2], backplane=redis.url, rounds=1) == 0
    figures = {name: results[0] for name, results in json.loads(capsys.readouterr().out).items()}
    assert list(figures) == ["alone", "1", "2"]
    assert [each["chat_lines_delivered"] for each in figures.values()] == [15, 15, 15]
    assert [each["engine_cpu_fraction"] is None for each in figures.values()] == [True, False, False]
    # The supervisor of two has no users.
    assert [len(each["server_cpu_fraction_by_process"]) for each in figures.values()] == [1, 1, 3]
    assert [len(each["users_by_process"]) for each in figures.values()] == [1, 1, 2]
    assert [sum(each["users_by_process"]) for each in figures.values()] == [6, 6, 6]
    assert redis.command("DBSIZE") == ":0"
