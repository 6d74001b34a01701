"""Pings: who answers stays, who does not is gone, whatever else it sends. In virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat._frames import PONG
from trio_vrchat._stream import GuardedStream
from trio_vrchat.testing import RawClient, settle


async def test_who_answers_pings_stays_and_is_pinged_every_20_seconds(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        for _ in range(3600):
            await trio.sleep(1)
            tibi.texts()
        assert tibi.close_code is None
        # A second more each, because it looks once a second.
        assert 3600 / 21.5 < tibi.pings <= 3600 / 20


async def test_who_does_not_answer_is_4008_after_20_seconds(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        tibi = await server.login("Tibi")
        for second in range(39):
            await trio.sleep(1)
            anna.texts()
            # Other traffic is no answer.
            tibi.send({"room": "lobby", "type": "transform", "data": {"pos": {"x": second}}})
        assert server.statistics.members == 2
        for _ in range(2):
            await trio.sleep(1)
        assert [entry["type"] for entry in anna.entries("lobby") if entry["type"] != "transform"] == ["leave"]
        tibi.texts()
        assert tibi.pings == 1, "never more than one is out"
        assert tibi.close_code == 4008


async def test_a_peer_that_has_vanished_is_freed_and_its_user_leaves(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        await server.login("Tibi")  # who is never looked at again
        await trio.sleep(39)
        assert server.statistics.connections == 1
        await trio.sleep(5)
        assert server.statistics.connections == server.statistics.members == server.statistics.sessions == 0


async def test_the_round_trip_is_a_statistic(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(keepalive_interval_s=10)) as server:
        tibi = await server.login("Tibi")
        assert server.statistics.round_trips_s == {}
        await trio.sleep(10.25)
        tibi.texts()
        await settle()
        assert server.statistics.round_trips_s == {"Tibi": pytest.approx(0.25)}
        tibi.close()
        await settle()
        assert server.statistics.round_trips_s == {}


async def test_before_the_login_too(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(login_timeout_s=3600, keepalive_interval_s=5)) as server:
        client = await server.connect()
        await trio.sleep(6)
        client.texts()
        assert client.pings == 1


async def test_a_pong_that_nobody_asked_for_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        tibi.send_frame(PONG, b"unasked")
        await settle()
        await trio.sleep(21)
        tibi.send_frame(PONG, b"")
        await trio.sleep(25)
        assert server.statistics.members == 1


async def test_many_at_different_times_and_some_that_go(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(keepalive_interval_s=7, keepalive_timeout_s=11)) as server:
        honest: list[RawClient] = []
        for number in range(40):
            client = await server.login(f"user {number}")
            match number % 4:
                case 0:
                    client.reset()
                case 1:
                    pass  # silent
                case _:
                    honest.append(client)
            await trio.sleep(0.37)
            for client in honest:
                client.texts()
        for _ in range(100):
            await trio.sleep(0.5)
            for client in honest:
                client.texts()
        assert all(client.close_code is None and client.pings >= 6 for client in honest)
        assert server.statistics.connections == len(honest)


async def test_who_is_not_read_is_not_judged(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        await trio.sleep(20)
        # The server is so far behind that it does not come to read.
        behind = trio.Event()
        receive = GuardedStream._receive

        async def late(stream: GuardedStream, max_bytes: int) -> bytes:
            await behind.wait()
            return await receive(stream, max_bytes)

        monkeypatch.setattr(GuardedStream, "_receive", late)
        tibi.send({"system": "ping"})  # what wakes the reader that waits already
        await settle()
        tibi.texts()
        assert tibi.pings == 1
        await trio.sleep(25)
        behind.set()
        await settle()
        tibi.texts()
        assert tibi.close_code is None
        await trio.sleep(15)
        tibi.texts()
        await trio.sleep(10)
        assert server.statistics.members == 1


async def test_a_pong_after_the_end_of_a_session_leaves_no_figure_behind(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(outbox_limit_frames=4)) as server:
        anna, tibi = await server.login("anna"), await server.login("Tibi")
        await trio.sleep(21)  # the ping is out
        anna.texts()
        for _ in range(10):
            anna.send({"room": "lobby", "data": "x" * 60_000})
            await settle()
            anna.texts()
        assert (server.statistics.sessions, server.statistics.connections) == (1, 2), "Tibi's is still being closed"
        tibi.send_frame(PONG, b"")
        await trio.sleep(5)
        assert server.statistics.connections == 1
        assert set(server.statistics.round_trips_s) == {"anna"}
