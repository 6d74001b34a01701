"""Replays in virtual time: recorded, replayed, recorded again, and compared."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.accounts import account, add_accounts
from trio_vrchat import CannotConnect, Client, Config, ReplayError, SlowDown, recording, testing
from trio_vrchat._replay_command import Wish, rounds
from trio_vrchat._replaying import Replayed, replay

from .recorded import Entry, line, pose, read, write
from .test_recorder import the_file

FRAME_S = 1 / 20
WALKERS = 20


async def again(server: testing.MemoryServer, path: Path, password: str = "secret", **options: Any) -> Replayed:
    def connect(name: str) -> AbstractAsyncContextManager[Client]:
        return server.open_client(name, password, reconnect=False)

    with recording.open(path) as session:
        return await replay(session, connect, **options)


async def replayed(folder: Path, path: Path, **options: Any) -> tuple[list[Entry], list[float]]:
    """Replay it where nobody is, and what is recorded there."""
    async with testing.open_server(Config.unlimited(record=str(folder))) as server:
        await again(server, path, **options)
    return read(the_file(folder))


async def walk(server: testing.MemoryServer, dice: random.Random) -> None:
    """A session of twenty, who walk, talk, wave, and go from room to room. One act at a time."""
    people: dict[str, testing.RawClient] = {}
    rooms: defaultdict[str, set[str]] = defaultdict(set)

    async def does(user: str, room: str, kind: str, data: Any = "") -> None:
        people[user].send({"room": room, "type": kind, "data": data})
        await testing.settle()
        people[user].take_bytes()

    for step in range(1200):
        user = f"walker {dice.randrange(WALKERS)}"
        await trio.sleep(dice.choice((0.004, 0.05, 0.05, 0.3)))
        if user not in people:
            people[user] = await server.login(user)
            rooms[user] = {"lobby"}
            continue
        people[user].texts()
        room = dice.choice(("lobby", "den", "hall"))
        if room not in rooms[user]:
            await does(user, room, "join")
            rooms[user].add(room)
        elif len(rooms[user]) > 1 and dice.random() < 0.1:
            await does(user, room, "leave")
            rooms[user].discard(room)
        elif dice.random() < 0.1:
            await does(user, room, dice.choice(("msg", "emote")), {"step": step, "é": [1.5, None]})
        else:
            data = pose(dice.uniform(-9, 9), t=dice.random(), hands={"left": {"pos": {"x": dice.random()}}})
            data["pos"]["w"] = step
            await does(user, room, "transform", data)
        if step % 97 == 0:
            people.pop(user).close()
            await testing.settle()
            await trio.sleep(1)
    for user in sorted(people):
        people[user].close()
        await testing.settle()
        await trio.sleep(0.1)


async def test_twenty_walkers_come_back_four_times_as_fast(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with testing.open_server(Config.unlimited(record=str(tmp_path / "one"))) as server:
        await walk(server, random.Random(7))
    entries, times = read(the_file(tmp_path / "one"))
    assert len({user for _, user, *_ in entries}) == WALKERS
    assert len(entries) > 1200
    # All of it once more, at the same places of the one timeline.
    entries_again, times_again = await replayed(tmp_path / "two", the_file(tmp_path / "one"), speed=4.0)
    assert entries_again == entries
    assert latest(times, times_again, 4.0) < FRAME_S


def latest(times: list[float], times_again: list[float], speed: float) -> float:
    return max(abs(one / speed - other) for one, other in zip(times, times_again, strict=True))


async def test_two_who_do_something_at_one_moment_keep_their_order(autojump_clock: MockClock, tmp_path: Path) -> None:
    users = [f"u{number}" for number in range(12)]
    lines = [line(0.0, user, "join") for user in users]
    for number in range(10):
        random.Random(number).shuffle(users)
        lines += [line(1.0 + number, user, "msg", number) for user in users]
    lines += [line(20.0, user, "leave") for user in users]
    entries, _ = await replayed(tmp_path / "again", write(tmp_path / "one", lines))
    assert [(user, type_, data) for _, user, type_, data in entries] == [
        (each["user"], each["type"], each["data"]) for each in lines
    ]


async def test_who_is_in_another_room_only_is_not_in_the_lobby(autojump_clock: MockClock, tmp_path: Path) -> None:
    lines = [
        line(0.0, "Tibi", "join", room="den"),
        line(1.0, "Tibi", "msg", "hello", room="den"),
        line(1.5, "Tibi", "leave", room="den"),
        # Within the moment for which the connection stays: no other login.
        line(2.0, "Tibi", "join", room="hall"),
        line(9.0, "Tibi", "leave", room="hall"),
    ]
    entries, _ = await replayed(tmp_path / "again", write(tmp_path / "one", lines))
    assert [(room, type_) for room, _, type_, _ in entries] == [
        ("lobby", "join"),
        ("lobby", "leave"),
        ("den", "join"),
        ("den", "msg"),
        ("den", "leave"),
        ("hall", "join"),
        ("hall", "leave"),
    ]


STAY = [
    line(0.0, "Tibi", "join"),
    line(1.0, "Tibi", "transform", pose(1.0)),
    line(2.0, "Anna", "join", room="den"),
    line(3.0, "Tibi", "transform", pose(2.0)),
    line(4.0, "Anna", "msg", "hello", room="den"),
    line(50.0, "Anna", "leave", room="den"),
    line(60.0, "Tibi", "leave"),
]


async def test_from_a_moment_on_and_of_one_room(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    entries, times = await replayed(tmp_path / "from", path, from_s=2.5)
    assert [(user, type_) for _, user, type_, _ in entries if type_ != "leave"] == [
        ("Tibi", "join"),
        ("Tibi", "transform"),
        ("Anna", "join"),  # who passes through the lobby
        ("Anna", "join"),
        ("Tibi", "transform"),
        ("Anna", "msg"),
    ]
    assert entries[1][3]["pos"]["x"] == 1.0
    assert times[-1] == pytest.approx(57.5, abs=FRAME_S)
    entries, times = await replayed(tmp_path / "room", path, room="den", speed=0.5)
    assert [type_ for room, _, type_, _ in entries if room == "den"] == ["join", "msg", "leave"]
    assert times[-1] == pytest.approx(96, abs=FRAME_S)


async def test_people_are_seen_with_their_mark_and_leave_at_the_end(autojump_clock: MockClock, tmp_path: Path) -> None:
    # Of which nobody ever leaves.
    path = write(tmp_path / "one", STAY[:5])
    async with testing.open_server() as server:
        anna = await server.login("Anna")
        await again(server, path)
        await testing.settle()
        seen = [(entry["user"], entry["type"]) for entry in anna.entries("lobby")]
        assert seen == [
            ("Anna", "join"),
            ("Tibi ↺", "join"),
            ("Tibi ↺", "transform"),
            ("Anna ↺", "join"),
            ("Anna ↺", "leave"),
            ("Tibi ↺", "transform"),
            ("Tibi ↺", "leave"),
        ]
        assert server.statistics.connections == 1


async def test_whoever_left_is_disconnected_though_others_stay(autojump_clock: MockClock, tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join"), line(100.0, "Tibi", "msg", "still here"), line(200.0, "Tibi", "leave")]
    for number in range(30):
        lines += [line(3.0 * number + 1, f"u{number}", "join"), line(3.0 * number + 2, f"u{number}", "leave")]
    path = write(tmp_path / "one", sorted(lines, key=lambda each: each["time"]))
    async with testing.open_server() as server, trio.open_nursery() as nursery:
        nursery.start_soon(again, server, path)
        await trio.sleep(95)
        await testing.settle()
        assert server.statistics.connections == 1
        assert server.statistics.logins == 31


async def test_it_goes_round_until_it_is_cancelled(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server(Config.unlimited(record=str(tmp_path / "again"))) as server:

        def connect(name: str) -> AbstractAsyncContextManager[Client]:
            return server.open_client(name, reconnect=False)

        with recording.open(path) as session, trio.move_on_after(3 * 61 + 5) as going_on:
            await rounds(session, connect, Wish(loop=True))
        assert going_on.cancelled_caught
        await testing.settle()
        assert server.statistics.connections == 0
    entries, _ = read(the_file(tmp_path / "again"))
    said = [type_ for room, _, type_, _ in entries if room == "den"]
    assert said == ["join", "msg", "leave"] * 3 + ["join", "msg", "leave"]


# Under a server's limits


async def test_what_a_server_refuses_for_a_moment_is_said_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join")]
    lines += [line(1.0 + number / 100, "Tibi", "msg", number) for number in range(12)]
    lines += [line(1.5, "Tibi", "join", room="den"), line(1.6, "Tibi", "leave", room="den")]
    lines += [line(1.7, "Tibi", "join", room="den"), line(1.8, "Tibi", "leave", room="den")]
    path = write(tmp_path / "one", [*lines, line(2.0, "Tibi", "leave")])
    config = Config(events_at_once=3, events_per_s=0.5, record=str(tmp_path / "again"))
    async with testing.open_server(config) as server:
        done = await again(server, path)
        assert server.statistics.rate_limited > 0
    entries, _ = read(the_file(tmp_path / "again"))
    assert [data for *_, type_, data in entries if type_ == "msg"] == list(range(12))
    assert [type_ for room, _, type_, _ in entries if room == "den"] == ["join", "leave", "join", "leave"]
    assert done.latest_s > 20
    assert not done.missed


@pytest.mark.parametrize("apart_s", [0.0, 0.01])
async def test_nobody_waits_for_who_is_refused(apart_s: float, autojump_clock: MockClock, tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join"), line(0.0, "Anna", "join")]
    lines += [line(1.0 + number * apart_s, "Tibi", "msg", number) for number in range(12)]
    lines += [line(2.0, "Anna", "msg", "in time")]
    config = Config(events_at_once=3, events_per_s=0.1, record=str(tmp_path / "again"))
    async with testing.open_server(config) as server:
        await again(server, write(tmp_path / "one", lines))
    entries, times = read(the_file(tmp_path / "again"))
    assert times[[data for *_, data in entries].index("in time")] == pytest.approx(2.0, abs=FRAME_S)


async def test_transforms_over_a_limit_are_left_out_and_counted(autojump_clock: MockClock, tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join")]
    lines += [line(number / 90, "Tibi", "transform", pose(number)) for number in range(900)]
    path = write(tmp_path / "one", [*lines, line(11.0, "Tibi", "msg", "done")])
    config = Config(bytes_per_s=10 * 512, record=str(tmp_path / "again"))
    async with testing.open_server(config) as server:
        done = await again(server, path)
        # When it was told, it paused, and then sent less: else there would be 800.
        assert 0 < server.statistics.rate_limited < 100
    entries, _ = read(the_file(tmp_path / "again"))
    moved = [data["pos"]["x"] for *_, type_, data in entries if type_ == "transform"]
    assert 40 < len(moved) < 200
    assert done.left_out > 700
    assert not done.missed
    assert moved == sorted(moved)
    assert entries[-2][3] == "done"


async def test_a_room_that_is_full_is_said_and_the_others_go_on(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    config = Config(rooms_limit=1, record=str(tmp_path / "again"))
    async with testing.open_server(config) as server:
        done = await again(server, path)
    assert done.missed == 1
    assert done.why == "Anna ↺ could not join 'den': 413 Too much. (rooms_limit: 1)"
    entries, _ = read(the_file(tmp_path / "again"))
    assert [type_ for _, user, type_, _ in entries if user == "Tibi"] == ["join", "transform", "transform", "leave"]


async def test_a_login_that_must_wait_waits(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server:
        attempts: list[float] = []

        @asynccontextmanager
        async def connect(name: str) -> AsyncIterator[Client]:
            if name == "Tibi ↺":
                attempts.append(trio.current_time())
            if len(attempts) < 3 and name == "Tibi ↺":
                raise SlowDown(retry_after=7.5)
            async with server.open_client(name, reconnect=False) as client:
                yield client

        with recording.open(path) as session:
            assert (await replay(session, connect)).stays == 2
        assert attempts == pytest.approx([0.0, 7.5, 15.0], abs=FRAME_S)


async def test_with_accounts(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "chat.db"
    add_accounts(store, account("tibi ↺", "correct"), account("Anna ↺", "correct"))
    path = write(tmp_path / "one", STAY)
    async with testing.open_server(Config(auth="accounts", store=str(store))) as server:
        assert (await again(server, path, "correct")).stays == 2
        with pytest.raises(ReplayError, match=r"^Tibi ↺: the login is refused: .* in TRIO_VRCHAT_REPLAY_PASSWORD$"):
            await again(server, path, "wrong")


async def test_connections_that_are_refused_by_number_are_tried_again(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server:
        attempts = itertools.count()

        @asynccontextmanager
        async def connect(name: str) -> AsyncIterator[Client]:
            if 1 <= next(attempts) < 5:
                raise CannotConnect("it answered with HTTP status 503")
            async with server.open_client(name, reconnect=False) as client:
                yield client

        with recording.open(path) as session:
            assert (await replay(session, connect)).stays == 2
        # The first of all that is refused is told at once.
        attempts = itertools.count(1)
        with recording.open(path) as session, pytest.raises(ReplayError, match="HTTP status 503"):
            await replay(session, connect)
        assert trio.current_time() < 100


# What cannot be


async def test_a_name_that_is_taken(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server:
        await server.login("tibi ↺", "another")
        with pytest.raises(ReplayError, match=r"^Tibi ↺: the name is taken"):
            await again(server, path)


async def test_a_server_that_stops_in_the_middle(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server, trio.open_nursery() as nursery:

        async def stop() -> None:
            await trio.sleep(20)
            server.handle.cancel_scope.cancel()

        nursery.start_soon(stop)
        with pytest.raises(ReplayError, match=r"↺: .*close code 1001.*\(the server has stopped\)$"):
            await again(server, path)
        # At once, though nobody had anything to do for half a minute.
        assert trio.current_time() < 30


async def test_somebody_else_takes_a_name_over(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server, trio.open_nursery() as nursery:

        async def take_over() -> None:
            await trio.sleep(20)
            await server.login("Tibi ↺", "secret")

        nursery.start_soon(take_over)
        with pytest.raises(ReplayError, match=r"4009.*somebody else"):
            await again(server, path)


async def test_nothing_to_replay(autojump_clock: MockClock, tmp_path: Path) -> None:
    path = write(tmp_path / "one", STAY)
    async with testing.open_server() as server:
        with pytest.raises(ReplayError, match="nothing happens in the room 'hall'; there is 'lobby', 'den'"):
            await again(server, path, room="hall")
        with pytest.raises(ReplayError, match=r"it has 60.000 s, and nothing is left of it after 61 s"):
            await again(server, path, from_s=61)
        with pytest.raises(ReplayError, match="nothing happens in it"):
            await again(server, write(tmp_path / "none", []))


async def test_what_is_readable_of_a_cut_file_is_replayed(
    autojump_clock: MockClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with testing.open_server(Config(record=str(tmp_path / "one"))) as server:
        tibi = await server.login("Tibi")
        for number in range(20):
            tibi.send({"room": "lobby", "data": number})
            await trio.sleep(0.6)
    path = the_file(tmp_path / "one")
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    async with testing.open_server(Config(record=str(tmp_path / "two"))) as server:

        def connect(name: str) -> AbstractAsyncContextManager[Client]:
            return server.open_client(name, reconnect=False)

        with recording.open(cut) as session:
            await rounds(session, connect, Wish())
    entries, _ = read(the_file(tmp_path / "two"))
    said = [data for *_, type_, data in entries if type_ == "msg"]
    assert said
    assert said == list(range(len(said)))
    warning, summary = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {cut} has lost its end")
    assert summary.startswith(f"replayed {len(said) + 1} messages in 1 stays")
