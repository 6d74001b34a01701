"""The command `export`: what comes out, and where."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from trio_vrchat import testing
from trio_vrchat.__main__ import _main
from trio_vrchat._export_command import COLUMNS
from trio_vrchat._recording_file import VERSION, Kind, RecordingFile

NOW = testing.START_TIME
POSE = {"pos": {"x": 1, "y": 1.6, "z": -0.25}, "rot": {"x": 0.5, "y": 0, "z": 0}}
LINES: list[tuple[Kind, dict[str, Any]]] = [
    ("events", {"room": "lobby", "time": NOW, "user": "Tibi", "type": "join", "data": ""}),
    ("events", {"room": "lobby", "time": NOW + 1.25, "user": "Tibi", "type": "msg", "data": '=1+1 "quoted", ä\n'}),
    ("transforms", {"room": "den", "time": NOW + 2, "user": "=Anna", "type": "transform", "data": POSE}),
    (
        "transforms",
        {"room": "den", "time": NOW + 3, "user": "=Anna", "type": "transform", "data": POSE | {"t": NOW, "n": [1]}},
    ),
    ("round_trips", {"time": NOW + 4, "user": "Tibi", "round_trip_s": 0.02}),
    ("clocks", {"time": NOW + 5, "user": "Tibi", "offset_s": 1, "bound_s": 0.5}),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recorded.mcap"
    with path.open("wb") as stream:
        recorded = RecordingFile(stream, {"version": VERSION})
        for kind, line in LINES:
            recorded.add(kind, round(line["time"] * 1e9), json.dumps(line).encode())
        recorded.finish()
    return path


def exported(capfdbinary: pytest.CaptureFixture[bytes], *arguments: object) -> bytes:
    assert _main(["export", *map(str, arguments)]) == 0
    return capfdbinary.readouterr().out


def test_csv_has_a_row_for_each_message(capfdbinary: pytest.CaptureFixture[bytes], file: Path) -> None:
    text = exported(capfdbinary, file, "--to", "csv").decode()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["type"] for row in rows] == ["join", "msg", "transform", "transform", "round_trip", "clock"]
    assert [float(row["time"]) for row in rows] == [line["time"] for _, line in LINES]
    assert json.loads(rows[1]["data"]) == '=1+1 "quoted", ä\n'
    assert [rows[2][column] for column in ("x", "y", "z", "rx", "t", "data")] == ["1.0", "1.6", "-0.25", "0.5", "", ""]
    assert (float(rows[3]["t"]), rows[3]["data"]) == (NOW, '{"n":[1]}')
    assert json.loads(rows[4]["data"]) == {"round_trip_s": 0.02}
    # What a spreadsheet would take for a formula begins no cell.
    assert rows[2]["user"] == "'=Anna"
    assert not [cell for row in rows for name, cell in row.items() if cell.startswith(("=", "@", "+")) and name != "x"]


def test_json_lines_are_the_messages_as_they_were(capfdbinary: pytest.CaptureFixture[bytes], file: Path) -> None:
    out = exported(capfdbinary, file, "--to", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == [line for _, line in LINES]


@pytest.mark.parametrize("to", ["csv", "jsonl"])
def test_of_one_room_or_one_user(capfdbinary: pytest.CaptureFixture[bytes], file: Path, to: str) -> None:
    heads = to == "csv"
    for arguments, count in (
        (("--room", "den"), 2),
        (("--user", "Tibi"), 4),
        (("--room", "lobby", "--user", "Tibi"), 2),
        (("--room", "hall"), 0),
    ):
        assert len(exported(capfdbinary, file, "--to", to, *arguments).splitlines()) == count + heads


def test_a_file_is_written_and_the_messages_go_to_stderr(
    capfd: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    assert _main(["export", str(file), "--to", "csv", "-o", str(out)]) == 0
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "6 messages\n")
    assert len(out.read_text().splitlines()) == 7
    file.write_bytes(file.read_bytes()[:-700])
    assert _main(["export", str(file), "--to", "csv", "-o", str(out)]) == 0
    assert "warning: " in capfd.readouterr().err


def test_what_cannot_be_is_one_line(capfd: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("x")
    for arguments, says in (
        ((tmp_path / "none", "--to", "csv"), "is no recording"),
        ((file, "--to", "parquet"), "name a file with -o"),
        ((file, "--to", "csv", "-o", tmp_path), "Is a directory"),
        ((file, "--to", "xlsx"), "xlsx"),
        ((file,), "--to"),
    ):
        assert _main(["export", *map(str, arguments)]) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert says in printed.err
        assert len(printed.err.splitlines()) == 1


def test_parquet_has_the_columns_of_csv(capfd: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (pip install -e '.[test,parquet]')")
    out = tmp_path / "out.parquet"
    assert _main(["export", str(file), "--to", "parquet", "-o", str(out)]) == 0
    table = pq.read_table(out)
    assert tuple(table.column_names) == COLUMNS
    columns = table.to_pydict()
    assert columns["time"] == [line["time"] for _, line in LINES]
    assert columns["x"] == [None, None, 1.0, 1.0, None, None]
    assert columns["user"][2] == "=Anna"
    assert not math.isnan(columns["t"][3])
    assert _main(["export", str(file), "--to", "parquet", "-o", str(out), "--room", "hall"]) == 0
    assert pq.read_table(out).num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(
    capfd: pytest.CaptureFixture[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert _main(["export", str(file), "--to", "parquet", "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'trio-vrchat[parquet]'" in capfd.readouterr().err


def test_the_recording_is_not_overwritten_by_its_own_export(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = file.read_bytes()
    (tmp_path / "link").symlink_to(file)
    for output in (file, tmp_path / "link"):
        assert _main(["export", str(file), "--to", "csv", "-o", str(output)]) == 2
        assert "is the recording itself" in capfd.readouterr().err
    assert file.read_bytes() == whole
