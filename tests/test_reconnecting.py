"""A client that loses its connection and comes back."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

import trio_vrchat
from tests.scripted_server import ScriptedConnection, ScriptedServer, open_scripted
from trio_vrchat import Config, Disconnected, Joined, Left, Moved, Reconnected, Refused, Said, testing
from trio_vrchat._memory_stream import MemoryStream, stream_pair
from trio_vrchat._open_client import client_by_dialing
from trio_vrchat._reconnecting import _LONGEST_PAUSE_S


async def take(client: trio_vrchat.Client, count: int) -> list[trio_vrchat.Event]:
    events: list[trio_vrchat.Event] = []
    with trio.fail_after(60):
        while len(events) < count:
            events.append(await anext(client))
    return events


async def nothing_more(client: trio_vrchat.Client) -> bool:
    with trio.move_on_after(1):
        await anext(client)
        return False
    return True


def said(room: str, user: str, time: float, data: object, *, from_history: bool = False) -> Said:
    return Said(room, user, time, "msg", data, from_history=from_history)


async def resume(server: ScriptedServer, session: str = "first") -> tuple[ScriptedConnection, dict[str, float]]:
    """The client comes back and asks to resume; what it says that it has seen."""
    with trio.fail_after(60):
        connection = await server.accept()
        request = await connection.receive()
    assert request["system"] == "resume"
    assert request["options"]["session"] == session
    seen: dict[str, float] = request["options"]["seen"]
    return connection, seen


# The way back, message by message


async def test_it_resumes_and_hears_what_it_missed_once_and_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        first.entries("lobby", (50, "Anna", "msg", "before"), (95, "Anna", "msg", "earlier"))
        first.entries("lobby", (100.5, "Dora", "join", ""), (100.7, "Dora", "leave", ""))
        first.entries("lobby", (101, "Carla", "join", ""), (102, "Carla", "msg", "hello"))
        await take(client, 6)
        first.reset()
        second, seen = await resume(server)
        assert seen == {"lobby": 102}
        second.answer(202, 120, session="second", grace_s=30.0, user="Tibi", complete={"lobby": True})
        second.members("lobby", Anna=90, Bea=105, Tibi=100)
        second.entries("lobby", (106, "Bea", "msg", "I am new"), (107, "Carla", "msg", "bye"))
        second.entries(
            "lobby", (110, "Anna", "transform", {"pos": {"x": 0, "y": 0, "z": 0}, "rot": {"x": 0, "y": 0, "z": 0}})
        )
        events = await take(client, 7)
        assert events[:-1] == [
            Disconnected(1006),
            Reconnected({"lobby": True}),
            Left("lobby", "Carla", 120),
            Joined("lobby", "Bea", 105),
            said("lobby", "Bea", 106, "I am new"),
            said("lobby", "Carla", 107, "bye"),
        ]
        assert isinstance(events[-1], Moved)
        # And again, with the new session, from where it is now.
        second.reset()
        _, seen = await resume(server, "second")
        assert seen == {"lobby": 107}


async def test_who_left_and_came_again_while_it_was_away_is_shown_doing_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client):
        first.reset()
        second, _ = await resume(server)
        second.answer(202, 120, session="second", grace_s=30.0, user="Tibi", complete={"lobby": True})
        second.members("lobby", Anna=111, Tibi=100)
        assert await take(client, 4) == [
            Disconnected(1006),
            Reconnected({"lobby": True}),
            Left("lobby", "Anna", 111),
            Joined("lobby", "Anna", 111),
        ]


async def test_a_list_alone_is_not_the_history_after_it(autojump_clock: trio.testing.MockClock) -> None:
    """Cut between the two, it must ask for the history again."""
    async with open_scripted() as (server, first, client):
        first.reset()
        second, seen = await resume(server)
        assert seen == {"lobby": 0.0}
        second.answer(202, 120, session="second", grace_s=30.0, user="Tibi", complete={"lobby": True})
        second.members("lobby", Anna=90, Tibi=100)
        await testing.settle()
        second.reset()
        third, seen = await resume(server, "second")
        assert seen == {"lobby": 0.0}
        third.answer(202, 130, session="third", grace_s=30.0, user="Tibi", complete={"lobby": True})
        third.members("lobby", Anna=90, Tibi=100)
        third.entries("lobby", (95, "Anna", "msg", "before"), (105, "Anna", "msg", "after"))
        assert (await take(client, 6))[4:] == [
            said("lobby", "Anna", 95, "before", from_history=True),
            said("lobby", "Anna", 105, "after"),
        ]


async def test_a_forgotten_session_is_a_login_and_the_rooms_are_joined_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.join, "den")
            assert (await first.receive())["room"] == "den"
            first.members("den", Tibi=100)
        first.entries("den", (101, "Bea", "join", ""), (102, "Bea", "msg", "one"))
        first.entries("lobby", (103, "Anna", "msg", "two"))
        await take(client, 3)
        first.close(1001)
        assert await first.receive() == {"close": 1001}
        second, _ = await resume(server)
        second.answer(403, 200)
        assert await second.receive() == {
            "system": "login",
            "options": {"user": "Tibi", "pass": "secret", "resume": True},
        }
        second.answer(202, 200, session="second", grace_s=30.0, user="Tibi")
        second.members("lobby", Anna=90, Tibi=200)
        second.entries("lobby", (50, "Anna", "msg", "old"), (103, "Anna", "msg", "two"), (150, "Anna", "msg", "three"))
        assert (await second.receive()) == {"room": "den", "type": "join", "data": ""}
        second.members("den", Bea=101, Tibi=201)
        second.entries("den", (102, "Bea", "msg", "one"), (190, "Bea", "msg", "four"))
        second.entries("den", (202, "Bea", "msg", "five"))
        assert await take(client, 5) == [
            Disconnected(1001),
            Reconnected({"lobby": False, "den": False}),
            said("lobby", "Anna", 150, "three", from_history=True),
            said("den", "Bea", 190, "four", from_history=True),
            said("den", "Bea", 202, "five"),
        ]
        second.reset()
        _, seen = await resume(server, "second")
        assert seen == {"lobby": 150, "den": 202}


async def let_in_anew(connection: ScriptedConnection, time: float) -> None:
    """The resume that was asked for is refused, the login granted."""
    connection.answer(403, time)
    assert (await connection.receive())["system"] == "login"
    connection.answer(202, time, session="anew", grace_s=30.0, user="Tibi")


async def test_a_new_server_is_not_told_what_was_seen_of_the_old_one(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        first.entries("lobby", (103, "Anna", "msg", "one"))
        first.reset()
        second, seen = await resume(server)
        assert seen == {"lobby": 103}
        await let_in_anew(second, 200)
        second.members("lobby", Tibi=200)
        await testing.settle()
        second.reset()
        third, seen = await resume(server, "anew")
        assert seen == {"lobby": 0.0}, "of its own history it has shown nothing yet"
        third.answer(202, 210, session="third", user="Tibi", complete={"lobby": True})
        third.members("lobby", Tibi=200)
        third.entries("lobby", (103, "Anna", "msg", "one"), (104, "Anna", "msg", "two"), (205, "Tibi", "msg", "three"))
        events = await take(client, 8)
        assert [event for event in events if isinstance(event, Said)] == [
            said("lobby", "Anna", 103, "one"),
            said("lobby", "Anna", 104, "two", from_history=True),
            said("lobby", "Tibi", 205, "three"),
        ]


async def test_a_server_whose_clock_was_set_back_is_heard(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        first.entries("lobby", (103, "Anna", "msg", "one"))
        first.reset()
        second, _ = await resume(server)
        await let_in_anew(second, 20)
        second.members("lobby", Anna=15, Tibi=20)
        second.entries("lobby", (16, "Anna", "msg", "two"))
        second.entries("lobby", (21, "Anna", "msg", "three"))
        events = await take(client, 7)
        assert [event.data for event in events if isinstance(event, Said)] == ["one", "two", "three"]
        second.reset()
        _, seen = await resume(server, "anew")
        assert seen == {"lobby": 21}


async def test_it_stays_out_of_rooms_that_it_left_and_that_it_never_knew_to_be_in(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client), trio.open_nursery() as nursery:
        nursery.start_soon(join_in_vain, client, "den")
        await testing.settle()
        await client.leave("lobby")
        first.reset()
        second, seen = await resume(server)
        assert seen == {}
        # It has heard the join and not the leave.
        second.answer(202, 120, session="second", grace_s=30.0, user="Tibi", complete={"lobby": True, "den": True})
        second.members("lobby", Anna=90, Tibi=100)
        second.entries("lobby", (105, "Anna", "msg", "not for him"))
        second.members("den", Tibi=101)
        assert await second.receive() == {"room": "den", "type": "leave", "data": ""}
        assert await second.receive() == {"room": "lobby", "type": "leave", "data": ""}
        assert await take(client, 2) == [Disconnected(1006), Reconnected({})]
        with pytest.raises(trio_vrchat.NotInRoom):
            await client.say("lobby", "?")
        nursery.start_soon(client.join, "den")
        assert await second.receive() == {"room": "den", "type": "join", "data": ""}
        second.members("den", Tibi=121)
        second.entries("den", (122, "Tibi", "msg", "in"))
        assert await take(client, 1) == [said("den", "Tibi", 122, "in")]


async def join_in_vain(client: trio_vrchat.Client, room: str) -> None:
    with pytest.raises(trio_vrchat.ConnectionLost):
        await client.join(room)


async def test_a_room_that_lets_it_in_no_more_is_refused_and_no_longer_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.join, "den")
            await first.receive()
            first.members("den", Tibi=100)
        first.reset()
        second, _ = await resume(server)
        second.answer(403, 200)
        await second.receive()
        second.answer(202, 200, session="second", grace_s=30.0, user="Tibi")
        second.members("lobby", Anna=90, Tibi=200)
        await second.receive()
        second.answer(429, 200, room="den", retry_after=3.5)
        before = trio.current_time()
        assert (await second.receive()) == {"room": "den", "type": "join", "data": ""}
        assert trio.current_time() == before + 3.5
        second.answer(503, 203, room="den", retry_after=1.0)
        assert (await second.receive()) == {"room": "den", "type": "join", "data": ""}
        assert trio.current_time() == before + 4.5
        second.answer(413, 204, room="den", limit="members_per_room", value=1)
        events = await take(client, 3)
        assert isinstance(events[2], Refused)
        assert isinstance(events[2].error, trio_vrchat.TooMuch)
        with pytest.raises(trio_vrchat.NotInRoom):
            await client.say("den", "?")


@pytest.mark.parametrize("list_first", [True, False])
async def test_a_place_that_was_kept_though_the_session_is_unknown_is_taken_over(
    autojump_clock: trio.testing.MockClock, list_first: bool
) -> None:
    """The answer to a resume was lost, and the new session with it: the login finds the user still there."""
    async with open_scripted() as (server, first, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.join, "den")
            await first.receive()
            first.members("den", Tibi=100)
        first.entries("den", (102, "Tibi", "msg", "one"))
        await take(client, 1)
        first.reset()
        second, _ = await resume(server)
        second.reset()
        third, _ = await resume(server)
        third.answer(403, 120)
        await third.receive()
        third.answer(202, 120, session="third", grace_s=30.0, user="Tibi")
        third.members("lobby", Anna=90, Tibi=100)
        assert (await third.receive()) == {"room": "den", "type": "join", "data": ""}
        if not list_first:
            third.answer(409, 120, room="den")
        third.members("den", Tibi=100)
        third.entries("den", (102, "Tibi", "msg", "one"), (103, "Tibi", "msg", "two"))
        if list_first:
            third.answer(409, 120, room="den")
        assert await take(client, 3) == [
            Disconnected(1006),
            Reconnected({"lobby": False, "den": False}),
            said("den", "Tibi", 103, "two"),
        ]
        assert await nothing_more(client)


async def test_rooms_of_a_session_that_a_login_takes_over_are_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (_, first, client):
        first.members("den", Anna=92, Tibi=95)
        first.entries("den", (93, "Anna", "msg", "hello"), (97, "Anna", "msg", "Tibi?"))
        assert await take(client, 2) == [
            said("den", "Anna", 93, "hello", from_history=True),
            said("den", "Anna", 97, "Tibi?"),
        ]
        await client.say("den", "here")
        assert (await first.receive())["data"] == "here"


async def test_its_name_is_the_one_that_rooms_show(autojump_clock: trio.testing.MockClock) -> None:
    server = ScriptedServer()

    async def let_in() -> None:
        connection = await server.accept()
        assert (await connection.receive())["options"]["user"] == "tibi"
        connection.answer(202, 100, session="first", grace_s=30.0, user="Tiberius")
        connection.members("lobby", Tiberius=90)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_in)
        with trio.fail_after(60):
            async with client_by_dialing(
                server.dial,
                "memory",
                "/",
                "tibi",
                "secret",
                reconnect=True,
                dice=random.Random(1),
                wall_clock=trio.current_time,
            ) as client:
                assert client.user == "Tiberius"
    server.close()


# When it comes back, and when it does not


async def test_pauses_double_up_to_ten_seconds_and_are_random(autojump_clock: trio.testing.MockClock) -> None:
    async def pauses(seed: int) -> list[float]:
        async with open_scripted(seed=seed) as (server, first, _):
            server.listens = False
            lost_at = trio.current_time()
            first.reset()
            await trio.sleep(300)
            times = [lost_at, *server.dialed_at[1:]]
            return [round(after - before, 6) for before, after in itertools.pairwise(times)]

    one = await pauses(1)
    limits = [0.5, 1, 2, 4, 8] + [_LONGEST_PAUSE_S] * len(one)
    assert all(0 <= pause <= limit for pause, limit in zip(one, limits, strict=False))
    assert any(pause > 8 for pause in one), "the last limit is reached"
    assert any(pause < 2 for pause in one[5:]), "and any pause may be short"
    assert one == await pauses(1), "with the same random numbers the same"
    assert one != await pauses(2)


async def test_a_connection_that_does_not_hold_makes_the_pauses_no_shorter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, _):
        connection, session = first, "first"
        for number in range(12):
            connection.reset()
            connection, _ = await resume(server, session)
            session = f"session {number}"
            connection.answer(202, 120 + number, session=session, user="Tibi", complete={"lobby": True})
            connection.members("lobby", Tibi=100)
            await testing.settle()
        before = trio.current_time()
        assert before > 15
        await trio.sleep(15)
        connection.reset()
        await resume(server, session)
        assert trio.current_time() - before - 15 <= 0.5, "one that held is followed by a first pause"


async def test_replaced_by_another_connection_it_stays_away(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        first.close(4009)
        with pytest.raises(trio_vrchat.ConnectionLost) as lost:
            await take(client, 1)
        assert lost.value.code == 4009
        with pytest.raises(trio_vrchat.ConnectionLost):
            await client.ping()
        await trio.sleep(100)
        assert len(server.dialed_at) == 1


async def test_replaced_on_its_way_back_it_stays_away(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        first.reset()
        second, _ = await resume(server)
        second.close(4009)
        with pytest.raises(trio_vrchat.ConnectionLost) as lost:
            await take(client, 2)
        assert lost.value.code == 4009


@pytest.mark.parametrize(("code", "why"), [(403, "403 Access denied"), (409, "409 Request"), (400, "400 Bad")])
async def test_a_login_refused_on_the_way_back_is_the_end(
    autojump_clock: trio.testing.MockClock, code: int, why: str
) -> None:
    async with open_scripted() as (server, first, client):
        first.reset()
        second, _ = await resume(server)
        second.answer(403, 200)
        await second.receive()
        second.answer(code, 200)
        assert await take(client, 1) == [Disconnected(1006)]
        with pytest.raises(trio_vrchat.ConnectionLost, match=f"login was refused: {why}") as lost:
            await take(client, 1)
        assert isinstance(lost.value.__cause__, trio_vrchat.RequestError)
        with pytest.raises(trio_vrchat.ConnectionLost):
            await client.say("lobby", "?")
        await trio.sleep(100)
        assert len(server.dialed_at) == 2


@pytest.mark.parametrize(("code", "retry_after"), [(429, 20), (503, 25), (500, None)])
async def test_asked_to_wait_it_waits(
    autojump_clock: trio.testing.MockClock, code: int, retry_after: float | None
) -> None:
    async with open_scripted() as (server, first, client):
        first.reset()
        second, _ = await resume(server)
        second.answer(code, 200, **({"retry_after": retry_after} if retry_after else {}))
        refused_at = trio.current_time()
        third, _ = await resume(server)
        assert (retry_after or 0) <= trio.current_time() - refused_at <= (retry_after or 0) + _LONGEST_PAUSE_S
        third.answer(202, 230, session="second", user="Tibi", complete={"lobby": False})
        third.members("lobby", Anna=90, Tibi=100)
        assert await take(client, 2) == [Disconnected(1006), Reconnected({"lobby": False})]


async def test_a_peer_that_vanished_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.answer_pings)
            await trio.sleep(1000)
            assert len(server.dialed_at) == 1, "while it answers pings, silence is no loss"
            nursery.cancel_scope.cancel()
        assert await take(client, 1) == [Disconnected(1006)]
        await resume(server)


async def test_a_server_that_accepts_and_says_nothing_is_left_for_another_attempt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client):
        first.reset()
        second, _ = await resume(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.answer_pings)
            third, _ = await resume(server)
            nursery.cancel_scope.cancel()
        third.answer(202, 120, session="second", user="Tibi", complete={"lobby": True})
        third.members("lobby", Anna=90, Tibi=100)
        assert await take(client, 2) == [Disconnected(1006), Reconnected({"lobby": True})]


# Calls meanwhile


async def test_calls_wait_until_it_is_back_and_those_on_their_way_are_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_scripted() as (server, first, client), trio.open_nursery() as nursery:
        nursery.start_soon(join_in_vain, client, "attic")
        assert (await first.receive())["room"] == "attic"
        first.reset()
        assert await take(client, 1) == [Disconnected(1006)]
        with trio.move_on_after(0) as cancelled:
            await client.say("lobby", "never")
        assert cancelled.cancelled_caught
        has_said = trio.Event()

        async def say() -> None:
            await client.say("lobby", "later")
            has_said.set()

        nursery.start_soon(say)
        second, _ = await resume(server)
        second.answer(202, 120, session="second", user="Tibi", complete={"lobby": True})
        await testing.settle()
        assert not has_said.is_set()
        second.members("lobby", Anna=90, Tibi=100)
        assert (await second.receive())["data"] == "later"


async def test_a_client_closed_while_it_is_away_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted() as (server, first, client):
        server.listens = False
        first.reset()
        await trio.sleep(100)
        left_at = trio.current_time()
    assert trio.current_time() == left_at
    with pytest.raises(trio_vrchat.ConnectionLost, match="closed by this client"):
        await client.ping()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_it_says_that_it_leaves_even_where_it_is_cancelled(
    autojump_clock: trio.testing.MockClock, cancelled: bool
) -> None:
    """A connection that just ends keeps the user in the rooms for another 30 s."""
    heard: list[object] = []
    async with trio.open_nursery() as nursery:

        async def hear(connection: ScriptedConnection) -> None:
            heard.append(await connection.receive())
            connection.close(1000)

        with trio.CancelScope() as scope:
            async with open_scripted() as (_, first, _client):
                nursery.start_soon(hear, first)
                if cancelled:
                    scope.cancel()
    assert heard == [{"close": 1000}]
    assert trio.current_time() == 0, "and it hears the answer"


async def test_cancelled_on_any_step_of_the_way_back_it_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for steps in range(5):
        with trio.CancelScope() as scope:
            async with open_scripted() as (server, first, _):
                first.reset()
                second, _seen = await resume(server)
                acts: list[Callable[[], None]] = [
                    partial(second.answer, 403, 120),
                    partial(second.answer, 202, 120, session="second", user="Tibi"),
                    partial(second.members, "lobby", Tibi=121),
                    second.reset,
                ]
                for act in acts[:steps]:
                    act()
                    await testing.settle()
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
    # pytest-trio fails where a task or an async generator is left.


async def test_without_reconnect_a_lost_connection_is_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with open_scripted(reconnect=False) as (server, first, client):
        first.reset()
        with pytest.raises(trio_vrchat.ConnectionLost) as lost:
            await take(client, 1)
        assert lost.value.code == 1006
        await trio.sleep(100)
        assert len(server.dialed_at) == 1


# Against the real server


class Network:
    """Where a client dials: the streams can be cut, the server stopped and started again."""

    def __init__(self) -> None:
        self.server: testing.MemoryServer | None = None
        self._ends: list[MemoryStream] = []

    async def dial(self) -> trio.abc.Stream:
        client_end, server_end, up, down = stream_pair("client")
        if self.server is None:
            await trio.lowlevel.checkpoint()
            raise trio_vrchat.CannotConnect("no server")
        try:
            await self.server._listener.streams.send(server_end)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise trio_vrchat.CannotConnect("the server stops") from None
        self._pipes = (up, down)
        return client_end

    def cut(self) -> None:
        for pipe in self._pipes:
            pipe.reset = True
            pipe.change()

    @asynccontextmanager
    async def open_server(self, config: Config | None = None) -> AsyncIterator[testing.MemoryServer]:
        async with testing.open_server(config) as server:
            self.server = server
            yield server
            self.server = None

    @asynccontextmanager
    async def open_client(self, user: str = "Tibi") -> AsyncIterator[trio_vrchat.Client]:
        async with client_by_dialing(
            self.dial,
            "memory",
            "/",
            user,
            "secret",
            reconnect=True,
            dice=random.Random(1),
            wall_clock=trio.current_time,
        ) as client:
            yield client


async def test_a_server_that_is_restarted_has_it_back(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with trio.open_nursery() as nursery:
        opened = trio.Event()
        stop = trio.Event()

        async def first_server() -> None:
            async with network.open_server():
                opened.set()
                await stop.wait()

        nursery.start_soon(first_server)
        await opened.wait()
        async with network.open_client() as client:
            await client.join("den")
            stop.set()
            assert await take(client, 1) == [Disconnected(1001)]
            await trio.sleep(100)
            async with network.open_server(Config(start_time=testing.START_TIME + 1000)) as server:
                assert await take(client, 1) == [Reconnected({"lobby": False, "den": False})]
                assert await client.members("den") == ("Tibi",)
                await client.say("den", "back")
                [event] = await take(client, 1)
                assert isinstance(event, Said)
                assert event.data == "back"
                assert server.statistics.members == 2


async def test_a_cut_connection_resumes_and_nobody_sees_it_leave(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with network.open_server() as server, network.open_client() as client:
        await client.join("den")
        anna = await server.login("Anna")
        await take(client, 1)
        anna.send({"room": "lobby", "data": "one"})
        assert isinstance((await take(client, 1))[0], Said)
        anna.texts()
        network.cut()
        assert await take(client, 1) == [Disconnected(1006)]
        anna.send({"room": "lobby", "data": "two"})
        bea = await server.login("Bea")
        events = await take(client, 3)
        assert events[0] == Reconnected({"lobby": True, "den": True})
        assert [type(event) for event in events[1:]] == [Joined, Said]
        bea.send({"room": "lobby", "data": "three"})
        [event] = await take(client, 1)
        assert isinstance(event, Said)
        assert event.data == "three"
        assert {entry["user"] for entry in anna.entries("lobby") if entry["type"] in ("join", "leave")} == {"Bea"}
        assert await client.members("den") == ("Tibi",)


async def test_after_the_grace_it_joins_its_rooms_anew(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with network.open_server() as server, network.open_client() as client:
        anna = await server.login("Anna")
        await client.join("den")
        anna.send({"room": "lobby", "data": "one"})
        await take(client, 2)
        network.cut()
        network.server = None
        for _ in range(10):
            await trio.sleep(10)
            anna.texts()  # with the pongs to the server's pings
        anna.send({"room": "lobby", "data": "two"})
        await testing.settle()
        network.server = server
        events = await take(client, 3)
        assert events[:2] == [Disconnected(1006), Reconnected({"lobby": False, "den": False})]
        assert isinstance(events[2], Said)
        assert (events[2].data, events[2].from_history) == ("two", True)
        assert await client.members("den") == ("Tibi",)
        assert await nothing_more(client)


async def test_the_same_user_on_another_connection_takes_its_place(autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    async with network.open_server() as server, network.open_client() as client:
        await client.join("den")
        async with server.open_client("tibi") as other:
            assert other.user == "Tibi"
            await testing.settle()
            assert await other.members("den") == ("Tibi",)
            with pytest.raises(trio_vrchat.ConnectionLost) as lost:
                await take(client, 1)
            assert lost.value.code == 4009
        async with server.open_client("tibi", reconnect=False) as third:
            assert third.user == "tibi"
