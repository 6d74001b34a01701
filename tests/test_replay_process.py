"""Replays by the real programs: a server that records, and a replay into it. Counted, never timed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_vrchat import Client, Said, Transform, Vector, open_client
from trio_vrchat._replaying import PASSWORD

from .accounts import account, add_accounts
from .program import DEADLINE_S, LOCAL, Program, finished, started
from .recorded import Entry, line, pose, read, write
from .test_recorder import the_file

WALKERS, STEPS = 20, 12
OPEN = ("--log-level", "0", "--events-at-once", "0", "--bytes-per-s", "0")


def stop(server: Program) -> None:
    server.process.terminate()
    assert server.end()[0] == 0


async def walk(url: str, number: int) -> None:
    """A walker who goes through two rooms, talks, and hears every line of theirs before they go on."""
    async with open_client(url, f"walker {number}", "x") as client:
        await client.join("den")
        for step in range(STEPS):
            for room in ("lobby", "den"):
                pos = Vector(number + step / 7, 1.6, step / 3)
                await client.move(room, Transform(pos, Vector(), {"t": step / 9, "hands": {"left": [number]}}))
            await client.say("den", {"step": step, "by": number})
            await heard(client, step)
        await client.leave("den")


async def heard(client: Client, step: int) -> None:
    async for event in client:
        if isinstance(event, Said) and (event.user, event.data["step"]) == (client.user, step):
            return


async def walk_together(url: str) -> None:
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for number in range(WALKERS):
                nursery.start_soon(walk, url, number)


def sorted_out(entries: list[Entry]) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Each room's events, and each user's transforms in each room."""
    events: defaultdict[str, list[Any]] = defaultdict(list)
    moves: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for room, user, kind, data in entries:
        if kind == "transform":
            moves[room, user].append(data)
        else:
            events[room].append((user, kind, data))
    return events, moves


def test_a_session_of_twenty_is_recorded_replayed_and_recorded_again(tmp_path: Path) -> None:
    with started(*LOCAL, *OPEN, "--record", str(tmp_path / "one")) as server:
        trio.run(walk_together, server.url())
        stop(server)
    one = the_file(tmp_path / "one")
    with started(*LOCAL, *OPEN, "--record", str(tmp_path / "two")) as server:
        done = finished("replay", os.fspath(one), "--into", server.url(), "--speed", "4")
        assert (done.returncode, done.stdout) == (0, "")
        stop(server)
    entries, _ = read(one)
    entries_again, _ = read(the_file(tmp_path / "two"))
    events, moves = sorted_out(entries)
    events_again, moves_again = sorted_out(entries_again)
    assert Counter(kind for *_, kind, _ in entries)["transform"] == WALKERS * STEPS * 2
    assert Counter(data["step"] for _, kind, data in events["den"] if kind == "msg") == dict.fromkeys(
        range(STEPS), WALKERS
    )
    assert events_again == events
    assert moves_again == moves
    assert f"replayed {len(entries)} messages in {WALKERS} stays" in done.stderr


def test_it_goes_round_until_ctrl_c_and_then_everybody_leaves(tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "transform", pose(1.0)), line(0.2, "Tibi", "msg", "hello")]
    path = write(tmp_path / "one", lines)
    with started(*LOCAL, *OPEN, "--record", str(tmp_path / "two")) as server:
        with started("replay", os.fspath(path), "--into", server.url(), "--loop") as replay:
            replay.until("replayed 3 messages", replay.stderr)
            replay.until("replayed 3 messages", replay.stderr)
            replay.process.send_signal(signal.SIGINT)
            status, left = replay.end()
        assert status == 0
        assert not [each for each in left if not each.startswith("replayed 3 messages")]
        stop(server)
    entries, _ = read(the_file(tmp_path / "two"))
    seen = Counter(kind for *_, kind, _ in entries)
    assert seen["join"] == seen["leave"] >= 2


def test_on_a_server_of_its_own_they_are_met_on_the_page(tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "msg", "hello"), line(0.2, "Tibi", "transform", pose(1.0))]

    async def meet(url: str) -> None:
        with trio.fail_after(DEADLINE_S):
            async with open_client(url, "Anna", "x") as anna:
                async for event in anna:
                    if isinstance(event, Said) and not event.from_history:
                        assert (event.user, event.data) == ("Tibi ↺", "hello")
                        return

    with started("replay", os.fspath(write(tmp_path / "one", lines)), "--loop") as replay:
        said = replay.until("http://127.0.0.1:", replay.stdout)
        assert "Open it in a browser on this machine" in said[0]
        trio.run(meet, replay.url())
        replay.process.send_signal(signal.SIGINT)
        assert replay.end()[0] == 0


def test_a_server_that_is_killed_is_one_line(tmp_path: Path) -> None:
    lines = [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "msg", "hello"), line(9000.0, "Tibi", "leave")]
    path = write(tmp_path / "one", lines)
    with (
        started(*LOCAL, *OPEN, "--record", str(tmp_path / "two")) as server,
        started("replay", os.fspath(path), "--into", server.url()) as replay,
    ):
        with_the_line = next((tmp_path / "two").glob("*.mcap"))
        while b"hello" not in exported(with_the_line):
            assert replay.process.poll() is None
        server.process.kill()
        status, left = replay.end()
    assert (status, len(left)) == (2, 1)
    assert "Tibi ↺: the connection has ended with close code 1006" in left[0]


def exported(path: Path) -> bytes:
    return finished("export", os.fspath(path), "--to", "jsonl").stdout.encode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.mcap",), "cannot read 'missing.mcap': No such file"),
        (("foreign",), "is no recording"),
        (("one", "--speed", "0"), "--speed must be a number above 0, not 0"),
        (("one", "--speed", "-1"), "--speed must be a number above 0, not -1"),
        (("one", "--speed", "nan"), "--speed must be a number above 0, not nan"),
        (("one", "--from", "-1"), "--from must be seconds from 0 up, not -1"),
        (("one", "--speed", "fast"), "fast"),
        (("one", "--into", "localhost"), "--into must be a server's URL, ws://host:port/ or wss://host:port/"),
        (("one", "--into", "ws://127.0.0.1:99999/"), "--into must be a server's URL"),
        (("one", "--into", "ws://127.0.0.1:1/"), "Tibi ↺: nobody answers at ws://127.0.0.1:1/"),
        (("one", "--room", "hall"), "nothing happens in the room 'hall'; there is 'lobby'"),
        (("one", "--from", "60"), "nothing is left of it after 60 s"),
        ((), "FILE"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from trio_vrchat.__main__ import _main

    monkeypatch.chdir(tmp_path)
    write(Path("one"), [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "leave")])
    Path("foreign").write_text(json.dumps({}))
    assert _main(["replay", *arguments]) == 2
    printed = capfd.readouterr()
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1


def test_the_page_s_address_is_a_server_s(tmp_path: Path) -> None:
    path = write(tmp_path / "one", [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "leave")])
    with started(*LOCAL) as server:
        url = server.url("http").replace("127.0.0.1", "localhost") + "#den"
        done = finished("replay", os.fspath(path), "--into", url)
    assert done.returncode == 0, done.stderr


def test_with_accounts_the_password_is_a_variable(tmp_path: Path) -> None:
    store = str(tmp_path / "chat.db")
    add_accounts(store, account("Tibi ↺", "correct"))
    path = write(tmp_path / "one", [line(0.0, "Tibi", "join"), line(0.1, "Tibi", "leave")])
    with started(*LOCAL, *OPEN, "--auth", "accounts", "--store", store) as server:
        command = ("replay", os.fspath(path), "--into", server.url())
        with started(*command, variables={PASSWORD: "correct"}) as replay:
            assert replay.end()[0] == 0
        refused = finished(*command)
    assert refused.returncode == 2
    assert "Tibi ↺: the login is refused: where a server keeps accounts, each name needs one" in refused.stderr
    assert PASSWORD in refused.stderr
