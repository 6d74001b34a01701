"""Recordings of a real server: killed in the middle, on a full disk, and read by the README's example."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from trio_vrchat import recording
from trio_vrchat.recording import Said

from .program import LOCAL, finished, started
from .readme import example
from .small_disk import SIZE_BYTES
from .small_disk import small_disk as small_disk  # noqa: PLC0414  (a fixture)
from .test_recorder import the_file


def log_in(socket: ClientConnection, user: str = "Tibi") -> None:
    socket.send(json.dumps({"system": "login", "options": {"user": user, "pass": "x"}}))
    until(socket, lambda entry: entry["type"] == "join")


def until(socket: ClientConnection, wanted: Any) -> dict[str, Any]:
    """The first entry that is wanted."""
    while True:
        for entry in json.loads(socket.recv(timeout=30)).get("payload", ()):
            if wanted(entry):
                found: dict[str, Any] = entry
                return found


def say(socket: ClientConnection, data: Any) -> dict[str, Any]:
    """Say it, and wait for it to come back."""
    socket.send(json.dumps({"room": "lobby", "data": data}))
    return until(socket, lambda entry: entry["data"] == data)


def said_in(path: Path) -> list[tuple[float, Any]]:
    with recording.open(path) as session:
        return [(event.time, event.data) for event in session if isinstance(event, Said)]


def test_a_server_that_is_killed_leaves_what_it_had_written(tmp_path: Path) -> None:
    said: list[tuple[float, Any]] = []
    written: list[tuple[float, Any]] = []
    options = ("--record", str(tmp_path), "--events-at-once", "0", "--bytes-per-s", "0", "--log-level", "0")
    with started(*LOCAL, *options) as server, connect(server.url()) as socket:
        log_in(socket)
        # Until it has written more than once.
        while not written or len(said) < 3 * len(written):
            said.append((say(socket, len(said))["time"], len(said)))
            if not written:
                written = said_in(the_file(tmp_path))
        server.process.kill()
        server.process.wait()
    with recording.open(the_file(tmp_path)) as session:
        left = [(event.time, event.data) for event in session if isinstance(event, Said)]
        assert "has lost its end" in session.lost
    assert left == said[: len(left)], "from the start, in order, and nothing twice"
    assert len(left) >= len(written)


def test_a_full_disk_ends_the_recording_and_not_the_room(small_disk: Path) -> None:
    free = 100_000
    (small_disk / "filler").write_bytes(bytes(SIZE_BYTES - free))
    with started(*LOCAL, "--record", str(small_disk / "study"), "--bytes-per-s", "0", "--log-level", "0") as server:
        with connect(server.url()) as socket:
            log_in(socket)
            # Of which nothing can be made smaller.
            lines = [secrets.token_hex(20_000) for _ in range(8)]
            for line in lines:
                say(socket, line)
            server.until("the recording has ended: No space left on device", server.stderr)
            assert say(socket, "and on it goes")["data"] == "and on it goes"
        server.process.terminate()
        assert server.end()[0] == 0
    said = [data for _, data in said_in(the_file(small_disk / "study"))]
    assert said == lines[: len(said)]


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    pose = {"pos": {"x": 1.5, "y": 1.6, "z": -2}, "rot": {"x": 0, "y": 0, "z": 0}}
    with started(*LOCAL, "--record", str(tmp_path), "--note", "condition=mirror") as server:
        with connect(server.url()) as socket:
            log_in(socket)
            socket.send(json.dumps({"room": "lobby", "type": "transform", "data": pose}))
            until(socket, lambda entry: entry["type"] == "transform")
        server.process.terminate()
        assert server.end()[0] == 0
    path = the_file(tmp_path)
    ran = finished(os.fspath(path), command=("-W", "error", "-c", example("recording")))
    assert ran.returncode == 0, ran.stderr
    assert "{'condition': 'mirror'}" in ran.stdout
    assert "1 places" in ran.stdout
    exported = finished("export", os.fspath(path), "--to", "csv")
    assert exported.returncode == 0
    assert ",lobby,Tibi,transform,1.5,1.6,-2.0,0.0,0.0,0.0,," in exported.stdout


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("")
    ended = finished(*LOCAL, "--record", str(tmp_path / "study"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "cannot record in" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
