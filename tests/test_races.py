"""Two acts at one instant: every race we can name in both orders, then schedules that Hypothesis draws.

Under Hypothesis trio's scheduler is seeded with the example, so a failing example replays exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.observer import Observer, check_agreement
from trio_vrchat import Config, testing
from trio_vrchat.testing import MemoryServer, settle


@pytest.fixture(params=[1, 100], ids=["a checkpoint at each offer", "as it is"])
def offers_per_turn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large rooms let others run in the middle of a fan-out: here small ones do, too."""
    monkeypatch.setattr("trio_vrchat._room._OFFERS_PER_TURN", request.param)


pytestmark = pytest.mark.usefixtures("offers_per_turn")

ORDERS = pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "second"])


async def observers(server: MemoryServer, *users: str) -> list[Observer]:
    found = [Observer(user, await server.login(user)) for user in users]
    for observer in found:
        observer.take()
    return found


def in_order(order: tuple[int, int], *acts: Callable[[], None]) -> None:
    for index in order:
        acts[index]()


@ORDERS
async def test_join_against_leave(autojump_clock: MockClock, order: tuple[int, int]) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna, bea = await observers(server, "Tibi", "anna", "bea")
        for observer in (tibi, bea):
            observer.send("den", "join")
            await settle()
        in_order(order, lambda: anna.send("den", "join"), lambda: tibi.send("den", "leave"))
        await settle()
        for observer in (tibi, anna, bea):
            observer.settled()
        assert anna.rooms["den"].members == bea.rooms["den"].members == {"anna", "bea"}
        check_agreement([tibi, anna, bea])


@ORDERS
async def test_join_against_the_room_closing(autojump_clock: MockClock, order: tuple[int, int]) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna = await observers(server, "Tibi", "anna")
        tibi.send("den", "join")
        tibi.send("den", "msg", "a secret")
        await settle()
        in_order(order, lambda: anna.send("den", "join"), lambda: tibi.send("den", "leave"))
        await settle()
        for observer in (tibi, anna):
            observer.settled()
        assert anna.rooms["den"].members == {"anna"}
        anna.send("den", "msg", "still open")
        await settle()
        anna.take()
        assert anna.rooms["den"].events[-1]["data"] == "still open"
        anna.send("den", "leave")
        await settle()
        assert server.statistics.rooms == 1, "the lobby is left"


async def test_the_leaver_comes_back_while_its_room_is_closing(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        (tibi,) = await observers(server, "Tibi")
        tibi.send("den", "join")
        await settle()
        for _ in range(20):
            tibi.send("den", "msg", "old")
            tibi.send("den", "leave")
            tibi.send("den", "join")
        await settle()
        tibi.settled()
        assert tibi.rooms["den"].history is None, "a room that was closed has no history"
        assert tibi.rooms["den"].members == {"Tibi"}
        assert len(tibi.past) == 20
        assert server.statistics.rooms == 2


async def test_two_joins_at_once(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        found = await observers(server, "Tibi", "anna", "bea")
        for round_number in range(20):
            room = f"room {round_number}"
            for observer in found:
                observer.send(room, "join")
            await settle()
            for observer in found:
                observer.take()
                assert observer.rooms[room].members == {"Tibi", "anna", "bea"}
                observer.send(room, "leave")
            await settle()
            for observer in found:
                observer.settled()
        check_agreement(found)


DISCONNECTS: dict[str, Callable[[Any], None]] = {
    "close": lambda client: client.close(),
    "end": lambda client: client.end(),
    "reset": lambda client: client.reset(),
}


@pytest.mark.parametrize("how", DISCONNECTS)
@pytest.mark.parametrize("passes", range(12))
async def test_a_disconnect_inside_a_join(autojump_clock: MockClock, how: str, passes: int) -> None:
    """The connection ends so many scheduler passes after the join was sent: somewhere on the way it is half done."""
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna = await observers(server, "Tibi", "anna")
        tibi.send("den", "join")
        await settle()
        anna.send("den", "join")
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        DISCONNECTS[how](anna.client)
        await settle()
        await trio.sleep(10)
        tibi.take()
        assert tibi.rooms["den"].members == {"Tibi"}
        assert tibi.rooms["lobby"].members == {"Tibi"}
        assert server.statistics.connections == 1
        assert server.statistics.members == 2


@pytest.mark.parametrize("how", DISCONNECTS)
async def test_a_name_is_free_only_after_its_leaves(autojump_clock: MockClock, how: str) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        (tibi,) = await observers(server, "Tibi")
        for _ in range(5):
            (old,) = await observers(server, "anna")
            new = await server.connect()
            DISCONNECTS[how](old.client)
            new.send({"system": "login", "options": {"user": "anna", "pass": ""}})
            await settle()
            # Whether the old or the new connection was first: nobody sees anna twice, or leave after she came back.
            tibi.take()
            granted = new.messages()[0]["response"]["code"]
            assert granted in (202, 409)
            assert ("anna" in tibi.rooms["lobby"].members) == (granted == 202)
            new.reset()
            await settle()
            tibi.take()
            assert tibi.rooms["lobby"].members == {"Tibi"}


@pytest.mark.parametrize("passes", range(12))
async def test_a_tick_against_a_leave(autojump_clock: MockClock, passes: int) -> None:
    """A leave, so many scheduler passes before the frame is due, and at the very instant."""
    async with testing.open_server(Config.unlimited(fps=10)) as server:
        tibi, anna = await observers(server, "Tibi", "anna")
        for observer in (tibi, anna):
            observer.send("lobby", "transform", {})
        await settle()

        async def leave() -> None:
            await trio.sleep_until(0.1)
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            anna.send("lobby", "leave")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await trio.sleep(1)
        tibi.take()
        assert set(tibi.rooms["lobby"].transforms) == {"Tibi"}, "who left is not shown"
        anna.settled()
        tibi.send("lobby", "transform", {})
        tibi.send("lobby", "msg", "gone?")
        await trio.sleep(1)
        anna.take()


async def test_a_transform_right_behind_the_join(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna = await observers(server, "Tibi", "anna")
        tibi.send("den", "join")
        await settle()
        anna.send("den", "join")
        anna.send("den", "transform", {"pos": {"y": 1.6}})
        await trio.sleep(1)
        for observer in (tibi, anna):
            observer.take()
            assert observer.rooms["den"].transforms["anna"]["pos"]["y"] == 1.6


async def test_a_stop_against_everything(autojump_clock: MockClock) -> None:
    for passes in range(15):
        async with testing.open_server(Config.unlimited()) as server:
            tibi = await server.login("Tibi")
            dialled = await server.dial()
            dialled.send_bytes(testing.upgrade_request())
            tibi.send({"room": "den", "type": "join", "data": ""})
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            started = trio.current_time()
            server.handle.cancel_scope.cancel()
        assert trio.current_time() - started <= Config().close_timeout_s, "nobody is left to the last deadline"
        assert tibi.ended
        assert dialled.ended
        statistics = server.statistics
        assert (statistics.connections, statistics.members, statistics.rooms) == (0, 0, 0)


USERS = ["Tibi", "anna", "Bea"]
ROOMS = ["lobby", "den", "attic"]
ACTS = st.one_of(
    st.tuples(st.sampled_from(USERS), st.sampled_from(ROOMS), st.sampled_from(["join", "leave", "msg", "list"])),
    st.tuples(st.sampled_from(USERS), st.sampled_from(ROOMS), st.just("transform")),
    st.tuples(st.sampled_from(USERS), st.just(""), st.sampled_from(["close", "end", "reset"])),
    st.tuples(st.just(""), st.just(""), st.sampled_from(["settle", "tick", "pass"])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(ACTS, max_size=40))
async def test_any_schedule(autojump_clock: MockClock, schedule: list[tuple[str, str, str]]) -> None:
    async with testing.open_server(Config.unlimited(fps=10, history=5)) as server:
        numbers = itertools.count()
        everybody: list[Observer] = []
        present: dict[str, Observer] = {}

        async def come(user: str) -> None:
            await settle()
            present[user] = Observer(user, await server.login(user))
            everybody.append(present[user])

        async def watch() -> None:
            await settle()
            for observer in present.values():
                observer.settled()

        async def tick() -> None:
            await trio.sleep(0.1)

        pauses: dict[str, Callable[[], Awaitable[None]]] = {
            "settle": watch,
            "tick": tick,
            "pass": trio.lowlevel.checkpoint,
        }
        for user in USERS:
            await come(user)
        for user, room, act in schedule:
            if act in pauses:
                await pauses[act]()
            elif act in DISCONNECTS:
                await watch()
                DISCONNECTS[act](present.pop(user).client)
                await come(user)
            else:
                present[user].send(room, act, {"n": next(numbers)} if act in ("msg", "transform") else "")
        await watch()
        await trio.sleep(1)
        await watch()
        check_agreement(everybody)
        for room in ROOMS:
            there = {user for user, observer in present.items() if room in observer.rooms}
            for user in there:
                assert present[user].rooms[room].members == there
            shown = [present[user].rooms[room].transforms for user in there]
            assert all(each == shown[0] for each in shown), "everybody sees everybody in the same place"
            assert all(set(each) <= there for each in shown), "no ghosts"
        assert server.statistics.members == sum(len(observer.rooms) for observer in present.values())
