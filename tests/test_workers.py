"""Several processes behind one socket: started, killed, stopped and left alone, as real ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect

from trio_vrchat import Config, recording
from trio_vrchat._worker import Answer, Orders
from trio_vrchat.recording import Joined

from .program import DEADLINE_S, LOCAL, LOOPBACK, Program, environment, finished, started
from .redis_server import PROGRAM, running_redis

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows hands no socket on to other processes")

SHARED = ("-m", "trio_vrchat")
UNSHARED = ("-m", "tests.unshared_workers")
LOG = ("--log-json", "--log-level", "1")


@attrs.define(eq=False)
class Several:
    """A running supervisor with its workers. `processes`: theirs, by number."""

    program: Program
    url: str
    processes: dict[int, int]

    @property
    def http(self) -> str:
        return self.url.replace("ws", "http", 1)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].strip("/"))

    def logged(self, pattern: str) -> list[dict[str, Any]]:
        """The records up to the first that has the pattern."""
        return [json.loads(line) for line in self.program.until(pattern, self.program.stderr)]

    def serves(self) -> int:
        """Wait until one more worker serves; returns its number."""
        record = self.logged("serves")[-1]
        number: int = record["worker"]
        self.processes[number] = record["pid"]
        return number

    @contextlib.contextmanager
    def only(self, number: int) -> Iterator[None]:
        """Nobody accepts but this worker."""
        others = [process for other, process in self.processes.items() if other != number]
        for process in others:
            suspend(process)
        try:
            yield
        finally:
            for process in others:
                os.kill(process, signal.SIGCONT)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.http + path, timeout=DEADLINE_S) as answer:
            text: str = answer.read().decode()
            return text

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit status, and what is left of the log; that ends when nobody is left who could write to it."""
        status, lines = self.program.end()
        return status, [json.loads(line) for line in lines]


def suspend(process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + DEADLINE_S
    while psutil.Process(process).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        os.sched_yield()


@contextlib.contextmanager
def several(
    count: int,
    *options: str,
    variables: dict[str, str] | None = None,
    scheme: str = "ws",
    shared: bool = False,
) -> Iterator[Several]:
    arguments = (*LOCAL, *LOG, "--workers", str(count), *options)
    with started(*arguments, command=SHARED if shared else UNSHARED, variables=variables) as program:
        workers = Several(program, program.url(scheme), {})
        assert sorted(workers.serves() for _ in range(count)) == list(range(1, count + 1))
        try:
            yield workers
        finally:
            # Whatever a test has suspended. (Who is gone was ended by the supervisor.)
            for process in workers.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


def closed_with(client: ClientConnection) -> int:
    with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
        client.recv(timeout=DEADLINE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


# One socket


def test_each_worker_accepts_from_the_one_socket() -> None:
    with several(3) as workers:
        processes = [workers.program.process.pid, *workers.processes.values()]
        assert len(set(processes)) == 4
        # What a terminal sends on Ctrl+C it sends to a group: to the supervisor alone.
        assert len({os.getpgid(process) for process in processes}) == 4
        for number in workers.processes:
            with workers.only(number):
                metrics = workers.get("metrics")
                assert f'trio_vrchat_logins_total{{worker="{number}"}} 0.0' in metrics
                assert set(re.findall(r'worker="(\d+)"', metrics)) == {str(number)}
                with connect(workers.url):
                    [*_, record] = workers.logged("connected")
                    assert record["worker"] == number
        workers.program.process.terminate()
        assert workers.end()[0] == 0
        said = workers.program.until("Ctrl", workers.program.stdout)
        assert workers.program.stdout.get(timeout=DEADLINE_S) is None
        assert not any("://" in line for line in said), "it says where it is once"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what a process has open")
def test_a_worker_has_nothing_open_of_the_others() -> None:
    with several(3) as workers:
        opened = [open_files(process) for process in workers.processes.values()]
        shared = set.intersection(*opened)
        for number, one in enumerate(opened):
            for other in opened[:number]:
                assert one & other == shared
        supervisor = open_files(workers.program.process.pid)
        # The log, and the socket.
        assert [kind.partition(":")[0] for kind in sorted(shared)] == ["pipe", "socket"]
        assert shared < supervisor
        for one in opened:
            assert len((one & supervisor) - shared) == 1, "the end of its own stdin"


def open_files(process: int) -> set[str]:
    """Pipes and sockets that a process has open; both ends of a pipe have one name."""
    found = {os.readlink(file) for file in Path(f"/proc/{process}/fd").iterdir()}
    return {name for name in found if name.startswith(("pipe:", "socket:"))}


# One ends


def test_connections_wait_while_every_worker_is_gone() -> None:
    with several(2) as workers:
        suspend(workers.program.process.pid)
        gone = dict(workers.processes)
        try:
            for process in gone.values():
                os.kill(process, signal.SIGKILL)
            with socket.create_connection((LOOPBACK, workers.port), timeout=DEADLINE_S) as client:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                os.kill(workers.program.process.pid, signal.SIGCONT)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        finally:
            os.kill(workers.program.process.pid, signal.SIGCONT)
        ended = [record for _ in gone for record in workers.logged("has ended") if "has ended" in record["message"]]
        assert {(record["worker"], record["message"]) for record in ended} == {
            (number, "has ended: by SIGKILL; it is started again at once") for number in gone
        }


def test_a_killed_worker_is_back_and_the_others_users_notice_nothing() -> None:
    with several(2) as workers:
        with workers.only(1):
            stays = connect(workers.url)
        with workers.only(2):
            goes = connect(workers.url)
        with stays, goes:
            old = workers.processes[2]
            os.kill(old, signal.SIGKILL)
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                goes.recv(timeout=DEADLINE_S)
            assert workers.serves() == 2
            assert workers.processes[2] != old
            with workers.only(2), connect(workers.url) as back:
                assert back.ping().wait(DEADLINE_S)
            assert stays.ping().wait(DEADLINE_S)


def test_a_worker_that_is_told_to_stop_says_so_to_its_users_and_is_back() -> None:
    with several(2) as workers:
        with workers.only(2):
            client = connect(workers.url)
        with client:
            os.kill(workers.processes[2], signal.SIGTERM)
            assert closed_with(client) == 1001
        [*_, record] = workers.logged("has ended")
        assert (record["worker"], record["message"]) == (2, "has ended: with status 0; it is started again at once")
        assert workers.serves() == 2


# All end


@contextlib.contextmanager
def one_client_each(workers: Several) -> Iterator[list[ClientConnection]]:
    with contextlib.ExitStack() as stack:
        clients: list[ClientConnection] = []
        for number in workers.processes:
            with workers.only(number):
                clients.append(stack.enter_context(connect(workers.url)))
        yield clients


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_cleanly(number: signal.Signals) -> None:
    with several(2) as workers, one_client_each(workers) as clients:
        workers.program.process.send_signal(number)
        assert [closed_with(client) for client in clients] == [1001, 1001]
        status, log = workers.end()
    assert status == 0
    messages = [(record.get("worker"), record["message"]) for record in log]
    assert messages[-1] == (None, "stopped")
    assert {(worker, "stopped") for worker in (1, 2)} < set(messages)
    assert not [record for record in log if record["level"] != "INFO"]


FOREVER = ("--close-timeout-s", "3600", "--drain", "3600")
# A handshake, and no answer to the close frame: the first signal's stop waits for it.
SILENT = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_all_at_once(number: signal.Signals) -> None:
    with several(2, *FOREVER) as workers, socket.create_connection((LOOPBACK, workers.port)) as client:
        client.sendall(SILENT)
        workers.logged("connected")
        workers.program.process.send_signal(number)
        workers.logged("stopping .connections: 1")
        workers.program.process.send_signal(number)
        status, log = workers.end()
    assert status == -number
    assert "stopped" not in [record["message"] for record in log if "worker" not in record]


def test_signals_to_every_process_stop_all_cleanly_however_often_they_come() -> None:
    # As a service manager may send them.
    with several(2, *FOREVER) as workers, socket.create_connection((LOOPBACK, workers.port)) as client:
        client.sendall(SILENT)
        workers.logged("connected")
        for process in (*workers.processes.values(), workers.program.process.pid):
            os.kill(process, signal.SIGTERM)
        number = workers.logged("stopping .connections: 1")[-1]["worker"]
        os.kill(workers.processes[number], signal.SIGTERM)
        client.shutdown(socket.SHUT_RDWR)
        status, log = workers.end()
        assert status == 0
        assert number in [record.get("worker") for record in log if record["message"] == "stopped"]


def test_while_they_stop_nobody_is_let_in() -> None:
    with several(2, *FOREVER) as workers, socket.create_connection((LOOPBACK, workers.port)) as client:
        client.sendall(SILENT)
        workers.logged("connected")
        workers.program.process.terminate()
        # The other one has nothing to wait for; either may be the first.
        workers.logged("stopped|stopping .connections: 1")
        workers.logged("stopped|stopping .connections: 1")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, workers.port))
        workers.program.process.terminate()
        assert workers.end()[0] == -signal.SIGTERM


def test_a_worker_that_hangs_is_killed() -> None:
    with several(2, "--drain", "0") as workers:
        suspend(workers.processes[2])
        workers.program.process.terminate()
        status, log = workers.end()
    assert status == 0
    assert [record["worker"] for record in log if record["message"] == "did not stop in time, and was killed"] == [2]


def test_workers_end_when_their_supervisor_is_gone() -> None:
    with several(2) as workers, one_client_each(workers) as clients:
        workers.program.process.kill()
        assert [closed_with(client) for client in clients] == [1001, 1001]
        status, log = workers.end()
        assert status == -signal.SIGKILL
        assert sorted(record["worker"] for record in log if record["message"] == "stopped") == [1, 2]


# What they are told


def test_orders_arrive_as_they_were_given() -> None:
    config = Config(
        host="::1",
        port=0,
        fps=0.1 + 0.2,
        store="caf\udce9.db",
        note=("a=b,c", "d=\n"),
        allow_origins=("*",),
        metrics_networks=(),
        page=False,
        seed=1 << 70,
    )
    orders = Orders(3, (7, 8), config, 3, True)
    line = orders.to_line()
    assert line.count(b"\n") == 1
    assert Orders.of_line(line) == orders


def test_an_answer_is_one_or_the_worker_is_none() -> None:
    for why_not in ("", "cannot read\nit \udce9"):
        assert Answer.of_line(Answer(why_not).to_line()) == Answer(why_not)
    for line in (b"", b"hello", b"[]", b'{"why_not": null}', b"\xff"):
        assert "answered" in Answer.of_line(line).why_not


def test_what_a_worker_cannot_use_is_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    run = finished(*LOCAL, "--workers", "3", "--tls-cert", missing, "--tls-key", missing, command=UNSHARED)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    assert run.stderr.startswith(f"trio-vrchat: error: cannot read the certificate '{missing}'")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        run = finished("--host", LOOPBACK, "--port", str(other.getsockname()[1]), "--workers", "2", command=UNSHARED)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert "in use" in run.stderr


def test_one_certificate_is_made_and_all_have_it(tmp_path: Path) -> None:
    variables = {"XDG_DATA_HOME": str(tmp_path)}
    with several(2, "--tls", "auto", variables=variables, scheme="wss") as workers:
        [file] = tmp_path.glob("*/certificate.pem")
        made = file.read_text()
        context = ssl.create_default_context(cafile=str(file))
        for number in workers.processes:
            with workers.only(number), connect(workers.url, ssl=context) as client:
                assert client.ping().wait(DEADLINE_S)
        assert file.read_text() == made


def test_each_records_into_a_file_of_its_own_with_one_key(tmp_path: Path) -> None:
    study, key = tmp_path / "study", tmp_path / "key"
    options = ("--record", str(study), "--pseudonyms", str(key))
    with several(2, *options) as workers, one_client_each(workers) as clients:
        for client in clients:
            client.send(json.dumps({"system": "login", "options": {"user": "Tibi", "pass": "x"}}))
            while "payload" not in str(client.recv(timeout=DEADLINE_S)):
                pass
        workers.program.process.terminate()
        assert workers.end()[0] == 0
    users: set[str] = set()
    for number in workers.processes:
        [path] = study.glob(f"*-worker{number}.mcap")
        assert json.loads(path.with_suffix(".json").read_text())["worker"] == str(number)
        with recording.open(path) as session:
            users |= {event.user for event in session if isinstance(event, Joined)}
    assert len(users) == 1, "one pseudonym"
    assert users != {"Tibi"}


def test_modules_of_the_current_folder_are_none_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trio.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    code = "from trio_vrchat import __main__, _supervisor as s; s.check_for_workers = print; __main__.main()"
    with started(*LOCAL, *LOG, "--workers", "2", command=("-P", "-c", code)) as program:
        program.until("serves", program.stderr)
        program.until("serves", program.stderr)
        program.process.terminate()
        assert program.end()[0] == 0


# Over a real engine


@pytest.mark.skipif(PROGRAM is None, reason="no redis-server (apt-get install redis-server)")
def test_workers_share_their_rooms(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path) as redis,
        several(2, "--backplane", redis.url) as workers,
        contextlib.ExitStack() as all_,
    ):
        clients: list[ClientConnection] = []
        for number, user in ((1, "Tibi"), (2, "Anna")):
            with workers.only(number):
                clients.append(all_.enter_context(connect(workers.url)))
                [*_, record] = workers.logged("connected")
                assert record["worker"] == number
            enter(clients[-1], user)
        clients[-1].send(json.dumps({"room": "lobby", "data": "hello"}))
        for client in clients:
            assert ("Anna", "msg", "hello") in heard(client, "msg")
        workers.program.process.terminate()
        assert workers.end()[0] == 0


@pytest.mark.skipif(PROGRAM is None, reason="no redis-server (apt-get install redis-server)")
def test_workers_have_their_accounts_in_common(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis:
        add = ("-m", "trio_vrchat", "users", "add", "Tibi", "--backplane", redis.url)
        subprocess.run([sys.executable, *add], input=b"1234", check=True, env=environment(), timeout=DEADLINE_S)
        with several(2, "--backplane", redis.url, "--auth", "accounts", shared=True) as workers:
            for number in (1, 2):
                with workers.only(number), connect(workers.url) as client:
                    assert login(client, "Tibi", "wrong") == login(client, "Anna", "1234") == 403
                    assert login(client, "tibi", "1234") == 202
            workers.program.process.terminate()
            assert workers.end()[0] == 0


def enter(client: ClientConnection, user: str) -> None:
    assert login(client, user, "x") == 202


def login(client: ClientConnection, user: str, password: str) -> int:
    client.send(json.dumps({"system": "login", "options": {"user": user, "pass": password}}))
    code: int = json.loads(client.recv(timeout=DEADLINE_S))["response"]["code"]
    return code


def heard(client: ClientConnection, kind: str) -> list[tuple[str, str, Any]]:
    """The entries up to the first message that has one of this kind."""
    found: list[tuple[str, str, Any]] = []
    while kind not in [type_ for _, type_, _ in found]:
        payload = json.loads(client.recv(timeout=DEADLINE_S)).get("payload", [])
        found += [(entry["user"], entry["type"], entry["data"]) for entry in payload]
    return found
