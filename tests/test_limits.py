"""The limits: on rates, on numbers, by address; and that they can be switched off. In virtual time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat._admission import Admission, Networks, Peer
from trio_vrchat._errors import SlowDown
from trio_vrchat._login_failures import LoginFailures
from trio_vrchat._rate import Bucket
from trio_vrchat._store import Store
from trio_vrchat.testing import RawClient, settle

PING = {"system": "ping"}
TRANSFORM = {"room": "lobby", "type": "transform", "data": {"pos": {"x": 1}}}


def say(data: Any) -> dict[str, Any]:
    return {"room": "lobby", "data": data}


def codes(client: RawClient) -> list[int]:
    return [message["response"]["code"] for message in client.messages() if message["info"] != "user"]


def heard(client: RawClient) -> list[Any]:
    return [entry["data"] for entry in client.entries("lobby") if entry["type"] == "msg"]


# The token bucket


def test_a_bucket_holds_so_many_and_fills_again() -> None:
    bucket = Bucket(3, 2.0, now=10.0)
    assert [bucket.take(1, 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(1, 10.4) == pytest.approx(0.1)
    assert bucket.take(1, 10.5) == 0.0
    assert bucket.take(4, 100.0) > 0, "more than it ever holds"
    assert bucket.take(3, 100.0) == 0.0, "and taking that took nothing"


def test_a_bucket_can_owe() -> None:
    bucket = Bucket(10, 5.0, now=0.0)
    assert bucket.owe(10, 0.0) == 0.0
    assert bucket.owe(10, 0.0) == 2.0
    assert bucket.owe(0, 1.5) == 0.5
    assert bucket.owe(5, 2.0) == 1.0
    assert bucket.owe(0, 3.0) == 0.0


# Events


async def test_events_are_20_at_once_then_10_a_second(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        tibi = await server.login("Tibi")  # the login is the first of them
        tibi.texts()
        anna.texts()
        for number in range(25):
            tibi.send(say(number))
        await settle()
        refusals = [message["response"] for message in tibi.messages() if message["info"] == "error"]
        assert [refusal["code"] for refusal in refusals] == [429] * 6
        assert refusals[0]["msg"] == "Slow down."
        assert refusals[0]["detail"] == {"room": "lobby", "retry_after": pytest.approx(0.1, abs=0.002)}
        assert heard(anna) == list(range(19)), "what is refused is not delivered"
        await trio.sleep(refusals[0]["detail"]["retry_after"])
        for when in ("in time", "too early"):
            tibi.send(say(when))
        await settle()
        assert heard(anna) == ["in time"]
        assert codes(tibi) == [429]
        await trio.sleep(100)  # (with their pings, below)
        assert server.statistics.rate_limited == 7


async def test_everything_but_a_transform_is_an_event(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(events_at_once=5, events_per_s=0.01)) as server:
        kinds: list[list[Any]] = [
            [PING] * 4 + [{"system": "rooms"}],
            [{"room": "lobby", "type": "list", "data": ""}] * 5,
            ["not JSON", b"binary", {"room": 5}, {"room": "elsewhere", "data": 1}, {"system": "what"}],
            [{"room": "elsewhere", "type": "transform", "data": {}}] * 3 + [{"room": "lobby", "type": "transform"}] * 2,
        ]
        for messages in kinds:
            client = await server.connect()
            client.send({"system": "login", "options": {"user": "Tibi", "pass": "1"}})
            await settle()
            client.texts()
            for message in messages:
                client.send(message)
            await settle()
            assert codes(client)[-1] == 429, messages
            client.send(PING)
            client.send("{")
            await settle()
            assert codes(client) == [429, 429]
            client.close()
            await settle()


async def test_transforms_are_not_events(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        for _ in range(100):
            tibi.send(TRANSFORM)
        tibi.send(say("still here"))
        await settle()
        assert heard(tibi) == ["still here"]
        assert server.statistics.rate_limited == 0


async def test_before_the_login_too(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        for _ in range(21):
            client.send(PING)
        await settle()
        assert codes(client) == [220] * 20 + [429]


# Bytes


async def test_bytes_over_all_are_256_kib_a_second_and_what_is_dropped_is_told_once_a_second(
    autojump_clock: MockClock,
) -> None:
    async with testing.open_server(Config(fps=1)) as server:
        anna = await server.login("anna")
        tibi = await server.login("Tibi")
        anna.texts()
        tibi.texts()
        large = {"room": "lobby", "type": "transform", "data": {"pos": {"x": 1}, "more": "x" * 30_000}}
        for number in range(12):
            tibi.send(large | {"data": large["data"] | {"number": number}})  # type: ignore[operator]
            await settle()
        assert codes(tibi) == [429], "not one for each"
        tibi.send(say("x" * 30_000))
        await settle()
        assert codes(tibi) == [429], "an event over it is told, each"
        await trio.sleep(1.1)
        entries = anna.entries("lobby")
        assert entries[-1]["data"]["number"] == 7, "the first 240 KB"
        tibi.send(say("x" * 30_000))
        await settle()
        assert len(heard(tibi)) == 1


async def test_large_messages_of_one_room_are_256_kib_a_second_whoever_sends_them(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        people = [await server.login(f"Tibi {number}") for number in range(6)]
        anna.texts()
        for person in people:
            person.texts()
            person.send(say("x" * 60_000))
            await settle()
        people[0].send(say("x" * 1000))  # (with its quotes 1,002 bytes)
        people[1].send({"room": "lobby", "type": "list", "data": "x" * 2000})
        people[2].send({"room": "elsewhere", "type": "join"})
        people[2].send({"room": "elsewhere", "data": "x" * 60_000})
        lines: list[str] = []
        refused: list[dict[str, Any]] = []
        for _ in range(10):  # what waits on the way is more than a pipe holds
            await settle()
            lines += heard(anna)
            refused += [message["response"] for message in people[4].messages() if message["info"] == "error"]
        assert [len(line) for line in lines] == [60_000] * 4 + [1000]
        assert [refusal["code"] for refusal in refused] == [429]
        assert refused[0]["detail"] == {"room": "lobby", "retry_after": pytest.approx(0.145, abs=0.001)}
        assert codes(people[0]) == codes(people[1]) == [], "what people type, and what is not relayed, passes"
        assert codes(people[2]) == [], "each room has its own"
        await trio.sleep(refused[0]["detail"]["retry_after"])
        people[4].send(say("y" * 60_000))
        await settle()
        assert [len(data) for data in heard(anna)] == [60_000]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x" * 50_000, 200),
        ('{"room":"lobby","type":"transform","data":{"pos":{"x":1,"y":1,"z":1},"rot":{"x":1,"y":1,"z":1}}}', 20_000),
        ('{"room":"lobby","type":"transform","data":{"more":"%s"}}' % ("x" * 50_000), 200),
    ],
    ids=["no JSON", "plain transforms", "large transforms"],
)
async def test_a_flood_is_read_more_slowly(autojump_clock: MockClock, text: str, count: int) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        flooder = await server.login("flooder")
        flooder.texts()
        anna.texts()
        started = trio.current_time()
        for _ in range(count):
            flooder.send(text)
        while flooder._up.data:
            await trio.sleep(0.1)
            flooder.texts()
        seconds = trio.current_time() - started
        # 10 MB at 512 KiB a second, of which one second's worth is free. (What comes in pieces is counted as it is
        # read, and some of it once more when it is dropped.)
        assert 17 < seconds < 27
        assert not flooder.ended
        assert not heard(anna)


async def test_a_flood_of_tiny_frames_is_read_more_slowly(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        flooder = await server.connect()
        started = trio.current_time()
        for _ in range(20_000):
            flooder.send_frame(10, b"")  # pongs: no message ever comes of them
        while flooder._up.data:  # noqa: ASYNC110
            await trio.sleep(0.1)
        assert trio.current_time() - started > 5


async def test_who_goes_on_after_a_refusal_is_read_more_slowly(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        flooder = await server.connect()
        for _ in range(1000):
            flooder.send(PING)
        await settle()
        first = len(codes(flooder))
        assert first < 200
        await trio.sleep(5)
        assert len(codes(flooder)) < 450


# Numbers


async def test_members_a_room(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(members_per_room=2)) as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        assert server.statistics.members == 2
        bea = await server.login("bea")
        messages = bea.messages()
        assert messages[0]["response"]["code"] == 202, "the login itself is granted"
        refusal = messages[1]["response"]
        assert (refusal["code"], refusal["detail"]) == (413, {"limit": "members_per_room", "value": 2, "room": "lobby"})
        for client in (bea, tibi, anna):
            client.texts()
            client.send({"room": "den", "type": "join", "data": ""})
            await settle()
        assert codes(anna) == [413]
        bea.send({"room": "den", "type": "leave", "data": ""})
        await settle()
        anna.send({"room": "den", "type": "join", "data": ""})
        await settle()
        assert codes(anna) == []


async def test_rooms_in_total(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(rooms_limit=3)) as server:
        tibi = await server.login("Tibi")
        tibi.texts()
        for room in ("a", "b", "c"):
            tibi.send({"room": room, "type": "join", "data": ""})
            await settle()
        assert [message["response"] for message in tibi.messages() if message["info"] == "error"] == [
            {
                "time": testing.START_TIME,
                "code": 413,
                "msg": "Too much.",
                "detail": {"limit": "rooms_limit", "value": 3, "room": "c"},
            }
        ]
        assert server.statistics.rooms == 3


async def test_rooms_of_one_name_that_are_still_closing_are_rooms(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_arguments: object) -> None:
        await trio.sleep_forever()

    config = Config.unlimited(store=str(tmp_path / "chat.db"), rooms_limit=10)
    async with testing.open_server(config) as server:
        monkeypatch.setattr(Store, "load", hang)
        tibi = await server.login("Tibi")
        tibi.texts()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(50):
            for kind in ("join", "leave"):
                tibi.send({"room": "den", "type": kind, "data": ""})
        await settle()
        assert set(codes(tibi)) == {413, 401}
        assert trio.lowlevel.current_statistics().tasks_living == tasks + 9


async def test_what_nobody_has_handled_is_at_most_twice_the_largest_message(autojump_clock: MockClock) -> None:
    async def busy(*_arguments: str) -> bool:
        await trio.sleep_forever()
        return True

    for size in (10, 1000, 30_000, 65_000):
        async with testing.open_server(Config.unlimited(login_timeout_s=60), authenticate=busy) as server:
            client = await server.connect()
            client.send({"system": "login", "options": {"user": "Tibi", "pass": ""}})
            await settle()
            sent = 0
            while sent < 500_000:
                client.send(say("x" * size))
                sent += size
            waiting = len(client._up.data)
            for _ in range(20):
                await trio.sleep(1)
            assert waiting - len(client._up.data) <= 2 * 64 * 1024


# By address


async def test_connections_from_one_address(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.open_server(Config(connections_per_address=2)) as server:
        first = await server.connect(address="192.0.2.7")
        await server.connect(address="::ffff:192.0.2.7")
        refused = await server.dial(address="192.0.2.7")
        await settle()
        assert refused.ended
        assert "192.0.2.7 has 2 connections already (connections_per_address)" in caplog.text
        await server.connect(address="192.0.2.8")
        for address in ("2001:db8::1", "2001:db8::2"):
            await server.connect(address=address)
        refused = await server.dial(address="2001:db8:0:0:ffff::3")
        await settle()
        assert refused.ended, "one /64 is one address"
        await server.connect(address="2001:db8:0:1::1")
        first.end()
        await settle()
        await server.connect(address="192.0.2.7")
        assert server.statistics.refused == 2


async def test_new_connections_a_minute_from_one_address(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(new_connections_per_minute=3)) as server:
        for _ in range(3):
            (await server.connect(address="192.0.2.7")).end()
            await settle()
        refused = await server.dial(address="192.0.2.7")
        await settle()
        assert refused.ended
        await server.connect(address="192.0.2.8")
        await trio.sleep(60)
        await server.connect(address="192.0.2.7")


async def test_connections_in_total(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(connections_limit=2)) as server:
        first = await server.connect()
        await server.connect()
        refused = await server.dial()
        await settle()
        assert refused.ended
        first.end()
        await settle()
        await server.connect()


async def test_exempt_networks_skip_the_limits_by_address_and_nothing_else(autojump_clock: MockClock) -> None:
    config = Config(
        connections_per_address=1, new_connections_per_minute=1, connections_limit=3, exempt_networks=("192.0.2.0/24",)
    )
    async with testing.open_server(config) as server:
        client, *_ = [await server.connect(address="192.0.2.7") for _ in range(3)]
        refused = await server.dial(address="192.0.2.7")
        await settle()
        assert refused.ended, "the limit in total"
        for _ in range(21):
            client.send(PING)
        await settle()
        assert codes(client)[-1] == 429


def test_of_two_limits_in_total_the_lower_counts() -> None:
    for setting, possible, expected in ((10, 3, 3), (2, 3, 2), (0, 3, 3), (2, 0, 2)):
        admission = Admission(Config(connections_limit=setting), possible, lambda: 0.0)
        admitted = 0
        while not admission.admit(Peer("somebody")):
            admitted += 1
        assert admitted == expected


def test_who_has_gone_is_forgotten() -> None:
    admission = Admission(Config(), 0, lambda: 0.0)
    for number in range(1000):
        peer = Peer("x", f"192.0.2.{number}", exempt=False)
        assert admission.admit(peer) == ""
        admission.release(peer)
    assert not admission._open


def test_loopback_is_exempt_unless_set_otherwise() -> None:
    networks = Networks(Config().exempt_networks)
    for host in ("127.0.0.1", "127.66.1.2", "::1", "::ffff:127.0.0.1"):
        assert networks.peer(host, 1).exempt
    assert not networks.peer("192.168.1.1", 1).exempt
    assert networks.peer("fe80::1%eth0", 7) == Peer("[fe80::1%eth0]:7", "fe80::/64", exempt=False)
    assert networks.peer("192.0.2.7", 7) == Peer("192.0.2.7:7", "192.0.2.7", exempt=False)


async def test_a_flood_of_refusals_is_a_line_now_and_then(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_vrchat")
    async with testing.open_server(Config(connections_limit=1)) as server:
        await server.connect()
        for _ in range(50):
            await server.dial()
        await settle()
        assert len(caplog.records) == 1
        await trio.sleep(11)
        await server.dial()
        await settle()
        assert len(caplog.records) == 2
        assert server.statistics.refused == 51


# Logins that fail


def login_failures(**settings: Any) -> tuple[LoginFailures, list[float]]:
    now = [1000.0]
    return LoginFailures(Config(**settings), lambda: now[0]), now


HERE, THERE = Peer("a:1", "192.0.2.7", exempt=False), Peer("b:1", "192.0.2.8", exempt=False)


def fail(failures: LoginFailures, key: str, peer: Peer) -> None:
    failures.begin(key, peer).failed()


def test_three_failures_a_minute_for_a_name_from_one_address() -> None:
    failures, now = login_failures()
    for second in range(3):
        now[0] = 1000.0 + second
        fail(failures, "tibi", HERE)
    with pytest.raises(SlowDown) as caught:
        failures.begin("tibi", HERE)
    assert caught.value.detail == {"retry_after": 58.0}
    fail(failures, "anna", HERE)
    fail(failures, "tibi", THERE)
    now[0] = 1060.0
    fail(failures, "tibi", HERE)
    with pytest.raises(SlowDown):
        failures.begin("tibi", HERE)


def test_an_attempt_counts_from_its_start() -> None:
    failures, _ = login_failures()
    attempts = [failures.begin("tibi", HERE) for _ in range(3)]
    with pytest.raises(SlowDown):
        failures.begin("tibi", HERE)
    attempts[0].taken_back()
    failures.begin("tibi", HERE)
    with pytest.raises(SlowDown):
        failures.begin("tibi", HERE)


def test_ten_failures_a_minute_from_one_address() -> None:
    failures, now = login_failures()
    for number in range(10):
        fail(failures, f"user {number}", HERE)
    with pytest.raises(SlowDown):
        failures.begin("another", HERE)
    failures.begin("another", THERE)
    now[0] += 60
    failures.begin("another", HERE)


def test_honest_logins_from_one_address_are_not_counted() -> None:
    failures, _ = login_failures()
    for number in range(500):
        failures.begin(f"user {number}", HERE).taken_back()
    assert not failures._times


def test_an_exempt_address_is_not_counted_but_its_guesses_at_a_name_are() -> None:
    failures, _ = login_failures()
    exempt = Peer("a:1", "127.0.0.1")
    for number in range(20):
        fail(failures, f"user {number}", exempt)
    for _ in range(3):
        fail(failures, "tibi", exempt)
    with pytest.raises(SlowDown):
        failures.begin("tibi", exempt)


def test_what_is_counted_is_bounded() -> None:
    failures, _ = login_failures()
    for number in range(25_000):
        fail(failures, f"user {number}", Peer("x", f"2001:db8:0:{number:x}::/64", exempt=False))
    assert len(failures._times) <= 10_000


async def test_guesses_at_a_held_name_are_429(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        await server.login("Tibi")
        answers = []
        for number in range(5):
            answers += codes(await server.login("Tibi", f"guess {number}", address="192.0.2.7"))
        assert answers == [409, 409, 409, 429, 429]
        assert codes(await server.login("Tibi", address="192.0.2.8")) == [202], "the owner is not locked out"


async def test_coming_back_is_no_failure(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        for _ in range(8):
            assert codes(await server.login("Tibi", address="192.0.2.7")) == [202]


# Without limits


async def test_without_limits(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi = await server.login("Tibi", address="192.0.2.7")
        for number in range(500):
            tibi.send(say(number))
        await settle()
        assert heard(tibi) == list(range(500))
        for number in range(40):
            tibi.send({"room": f"room {number}", "type": "join", "data": ""})
        await settle()
        assert server.statistics.rooms == 41
        for _ in range(100):
            await server.connect(address="192.0.2.7")
