"""HTTP and WebSocket on one port: in memory with bytes cut anywhere, in virtual time, and on real sockets."""

from __future__ import annotations

import gzip
import http.client
import logging
import re
import socket
from collections.abc import Iterator

import pytest
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import trio_vrchat
from tests.program import DEADLINE_S, LOCAL, LOOPBACK, Program, started
from trio_vrchat import Config, Handle, _server, testing
from trio_vrchat._frames import TEXT
from trio_vrchat._web_files import table_of
from trio_vrchat.testing import MemoryServer, RawClient, client_frame, settle, upgrade_request

LARGE = bytes(range(256)) * 2000
FILES = table_of({"index.html": b"<!doctype html>", "main.js": b"x = 1;\n", "large.bin": LARGE})
GET = b"GET /main.js HTTP/1.1\r\nHost: memory\r\n\r\n"
PING = client_frame(TEXT, b'{"system": "ping"}')


@pytest.fixture(autouse=True)
def a_table_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "own_files", lambda: FILES)


async def asked(server: MemoryServer, *pieces: bytes) -> tuple[RawClient, bytes]:
    """A client that has sent these, one after the other, and what it was told."""
    client = await server.dial()
    for piece in pieces:
        client.send_bytes(piece)
        await settle()
    return client, client.take_bytes()


def statuses(told: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", told)]


# Requests on a connection


async def test_several_requests_and_then_an_upgrade(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, GET, b"HEAD / HTTP/1.1\r\nHost: memory\r\n\r\n")
        assert statuses(told) == [200, 200]
        assert told.count(b"x = 1;\n") == 1
        client.send_bytes(upgrade_request() + PING)
        await settle()
        told = client.take_bytes()
        assert statuses(told) == [101]
        assert b"Pong." in told
        assert (server.statistics.http_requests, server.statistics.connections) == (2, 1)


async def test_where_bytes_are_cut_has_no_meaning(autojump_clock: MockClock) -> None:
    script = GET + b"GET /none HTTP/1.1\r\nHost: memory\r\n\r\n" + upgrade_request() + PING
    async with testing.open_server(Config.unlimited()) as server:
        _, expected = await asked(server, script)
        assert statuses(expected) == [200, 404, 101]
        assert b"Pong." in expected
        for cut in range(1, len(script)):
            client, told = await asked(server, script[:cut], script[cut:])
            assert told == expected, cut
            client.reset()
        _, told = await asked(server, *(script[position : position + 1] for position in range(len(script))))
        assert told == expected


async def test_pipelined_requests_are_answered_in_turn(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, (GET + GET.replace(b"main.js", b"none")) * 10)
        assert statuses(told) == [200, 404] * 10
        assert not client.ended


async def test_a_connection_has_a_hundred_requests(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, GET * 101)
        assert statuses(told) == [200] * 100
        assert told.count(b"Connection: close") == 1
        client.end()
        await settle()
        assert client.ended


async def test_who_says_close_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET)
        assert statuses(told) == [200]
        assert client._down.ended, "who waits for the end, as old clients do, waits for nothing more"
        assert not client.ended, "it may still be sending"
        await trio.sleep(3)
        await settle()
        assert client.ended


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: memory\r\nContent-Length: 1000000000\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: memory\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_body_is_not_read(autojump_clock: MockClock, request_: bytes) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, request_ + b"x" * 1000)
        assert statuses(told)[0] in (405, 413)
        for _ in range(200):
            client.send_bytes(b"x" * 60_000)
            await trio.sleep(0.1)
        assert client.ended, "and not for longer than it takes to hang up"
        assert len(statuses(told)) == 1
        assert server.statistics.bytes_in < 3_000_000


async def test_without_a_page(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(page=False)) as server:
        _, told = await asked(server, b"GET / HTTP/1.1\r\nHost: memory\r\n\r\n" + GET)
        assert statuses(told) == [426, 404]
        await server.login("Tibi")


# Time


async def test_a_slow_head_is_408_after_five_seconds(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.dial()
        client.send_bytes(GET[:17])
        while trio.current_time() < 4.9:
            client.send_bytes(b"X")
            await trio.sleep(0.1)
        await settle()
        assert client.take_bytes() == b""
        await trio.sleep(0.2)
        await settle()
        assert statuses(client.take_bytes()) == [408]
        client.end()
        await settle()
        assert client.ended


async def test_who_asks_for_nothing_more_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, told = await asked(server, GET)
        assert statuses(told) == [200]
        await trio.sleep(4.9)
        client.send_bytes(GET)
        await settle()
        assert statuses(client.take_bytes()) == [200]
        await trio.sleep(4.9)
        assert not client.ended
        await trio.sleep(0.2)
        await settle()
        assert (client.take_bytes(), client.ended) == (b"", True)


async def test_an_upgrade_after_a_request_has_its_own_time(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client, _ = await asked(server, GET)
        await trio.sleep(4)
        client.send_bytes(upgrade_request()[:30])
        await trio.sleep(0.5)
        client.send_bytes(upgrade_request()[30:])
        await settle()
        assert statuses(client.take_bytes()) == [101]


async def test_who_reads_slowly_gets_all_and_who_does_not_read_is_cut_off(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        slow, still = await server.dial(buffer_bytes=20_000), await server.dial(buffer_bytes=20_000)
        for client in (slow, still):
            client.send_bytes(GET.replace(b"main.js", b"large.bin"))
        told = b""
        for _ in range(len(LARGE) // 16_000 + 2):
            await trio.sleep(4)
            told += slow.take_bytes()
        assert told.endswith(LARGE)
        assert still.ended
        assert still.unread_bytes == 20_000
        assert server.statistics.bytes_out >= len(LARGE)


async def test_a_stop_waits_for_answers_and_for_nothing_else(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        idle, _ = await asked(server, GET)
        half, _ = await asked(server, GET[:9])
        closing, _ = await asked(server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        busy = await server.dial(buffer_bytes=300_000)
        health = GET.replace(b"main.js", b"healthz")
        busy.send_bytes(GET.replace(b"main.js", b"large.bin") + health + health)
        await settle()
        start = trio.current_time()
        server.handle.cancel_scope.cancel()
        await settle()
        assert idle.ended
        assert half.ended
        assert half.take_bytes() == b"", "what was no request yet is no error"
        assert closing.ended
        assert not busy.ended
        told = busy.take_bytes()
        await settle()
        told += busy.take_bytes()
        assert statuses(told) == [200, 503]
        assert b"Connection: close" in told[-200:]
        busy.end()
        await settle()
        assert busy.ended
        assert trio.current_time() == start


# Limits by address


async def test_eighteen_people_behind_one_router_open_the_page(autojump_clock: MockClock) -> None:
    """Each browser opens six connections for the files, reloads while they are there, and then one that stays."""
    address = "192.0.2.7"
    async with testing.open_server() as server:
        for number in range(18):
            loads = [await server.dial(address=address) for _ in range(6)]
            for client in loads * 2:
                client.send_bytes(GET)
                await settle()
                assert statuses(client.take_bytes()) == [200]
            await server.login(f"user {number}", address=address)
            await trio.sleep(2)
            for client in loads:
                client.end()
        assert (server.statistics.refused, server.statistics.logins) == (0, 18)


# Whatever comes


requests = st.sampled_from(
    [
        GET,
        GET.replace(b"main.js", b""),
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"1.1", b"1.0"),
        b"POST / HTTP/1.1\r\nHost: memory\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /healthz HTTP/1.1\nHost: memory\n\n",
        b"GET / HTTP/1.1\r\nHost: memory\r\nIf-None-Match: *\r\nAccept-Encoding: gzip;q=x\r\n\r\n",
        b"\r\n",
        b"GET /" + b"x" * 17_000,
    ]
)
scripts = st.lists(st.one_of(requests, st.binary(max_size=60)), min_size=1, max_size=4).map(b"".join)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=scripts, cuts=st.lists(st.integers(0, 400), max_size=4), after=st.sampled_from(["silence", "end", "reset"])
)
async def test_any_bytes_get_answers_or_a_close(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, script: bytes, cuts: list[int], after: str
) -> None:
    caplog.clear()
    cuts = sorted({cut for cut in cuts if 0 < cut < len(script)})
    pieces = [script[start:end] for start, end in zip([0, *cuts], [*cuts, len(script)], strict=True)]
    async with testing.open_server(Config.unlimited()) as server:
        client, told = await asked(server, *pieces)
        assert told == (await asked(server, script))[1]
        assert not told or told.startswith(b"HTTP/1.1 ")
        event(f"answers: {statuses(told)}")
        if after != "silence":
            (client.end if after == "end" else client.reset)()
            await settle()
            assert client.ended
        await trio.sleep(9)  # a head's time, and that to hang up
        await settle()
        assert client.ended
        await server.login("somebody")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_the_log_does_not_quote_requests(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_vrchat")
    async with testing.open_server() as server:
        await asked(server, b"GET /SECRET?SECRET HTTP/1.1\r\nHost: SECRET\r\nCookie: SECRET\r\n\r\n")
        await asked(server, b"GET /SECRET HTTP/1.1\r\nHost: SE CRET\r\n\r\n")
    assert "answered with 404" in caplog.text
    assert "answered with 400" in caplog.text
    assert "SECRET" not in caplog.text


async def test_who_goes_without_a_request_is_a_line_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat.connection")
    async with testing.open_server() as server:
        silent, _ = await asked(server, b"")
        half, _ = await asked(server, GET[:9])
        page, _ = await asked(server, GET)
        for client in (silent, half, page):
            client.end()
        await settle()
    gone = [record.getMessage() for record in caplog.records if "gone without" in record.getMessage()]
    assert sorted(gone) == [f"headset {number}: gone without a WebSocket handshake" for number in (1, 2)]


async def test_an_answer_that_fails_ends_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat")
    async with testing.open_server() as server:
        with monkeypatch.context() as patch:
            patch.setattr("trio_vrchat._front.respond", lambda *_, **__: 1 // 0)
            client, told = await asked(server, GET)
        assert (told, client.ended) == (b"", True)
        assert "ZeroDivisionError" in caplog.text
        assert statuses((await asked(server, GET))[1]) == [200]


# On sockets


@pytest.fixture(scope="module")
def program() -> Iterator[tuple[Program, int]]:
    with started(*LOCAL, "--log-level", "0") as running:
        yield running, int(running.url().rpartition(":")[2].rstrip("/"))


def test_a_browser_of_another_maker_keeps_its_connection(program: tuple[Program, int]) -> None:
    client = http.client.HTTPConnection(LOOPBACK, program[1], timeout=DEADLINE_S)
    client.connect()
    first = client.sock
    for path, status in (("/", 200), ("/main.js", 200), ("/none", 404), ("/healthz", 200), ("/", 200)):
        client.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = client.getresponse()
        body = answer.read()
        assert answer.status == status
        if answer.getheader("Content-Encoding") == "gzip":
            assert gzip.decompress(body)
        etag = answer.getheader("ETag")
        if etag:
            client.request("GET", path, headers={"Accept-Encoding": "gzip", "If-None-Match": etag})
            again = client.getresponse()
            assert (again.status, again.read()) == (304, b"")
    assert client.sock is first
    client.request("POST", "/", body=b"x" * 100_000)
    assert client.getresponse().status == 405, "though it was still being sent"
    client.close()


async def test_many_at_once_on_sockets() -> None:
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, Config(host=LOOPBACK, port=0))

        async def load(path: bytes, size: int) -> None:
            stream = await trio.open_tcp_stream(LOOPBACK, handle.port)
            async with stream:
                await stream.send_all(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                told = b""
                while data := await stream.receive_some():
                    told += data
                assert statuses(told) == [200]
                assert len(told.partition(b"\r\n\r\n")[2]) == size

        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as clients:
                for _ in range(20):
                    clients.start_soon(load, b"/large.bin", len(LARGE))
                    clients.start_soon(load, b"/main.js", 7)
            async with trio_vrchat.open_client(handle.urls[0], "Tibi", "") as tibi:
                assert await tibi.members("lobby") == ("Tibi",)
        assert handle.statistics.http_requests == 40
        nursery.cancel_scope.cancel()


def test_a_hard_reset_in_an_answer_is_nothing(program: tuple[Program, int]) -> None:
    for _ in range(20):
        with socket.create_connection((LOOPBACK, program[1]), DEADLINE_S) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(GET * 50)
    with socket.create_connection((LOOPBACK, program[1]), DEADLINE_S) as client:
        client.sendall(GET)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert program[0].process.poll() is None
