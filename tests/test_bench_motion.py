"""The paths that the bench's users take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_vrchat import bench
from trio_vrchat.bench import _motion
from trio_vrchat.bench._motion import paths
from trio_vrchat.bench._protocol import lap
from trio_vrchat.bench._user import User

from .recorded import as_json, line, pose, write
from .test_bench import FakeServer, quick, said_by

__all__ = ["quick"]


def moves(user: str, *moments: tuple[float, float], room: str = "lobby") -> list[dict[str, Any]]:
    return [line(at_s, user, "transform", pose(x), room=room) for at_s, x in moments]


def places(found: Any) -> list[list[float]]:
    said: list[list[Any]] = [[said_by(frame) for frame in path] for path in found]
    assert all((each["room"], each["type"]) == ("lobby", "transform") for path in said for each in path)
    return [[each["data"]["pos"]["x"] for each in path] for path in said]


def options(path: Path, send_hz: float = 10.0, url: str | None = None) -> bench.Options:
    return bench.Options(motion=path, users=2, send_hz=send_hz, seconds=3.0, url=url)


def test_without_a_recording_it_is_the_circle() -> None:
    (path,) = paths(bench.Options())
    assert len(path) == len(lap())


def in_rooms(found: Any) -> list[tuple[str, float]]:
    """Of each path, the room and where it begins."""
    said: list[Any] = [said_by(path[0]) for path in found]
    return [(each["room"], each["data"]["pos"]["x"]) for each in said]


def test_each_path_is_in_the_room_of_those_who_take_it(tmp_path: Path) -> None:
    assert [room for room, _ in in_rooms(paths(bench.Options(users=9, rooms=3)))] == ["bench-1", "bench-2", "bench-3"]
    path = write(tmp_path / "one", moves("Tibi", (0.0, 1)) + moves("Anna", (0.0, 2)))
    asked = bench.Options(users=9, rooms=3, motion=path)
    # As many as it takes until both begin again; user number i takes path number i modulo those.
    rooms = ("bench-1", "bench-2", "bench-3") * 2
    assert in_rooms(paths(asked)) == list(zip(rooms, (1, 2) * 3, strict=True))
    assert in_rooms(paths(attrs.evolve(asked, users=5))) == list(zip(rooms[:5], (1, 2, 1, 2, 1), strict=True))


def test_a_step_is_where_somebody_was_by_then(tmp_path: Path) -> None:
    lines = moves("Tibi", (0.0, 0), (0.05, 1), (0.1, 2), (0.31, 3), (0.41, 4)) + moves("Anna", (0.5, 9), (0.7, 8))
    # Minutes of standing still are a second; what is done in another room is not of this path.
    lines += moves("Tibi", (0.6, 77), room="den") + moves("Tibi", (300.41, 5), (300.51, 6))
    path = write(tmp_path / "one", [line(0.0, "Tibi", "join"), *lines])
    assert places(paths(options(path))) == [[1, 2, 2, 3, *[4] * 10, 5], [9, 9]]


def test_data_is_as_it_was_recorded(tmp_path: Path) -> None:
    data = pose(1.5, hands={"left": {"pos": {"x": 0.25}}}, t=1.0)
    path = write(tmp_path / "one", [line(0.0, "Tibi", "transform", data)])
    ((frame,),) = paths(options(path))
    assert said_by(frame) == {"room": "lobby", "type": "transform", "data": data}


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [each for user in "ABC" for each in moves(user, *((step / 10, step) for step in range(100)))]
    path = write(tmp_path / "one", sorted(lines, key=lambda each: each["time"]))
    # No more people than users, no more steps than a run has, and no more of all together.
    assert [len(found) for found in paths(options(path))] == [50, 50]
    monkeypatch.setattr(_motion, "MOST_STEPS", 20)
    assert [len(found) for found in paths(options(path))] == [10, 10]
    assert [len(found) for found in paths(options(path, send_hz=0.0))] == [1, 1]
    # Though somebody else's is never complete.
    path = write(tmp_path / "two", lines[:100] + moves("B", (0.0, 1), (0.1, 2)))
    assert [len(found) for found in paths(options(path))] == [10, 1]


@pytest.mark.parametrize(
    ("lines", "why"), [([line(0.0, "Tibi", "join")], "nobody moves in that recording"), (None, "is no recording")]
)
def test_what_is_no_motion_is_one_line(
    lines: list[dict[str, Any]] | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one"
    if lines is None:
        path.write_bytes(as_json(line(0.0, "Tibi", "join")))
    else:
        write(path, lines)
    with FakeServer() as server:
        assert bench.main(options(path, url=server.url), json=True) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert f"motion is {str(path)!r}" in printed.err
    assert why in printed.err


@pytest.mark.usefixtures("quick")
def test_users_move_as_people_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tibi = moves("Tibi", (0.0, 1), (0.021, 2), (0.042, 3), (0.063, 4))
    path = write(tmp_path / "one", tibi + moves("Anna", (0.0, 9), (0.021, 8)))
    sent: dict[int, list[bytes]] = {}
    send = User.send

    def watched(user: User, frame: bytes) -> bool:
        sent.setdefault(user.index, []).append(frame)
        return send(user, frame)

    monkeypatch.setattr(User, "send", watched)
    with FakeServer() as server:
        asked = bench.Options(url=server.url, users=5, chat_hz=0, send_hz=50, seconds=0.4, motion=path)
        assert bench.run(asked, lambda share: None).sound
    # Those who walk the same path begin at different places of it.
    assert {user: places([frames[:4]])[0] for user, frames in sent.items()} == {
        0: [1, 2, 3, 1],
        1: [9, 9, 9, 9],
        2: [2, 3, 1, 2],
        3: [9, 9, 9, 9],
        4: [3, 1, 2, 3],
    }
