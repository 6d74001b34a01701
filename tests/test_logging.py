"""The log: what each level shows, and that a record is one line that gives nothing away."""

from __future__ import annotations

import datetime
import io
import json
import logging
import re
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect

from trio_vrchat import ConfigError
from trio_vrchat._logging import configure

from .program import DEADLINE_S, LOCAL, LOOPBACK, started

CONFIGURED = (
    "",
    "trio_vrchat",
    "trio_vrchat.server",
    "trio_vrchat.supervisor",
    "trio_vrchat.connection",
    "trio_vrchat.room",
)
LOGGERS = (*CONFIGURED[1:], "trio-websocket", "trio.serve_listeners", "somebody.else")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in CONFIGURED}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# What is shown


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (0, {"server": "INFO", "supervisor": "INFO"}),
        (1, {"server": "INFO", "supervisor": "INFO", "connection": "INFO"}),
        (2, {"server": "INFO", "supervisor": "INFO", "connection": "INFO", "room": "INFO"}),
        (3, {"server": "DEBUG", "supervisor": "DEBUG", "connection": "DEBUG", "room": "DEBUG", "": "DEBUG"}),
    ],
)
def test_each_level_shows_its_records(level: int, shown: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    # The last call counts, whatever an earlier one had set.
    configure(3 - level, as_json=False)
    configure(level, as_json=True)
    for name in LOGGERS:
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(number, "x")
    seen = [(record["logger"], record["level"]) for record in map(json.loads, capsys.readouterr().err.splitlines())]
    expected = []
    for name in LOGGERS:
        lowest = shown.get(name.removeprefix("trio_vrchat").removeprefix("."), "WARNING")
        names = ["DEBUG", "INFO", "WARNING", "ERROR"]
        expected += [(name, number) for number in names[names.index(lowest) :]]
    assert seen == expected


@pytest.mark.parametrize("level", [-1, 4, "2", True, None])
def test_any_other_level_is_refused(level: Any) -> None:
    with pytest.raises(ConfigError, match=f"log_level must be 0, 1, 2 or 3, not {level!r}"):
        configure(level, as_json=False)


# In which form

WHO = {"peer": "[::1]:5", "user": "Tibi", "room": "lobby", "code": 400, "port": 1, "count": 0}
# What would start a line of its own, colour a terminal or break an encoder.
NASTY = "a\nb\r\x1b[31mc\u2028\u0085d\ud800e\u202ef\x00\N{GRINNING FACE}é"


def test_a_json_record_has_what_its_call_gave(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, as_json=True)
    log = logging.getLogger("trio_vrchat.connection")
    log.info("%s: hello", "Tibi", extra=WHO)
    log.info("nobody yet", extra={"peer": "[::1]:5", "user": None})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert isinstance(first.pop("time"), float)
    assert first == {"level": "INFO", "logger": "trio_vrchat.connection", "message": "Tibi: hello"} | WHO
    assert set(second) == {"time", "level", "logger", "message", "peer"}


def test_a_record_says_of_which_worker_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("trio_vrchat.server")
    configure(2, as_json=True, worker=3)
    log.info("stopped")
    configure(2, as_json=False, worker=3)
    log.info("stopped")
    # And about which, where it is nobody's.
    configure(2, as_json=False)
    log.info("has ended", extra={"worker": 4, "pid": 5})
    log.info("stopped")
    first, *lines = capsys.readouterr().err.splitlines()
    assert json.loads(first)["worker"] == 3
    assert [line.partition(" INFO ")[2] for line in lines] == [
        "trio_vrchat.server: worker 3: stopped",
        "trio_vrchat.server: worker 4: has ended",
        "trio_vrchat.server: stopped",
    ]


def test_a_terminal_shows_the_worker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    configure(2, as_json=False, worker=3)
    logging.getLogger("trio_vrchat.server").info("stopped")
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO +worker 3: stopped *\n", terminal.getvalue())


@pytest.mark.parametrize("as_json", [True, False])
def test_a_record_is_one_line_of_any_text(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, as_json=as_json)
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.getLogger("trio_vrchat.room").exception("oh %s", NASTY, extra={"user": NASTY})
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()
    assert "Traceback" in text
    text.encode()  # no half surrogate pair
    if as_json:
        assert text.isascii()
        assert json.loads(text)["user"] == NASTY.replace("\ud800", r"\ud800")
        assert json.loads(text)["exception"].startswith("Traceback (most recent call last):\n")
    else:
        assert "\N{GRINNING FACE}é" in text


def test_a_plain_line_has_its_time_with_the_zone(capsys: pytest.CaptureFixture[str]) -> None:
    configure(2, as_json=False)
    logging.getLogger("trio.serve_listeners").error("no more file descriptors")
    time, _, text = capsys.readouterr().err.partition(" ")
    assert datetime.datetime.fromisoformat(time).tzinfo is not None
    assert text == "ERROR trio.serve_listeners: no more file descriptors\n"


def test_a_terminal_gets_one_readable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    configure(2, as_json=False)
    log = logging.getLogger("trio_vrchat.connection")
    log.info("[bold]Tibi[/] %s", "says\n:smile: \x1b[31m")
    log.warning("later")
    first, second = terminal.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO +\[bold\]Tibi\[/\] says\\n:smile: \\x1b\[31m *", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING +later *", second)


def test_a_traceback_keeps_its_lines_on_a_terminal_and_shows_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    configure(2, as_json=False)
    password = "".join(["sec", "ret"])
    try:
        raise RuntimeError(len(password))
    except RuntimeError:
        logging.getLogger("trio_vrchat.room").exception("lost")
    assert "RuntimeError: 6" in terminal.getvalue().splitlines()[-1]
    assert "secret" not in terminal.getvalue()


# What a server's log holds

SECRET = "correct-horse"


def talk(client: ClientConnection, message: object) -> None:
    """Send, and wait for what comes of it."""
    client.send(message if isinstance(message, str | bytes) else json.dumps(message))
    client.send('{"system":"ping","options":{}}')
    while '"code":220' not in str(client.recv(timeout=DEADLINE_S)):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
def test_a_servers_log_has_who_did_what_and_no_secret() -> None:
    with started(*LOCAL, "--log-level", "3", "--log-json", "--events-at-once", "0") as program:
        url = program.url()
        with connect(url) as client:
            login = {"user": "Tibi", "pass": SECRET}
            for message in (
                {"system": "login", "options": login | {"pass": [SECRET]}},
                {"system": "login", "options": login | {"user": 5}},
                {"system": "login", "options": login},
                {"system": "login", "options": login},
                {"room": "hall", "type": "join", "data": {}},
                {"room": "hall", "type": "text", "data": SECRET},
                {"room": "hall", "type": [SECRET], "data": SECRET},
                {"room": "nowhere", "type": "text", "data": SECRET},
                {"room": "hall", "type": "transform", "data": {"pos": SECRET}},
                {"room": "hall", "type": "leave", "data": {}},
                f'{{"room": "hall", "data": "{SECRET}" {SECRET}',
                f'{{"room": "hall", "data": "{SECRET}\\ud800"}}',
                SECRET.encode(),
            ):
                talk(client, message)
        for bad_text in (SECRET.encode() + b"\xff", SECRET.encode() + b"\xc3"):
            with connect(url) as client:
                client.send(bad_text, text=True)
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    client.recv(timeout=DEADLINE_S)
        # Not WebSocket at all, and not WebSocket any more.
        port = int(url.rpartition(":")[2].strip("/"))
        for opening in (f"{SECRET}\r\n\r\n", f"GET / HTTP/1.1\r\nHost: a\r\nX-\x01: {SECRET}\r\n\r\n"):
            with socket.create_connection((LOOPBACK, port)) as stranger:
                stranger.settimeout(DEADLINE_S)
                stranger.sendall(opening.encode())
                while stranger.recv(4096):
                    pass
        program.process.send_signal(signal.SIGTERM)
        status, lines = program.end()
    assert status == 0
    assert SECRET not in "".join(lines)
    log = [json.loads(line) for line in lines]
    assert [record["logger"] for record in (log[0], log[-1])] == ["trio_vrchat.server"] * 2
    assert log[0]["port"] == port
    [logged_in] = [record for record in log if "has logged in" in record["message"]]
    assert logged_in["user"] == "Tibi"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", logged_in["peer"])
    assert {record["peer"] for record in log if record.get("user") == "Tibi"} == {logged_in["peer"]}
    rooms = [
        (record["room"], record["message"].split()[1])
        for record in log
        if record["logger"].endswith(".room") and record["level"] == "INFO"
    ]
    assert rooms == [("lobby", "joins"), ("hall", "joins"), ("hall", "leaves"), ("lobby", "leaves")]
    assert {400, 401, 406, 409, 1000} <= {record.get("code") for record in log}
