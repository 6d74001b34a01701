"""Recordings for tests: made of lines, and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trio_vrchat import testing
from trio_vrchat._recording_file import VERSION, Kind, RecordingFile

NOW = testing.START_TIME
Entry = tuple[str, str, str, Any]


def pose(x: float, **more: Any) -> dict[str, Any]:
    return {"pos": {"x": x, "y": 1.6, "z": -0.5}, "rot": {"x": 0.0, "y": 0.25, "z": 0.0}} | more


def line(at_s: float, user: str, type: str, data: Any = "", room: str = "lobby") -> dict[str, Any]:  # noqa: A002
    return {"room": room, "time": NOW + at_s, "user": user, "type": type, "data": data}


def as_json(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode()


def write(path: Path, lines: Iterable[dict[str, Any]], **manifest: str) -> Path:
    with path.open("wb") as stream:
        recorded = RecordingFile(stream, {"version": VERSION} | manifest)
        for entry in lines:
            kind: Kind = "transforms" if entry["type"] == "transform" else "events"
            recorded.add(kind, round(entry["time"] * 1e9), as_json(entry))
        recorded.finish()
    return path


def read(path: Path) -> tuple[list[Entry], list[float]]:
    """Who did what where, and when, from the first on: (room, user, type, data). A replayed name is its own."""
    from trio_vrchat import recording

    with recording.open(path) as session:
        found = [json.loads(each) for _, each in session.lines(("events", "transforms"))]
        assert not session.lost
    entries = [(each["room"], each["user"].removesuffix(" ↺"), each["type"], each["data"]) for each in found]
    return entries, [each["time"] - found[0]["time"] for each in found]
