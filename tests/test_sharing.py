"""Servers that share their rooms, whole, with clients: in virtual time, on an engine that is lost and comes back."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.sharing_servers import harm
from trio_vrchat import Config, testing
from trio_vrchat._backplane import Publication
from trio_vrchat._memory_engine import _Session
from trio_vrchat.testing import MemoryEngine, MemoryServer, RawClient

# In these tests the limits of rates are in nobody's way.
FREE = Config.unlimited()
# For what goes by the engine and back.
SOON_S = 0.05


@asynccontextmanager
async def sharing(count: int, engine: MemoryEngine, config: Config = FREE) -> AsyncIterator[list[MemoryServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(testing.open_server(config, backplane=engine)) for _ in range(count)]


async def login(server: MemoryServer, user: str, password: str = "secret", **options: Any) -> RawClient:
    client = await server.connect()
    client.send({"system": "login", "options": {"user": user, "pass": password} | options})
    await trio.sleep(SOON_S)
    return client


async def ask(client: RawClient, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    for message in messages:
        client.send(message)
    await trio.sleep(SOON_S)
    return client.messages()


def say(data: Any, room: str = "lobby") -> dict[str, Any]:
    return {"room": room, "data": data}


def join(room: str) -> dict[str, Any]:
    return {"room": room, "type": "join", "data": ""}


def leave(room: str) -> dict[str, Any]:
    return {"room": room, "type": "leave", "data": ""}


def at(x: float, room: str = "lobby") -> dict[str, Any]:
    return {"room": room, "type": "transform", "data": {"pos": {"x": x}}}


def data_of(messages: list[dict[str, Any]]) -> list[Any]:
    """The data of what was said, from these messages."""
    entries = [entry for message in messages for entry in message.get("payload", ())]
    return [entry["data"] for entry in entries if entry["type"] == "msg"]


def codes(messages: list[dict[str, Any]]) -> list[int]:
    return [message["response"]["code"] for message in messages if "response" in message]


def seen(client: RawClient, room: str = "lobby") -> list[tuple[str, str, Any]]:
    """What has come from this room: (type, user, data)."""
    return [(entry["type"], entry["user"], entry["data"]) for entry in client.entries(room)]


async def test_members_of_all_servers_are_in_one_room(autojump_clock: MockClock) -> None:
    async with sharing(3, MemoryEngine()) as [a, b, c]:
        tibi = await login(a, "Tibi")
        anna = await login(b, "Anna")
        carla = await login(c, "carla")
        assert [entry[:2] for entry in seen(carla)] == [("join", "Anna"), ("join", "carla"), ("join", "Tibi")]
        assert [entry[:2] for entry in seen(anna)] == [("join", "Anna"), ("join", "Tibi"), ("join", "carla")]
        assert [entry[:2] for entry in seen(tibi)] == [("join", "Tibi"), ("join", "Anna"), ("join", "carla")]
        anna.close()
        await trio.sleep(SOON_S)
        assert seen(tibi) == seen(carla) == [("leave", "Anna", "")]
        assert [server.statistics.members for server in (a, b, c)] == [1, 0, 1], "each counts its own"
        [listed] = await ask(tibi, {"room": "lobby", "type": "list", "data": ""})
        assert [entry["user"] for entry in listed["payload"]] == ["carla", "Tibi"]


async def test_events_have_one_order_and_one_time_everywhere(autojump_clock: MockClock) -> None:
    async with sharing(3, MemoryEngine(latency_s=0.01)) as servers:
        clients = [await login(server, f"user {number}") for number, server in enumerate(servers)]
        for client in clients:
            client.texts()
        for number in range(50):
            for client in clients:
                client.send(say(number))
            await trio.sleep(0.003)
        await trio.sleep(1)
        [first, *others] = [client.entries("lobby") for client in clients]
        assert len(first) == 150
        assert all(other == first for other in others)
        times = [entry["time"] for entry in first]
        assert times == sorted(set(times))
        for number in range(3):
            said = [entry["data"] for entry in first if entry["user"] == f"user {number}"]
            assert said == list(range(50)), "in the order in which it was sent"


async def test_the_history_is_everybodys(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine(), Config.unlimited(history=3)) as [a, b]:
        tibi = await login(a, "Tibi")
        await ask(tibi, join("den"), *(say(number, "den") for number in range(5)), leave("den"))
        anna = await login(b, "Anna")
        anna.texts()
        await ask(tibi, join("den"))
        messages = await ask(anna, join("den"))
        assert [[entry["data"] for entry in message["payload"]] for message in messages] == [["", ""], [2, 3, 4]]


async def test_transforms_arrive_within_two_frames(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine(), Config.unlimited(fps=10)) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna")
        for client in (tibi, anna):
            client.texts()
        tibi.send(at(1))
        before = trio.current_time()
        while not (heard := anna.entries("lobby")):  # noqa: ASYNC110  (nobody tells)
            await trio.sleep(0.001)
        assert trio.current_time() - before <= 0.21
        assert [entry["type"] for entry in heard] == ["transform"]
        assert heard == tibi.entries("lobby"), "with the time at which its own server had it"
        await trio.sleep(10)
        assert anna.entries("lobby") == [], "who does not move is not sent again"


async def test_whoever_comes_sees_where_everybody_is(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine()) as [a, b]:
        tibi = await login(a, "Tibi")
        await ask(tibi, at(1))
        anna = await login(b, "Anna")
        await trio.sleep(0.2)
        assert ("transform", "Tibi") in [entry[:2] for entry in seen(anna)]
        carla = await login(b, "Carla")
        assert ("transform", "Tibi") in [entry[:2] for entry in seen(carla)]


async def test_a_room_of_one_server_publishes_no_transforms(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[bytes] = []
    monkeypatch.setattr(MemoryEngine, "publish", lambda self, data: published.append(data))
    async with sharing(2, MemoryEngine()) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna")
        await ask(tibi, leave("lobby"), join("den"), at(1, "den"))
        await trio.sleep(5)
        assert published == []
        await ask(anna, join("den"))
        for x in range(20):
            tibi.send(at(x, "den"))
            anna.send(at(x, "den"))
            await trio.sleep(0.05)
        # A keyframe or two beside the frames of both.
        assert 36 <= len(published) <= 46


async def test_a_lost_transform_is_made_good_in_two_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sharing(2, MemoryEngine()) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna")
        anna.texts()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryEngine, "publish", lambda self, data: None)
            await ask(tibi, at(1))
            await trio.sleep(0.1)
        assert seen(anna) == []
        await trio.sleep(2.1)
        assert [entry[:2] for entry in seen(anna)] == [("transform", "Tibi")]


# Names


async def test_a_name_is_one_users_on_all_servers(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine()) as [a, b]:
        tibi, anna = await login(a, "Tibi", "1234"), await login(a, "Anna")
        for client in (tibi, anna):
            client.texts()
        assert codes((await login(b, "tibi", "other")).messages()) == [409]
        # With a Cyrillic letter.
        assert codes((await login(b, "\u0422ibi")).messages()) == [409]
        assert seen(tibi) == []
        again = await login(b, "Tibi", "1234")
        assert codes(again.messages()) == [202]
        tibi.texts()
        assert tibi.close_code == 4009
        assert seen(anna) == [], "nobody sees anything of it"
        await ask(again, say("here"))
        assert seen(anna) == [("msg", "Tibi", "here")]
        again.close()
        await trio.sleep(1)
        assert seen(anna) == [("leave", "Tibi", "")]
        assert codes((await login(a, "Tibi", "other")).messages()) == [202], "it is free again"


async def test_a_takeover_goes_to_and_fro(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine()) as [a, b]:
        anna = await login(b, "Anna")
        anna.texts()
        clients = []
        for number in range(6):
            clients.append(await login((a, b)[number % 2], "Tibi"))
            await trio.sleep(0.5)
        for client in clients:
            client.texts()
        assert [client.close_code for client in clients] == [4009] * 5 + [None]
        await ask(clients[-1], say("x"))
        assert seen(anna) == [("join", "Tibi", ""), ("msg", "Tibi", "x")]


async def test_who_waits_to_resume_loses_the_place_to_a_login_elsewhere(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine()) as [a, b]:
        tibi = await login(a, "Tibi", resume=True)
        token = tibi.messages()[0]["response"]["detail"]["session"]
        tibi.reset()
        await trio.sleep(1)
        elsewhere = await b.connect()
        resume = {"system": "resume", "options": {"session": token}}
        assert codes(await ask(elsewhere, resume)) == [403], "only its own server knows the session"
        options = {"user": "Tibi", "pass": "secret"}
        assert codes(await ask(elsewhere, {"system": "login", "options": options})) == [202]
        await trio.sleep(1)
        assert codes(await ask(await a.connect(), resume)) == [403]
        assert (a.statistics.sessions, b.statistics.sessions) == (1 - 1, 1)
        anna = await login(a, "Anna")
        assert [entry[1] for entry in seen(anna)] == ["Anna", "Tibi"]


async def test_two_logins_at_once_on_two_servers(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine(latency_s=0.02)) as servers:
        clients = [await server.connect() for server in (*servers, *servers)]
        for number, client in enumerate(clients):
            client.send({"system": "login", "options": {"user": "Tibi", "pass": f"{number}"}})
        await trio.sleep(1)
        found = [codes(client.messages()) for client in clients]
        assert sorted(found) == [[202], [409], [409], [409]]


async def test_accounts_take_over_from_server_to_server(autojump_clock: MockClock) -> None:
    async def authenticate(user: str, password: str, peer: str) -> bool:
        await trio.lowlevel.checkpoint()
        return password == "right"

    engine = MemoryEngine()
    async with (
        testing.open_server(FREE, backplane=engine, authenticate=authenticate) as a,
        testing.open_server(FREE, backplane=engine, authenticate=authenticate) as b,
    ):
        tibi = await login(a, "Tibi", "right")
        assert codes((await login(b, "Tibi", "wrong")).messages()) == [403]
        assert codes((await login(b, "Tibi", "right")).messages()) == [202]
        tibi.texts()
        assert tibi.close_code == 4009


async def test_an_open_client_comes_back_on_another_server(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine()) as [a, b], a.open_client("Tibi") as tibi, b.open_client("Anna") as anna:
        await tibi.join("den")
        await anna.join("den")
        assert await anna.members("den") == ("Anna", "Tibi")
        assert await tibi.rooms() == {"lobby": "", "den": ""}


async def test_who_leaves_last_is_counted_no_more(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    put = _Session.put

    def put_late(session: _Session, publication: Publication) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(session, "_latency_s", 0.01)
            return put(session, publication)

    # What is published comes later than the answers, so that the room is closed before it hears of the leave.
    monkeypatch.setattr(_Session, "put", put_late)
    async with sharing(1, MemoryEngine()) as [a]:
        tibi = await login(a, "Tibi")
        await ask(tibi, join("den"))
        assert a.statistics.members == 2
        await ask(tibi, leave("den"))
        assert a.statistics.members == 1


# The limits


async def test_a_room_is_full_on_all_servers(autojump_clock: MockClock) -> None:
    async with sharing(2, MemoryEngine(), Config.unlimited(members_per_room=2)) as [a, b]:
        one, two = await login(a, "one"), await login(b, "two")
        three = await login(b, "three")
        messages = three.messages()
        assert codes(messages) == [202, 413]
        assert messages[1]["response"]["detail"] == {"limit": "members_per_room", "value": 2, "room": "lobby"}
        assert codes(await ask(three, say("x"))) == [401]
        await ask(one, leave("lobby"))
        assert codes(await ask(three, join("lobby"))) == []
        two.texts()
        await ask(three, say("x"))
        assert seen(two) == [("msg", "three", "x")]


# The engine is lost


async def test_without_the_engine_those_who_are_here_go_on_seeing_each_other(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(a, "Anna", notices=True)
        carla = await login(b, "Carla", notices=True)
        for client in (tibi, anna, carla):
            client.texts()
        engine.stop()
        await trio.sleep(10)
        [notice] = anna.messages()
        assert notice == {
            "info": "notice",
            "room": "lobby",
            "notice": {"time": notice["notice"]["time"], "engine": "gone"},
        }
        assert tibi.messages() == [], "who has not asked is not told"
        await ask(tibi, at(1))
        await trio.sleep(0.1)
        assert [entry[:2] for entry in seen(anna)] == [("transform", "Tibi")]
        for refused in (say("x"), join("den"), {"system": "rooms"}):
            messages = [message for message in await ask(tibi, refused) if "response" in message]
            assert codes(messages) == [503]
            assert messages[0]["response"]["detail"]["retry_after"] > 0
        assert codes((await login(a, "Dora")).messages()) == [503], "nobody knows whether the name is free"
        dora = await a.connect()
        assert codes(await ask(dora, {"system": "login", "options": {"user": "Tibi", "pass": "wrong"}})) == [409]
        again = await login(a, "Tibi")
        assert codes(again.messages()) == [202], "its own names it knows"
        engine.start()
        await trio.sleep(5)
        assert await ask(again, say("y")) != []
        *rest, notice, message = [message for message in anna.messages() if "response" not in message]
        assert notice["notice"] == {"time": notice["notice"]["time"], "engine": "back", "missed": 0, "complete": True}
        assert [entry["data"] for entry in message["payload"]] == ["y"]
        assert rest == []
        assert [entry[:2] for entry in seen(carla)] == [("transform", "Tibi"), ("msg", "Tibi")]
        for client in (tibi, anna, carla):
            assert client.close_code in (None, 4009)


async def test_a_join_that_the_engine_has_taken_and_not_shown(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.1)
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna")
        await trio.sleep(2)
        for client in (tibi, anna):
            client.texts()
        tibi.send(join("den"))
        # Its answer is there, and the room, which is just open, waits for what was before.
        await trio.sleep(0.25)
        engine.hang()
        await trio.sleep(5)
        assert codes(tibi.messages()) == [503]
        assert codes(await ask(tibi, say("x", "den"))) == [401]
        engine.resume()
        await trio.sleep(10)
        anna.send(join("den"))
        await trio.sleep(1)
        assert seen(anna, "den") == [("join", "Anna", "")], "and nobody else is there"


async def test_that_the_engine_is_back_is_said_once(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.1)
    async with sharing(1, engine) as [a]:
        tibi = await login(a, "Tibi", notices=True)
        await trio.sleep(2)
        tibi.send(join("den"))
        # The room waits for what was before, and asks for it again.
        await trio.sleep(0.25)
        engine.cut()
        await trio.sleep(5)
        messages = [message for message in tibi.messages() if message.get("room") == "den"]
        assert [message["notice"]["engine"] for message in messages if "notice" in message].count("back") <= 1


async def test_who_was_cut_off_is_told_what_was_missed(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna", notices=True)
        for client in (tibi, anna):
            client.texts()
        [node] = [session.node for session in engine._sessions][1:]
        engine.cut_off(node)
        for number in range(3):
            await ask(tibi, say(number))
        assert [message["notice"]["engine"] for message in anna.messages()] == ["gone"]
        engine.let_in(node)
        await trio.sleep(3)
        messages = anna.messages()
        assert data_of(messages) == [0, 1, 2]
        assert messages[-1]["notice"]["missed"] == 3
        assert messages[-1]["notice"]["complete"] is True


async def test_who_leaves_meanwhile_is_gone_for_everybody(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna, carla = await login(a, "Tibi"), await login(a, "Anna"), await login(b, "Carla")
        await ask(tibi, join("den"))
        for client in (anna, carla):
            client.texts()
        engine.stop()
        await trio.sleep(1)
        tibi.close()
        await trio.sleep(SOON_S)
        assert seen(anna) == [("leave", "Tibi", "")], "at once for those who are here"
        assert seen(carla) == []
        engine.start()
        await trio.sleep(5)
        assert seen(anna) == []
        assert seen(carla) == [("leave", "Tibi", "")]
        [rooms] = await ask(carla, {"system": "rooms"})
        assert rooms["response"]["detail"] == {"lobby": ""}, "and in the room that nobody has open any more"
        assert codes((await login(b, "Tibi", "another")).messages()) == [202]


async def test_an_engine_that_has_lost_its_memory(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi", "1234"), await login(b, "Anna", notices=True)
        await ask(tibi, say("before"))
        for client in (tibi, anna):
            client.texts()
        engine.stop()
        await trio.sleep(5)
        engine.start(empty=True)
        await trio.sleep(2)
        assert codes((await login(b, "Dora")).messages()) == [503], "those who had names come first"
        await trio.sleep(6)
        assert codes((await login(b, "Tibi", "other")).messages()) == [409], "and Tibi has his"
        tibi.send(say("after"))
        await trio.sleep(SOON_S)
        assert seen(tibi) == [("msg", "Tibi", "after")], "nobody has left or joined"
        messages = anna.messages()
        assert data_of(messages) == ["after"]
        [listed] = await ask(anna, {"room": "lobby", "type": "list", "data": ""})
        assert [entry["user"] for entry in listed["payload"]] == ["Anna", "Tibi"]


async def test_an_engine_that_hangs(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(a, "Anna")
        carla = await login(b, "Carla")
        for client in (tibi, anna, carla):
            client.texts()
        engine.hang()
        tibi.send(say("x"))
        for x in range(100):
            tibi.send(at(x))
            await trio.sleep(0.1)
        assert len([entry for entry in seen(anna) if entry[0] == "transform"]) > 90, "batches do not wait for it"
        assert codes(tibi.messages()) == [503]
        engine.resume()
        await trio.sleep(5)
        await ask(tibi, say("y"))
        assert [entry for entry in seen(carla) if entry[0] == "msg"][-1] == ("msg", "Tibi", "y")


# A server is lost


async def test_the_dead_leave_within_ten_seconds(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna = await login(a, "Tibi"), await login(b, "Anna")
        tibi.texts()
        node = [session.node for session in engine._sessions][1]
        engine.cut_off(node)
        await trio.sleep(10)
        assert seen(tibi) == [("leave", "Anna", "")]
        assert codes((await login(a, "Anna", "another")).messages()) == [202]
        # It was not dead.
        engine.let_in(node)
        await trio.sleep(5)
        anna.texts()
        assert anna.close_code == 4009
        tibi.texts()
        [listed] = await ask(tibi, {"room": "lobby", "type": "list", "data": ""})
        assert [entry["user"] for entry in listed["payload"]] == ["Anna", "Tibi"]


async def test_the_dead_leave_in_time_however_many_they_are(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_vrchat._engine_state.SWEEP_LIMIT", 2)
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi = await login(a, "Tibi")
        for number in range(20):
            await login(b, f"{number}")
        tibi.texts()
        engine.cut_off([session.node for session in engine._sessions][1])
        await trio.sleep(10)
        assert sorted(seen(tibi)) == sorted(("leave", f"{number}", "") for number in range(20))
        assert codes((await login(a, "19", "another")).messages()) == [202]


async def test_who_was_given_up_comes_back_and_has_seen_everything(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        tibi, anna, bea = await login(a, "Tibi"), await login(b, "Anna"), await login(b, "Bea")
        for client in (tibi, anna, bea):
            client.texts()
        node = [session.node for session in engine._sessions][1]
        engine.cut_off(node)
        await trio.sleep(12)
        tibi.send(say("x"))
        await trio.sleep(SOON_S)
        engine.let_in(node)
        await trio.sleep(5)
        assert seen(anna) == [("msg", "Tibi", "x")], "those who are here have not lost each other"
        await ask(anna, say("y"))
        heard = seen(tibi)
        assert sorted(heard[:2]) == [("leave", "Anna", ""), ("leave", "Bea", "")]
        assert sorted(heard[3:5]) == [("join", "Anna", ""), ("join", "Bea", "")]
        assert heard[5:] == [("msg", "Anna", "y")]


async def test_who_has_come_over_is_not_put_out_by_a_server_that_comes_back(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(2, engine) as [a, b]:
        anna = await login(a, "Anna")
        before = await login(b, "Tibi")
        node = [session.node for session in engine._sessions][1]
        engine.cut_off(node)
        await trio.sleep(10)
        tibi = await login(a, "Tibi")
        anna.texts()
        # It was given up, and has not heard that the name is another's.
        engine.let_in(node)
        await trio.sleep(5)
        before.texts()
        assert before.close_code == 4009
        assert seen(anna) == [], "nobody sees anything of it"
        await ask(tibi, say("x"))
        assert seen(anna) == [("msg", "Tibi", "x")]


async def test_a_stop_is_seen_at_once(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with sharing(1, engine) as [a]:
        tibi = await login(a, "Tibi")
        async with sharing(1, engine) as [b]:
            await login(b, "Anna")
            tibi.texts()
        await trio.sleep(SOON_S)
        assert seen(tibi) == [("leave", "Anna", "")]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_the_engine(autojump_clock: MockClock, seed: int) -> None:
    dice = random.Random(seed)
    engine = MemoryEngine(latency_s=dice.choice([0.001, 0.05]))
    async with sharing(3, engine) as servers:
        people = {
            f"{number}": await login(server, f"{number}")
            for number, server in enumerate(server for server in servers for _ in range(3))
        }
        nodes = [session.node for session in engine._sessions]
        heard: dict[str, list[tuple[float, str]]] = {name: [] for name in people}
        until = trio.current_time() + 60

        async def live(name: str, client: RawClient, dice: random.Random) -> None:
            for number in itertools.count():
                await trio.sleep(dice.uniform(0, 0.5))
                if trio.current_time() < until:
                    client.send(say(f"{name}-{number}"))
                    client.send(at(number))
                heard[name] += [
                    (entry["time"], entry["data"]) for entry in client.entries("lobby") if entry["type"] == "msg"
                ]

        async with trio.open_nursery() as nursery:
            for name, client in people.items():
                nursery.start_soon(live, name, client, random.Random(dice.random()))
            # One that was swept is another now, and is cut off no more.
            await harm(engine, dice, until, lambda: dice.choice(nodes), engine.cut)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        assert all(client.close_code is None for client in people.values())
        [first, *rest] = heard.values()
        assert all(other == first for other in rest), "each the same, in one order, at the same time"
        assert len({data for _, data in first}) == len(first) > 200, "each once"
        assert [time for time, _ in first] == sorted({time for time, _ in first})
        for client in people.values():
            client.send({"room": "lobby", "type": "list", "data": ""})
            await trio.sleep(SOON_S)
            assert [entry[1] for entry in seen(client)] == sorted(people)


async def test_it_starts_without_an_engine(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    engine.stop()
    async with sharing(1, engine) as [a]:
        assert codes((await login(a, "Tibi")).messages()) == [503]
        assert a.statistics.backplane_connected == 0
        engine.start()
        await trio.sleep(10)
        assert codes((await login(a, "Tibi")).messages()) == [202]
        assert (a.statistics.backplane_connected, a.statistics.backplane_losses) == (1, 0)
        engine.stop()
        await trio.sleep(1)
        assert (a.statistics.backplane_connected, a.statistics.backplane_losses) == (0, 1)
        engine.start()
        await trio.sleep(10)
        assert (a.statistics.backplane_connected, a.statistics.backplane_losses) == (1, 1)
    assert (a.statistics.backplane_connected, a.statistics.backplane_losses) == (0, 1), "a stop is no loss"
