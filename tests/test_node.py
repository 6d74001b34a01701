"""Servers that share rooms, as far as a node goes: in virtual time, on an engine that is lost and comes back."""

from __future__ import annotations

import itertools
import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.sharing_servers import ROOM, Server, harm, servers
from trio_vrchat import Unavailable, _questions
from trio_vrchat._backplane import Alike, Event, Granted, Happening, Held, Lease
from trio_vrchat._follower import View
from trio_vrchat._memory_engine import MemoryEngine


async def test_all_see_the_same(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(), "a", "b", "c") as [a, b, c]:
        assert a.members == b.members == c.members == {server.name: server.node.id for server in (a, b, c)}
        async with trio.open_nursery() as nursery:
            for number in range(50):
                for server in (a, b, c):
                    nursery.start_soon(server.say, f"{server.name}{number}")
        await trio.sleep(1)
        assert a.shown == b.shown == c.shown
        assert len(a.shown) == 150
        assert a.node.is_own(next(event for event in a.shown if event.body == "a7"))
        assert not b.node.is_own(next(event for event in a.shown if event.body == "a7"))
        assert sorted(await a.node.rooms()) == [ROOM]
        assert [len(server.views) for server in (a, b, c)] == [1, 1, 1]


async def test_a_lost_link_loses_nothing(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        for number in range(20):
            engine.cut(b.node.id)
            await a.say(f"{number}")
            await trio.sleep(number / 10)
        assert a.bodies() == b.bodies() == [f"{number}" for number in range(20)]
        assert len(b.views) == 1, "it has read on"
        assert b.told == ["gone", "back"] * (len(b.told) // 2)
        assert len(b.told) > 30
        assert a.told == []


async def test_what_was_under_way_when_the_link_was_lost_happens_once(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.05)
    async with servers(engine, "a", "b") as [a, b]:
        for delay_s in (0.0, 0.02, 0.05, 0.07, 0.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.say, f"{delay_s}")
                await trio.sleep(delay_s)
                engine.cut(a.node.id)
        await trio.sleep(1)
        assert b.bodies() == a.bodies() == ["0.0", "0.02", "0.05", "0.07", "0.1"]


async def test_without_an_engine_it_says_so_at_once_and_is_back_soon(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        engine.stop()
        await trio.sleep(60)
        before = trio.current_time()
        for ask in (a.say("x"), a.node.claim(a.lease("Tibi", "t")), a.node.rooms()):
            with pytest.raises(Unavailable) as caught:
                await ask
            assert caught.value.detail["retry_after"] > 0
        assert trio.current_time() == before
        engine.start()
        await trio.sleep(5)
        await a.say("y")
        await trio.sleep(1)
        assert a.bodies() == b.bodies() == ["y"]
        assert a.members.keys() == b.members.keys() == {"a", "b"}
        assert a.told == b.told == ["gone", "back"]


async def test_who_asks_an_engine_that_hangs_is_told_in_time(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        engine.hang()
        before = trio.current_time()
        with pytest.raises(Unavailable):
            await a.say("x")
        assert trio.current_time() - before <= 3.1
        await trio.sleep(20)
        engine.resume()
        await trio.sleep(5)
        await b.say("y")
        await trio.sleep(1)
        assert a.bodies() == b.bodies()
        assert a.bodies()[-1] == "y"


async def test_an_engine_that_has_lost_its_memory_is_told_everything_again(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        assert isinstance(await a.node.claim(a.lease("Tibi", "t1")), Granted)
        await a.say("x")
        await trio.sleep(1)
        engine.stop()
        engine.start(empty=True)
        await trio.sleep(2)
        assert a.members.keys() == b.members.keys() == {"a", "b"}
        with pytest.raises(Unavailable) as caught:
            await b.node.claim(b.lease("Anna", "t2"))
        assert 0 < caught.value.detail["retry_after"] <= 4
        reply = await b.node.claim(b.lease("Tibi", "t3"))
        assert isinstance(reply, Held)
        assert reply.lease.token == "t1"
        await trio.sleep(4)
        assert isinstance(await b.node.claim(b.lease("Anna", "t2")), Granted)
        await b.say("y")
        await trio.sleep(1)
        assert a.bodies() == b.bodies() == ["x", "y"]
        for server in (a, b):
            assert [view.complete for view in server.views] == [True, False, True]
            assert server.members == {"a": a.node.id, "b": b.node.id}


async def test_who_does_not_come_back_to_an_empty_engine_is_gone(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        engine.stop()
        b.tasks.cancel_scope.cancel()
        engine.start(empty=True)
        await trio.sleep(3)
        assert a.members.keys() == {"a", "b"}, "it may still come"
        await trio.sleep(3)
        assert a.members.keys() == {"a"}


async def test_the_dead_are_swept_within_ten_seconds(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(), "a", "b") as [a, b]:
        await b.node.claim(b.lease("Tibi", "t1"))
        b.tasks.cancel_scope.cancel()
        await trio.sleep(4)
        assert a.members.keys() == {"a", "b"}
        await trio.sleep(6)
        assert a.members.keys() == {"a"}
        assert isinstance(await a.node.claim(a.lease("Tibi", "t2")), Granted)


async def test_who_was_swept_but_lives_comes_back_under_another_id(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b") as [a, b]:
        await b.node.claim(b.lease("Tibi", "t1"))
        await b.node.claim(b.lease("Anna", "t2"))
        before = b.node.id
        engine.cut_off(before)
        await trio.sleep(12)
        assert a.members == {"a": a.node.id}
        await a.node.claim(a.lease("Tibi", "t3"))
        await a.say("x")
        engine.let_in(before)
        await trio.sleep(5)
        assert b.node.id != before
        assert b.taken == ["t1"]
        assert b.bodies() == ["x"]
        assert a.members == b.members == {"a": a.node.id, "b": b.node.id}
        reply = await a.node.claim(a.lease("Anna", "t4"))
        assert isinstance(reply, Held)
        assert reply.lease.token == "t2", "which was claimed again"


async def test_who_retires_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(), "a", "b") as [a, b]:
        await b.node.claim(b.lease("Tibi", "t1"))
        before = trio.current_time()
        await b.node.retire()
        await wait_all_tasks_blocked()
        assert trio.current_time() - before < 0.1
        await trio.sleep(0.1)
        assert a.members.keys() == {"a"}
        assert isinstance(await a.node.claim(a.lease("Tibi", "t2")), Granted)


async def test_names(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b", there=False) as [a, b]:
        lease = a.lease("Tibi", "t1")
        assert isinstance(await a.node.claim(lease), Granted)
        assert isinstance(await b.node.claim(b.lease("Tibi", "t2")), Held)
        assert isinstance(await b.node.claim(b.lease("Tibi", "t2"), instead_of="t1"), Granted)
        await trio.sleep(0.1)
        assert a.taken == ["t1"]
        engine.cut()
        await trio.sleep(2)
        assert a.taken == ["t1"], "and is not told again"
        assert isinstance(await a.node.claim(look_alike(lease, "anna")), Alike)
        assert isinstance(await a.node.claim(look_alike(lease, "anna"), beside=("tibi",)), Granted)


def look_alike(lease: Lease, key: str) -> Lease:
    return Lease(key=key, look=lease.look, user=key, node="", token=f"of {key}")


async def test_a_name_is_given_back_also_while_the_engine_is_away(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with servers(engine, "a", "b", there=False) as [a, b]:
        lease = a.lease("Tibi", "t1")
        await a.node.claim(lease)
        engine.stop()
        await trio.sleep(1)
        a.node.release(lease)
        engine.start()
        await trio.sleep(5)
        assert isinstance(await b.node.claim(b.lease("Tibi", "t2")), Granted)
        assert a.taken == []


async def test_a_claim_that_nobody_waits_for_any_more_is_given_back(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(latency_s=0.05), "a", "b", there=False) as [a, b]:
        for delay_s in (0.0, 0.04, 0.06, 0.09):
            with trio.move_on_after(delay_s) as scope:
                await a.node.claim(a.lease("Tibi", "t1"))
            assert scope.cancelled_caught
        await trio.sleep(1)
        assert a.node.connected
        assert isinstance(await b.node.claim(b.lease("Tibi", "t2")), Granted)


async def test_the_newest_transforms_go_and_none_before_them(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(latency_s=0.05), "a", "b", there=False) as [a, b]:
        for number in range(40):
            a.newest = b"%d" % number
            a.node.move()
            await trio.sleep(0.01)
        await trio.sleep(1)
        assert a.moves == b.moves
        assert b.moves[0] == b"0"
        assert b.moves[-1] == b"39"
        assert len(b.moves) <= 6, "one under way at a time"


async def test_who_comes_late_is_shown_what_was_said(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(), "a", "b", there=False) as [a, b]:
        a.tasks.start_soon(a.be_there)
        await trio.sleep(0.1)
        await a.say("x")
        b.tasks.start_soon(b.be_there)
        await trio.sleep(0.1)
        assert a.bodies() == b.bodies() == ["x"]


async def test_a_room_can_be_followed_again_at_once(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(latency_s=0.05), "a", "b", there=False) as [a, b]:
        a.tasks.start_soon(a.be_there)
        await trio.sleep(1)
        for number in range(20):
            async with b.node.follow(ROOM, 50) as happened:
                await a.say(f"{number}")
                [view] = await happened()
                assert isinstance(view, View)
                assert view.snapshot.history[-1].body == f"{number}"
                await a.say("then")
                seen = [event.body for event in await happened() if isinstance(event, Event)]
                assert seen == ["then"]
            await trio.sleep(number / 100)


async def test_what_waited_behind_a_lost_request_comes_after_it(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.05)
    async with servers(engine, "a", "b") as [a, b]:
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            for body in ("1", "2", "3"):
                nursery.start_soon(a.say, body)
                await trio.sleep(0.01)
            engine.cut(a.node.id)
        await trio.sleep(1)
        assert a.bodies() == b.bodies() == ["1", "2", "3"]


async def test_nothing_is_sent_under_two_ids(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.05)
    async with servers(engine, "a", "b") as [a, b]:
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def say() -> None:
                with pytest.raises(Unavailable, match="nobody knows"):
                    await a.say("x")

            await trio.sleep(0.07)  # it has happened, but nobody has heard of it
            engine.stop()
            engine.start(empty=True)
        await trio.sleep(10)
        assert a.bodies() == b.bodies() == []


async def test_what_happens_between_the_question_and_the_listening_is_not_missed(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.05)
    async with servers(engine, "a", "b", there=False) as [a, b]:
        a.tasks.start_soon(a.be_there)
        await trio.sleep(1)
        for number in range(40):
            async with b.node.follow(ROOM, 50) as happened, trio.open_nursery() as nursery:
                seen: list[str] = []

                async def watch(happened=happened, seen=seen) -> None:  # type: ignore[no-untyped-def]
                    while True:
                        for what in await happened():
                            found = what.snapshot.history if isinstance(what, View) else [what]
                            seen += [event.body for event in found if isinstance(event, Event)]

                nursery.start_soon(watch)
                await trio.sleep(0.27)  # it no longer listens, listens again, and asks what is there
                engine.cut(b.node.id)
                await trio.sleep(number / 100)
                await a.say(f"{number}")
                await trio.sleep(2)
                assert f"{number}" in seen
                nursery.cancel_scope.cancel()


async def test_a_room_can_be_followed_again_while_the_engine_is_told_that_it_is_not(autojump_clock: MockClock) -> None:
    async with servers(MemoryEngine(latency_s=0.05), "a", "b", there=False) as [a, b]:
        a.tasks.start_soon(a.be_there)
        await trio.sleep(1)
        for number in range(30):
            async with b.node.follow(ROOM, 1) as happened:
                with trio.fail_after(5):
                    await happened()
                await a.say(f"{number}")
                with trio.fail_after(5):
                    assert [event.body for event in await happened() if isinstance(event, Event)] == [f"{number}"]
            await trio.sleep(number / 200)


async def test_a_name_may_be_given_back_while_it_is_claimed_again(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.05)
    async with servers(engine, "a", "b", there=False) as [a, b]:
        for number in range(20):
            lease, other = a.lease("Tibi", f"a{number}"), b.lease("Tibi", f"b{number}")
            await a.node.claim(lease)
            engine.cut_off(before := a.node.id)
            await trio.sleep(8)
            await b.node.claim(other)
            engine.let_in(before)
            await trio.sleep(number / 8)
            told = list(a.taken)
            a.node.release(lease)
            await trio.sleep(5)
            assert a.taken == told, "whoever has given it back is not told that it was taken"
            b.node.release(other)
            await trio.sleep(1)
        assert 0 < len(a.taken) < 20


async def test_what_waits_for_the_engine_has_a_limit(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_questions, "_QUEUE_LIMIT", 10)
    refused: list[Unavailable] = []
    async with servers(MemoryEngine(latency_s=0.05), "a") as [a]:
        await trio.sleep(1)

        async def ask() -> None:
            try:
                await a.node.rooms()
            except Unavailable as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(ask)
        assert len(refused) == 20


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_to_the_engine(autojump_clock: MockClock, seed: int) -> None:
    dice = random.Random(seed)
    engine = MemoryEngine(latency_s=dice.choice([0.001, 0.05]))
    acknowledged: list[str] = []
    async with servers(engine, "a", "b", "c") as all_:
        until = trio.current_time() + 120

        async def talk(server: Server, dice: random.Random) -> None:
            for number in itertools.count():
                await trio.sleep(dice.uniform(0, 0.5))
                if trio.current_time() > until:
                    return
                if server.members.get(server.name) != server.node.id:
                    continue
                body = f"{server.name}{number}"
                try:
                    refused = await server.append(Happening("say", server.name, server.name, body))
                except Unavailable:
                    continue
                if not refused:
                    acknowledged.append(body)

        def one_of_them() -> str:
            return dice.choice(all_).node.id

        async with trio.open_nursery() as nursery:
            nursery.start_soon(harm, engine, dice, until, one_of_them, lambda: engine.cut(one_of_them()))
            for server in all_:
                nursery.start_soon(talk, server, random.Random(dice.random()))
        await trio.sleep(20)
        [first, *others] = all_
        assert len(acknowledged) > 50
        assert sorted(set(acknowledged) - set(first.bodies())) == []
        assert len(set(first.bodies())) == len(first.bodies()), "each once"
        times = [event.at for event in first.shown]
        assert times == sorted(times)
        for server in others:
            assert server.shown == first.shown
        for server in all_:
            assert server.members == {one.name: one.node.id for one in all_}
