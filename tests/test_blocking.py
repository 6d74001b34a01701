"""The server as a whole program: what it says at its start, and how signals end it."""

from __future__ import annotations

import inspect
import os
import re
import signal
import socket
import sys
from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import connect

import trio_vrchat
from trio_vrchat._blocking import announcement

from .program import DEADLINE_S, LOCAL, LOOPBACK, finished, started

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")


# Start


def test_says_where_and_how_to_stop() -> None:
    with started(*LOCAL) as program:
        lines = program.until("Ctrl", program.stdout)
        assert re.fullmatch(r"Listening, to this machine only:\n  ws://127\.0\.0\.1:\d+/\nCtrl\+C .*", "\n".join(lines))
        with connect(lines[1].strip()):
            pass


def test_says_the_networks_urls_first() -> None:
    urls = ("ws://192.0.2.2:42069/", "ws://[2001:db8::2]:42069/", "ws://127.0.0.1:42069/", "ws://[::1]:42069/")
    assert announcement(urls).splitlines() == [
        "Listening. Headsets on this network connect to:",
        "  ws://192.0.2.2:42069/",
        "  ws://[2001:db8::2]:42069/",
        "Programs on this machine connect to:",
        "  ws://127.0.0.1:42069/",
        "  ws://[::1]:42069/",
        "Ctrl+C stops the server.",
    ]


def test_an_unused_stdout_keeps_nobody_from_serving() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(*LOCAL, stdout=writer) as program:
        os.close(writer)
        port = re.search(r":(\d+)/", program.until("listening", program.stderr)[-1])
        assert port
        with connect(f"ws://{LOOPBACK}:{port[1]}/"):
            program.process.terminate()
            status, log = program.end()
    assert status == 0
    assert "stopped" in log[-1]


# Stop


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    with started(*LOCAL) as program, connect(program.url()) as client:
        program.process.send_signal(number)
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(timeout=DEADLINE_S)
        status, log = program.end()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert status == 0
    assert "stopped" in log[-1]
    assert "Traceback" not in "".join(log)


@posix
def test_an_ignored_sigint_is_heeded_all_the_same() -> None:
    # A shell's script starts what it puts into the background like that.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        context = started(*LOCAL)
        program = context.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        program.url()
        program.process.send_signal(signal.SIGINT)
        assert program.end()[0] == 0
    finally:
        context.__exit__(None, None, None)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    forever = ("--close-timeout-s", "3600", "--drain", "3600")
    with started(*LOCAL, *forever) as program:
        url = program.url()
        with socket.create_connection((LOOPBACK, int(url.rpartition(":")[2].strip("/")))) as client:
            # A handshake, and no answer to the close frame: the first signal's stop waits for it.
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            program.until("connected", program.stderr)
            program.process.send_signal(number)
            program.until("stopping", program.stderr)
            program.process.send_signal(number)
            status, log = program.end()
    assert status == -number
    assert "stopped" not in "".join(log)


# The blocking form


def test_server_has_the_defaults_of_config() -> None:
    parameters = inspect.signature(trio_vrchat.Server).parameters
    assert list(parameters) == ["ip", "port", "fps", "log_level"]
    assert [parameter.default for parameter in parameters.values()] == [
        *(getattr(trio_vrchat.Config(), name) for name in ("host", "port", "fps")),
        2,
    ]


@pytest.mark.parametrize("arguments", [{"ip": 5}, {"port": 70000}, {"fps": 0}, {"log_level": 4}, {"log_level": "1"}])
def test_server_refuses_what_is_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(trio_vrchat.ConfigError, match=str(next(iter(arguments.values())))):
        trio_vrchat.Server(**arguments)


@posix
@pytest.mark.parametrize("form", ["'127.0.0.1', {}, 20, 0", "ip='127.0.0.1', port={}, fps=20, log_level=0"])
def test_server_runs_until_a_signal(form: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        arguments = form.format(other.getsockname()[1])  # free again in a moment
    code = f"import trio_vrchat; trio_vrchat.Server({arguments}).run(); print('went on')"
    with started(command=("-c", code)) as program:
        program.until(LOOPBACK, program.stdout)
        program.process.send_signal(signal.SIGINT)
        program.until("went on", program.stdout)
        status, log = program.end()
    assert status == 0
    assert [line.partition(": ")[2].split()[0] for line in log] == ["listening", "stopping", "stopped"]


def test_server_raises_a_plain_listen_error_and_leaves_the_signals_alone() -> None:
    code = """
import signal, sys, trio_vrchat
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    trio_vrchat.Server("127.0.0.1", int(sys.argv[1])).run()
except trio_vrchat.ListenError as error:
    print(error, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    with socket.create_server((LOOPBACK, 0)) as other:
        run = finished(str(other.getsockname()[1]), command=("-c", code))
    assert (run.returncode, run.stderr) == (0, "")
    assert "in use" in run.stdout
    assert run.stdout.endswith("True\n")
