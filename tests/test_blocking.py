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
from trio_vrchat._announcement import announcement, qr_code

from .program import DEADLINE_S, LOCAL, LOOPBACK, finished, started

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")


# Start


def test_says_where_and_how_to_stop() -> None:
    with started(*LOCAL) as program:
        lines = program.until("Ctrl", program.stdout)
        said = re.fullmatch(
            r"Open it in a browser on this machine \(or a headset on its cable: adb reverse tcp:(\d+) tcp:\1\):\n"
            r"  http://127\.0\.0\.1:\1/\nPrograms connect to:\n  (ws://127\.0\.0\.1:\1/)\nCtrl\+C .*",
            "\n".join(lines),
        )
        assert said
        with connect(said[2]):
            pass


URLS = ("ws://192.0.2.2:42069/", "ws://[2001:db8::2]:42069/", "ws://127.0.0.1:42069/", "ws://[::1]:42069/")
PAGES = tuple(url.replace("ws:", "http:") for url in URLS)
FINGERPRINT = bytes(range(32)).hex(":").upper()
FOR_PROGRAMS = ["Programs connect to:", *(f"  {url}" for url in URLS), "Ctrl+C stops the server."]


def test_says_where_people_go_first() -> None:
    assert announcement(URLS, PAGES).splitlines() == [
        "Open it in a browser, on any headset or computer of this network:",
        "  http://192.0.2.2:42069/",
        "On this machine (or a headset on its cable: adb reverse tcp:42069 tcp:42069):",
        "  http://127.0.0.1:42069/",
        "Headsets enter VR over https only, or on the cable: --tls auto turns https on.",
        *FOR_PROGRAMS,
    ]


def test_says_what_its_own_certificate_is_known_by() -> None:
    pages = ("https://192.0.2.2:42069/", "http://127.0.0.1:42069/")
    assert announcement(URLS, pages, FINGERPRINT, lambda url: [f"code of {url}"]).splitlines() == [
        "Open it in a browser, on any headset or computer of this network:",
        "  https://192.0.2.2:42069/",
        "code of https://192.0.2.2:42069/",
        "On this machine (or a headset on its cable: adb reverse tcp:42069 tcp:42069):",
        "  http://127.0.0.1:42069/",
        "Browsers warn of its certificate, which is its own. The SHA-256 fingerprint:",
        "  00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F",
        "  10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F",
        *FOR_PROGRAMS,
    ]


def test_says_other_addresses_where_there_is_no_shorter_one() -> None:
    text = announcement(URLS[1:], PAGES[1:])
    assert "  http://[2001:db8::2]:42069/" in text.splitlines()
    assert "On this machine" not in announcement(URLS[:1], PAGES[:1])


def test_says_so_where_there_is_no_page() -> None:
    assert announcement(URLS, ()).splitlines() == ["Listening, without a page for browsers.", *FOR_PROGRAMS]


def test_a_qr_code_where_it_can_be_shown() -> None:
    lines = qr_code("https://192.168.1.20:42069/", columns=80, encoding="utf-8")
    drawn = [line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m") for line in lines]
    width = len(drawn[0])
    assert {len(line) for line in drawn} == {width}
    assert len(drawn) == (width + 1) // 2
    # White around it, in which a finder's corner stands.
    assert drawn[0] == "\u2588" * width
    assert drawn[1].startswith("\u2588\u2588 \u2584\u2584\u2584\u2584\u2584 \u2588")
    assert len(qr_code("https://192.168.1.20:42069/", columns=width, encoding="utf-8")) == len(lines)
    assert qr_code("https://192.168.1.20:42069/", columns=width - 1, encoding="utf-8") == []
    assert qr_code("https://192.168.1.20:42069/", columns=80, encoding="ascii") == []


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
