"""How far a client's clock is off: measured by pings, and told to the server."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import recording, testing
from trio_vrchat._config import Config
from trio_vrchat.recording import ClockOffset

from .scripted_server import open_scripted
from .test_recorder import the_file


async def test_the_shortest_round_trip_counts(autojump_clock: MockClock) -> None:
    async with open_scripted() as (_, connection, _client):
        # The client's clock says 5 s when it begins. The way there takes all of each round trip.
        for round_trip in (0.5, 0.125, 0.25, 1.0):
            assert (await connection.receive())["system"] == "ping"
            await trio.sleep(round_trip)
            connection.answer(220, time=1000 + trio.current_time())
        asked = await connection.receive()
        assert asked == {
            "system": "clock",
            "options": {"offset": pytest.approx(1000 + 0.0625), "bound": pytest.approx(0.0625)},
        }
        connection.answer(200)
        await trio.sleep(15)
        waited_since = trio.current_time()
        assert (await connection.receive())["system"] == "ping"
        assert trio.current_time() - waited_since == pytest.approx(45), "a minute after the answer"


async def test_a_server_that_does_not_want_to_know_is_not_asked_again(autojump_clock: MockClock) -> None:
    async with open_scripted() as (_, connection, client):
        for _ in range(4):
            await connection.receive()
            connection.answer(220, time=trio.current_time())
        await connection.receive()
        connection.answer(501)

        async def say_now_and_then() -> None:
            for _ in range(3):
                await trio.sleep(40)
                await client.say("lobby", "still here")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_now_and_then)
            for _ in range(3):
                assert (await connection.receive())["data"] == "still here"


async def test_a_recording_has_it(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with testing.open_server(Config(record=str(tmp_path))) as server, server.open_client("Tibi"):
        await trio.sleep(10)
    with recording.open(the_file(tmp_path)) as session:
        (offset,) = [event for event in session if isinstance(event, ClockOffset)]
    # Its clock began with the test.
    assert offset.user == "Tibi"
    assert offset.seconds == pytest.approx(testing.START_TIME, abs=offset.bound + 1e-5)
