"""Whatever a client sends ends at most its own connection, with the right close code, and leaves nothing behind."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.waiting import until
from trio_vrchat import Config, testing
from trio_vrchat._frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from trio_vrchat.testing import MemoryServer, RawClient, client_frame, settle, upgrade_request

PING_MESSAGE = b'{"system": "ping"}'


@asynccontextmanager
async def with_a_witness(config: Config | None = None) -> AsyncIterator[MemoryServer]:
    """A server with somebody in it who notices nothing, and who is alone again fifteen seconds after the end."""
    async with testing.open_server(config or Config.unlimited()) as server:
        witness = await server.login("witness")
        witness.texts()
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield server
        # Ten to log in, three for the closing handshake.
        await trio.sleep(15)
        assert witness.texts() == []
        witness.send({"room": "lobby", "data": "still here"})
        await settle()
        assert [entry["data"] for entry in witness.entries("lobby")] == ["still here"]
        statistics = server.statistics
        assert (statistics.connections, statistics.members, statistics.rooms) == (1, 1, 1)
        assert trio.lowlevel.current_statistics().tasks_living == tasks


def head(*, request: str = "GET / HTTP/1.1", headers: dict[str, bytes] | None = None) -> bytes:
    lines = {
        b"Host": b"memory",
        b"Upgrade": b"websocket",
        b"Connection": b"Upgrade",
        b"Sec-WebSocket-Key": b"AAAAAAAAAAAAAAAAAAAAAA==",
        b"Sec-WebSocket-Version": b"13",
    } | {name.encode(): value for name, value in (headers or {}).items()}
    return request.encode() + b"\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines.items()) + b"\r\n"


BROKEN_HANDSHAKES = {
    "nothing": b"",
    "a byte": b"\x00",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "plain GET": b"GET / HTTP/1.1\r\nHost: memory\r\n\r\n",
    "half a head": head()[:60],
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a head without an end": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    "a line without an end": b"GET /" + b"x" * 100_000,
    "host in bytes": head(headers={"Host": b"\xff"}),
    "host in broken punycode": head(headers={"Host": b"xn--a"}),
    "connection in bytes": head(headers={"Connection": b"Upgrade, \xff"}),
    "protocol in bytes": head(headers={"Sec-WebSocket-Protocol": b"\x80"}),
    "extensions in bytes": head(headers={"Sec-WebSocket-Extensions": b"\xff"}),
    "no key": head(headers={"Sec-WebSocket-Key": b""}),
    "version 8": head(headers={"Sec-WebSocket-Version": b"8"}),
    "HTTP/1.0": head(request="GET / HTTP/1.0"),
    "POST": head(request="POST / HTTP/1.1"),
    "a body": head(headers={"Content-Length": b"5"}) + b"hello",
}


@pytest.mark.parametrize("after", ["silence", "end", "reset"])
@pytest.mark.parametrize("what", BROKEN_HANDSHAKES)
async def test_a_broken_handshake_ends_alone(autojump_clock: MockClock, what: str, after: str) -> None:
    async with with_a_witness() as server:
        client = await server.dial()
        client.send_bytes(BROKEN_HANDSHAKES[what])
        await settle()
        if after == "end":
            client.end()
        elif after == "reset":
            client.reset()
        await settle()
        assert after == "silence" or client.ended, "who hangs up is not waited for"


@pytest.mark.parametrize("header", ["Host", "Connection", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "X"])
async def test_a_broken_handshake_is_a_log_line_that_quotes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    caplog.set_level(logging.DEBUG, "trio_vrchat")
    async with testing.open_server(Config.unlimited()) as server:
        client = await server.dial()
        client.send_bytes(head(headers={header: b"\xffSECRET"}))
        await settle()
        client.end()
        await settle()
        assert client.ended
    assert "SECRET" not in caplog.text
    assert "headset 1" in caplog.text


async def test_what_follows_a_close_frame_has_no_meaning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat")
    async with with_a_witness() as server:
        client = await server.connect()
        client.send_bytes(client_frame(CLOSE, (1000).to_bytes(2, "big")) + b"\xff" * 100)
        await settle()
        client.texts()
        assert client.close_code == 1000
        assert client.ended
        assert "closed with 1000" in caplog.text


async def test_a_slow_handshake_has_five_seconds(autojump_clock: MockClock) -> None:
    async with with_a_witness() as server:
        client = await server.dial()
        for byte in upgrade_request():
            client.send_bytes(bytes([byte]))
            await trio.sleep(0.1)
        assert trio.current_time() > 5
        assert client.ended


async def test_an_upgrade_is_taken_on_any_path_and_its_head_in_any_pieces(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        for path in ("/", "/chat", "/a/b?c=d", "*"):
            client = await server.connect(path)
            client.reset()
        client = await server.dial()
        for byte in upgrade_request():
            client.send_bytes(bytes([byte]))
            await settle()
        assert client.take_bytes().startswith(b"HTTP/1.1 101 ")
        client.send(PING_MESSAGE.decode())
        await settle()
        assert client.messages()[0]["response"]["code"] == 220


async def test_frames_right_behind_the_head_are_read(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        client = await server.dial()
        client.send_bytes(upgrade_request() + client_frame(TEXT, PING_MESSAGE) * 2)
        await settle()
        assert client.take_bytes().count(b"Pong.") == 2


def unmasked(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload)]) + payload


BROKEN_FRAMES = {
    "reserved bit": (b"\xc1" + client_frame(TEXT, b"{}")[1:], 1002),
    "unmasked": (unmasked(TEXT, b"{}"), 1002),
    "reserved opcode": (client_frame(0x3, b"{}"), 1002),
    "reserved control opcode": (client_frame(0xB, b""), 1002),
    "long ping": (client_frame(PING, b"x" * 126), 1002),
    "ping in pieces": (client_frame(PING, b"x", final=False), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, b"{}"), 1002),
    "a message inside a message": (client_frame(TEXT, b"{", final=False) + client_frame(TEXT, b"}"), 1002),
    "long form of a short length": (b"\x81\xfe\x00\x02\x00\x00\x00\x00{}", 1002),
    "a length of 2^63": (b"\x81\xff\x80" + bytes(11), 1002),
    "bad UTF-8": (client_frame(TEXT, b'{"system": "\xff"}'), 1007),
    "half a character": (client_frame(TEXT, b'{"system": "\xe2\x82'), 1007),
    "a surrogate in UTF-8": (client_frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    "64 KiB and a byte": (client_frame(TEXT, b"x" * 65537), 1009),
    "its header alone": (client_frame(TEXT, b"x" * 65537)[:14], 1009),
    "64 KiB in 22,000 characters": (client_frame(TEXT, "€".encode() * 22_000), 1009),
    "64 KiB of binary": (client_frame(BINARY, b"x" * 65537), 1009),
    "64 KiB in pieces": (
        client_frame(TEXT, b"x" * 40_000, final=False) + client_frame(CONTINUATION, b"x" * 40_000),
        1009,
    ),
    "endless empty fragments": (
        client_frame(TEXT, b"", final=False) + client_frame(CONTINUATION, b"", final=False) * 5000,
        1009,
    ),
    "an exabyte announced": (b"\x81\xff\x0f" + b"\xff" * 7 + bytes(4), 1009),
    "too large and a ping behind it": (client_frame(TEXT, b"x" * 70_000) + client_frame(PING, b"") * 3, 1009),
    "close with a code nobody may send": (client_frame(CLOSE, (1005).to_bytes(2, "big")), 1002),
    "close with half a code": (client_frame(CLOSE, b"\x03"), 1002),
    "close with a bad reason": (client_frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
}


@pytest.mark.parametrize("pieces", [None, 1, 7])
@pytest.mark.parametrize("what", BROKEN_FRAMES)
async def test_a_broken_frame_is_answered_with_its_close_code(
    autojump_clock: MockClock, what: str, pieces: int | None
) -> None:
    data, code = BROKEN_FRAMES[what]
    if pieces and len(data) > 1000:
        pieces *= 1000
    async with with_a_witness() as server:
        client = await server.connect()
        client.send(PING_MESSAGE.decode())
        for start in range(0, len(data), pieces or len(data)):
            client.send_bytes(data[start : start + (pieces or len(data))])
            if pieces:
                await settle()
        await settle()
        assert client.messages()[0]["response"]["code"] == 220, "what came before it counts"
        assert client.close_code == code
        assert client.ended == what.startswith("close"), "it may read that in peace, and answer, unless it has"
        assert client._down.ended == (client.ended or code != 1007), (
            "where nothing can be understood, it is asked to go"
        )
        client.end()
        await settle()
        assert client.ended


async def test_a_violation_in_the_same_read_as_a_message_comes_after_it(autojump_clock: MockClock) -> None:
    async with with_a_witness() as server:
        client = await server.connect()
        client.send_bytes(client_frame(TEXT, PING_MESSAGE) + unmasked(TEXT, b"{}"))
        await settle()
        assert [message["response"]["code"] for message in client.messages()] == [220]
        assert client.close_code == 1002
        client.reset()


async def test_messages_in_pieces_split_at_every_byte(autojump_clock: MockClock) -> None:
    text = '{"system": "ping", "€": "😀"}'.encode()
    async with testing.open_server(Config.unlimited()) as server:
        client = await server.connect()
        for cut in range(1, len(text)):
            client.send_bytes(
                client_frame(TEXT, text[:cut], final=False)
                + client_frame(PING, b"between")
                + client_frame(CONTINUATION, text[cut:])
            )
        data = client_frame(TEXT, text)
        for cut in range(1, len(data)):
            client.send_bytes(data[:cut])
            await settle()
            client.send_bytes(data[cut:])
            await settle()
        pongs = client._down.data.count(bytes([0x80 | PONG, 7]) + b"between")
        codes = [message["response"]["code"] for message in client.messages()]
        assert codes == [220] * (len(text) - 1 + len(data) - 1)
        assert pongs == len(text) - 1


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_dying_inside_a_frame_is_a_leave_like_any_other(autojump_clock: MockClock, how: str) -> None:
    data = client_frame(TEXT, b'{"room": "lobby", "data": "hello"}')
    async with testing.open_server(Config.unlimited()) as server:
        witness = await server.login("witness")
        for cut in range(len(data)):
            client = await server.login("Tibi")
            client.send_bytes(data[:cut])
            await settle()
            getattr(client, how)()
            await settle()
            assert [entry["type"] for entry in witness.entries("lobby")][-2:] == ["join", "leave"]
            assert server.statistics.connections == 1


async def test_a_ping_that_crosses_our_close_does_no_harm(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        client = await server.connect()
        server.handle.cancel_scope.cancel()
        for _ in range(20):
            client.send_frame(PING, b"crossing")
            await trio.lowlevel.checkpoint()
        await settle()
        client.texts()
        assert client.close_code == 1001


async def test_what_is_said_while_a_pong_is_half_out_comes_behind_it(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        witness, tibi = await server.login("witness"), await server.login("Tibi")
        tibi.texts()
        pings = 600
        for _ in range(pings):
            tibi.send_frame(PING, b"x" * 125)
        await settle()
        assert tibi.unread_bytes == 64 * 1024, "one pong is cut by the end of the pipe"
        witness.send({"room": "lobby", "data": "hello"})
        await settle()
        received = b""
        while tibi.unread_bytes:
            received += tibi.take_bytes()
            await settle()
        pong = bytes([0x80 | PONG, 125]) + b"x" * 125
        assert received.count(pong) == pings
        assert received.replace(pong, b"").count(b"hello") == 1
        assert len(received.replace(pong, b"")) < 200


@pytest.mark.parametrize("pipe_bytes", [1, 2, 3, 50, 131])
async def test_frames_are_whole_wherever_the_socket_is_full(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, pipe_bytes: int
) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        monkeypatch.setattr("trio_vrchat._memory_stream._PIPE_BYTES", pipe_bytes)
        tibi = await server.dial()
        tibi.send_bytes(upgrade_request())
        received = b""

        async def read() -> None:
            nonlocal received
            await settle()
            while tibi.unread_bytes:
                received += tibi.take_bytes()
                await settle()

        await read()
        tibi.send({"system": "login", "options": {"user": "Tibi", "pass": ""}})
        tibi.send_frame(PING, b"between")
        for number in range(20):
            tibi.send({"room": "lobby", "data": number})
            if number % 5 == 0:
                tibi.send_frame(PING, b"between")
                await read()
        await read()
        reader = RawClient(tibi._up, tibi._down)
        reader._unparsed += received.partition(b"\r\n\r\n")[2]
        messages = reader.messages()
        assert messages[0]["response"]["code"] == 202
        assert [entry["data"] for message in messages[2:] for entry in message["payload"]] == list(range(20))
        assert received.count(bytes([0x80 | PONG, 7]) + b"between") == 5


async def test_after_our_close_the_client_has_three_seconds(autojump_clock: MockClock) -> None:
    async with with_a_witness() as server:
        client = await server.connect()
        await trio.sleep(10.5)
        client.texts()
        assert client.close_code == 4001
        assert not client.ended
        await trio.sleep(3)
        assert client.ended


async def test_a_name_given_back_is_not_given_back_again(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(outbox_limit_frames=4, history=0)) as server:
        witness = await server.login("witness")
        await server.login("Tibi")
        while server.statistics.members == 2:
            witness.send({"room": "lobby", "data": "x" * 30_000})
            await settle()
            witness.texts()
        # Tibi's connection, too slow to be kept, is still in its closing handshake.
        second = await server.login("Tibi")
        assert second.messages()[0]["response"]["code"] == 202
        await trio.sleep(5)
        assert server.statistics.connections == 2
        third = await server.login("Tibi", "of somebody else")
        assert third.messages()[0]["response"]["code"] == 409


async def test_a_write_that_stands_still_ends_the_connection(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        witness = await server.login("witness")
        deaf = await server.login("deaf")
        for _ in range(5):
            witness.send({"room": "lobby", "data": "x" * 30_000})
            await settle()
            witness.texts()
        await trio.sleep(4)
        assert server.statistics.members == 2
        await trio.sleep(2)
        assert server.statistics.members == 1
        assert deaf.ended
        assert witness.entries("lobby")[-1]["type"] == "leave"


async def test_a_client_that_pings_and_never_reads_is_ended(autojump_clock: MockClock) -> None:
    async with with_a_witness() as server:
        deaf = await server.connect()
        for _ in range(20_000):
            deaf.send_frame(PING, b"x" * 100)
        await trio.sleep(20)
        assert deaf.ended
        assert deaf.unread_bytes <= 64 * 1024


@pytest.mark.parametrize(
    ("users", "message"),
    [(300, {"room": "lobby", "type": "leave", "data": ""}), (30, {"room": "lobby", "data": "x" * 60_000})],
    ids=["300 leaves", "30 large messages"],
)
async def test_a_burst_of_many_does_not_end_who_reads(
    autojump_clock: MockClock, users: int, message: dict[str, str]
) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        witness = await server.login("witness")
        others = [await server.login(f"user {number}") for number in range(users)]
        for client in (witness, *others):
            client.texts()
        for client in others:
            client.send(message)
        heard = 0
        for _ in range(3000):
            await trio.lowlevel.checkpoint()
            heard += len(witness.entries("lobby"))
            for client in others:
                client.take_bytes()
        assert witness.close_code is None
        assert heard == users


@pytest.mark.parametrize("tiny", [client_frame(PONG, b""), client_frame(CONTINUATION, b"x", final=False)])
async def test_thousands_of_tiny_frames_in_one_read_let_the_others_run(autojump_clock: MockClock, tiny: bytes) -> None:
    async with with_a_witness() as server:
        client = await server.connect()
        client.send_bytes(client_frame(TEXT, b"{", final=False))
        await settle()
        passes = 0

        async def count() -> None:
            nonlocal passes
            while True:
                await trio.lowlevel.checkpoint()
                passes += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            client.send_bytes(tiny * 2000)
            client.send_bytes(client_frame(CONTINUATION, b"}"))
            await until(lambda: client.unread_bytes > 0)
            nursery.cancel_scope.cancel()
        assert passes > 2000 / 64
        client.reset()


async def test_a_slow_reader_who_makes_progress_is_kept(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        witness = await server.login("witness")
        for _ in range(8):
            witness.send({"room": "lobby", "data": "x" * 30_000})
            await settle()
            witness.texts()
        slow = await server.login("slow")
        received = b""
        for _ in range(30):
            await trio.sleep(1)
            received += slow._down.take(10_000)
        assert len(received) > 240_000
        assert server.statistics.members == 2


async def test_a_flood_does_not_starve_the_others(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna, flood = [await server.login(user) for user in ("Tibi", "anna", "flood")]
        for client in (tibi, anna, flood):
            client.texts()
        for number in range(5000):
            flood.send({"room": "lobby", "data": number})
        tibi.send({"room": "lobby", "data": "hello"})
        passes = 0
        heard: list[object] = []
        while "hello" not in heard:
            await trio.lowlevel.checkpoint()
            passes += 1
            assert passes < 200, "one line among 5000 must not wait for them"
            heard += [entry["data"] for entry in anna.entries("lobby")]
            tibi.texts()
            flood.texts()
        assert len(heard) < 2000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), cuts=st.integers(1, 50), shaken=st.booleans())
async def test_any_bytes(autojump_clock: MockClock, data: bytes, cuts: int, shaken: bool) -> None:
    async with with_a_witness() as server:
        client: RawClient = await (server.connect() if shaken else server.dial())
        for start in range(0, len(data), cuts):
            client.send_bytes(data[start : start + cuts])
            await settle()
        client.take_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11]),
            st.one_of(st.binary(max_size=130), st.just(PING_MESSAGE), st.just(b"")),
            st.booleans(),
        ),
        max_size=12,
    ),
    seed=st.integers(0, 1000),
)
async def test_any_frames(autojump_clock: MockClock, frames: list[tuple[int, bytes, bool]], seed: int) -> None:
    async with with_a_witness() as server:
        client = await server.connect()
        data = b"".join(client_frame(opcode, payload, final=final) for opcode, payload, final in frames)
        cutter = random.Random(seed)
        while data:
            cut = cutter.randint(1, len(data))
            client.send_bytes(data[:cut])
            data = data[cut:]
            await settle()
        client.texts()
