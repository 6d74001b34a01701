"""What `_backplane` promises, held to each engine: the one in memory, and Redis. The time is the test's own."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.accounts import random_account_requests
from tests.redis_server import RedisServer, needs_redis, running_redis
from trio_vrchat._backplane import (
    ACCOUNTS_LIMIT,
    COMINGS_KEPT,
    READ_ON_LIMIT,
    SWEEP_LIMIT,
    Account,
    AccountList,
    AddAccount,
    Alike,
    Append,
    Appended,
    Changed,
    Claim,
    Done,
    Engine,
    EngineSession,
    Enter,
    Event,
    FindAccount,
    Found,
    Gone,
    Granted,
    Happened,
    Happening,
    Held,
    Kind,
    Lease,
    LinkLost,
    ListAccounts,
    Moves,
    NoAccount,
    OpenRooms,
    Publication,
    ReadOn,
    Refresh,
    Register,
    Release,
    RemoveAccount,
    Reply,
    Request,
    Retire,
    RoomEvents,
    Rooms,
    SetHash,
    Settling,
    Snapshot,
    Standing,
    Sweep,
    Swept,
    Taken,
    Timing,
    Unknown,
)
from trio_vrchat._engine_state import EngineState
from trio_vrchat._memory_engine import MemoryEngine
from trio_vrchat._redis_engine import RedisEngine

START = 1_600_000_000_000_000
SECOND = 1_000_000
TIMING = Timing(lease_s=6, gap_s=3, settle_s=4)
# For what comes from a real Redis.
DEADLINE_S = 20.0


@attrs.define(eq=False)
class House:
    """An engine that has settled, and its clock."""

    engine: Engine
    now: int = START

    def pass_s(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    @asynccontextmanager
    async def node(self, name: str, *, registered: bool = True) -> AsyncIterator[Node]:
        with trio.fail_after(DEADLINE_S):
            async with self.engine.session(name) as session:
                node = Node(name, session)
                if registered:
                    assert isinstance(await node.ask(Register(node=name)), Standing)
                yield node


@attrs.define(eq=False)
class Node:
    name: str
    session: EngineSession
    numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def ask(self, request: Request) -> Reply:
        [reply] = await self.session.call([request])
        return reply

    async def claim(self, user: str, token: str, *, instead_of: str = "", again: bool = False) -> Reply:
        lease = self.lease(user, token)
        return await self.ask(Claim(lease=lease, instead_of=instead_of, again=again))

    def lease(self, user: str, token: str) -> Lease:
        return Lease(key=user.lower(), look=user.lower(), user=user, node=self.name, token=token, secret=f"of {token}")

    async def append(self, room: str, *happenings: Happening, **more: int) -> Reply:
        first = next(self.numbers)
        for _ in happenings[1:]:
            next(self.numbers)
        return await self.ask(Append(node=self.name, room=room, first=first, happenings=happenings, **more))

    async def join(self, room: str, *users: str) -> None:
        assert await self.append(room, *(does("join", user) for user in users)) == Appended()

    async def snapshot(self, room: str, history: int = 50) -> Snapshot:
        reply = await self.ask(Enter(room=room, history=history))
        assert isinstance(reply, Snapshot)
        return reply

    async def members(self, room: str) -> dict[str, str]:
        """By key, by which node."""
        return {join.key: join.node for join in (await self.snapshot(room)).members}

    async def receive(self, count: int = 1) -> list[Publication]:
        return [await self.session.receive() for _ in range(count)]

    async def receive_events(self, count: int) -> list[Event]:
        """So many events at least, and that none is missing between them."""
        events: list[Event] = []
        while len(events) < count:
            publication = await self.session.receive()
            assert isinstance(publication, RoomEvents)
            assert not events or publication.after == events[-1].at
            events += publication.events
        return events


def does(kind: Kind, user: str, body: str = "") -> Happening:
    return Happening(kind, user.lower(), user, body)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), "--appendonly", "no") as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
def fresh(request: pytest.FixtureRequest) -> House:
    """An engine without any memory."""
    house: House

    def clock() -> int:
        return house.now

    if request.param == "memory":
        house = House(MemoryEngine(TIMING, latency_s=0, clock=clock))
    else:
        server: RedisServer = request.getfixturevalue("redis")
        house = House(RedisEngine(server.url, TIMING, prefix=f"{request.node.name}:", clock=clock))
    return house


@pytest.fixture
async def house(fresh: House) -> House:
    async with fresh.node("first"):
        pass
    fresh.pass_s(TIMING.settle_s)
    return fresh


# Nodes


async def test_a_node_lives_while_it_is_refreshed(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        await a.claim("Tibi", "t1")
        for _ in range(20):
            house.pass_s(1)
            assert await b.session.call([Refresh(node="a"), Refresh(node="b"), Sweep()]) == [
                Standing(settles_in=0),
                Standing(settles_in=0),
                Swept(count=0, more=False),
            ]
        assert await b.members("den") == {"tibi": "a"}


async def test_a_dead_node_is_swept_and_its_late_requests_have_no_effect(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi", "Anna")
        await a.claim("Tibi", "t1")
        await b.join("den", "Olga")
        await b.session.listen(["den"])
        for _ in range(6):
            house.pass_s(1)
            await b.session.call([Refresh(node="b")])
        assert await b.ask(Sweep()) == Swept(count=0, more=False), "not before its time"
        house.pass_s(0.001)
        assert await b.ask(Sweep()) == Swept(count=3, more=False)
        assert [(event.kind, event.key) for event in await b.receive_events(2)] == [
            ("leave", "anna"),
            ("leave", "tibi"),
        ]
        assert await b.members("den") == {"olga": "b"}
        assert await b.claim("Tibi", "t2") == Granted()
        assert (
            await a.session.call(
                [
                    Refresh(node="a"),
                    Claim(lease=a.lease("Other", "t3")),
                    Release(node="a", key="tibi", token="t1"),
                    Append(node="a", room="den", first=9, happenings=(does("join", "Tibi"),)),
                ]
            )
            == [Unknown()] * 4
        )
        assert await b.members("den") == {"olga": "b"}


async def test_who_is_late_but_was_not_swept_goes_on(house: House) -> None:
    async with house.node("a") as a:
        await a.join("den", "Tibi")
        house.pass_s(1000)
        assert await a.ask(Refresh(node="a")) == Standing(settles_in=0)
        assert await a.ask(Sweep()) == Swept(count=0, more=False)
        assert await a.members("den") == {"tibi": "a"}


async def test_a_node_that_retires_is_swept_at_once_bit_by_bit(house: House) -> None:
    users = [f"u{number:04}" for number in range(SWEEP_LIMIT + 10)]
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", *users)
        await a.claim("Tibi", "t1")
        assert await a.ask(Retire(node="a")) == Done()
        assert await b.ask(Sweep()) == Swept(count=SWEEP_LIMIT, more=True)
        assert await b.ask(Sweep()) == Swept(count=11, more=False)
        assert await b.members("den") == {}
        assert await b.ask(Rooms()) == OpenRooms(rooms=())
        assert await a.ask(Refresh(node="a")) == Unknown()


async def test_an_engine_that_was_away_gives_everybody_time(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        house.pass_s(60)
        assert await b.ask(Refresh(node="b")) == Standing(settles_in=0)
        for _ in range(round(TIMING.settle_s)):
            house.pass_s(1)
            await b.ask(Refresh(node="b"))
            assert await b.ask(Sweep()) == Swept(count=0, more=False)
        house.pass_s(0.001)
        assert await b.ask(Sweep()) == Swept(count=1, more=False)
        assert await b.members("den") == {}


# Names


async def test_a_name_is_one_lease_s(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        assert await a.claim("Tibi", "t1") == Granted()
        assert await a.claim("Tibi", "t1") == Granted(), "to repeat it changes nothing"
        assert await b.claim("TIBI", "t2") == Held(lease=a.lease("Tibi", "t1"))
        assert await b.claim("TIBI", "t2", again=True) == Held(lease=a.lease("Tibi", "t1"))
        assert await b.claim("TIBI", "t2", instead_of="t0") == Held(lease=a.lease("Tibi", "t1"))
        assert await b.ask(Release(node="b", key="tibi", token="t2")) == Done()
        assert await b.claim("TIBI", "t2") == Held(lease=a.lease("Tibi", "t1")), "released was another's"
        assert await a.ask(Release(node="a", key="tibi", token="t1")) == Done()
        assert await b.claim("TIBI", "t2") == Granted()


async def test_who_is_replaced_is_told(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.claim("Tibi", "t1")
        assert await b.claim("Tibi", "t2", instead_of="t1") == Granted()
        assert await a.receive() == [Taken("tibi", "t1")]
        assert await a.claim("Tibi", "t1", again=True) == Held(lease=b.lease("Tibi", "t2"))
        # By one's own node nobody needs to be told.
        assert await b.claim("Tibi", "t3", instead_of="t2") == Granted()
        await b.session.publish(b"nothing before this")
        assert await b.receive() == [Moves(b"nothing before this")]


async def test_what_a_node_has_lost_is_not_swept_with_it(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.claim("Tibi", "t1")
        await b.claim("Tibi", "t2", instead_of="t1")
        await a.join("den", "Tibi")
        await b.join("den", "Tibi")
        await a.ask(Retire(node="a"))
        await b.ask(Sweep())
        assert await b.claim("Tibi", "t3") == Held(lease=b.lease("Tibi", "t2"))
        assert await b.members("den") == {"tibi": "b"}


async def test_names_of_one_look_stand_beside_each_other_where_somebody_has_looked(house: House) -> None:
    async with house.node("a") as a:
        first, second, third = (
            Lease(key=key, look="l", user=user, node="a", token=key)
            for key, user in (("one", "One"), ("two", "Two"), ("three", "Three"))
        )
        assert await a.ask(Claim(lease=first)) == Granted()
        assert await a.ask(Claim(lease=second)) == Alike(users=("One",))
        assert await a.ask(Claim(lease=second, beside=("one",))) == Granted()
        assert await a.ask(Claim(lease=third, beside=("one",))) == Alike(users=("One", "Two"))
        await a.ask(Release(node="a", key="one", token="one"))
        assert await a.ask(Claim(lease=third, beside=("two",))) == Granted()


async def test_an_engine_without_memory_lets_those_come_first_who_had_names(fresh: House) -> None:
    async with fresh.node("a", registered=False) as a, fresh.node("b", registered=False) as b:
        assert await a.ask(Register(node="a")) == Standing(settles_in=4 * SECOND)
        fresh.pass_s(1)
        assert await b.ask(Register(node="b")) == Standing(settles_in=3 * SECOND)
        assert await b.claim("Tibi", "t2") == Settling(microseconds=3 * SECOND)
        fresh.pass_s(2)
        assert await a.claim("Tibi", "t1", again=True) == Granted()
        assert await b.claim("Tibi", "t2") == Held(lease=a.lease("Tibi", "t1"))
        fresh.pass_s(1)
        assert await b.claim("Anna", "t3") == Granted()


# Rooms


async def test_all_see_the_same_in_the_same_order(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b, house.node("c") as c:
        for node in (a, b, c):
            await node.session.listen(["den", "hall"])
        await a.join("den", "Tibi")
        await b.join("den", "Anna")
        for number in range(5):
            await a.append("den", does("say", "Tibi", f"a{number}"), does("say", "Tibi", f"b{number}"))
            await b.append("den", does("say", "Anna", f"c{number}"))
            house.now -= 10 * SECOND * (number == 2)  # a clock that is set back
            house.now += number == 1
        await a.append("den", does("leave", "Tibi"))
        seen = [await node.receive_events(18) for node in (a, b, c)]
        assert seen[0] == seen[1] == seen[2]
        assert [event.body for event in seen[0] if event.kind == "say"][:4] == ["a0", "b0", "c0", "a1"]
        times = [event.at for event in seen[0]]
        assert all(one < other for one, other in itertools.pairwise(times))
        assert times[:2] == [house.now + 10 * SECOND - 1, house.now + 10 * SECOND]


async def test_the_first_publication_follows_what_the_snapshot_ends_with(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        await b.session.listen(["den"])
        last = (await b.snapshot("den")).last
        await a.append("den", does("say", "Tibi", "x"))
        [publication] = await b.receive()
        assert isinstance(publication, RoomEvents)
        assert (publication.room, publication.after) == ("den", last)


async def test_what_happens_comes_after_what_the_node_has_seen(house: House) -> None:
    async with house.node("a") as a:
        await a.join("den", "Tibi")
        floor = house.now + 5 * SECOND
        await a.append("den", does("say", "Tibi", "x"), floor=floor)
        assert (await a.snapshot("den")).last == floor + 1


async def test_what_is_sent_again_happens_once(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await b.session.listen(["den"])
        append = Append(node="a", room="den", first=1, happenings=(does("join", "Tibi"), does("say", "Tibi", "x")))
        again = Append(node="a", room="den", first=2, happenings=(does("say", "Tibi", "x"), does("say", "Tibi", "y")))
        other = Append(node="a", room="hall", first=3, happenings=(does("join", "Tibi"),))
        assert await a.session.call([append, append, again, append, other]) == [Appended()] * 5
        events = await b.receive_events(3)
        assert [(event.number, event.body) for event in events] == [(1, ""), (2, "x"), (3, "y")]
        assert await a.members("hall") == {}, "3 was used up"


async def test_joins_beyond_the_limit_are_refused(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        joins = [does("join", user) for user in ("Anna", "Olga", "Tibi")]
        assert await b.append("den", *joins, members_limit=2) == Appended(refused=(2,))
        assert await b.members("den") == {"anna": "b", "tibi": "b"}
        assert await b.append("den", does("leave", "Anna"), joins[1], members_limit=2) == Appended()


async def test_only_the_node_of_a_member_speaks_for_it(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        assert await b.append("den", does("say", "Tibi", "x"), does("leave", "Tibi")) == Appended(refused=(1,))
        assert await b.append("den", does("say", "Nobody", "x")) == Appended(refused=(3,))
        assert await b.members("den") == {"tibi": "a"}
        await b.join("den", "Tibi")
        assert await a.append("den", does("leave", "Tibi")) == Appended()
        assert await a.append("den", does("say", "Tibi", "x")) == Appended(refused=(3,))
        assert await b.members("den") == {"tibi": "b"}


async def test_history_is_kept_also_while_nobody_is_there(house: House) -> None:
    async with house.node("a") as a:
        await a.join("den", "Tibi")
        for number in range(5):
            await a.append("den", does("say", "Tibi", f"{number}"), keep=4)
        all_said = (await a.snapshot("den")).history
        assert [event.body for event in all_said] == ["1", "2", "3", "4"]
        some = await a.snapshot("den", history=2)
        assert [event.body for event in some.history] == ["3", "4"]
        assert some.forgotten_until == all_said[1].at
        assert (await a.snapshot("den", history=4)).forgotten_until == all_said[0].at - 1
        assert await a.ask(Rooms()) == OpenRooms(rooms=("den",))
        await a.append("den", does("leave", "Tibi"))
        assert await a.ask(Rooms()) == OpenRooms(rooms=())
        assert (await a.snapshot("den")).history == all_said
        assert await a.snapshot("never") == Snapshot(last=0, members=(), history=(), forgotten_until=0)


async def test_reading_on_finds_what_was_missed(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.join("den", "Tibi")
        since = (await b.snapshot("den")).last
        assert await b.ask(ReadOn(room="den", after=since)) == Happened(events=(), more=False)
        await b.session.listen(["den"])
        for number in range(READ_ON_LIMIT // 2 + 1):
            await a.append("den", does("say", "Tibi", f"{number}"), does("join", f"u{number}"))
        expected = await b.receive_events(READ_ON_LIMIT + 2)
        assert await b.ask(ReadOn(room="den", after=since)) == Happened(
            events=tuple(expected[:READ_ON_LIMIT]), more=True
        )
        after = expected[READ_ON_LIMIT - 1].at
        assert await b.ask(ReadOn(room="den", after=after)) == Happened(events=tuple(expected[-2:]), more=False)
        # What was never there is another engine's, or what it has lost.
        assert await b.ask(ReadOn(room="den", after=expected[-1].at + 1)) == Gone()
        assert await b.ask(ReadOn(room="hall", after=1)) == Gone()
        await a.join("hall", "Tibi")
        assert await b.ask(ReadOn(room="hall", after=house.now - 2)) == Gone(), "and this one has begun again since"
        assert isinstance(await b.ask(ReadOn(room="hall", after=house.now - 1)), Happened)


async def test_reading_on_from_too_long_ago_is_told_so(house: House) -> None:
    async with house.node("a") as a:
        await a.join("den", "Tibi")
        start = (await a.snapshot("den")).last
        await a.append("den", *(does("join", f"u{number:04}") for number in range(COMINGS_KEPT)))
        assert isinstance(await a.ask(ReadOn(room="den", after=start)), Happened), "the first is lost, but was seen"
        assert await a.ask(ReadOn(room="den", after=start - 1)) == Gone()
        await a.append("den", does("say", "Tibi", "x"), does("say", "Tibi", "y"), keep=1)
        assert await a.ask(ReadOn(room="den", after=start)) == Gone()
        now = (await a.snapshot("den")).last
        assert await a.ask(ReadOn(room="den", after=now)) == Happened(events=(), more=False)


async def test_the_memory_of_comings_ends_with_the_room(house: House) -> None:
    async with house.node("a") as a:
        await a.join("den", "Tibi")
        since = (await a.snapshot("den")).last
        await a.append("den", does("leave", "Tibi"))
        await a.join("den", "Anna")
        assert await a.ask(ReadOn(room="den", after=since)) == Gone()


# Accounts


def account(name: str, hash_: str = "h1", *, look: str = "", role: str = "user") -> Account:
    return Account(key=name.lower(), look=look or name, name=name, hash=hash_, role=role, created=1568979503.28)


async def test_an_account_is_there_from_its_adding_to_its_removal(house: House) -> None:
    tibi = account("Tibi", role="admin")
    async with house.node("a", registered=False) as a, house.node("b", registered=False) as b:
        assert await a.ask(FindAccount(key="tibi")) == NoAccount()
        assert await a.ask(AddAccount(account=tibi)) == Done()
        assert await b.ask(FindAccount(key="tibi")) == Found(account=tibi)
        assert await b.ask(AddAccount(account=account("TIBI", "h2"))) == Found(account=tibi)
        assert await b.ask(RemoveAccount(key="tibi")) == Found(account=tibi)
        assert await a.ask(FindAccount(key="tibi")) == NoAccount()
        assert await b.ask(AddAccount(account=account("TIBI", "h2"))) == Done()


async def test_a_hash_is_replaced_where_it_is_the_one_to_be_replaced(house: House) -> None:
    async with house.node("a", registered=False) as a:
        assert await a.ask(SetHash(key="tibi", hash="h2")) == NoAccount()
        await a.ask(AddAccount(account=account("Tibi", "h1", role="admin")))
        assert await a.ask(SetHash(key="tibi", hash="h2", instead_of="h0")) == Changed()
        assert await a.ask(SetHash(key="tibi", hash="h2", instead_of="h1")) == Done()
        assert await a.ask(SetHash(key="tibi", hash="h3", instead_of="h1")) == Changed()
        assert await a.ask(FindAccount(key="tibi")) == Found(account=account("Tibi", "h2", role="admin"))
        assert await a.ask(SetHash(key="tibi", hash="h4")) == Done()
        assert await a.ask(FindAccount(key="tibi")) == Found(account=account("Tibi", "h4", role="admin"))


async def test_what_is_asked_of_accounts_may_be_asked_again(house: House) -> None:
    async with house.node("a", registered=False) as a:
        for _ in range(2):
            assert await a.ask(AddAccount(account=account("Tibi"))) == Done()
        for _ in range(2):
            assert await a.ask(SetHash(key="tibi", hash="h2", instead_of="h1")) == Done()
        assert await a.ask(AddAccount(account=account("Tibi"))) == Found(account=account("Tibi", "h2"))
        assert await a.ask(RemoveAccount(key="tibi")) == Found(account=account("Tibi", "h2"))
        assert await a.ask(RemoveAccount(key="tibi")) == NoAccount()


async def test_accounts_of_one_look_stand_beside_each_other_where_somebody_has_looked(house: House) -> None:
    one, two, three = (account(name, look="l") for name in ("One", "Two", "Three"))
    async with house.node("a") as a:
        assert await a.ask(AddAccount(account=one)) == Done()
        assert await a.ask(AddAccount(account=two)) == Alike(users=("One",))
        assert await a.ask(AddAccount(account=two, beside=("one",))) == Done()
        assert await a.ask(AddAccount(account=three, beside=("one",))) == Alike(users=("One", "Two"))
        await a.ask(RemoveAccount(key="one"))
        assert await a.ask(AddAccount(account=three, beside=("two",))) == Done()
        # Names that are held are another thing: whoever has an account is who holds its name.
        assert await a.claim("One", "t1") == Granted()


async def test_accounts_are_listed_some_at_a_time_in_the_order_of_their_keys(house: House) -> None:
    names = [f"u{number:04}" for number in range(ACCOUNTS_LIMIT)] + ["z", "\u00e9", "\uff5e", "\U0001f642"]
    async with house.node("a", registered=False) as a:
        assert await a.ask(ListAccounts()) == AccountList(accounts=(), more=False)
        await a.session.call([AddAccount(account=account(name)) for name in reversed(names)])
        first = await a.ask(ListAccounts())
        assert first == AccountList(accounts=tuple(map(account, names[:ACCOUNTS_LIMIT])), more=True)
        rest = await a.ask(ListAccounts(after=names[ACCOUNTS_LIMIT - 1]))
        assert rest == AccountList(accounts=tuple(map(account, names[ACCOUNTS_LIMIT:])), more=False)
        await a.ask(RemoveAccount(key="z"))
        assert await a.ask(ListAccounts(after="u9")) == AccountList(
            accounts=tuple(map(account, names[ACCOUNTS_LIMIT + 1 :])), more=False
        )


# Publications


async def test_transforms_go_to_all_nodes(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await a.session.publish(b"\xff\x00here")
        await a.session.publish(b"there")
        assert await a.receive(2) == await b.receive(2) == [Moves(b"\xff\x00here"), Moves(b"there")]


async def test_who_no_longer_listens_hears_nothing(house: House) -> None:
    async with house.node("a") as a, house.node("b") as b:
        await b.session.listen(["den", "hall"])
        await b.session.listen([])
        await b.session.stop_listening([])
        await b.session.stop_listening(["den"])
        await a.join("den", "Tibi")
        await a.join("hall", "Tibi")
        [publication] = await b.receive()
        assert isinstance(publication, RoomEvents)
        assert publication.room == "hall"


# Sessions


async def test_a_call_that_is_cut_short_ends_the_session(house: House) -> None:
    async with house.node("a") as a:
        with trio.CancelScope() as scope:
            scope.cancel()
            await a.ask(Rooms())
        for ask in (
            a.session.receive,
            lambda: a.ask(Rooms()),
            lambda: a.session.publish(b""),
            lambda: a.session.listen(["x"]),
        ):
            with pytest.raises(LinkLost):
                await ask()


async def test_an_error_of_the_body_comes_out_as_it_is(house: House) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with house.engine.session("a"):
            raise KeyError("mine")


# The reference


def random_requests(dice: random.Random, count: int) -> Iterator[tuple[Request, float]]:
    """Requests of three nodes, each with the seconds that pass before it."""
    users, rooms, tokens = ["Tibi", "Anna", "Olga"], ["den", "hall"], ["t1", "t2", "t3"]
    numbers = dict.fromkeys("abc", 0)
    for _ in range(count):
        node, user, room, token = dice.choice("abc"), dice.choice(users), dice.choice(rooms), dice.choice(tokens)
        lease = Lease(key=user.lower(), look=dice.choice("xy"), user=user, node=node, token=token + node)
        kinds: list[Kind] = ["join", "leave", "say", "say"]
        happenings = tuple(does(dice.choice(kinds), dice.choice(users), "b") for _ in range(dice.randrange(4)))
        first = max(1, numbers[node] + dice.randint(-2, 1))
        numbers[node] = max(numbers[node], first + len(happenings) - 1)
        choices: list[Request] = [
            Register(node=node),
            *(Refresh(node=other) for other in "abc"),
            Claim(lease=lease, again=dice.random() < 0.5, instead_of=dice.choice(tokens) + dice.choice("abc")),
            Claim(lease=lease, beside=tuple(dice.sample(["tibi", "anna", "olga"], 2))),
            Release(node=node, key=user.lower(), token=token + node),
            Append(node=node, room=room, first=first, happenings=happenings, keep=dice.randint(1, 9), members_limit=2),
            Append(node=node, room=room, first=first, happenings=happenings, floor=START + dice.randrange(99 * SECOND)),
            Enter(room=room, history=dice.randrange(5)),
            ReadOn(room=room, after=START + dice.randrange(99 * SECOND)),
            Rooms(),
            Sweep(),
        ]
        if dice.random() < 0.01:
            choices = [Retire(node=node)]
        weights = [5 if isinstance(choice, Append) else 1 for choice in choices]
        yield dice.choices(choices, weights)[0], dice.choice([0.001, 1, 2, 7] if dice.random() < 0.05 else [0, 0.1])


@pytest.mark.parametrize("seed", range(5))
async def test_an_engine_does_what_the_reference_does(fresh: House, seed: int) -> None:
    published: list[Publication] = []
    taken: list[Publication] = []

    def to_node(node: str, publication: Publication) -> None:
        if node == "a":
            taken.append(publication)

    reference = EngineState(TIMING, lambda _, publication: published.append(publication), to_node)
    async with fresh.node("a", registered=False) as a, fresh.node("b", registered=False) as b:
        await a.session.listen(["den", "hall"])
        kinds: set[str] = set()
        for request, seconds in random_requests(random.Random(seed), 1500):
            fresh.pass_s(seconds)
            expected = reference.do(request, fresh.now)
            assert await b.ask(request) == expected, request
            kinds.add(type(expected).__name__)
        assert len(published) > 50
        received = await a.receive(len(published) + len(taken))
        assert [what for what in received if isinstance(what, RoomEvents)] == published
        assert [what for what in received if isinstance(what, Taken)] == taken
        assert kinds >= {"Unknown", "Granted", "Held", "Alike", "Appended", "Happened", "Gone", "Swept", "Snapshot"}


async def test_an_engine_keeps_accounts_as_the_reference_does(fresh: House) -> None:
    reference = EngineState(TIMING, lambda *_: None, lambda *_: None)
    async with fresh.node("a", registered=False) as a:
        kinds: set[str] = set()
        for request in random_account_requests(random.Random(0), 1000):
            expected = reference.do(request, fresh.now)
            assert await a.ask(request) == expected, request
            kinds.add(type(expected).__name__)
        assert kinds == {"Done", "Alike", "Found", "NoAccount", "Changed", "AccountList"}
