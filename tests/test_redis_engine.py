"""The engine in Redis where Redis fails: killed, stopped, restarted, full, or not there at all. On real sockets."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from tests.redis_server import RedisServer, needs_redis, running_redis
from trio_vrchat import ConfigError, _redis_engine
from trio_vrchat._backplane import (
    Append,
    Appended,
    Claim,
    EngineSession,
    Enter,
    Failed,
    Granted,
    Happening,
    Lease,
    LinkLost,
    Refresh,
    Register,
    Request,
    Rooms,
    Snapshot,
    Standing,
    Unknown,
)
from trio_vrchat._redis_engine import RedisEngine

pytestmark = needs_redis

DEADLINE_S = 20.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that a test would wait for."""
    monkeypatch.setattr(_redis_engine, "_CALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(_redis_engine, "_PING_INTERVAL_S", 0.05)


def append(first: int, *bodies: str) -> Append:
    happenings = tuple(Happening("say", "tibi", "Tibi", body) for body in bodies)
    if first == 1:
        happenings = (Happening("join", "tibi", "Tibi"), *happenings)
    return Append(node="a", room="den", first=first, happenings=happenings)


CLAIM = Claim(lease=Lease(key="tibi", look="tibi", user="Tibi", node="a", token="t"), again=True)


async def said(session: EngineSession) -> list[str]:
    [snapshot] = await session.call([Enter(room="den", history=1000)])
    assert isinstance(snapshot, Snapshot)
    return [event.body for event in snapshot.history]


def ways(session: EngineSession) -> list[Callable[[], Awaitable[object]]]:
    """All that can be done with a session, each as a function without arguments."""
    requests: list[Request] = [Rooms()]
    return [
        lambda: session.call(requests),
        lambda: session.publish(b"x"),
        lambda: session.listen(["hall"]),
        lambda: session.stop_listening(["den"]),
        session.receive,
    ]


async def lost(session: EngineSession) -> None:
    """Wait until somebody who only listens knows that the session is over, and see that everything else does."""
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(LinkLost):  # noqa: PT012  (what was on its way comes first)
            while True:
                await session.receive()
        for way in ways(session):
            with pytest.raises(LinkLost):
                await way()


async def test_what_was_acknowledged_outlives_a_kill(redis: RedisServer) -> None:
    engine = RedisEngine(redis.url)
    acknowledged: list[str] = []
    async with engine.session("a") as session:
        await session.listen(["den"])
        await session.call([Register(node="a"), CLAIM])
        await session.call([append(1)])
        for number in range(50):
            assert await session.call([append(2 + number, f"{number}")]) == [Appended()]
            acknowledged.append(f"{number}")
        redis.stop()
        await lost(session)
    with pytest.raises(LinkLost, match=r"127\.0\.0\.1"):
        async with engine.session("a"):
            pass
    redis.start()
    async with engine.session("a") as session:
        [standing, granted] = await session.call([Refresh(node="a"), CLAIM])
        assert isinstance(standing, Standing)
        assert granted == Granted()
        assert await said(session) == acknowledged


async def test_an_engine_that_has_lost_its_disk_knows_nobody(redis: RedisServer) -> None:
    engine = RedisEngine(redis.url)
    async with engine.session("a") as session:
        await session.call([Register(node="a"), append(1, "x")])
    redis.stop()
    redis.forget()
    redis.start()
    async with engine.session("a") as session:
        assert await session.call([Refresh(node="a")]) == [Unknown()]
        assert await said(session) == []


async def test_what_an_engine_does_late_it_does_once(redis: RedisServer, impatient: None) -> None:
    engine = RedisEngine(redis.url)
    async with engine.session("a") as session:
        await session.call([Register(node="a"), append(1)])
        redis.hang()
        with trio.fail_after(DEADLINE_S), pytest.raises(LinkLost, match="timed out"):
            await session.call([append(2, "x")])
        await lost(session)
    with pytest.raises(LinkLost):
        async with engine.session("a"):
            pass
    redis.resume()
    async with engine.session("a") as session:
        assert await session.call([append(2, "x")]) == [Appended()]
        assert await said(session) == ["x"]


async def test_who_only_listens_notices_an_engine_that_hangs(redis: RedisServer, impatient: None) -> None:
    async with RedisEngine(redis.url).session("a") as session:
        redis.hang()
        await lost(session)


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_the_loss_of_one_connection_is_the_end_of_both(redis: RedisServer, kind: str) -> None:
    async with RedisEngine(redis.url).session("a") as session:
        assert redis.command(f"CLIENT KILL TYPE {kind} SKIPME yes") == ":1"
        await lost(session)


async def test_who_waits_is_told_of_the_loss(redis: RedisServer) -> None:
    async with RedisEngine(redis.url).session("a") as session:
        redis.hang()
        told: list[LinkLost] = []

        async def wait(way: Callable[[], Awaitable[object]]) -> None:
            try:
                await way()
            except LinkLost as error:
                told.append(error)

        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for way in ways(session):
                    nursery.start_soon(wait, way)
                await trio.testing.wait_all_tasks_blocked()
                redis.stop()
        assert len(told) == len(ways(session))


async def test_a_flushed_script_is_loaded_by_the_next_session(redis: RedisServer) -> None:
    engine = RedisEngine(redis.url)
    async with engine.session("a") as session:
        redis.command("SCRIPT FLUSH")
        with pytest.raises(LinkLost):
            await session.call([Rooms()])
    async with engine.session("a") as session:
        await session.call([Rooms()])


async def test_a_full_engine_fails_to_write_and_goes_on_reading(redis: RedisServer) -> None:
    async with RedisEngine(redis.url).session("a") as session:
        await session.call([Register(node="a"), append(1, "x")])
        redis.command("CONFIG SET maxmemory 1")
        [full, snapshot] = await session.call([append(3, "y"), Enter(room="den", history=9)])
        assert isinstance(full, Failed)
        assert "maxmemory" in full.why
        assert isinstance(snapshot, Snapshot)
        redis.command("CONFIG SET maxmemory 0")
        assert await session.call([append(3, "y")]) == [Appended()]
        assert await said(session) == ["x", "y"]


async def test_what_nobody_takes_has_a_limit(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_engine, "_INBOX_LIMIT_BYTES", 10_000)
    engine = RedisEngine(redis.url)
    async with engine.session("a") as idle, engine.session("b") as sender:
        with trio.fail_after(DEADLINE_S), pytest.raises(LinkLost, match="10000 bytes"):  # noqa: PT012  (at some time)
            while True:
                await sender.publish(b"x" * 1000)
                await sender.receive()
                await idle.call([Rooms()])


async def test_sessions_that_are_lost_leave_nothing_open(redis: RedisServer) -> None:
    engine = RedisEngine(redis.url)
    process = psutil.Process()
    open_before = process.num_fds()
    for _ in range(100):
        async with engine.session("a") as session:
            redis.command("CLIENT KILL TYPE pubsub")
            await lost(session)
    assert process.num_fds() == open_before


async def test_databases_are_apart(redis: RedisServer) -> None:
    async with RedisEngine(redis.url).session("a") as zero, RedisEngine(redis.url + "/1").session("a") as one:
        await zero.call([Register(node="a"), append(1, "x")])
        await zero.publish(b"zero")
        await one.publish(b"one")
        assert await said(one) == []
        for session, expected in ((zero, b"zero"), (one, b"one")):
            with trio.fail_after(DEADLINE_S):
                assert (await session.receive()).data == expected  # type: ignore[union-attr]


async def test_a_password(redis: RedisServer) -> None:
    redis.command("CONFIG SET requirepass a:b/c")
    address = redis.url.removeprefix("redis://")
    async with RedisEngine(f"redis://:a%3Ab%2Fc@{address}").session("a") as session:
        await session.call([Rooms()])
    for login in ("", ":sesame@"):
        with pytest.raises(LinkLost) as caught:
            async with RedisEngine(f"redis://{login}{address}").session("a"):
                pass
        assert address in str(caught.value)
        assert "sesame" not in str(caught.value)


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with trio.fail_after(DEADLINE_S), pytest.raises(LinkLost, match=f"Redis at 127.0.0.1:{port}: .*refused"):
            async with RedisEngine(f"redis://127.0.0.1:{port}").session("a"):
                pass


async def test_what_answers_there_is_no_redis() -> None:
    async with trio.open_nursery() as nursery:

        async def answer(stream: trio.SocketStream) -> None:
            async with stream:
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with trio.fail_after(DEADLINE_S), pytest.raises(LinkLost, match=f":{port}"):
            async with RedisEngine(f"redis://127.0.0.1:{port}").session("a"):
                pass
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis:",
        "redis://",
        "http://secret@host",
        "redis://:secret@host:port",
        "redis://:secret@host/x",
        "redis://:secret@host?ssl=no",
        "redis://:secret@host:99999",
        "redis://[::1",
    ],
)
def test_an_url_that_is_none_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="backplane must be redis://") as caught:
        RedisEngine(url)
    assert "secret" not in str(caught.value)
