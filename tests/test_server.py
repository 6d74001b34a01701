"""`serve()` as a program embeds it, on real sockets where the socket is the point."""

from __future__ import annotations

import logging
import math
import socket
import struct
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_vrchat
from tests.waiting import until
from trio_vrchat import Config, Handle, Histogram, testing
from trio_vrchat._memory_stream import MemoryListener, stream_pair
from trio_vrchat.testing import client_frame, settle, upgrade_request


async def test_the_handle_says_where_and_counts_what(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=10)) as server:
        statistics = server.statistics
        assert attrs.asdict(statistics) == attrs.asdict(trio_vrchat.Statistics(rooms=1))
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        tibi.send({"room": "den", "type": "join", "data": ""})
        tibi.send({"room": "lobby", "data": "hello"})
        tibi.send({"room": "lobby", "type": "transform", "data": {}})
        await trio.sleep(1)
        received = len(tibi.take_bytes()) + len(anna.take_bytes())
        assert (statistics.connections, statistics.logins, statistics.rooms, statistics.members) == (2, 2, 2, 3)
        # A join, a line and a transform; the two logins are none.
        assert statistics.events_in == 3
        # Lists of 1, 2 and 1, anna's join to Tibi, the line and the transform to both.
        assert statistics.events_out == (1 + 2 + 1) + 1 + 2 + 2
        assert statistics.batches == 1
        assert statistics.frames_late == 0
        assert statistics.bytes_in > 3 * 40
        assert statistics.bytes_out > received > 0
        tibi.close()
        await settle()
        assert (statistics.connections, statistics.logins, statistics.rooms, statistics.members) == (1, 2, 1, 1)


async def test_a_late_frame_is_counted_and_the_next_is_on_time(mock_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=10)) as server:
        tibi = await server.login("Tibi")
        tibi.texts()
        for late, at in ((0, 0.1), (1, 0.45), (1, 0.5)):
            tibi.send({"room": "lobby", "type": "transform", "data": {}})
            await settle()
            mock_clock.jump(at - trio.current_time())
            await settle()
            assert len(tibi.messages()) == 1
            assert server.statistics.frames_late == late
        lateness = server.statistics.batch_lateness_s
        # The second was due at 0.2, and began a quarter of a second later.
        assert dict(zip((*lateness.bounds, math.inf), lateness.counts, strict=True)) == {
            **dict.fromkeys(lateness.bounds, 0),
            lateness.bounds[0]: 2,
            math.inf: 1,
        }
        assert lateness.total == pytest.approx(0.25)
        mock_clock.rate = 1000  # for the stop


def test_a_histogram_says_what_most_keep_to() -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    assert histogram.most(0.99) == 0.0
    for value, count in ((0.5, 50), (1.0, 30), (1.5, 15), (5.0, 4), (7.0, 1)):
        for _ in range(count):
            histogram.add(value)
    assert histogram.counts == [80, 15, 4, 1]
    assert [histogram.most(share) for share in (0.1, 0.8, 0.81, 0.95, 0.96, 0.99, 1.0)] == [1, 1, 2, 2, 5, 5, math.inf]
    assert histogram.total == 50 * 0.5 + 30 + 15 * 1.5 + 20 + 7


async def test_cancelling_its_scope_or_the_nursery_stops_it_cleanly() -> None:
    for whole in (True, False):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                handle: Handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0))
                async with trio_vrchat.open_client(handle.urls[0], "Tibi", "", reconnect=False) as client:
                    (nursery.cancel_scope if whole else handle.cancel_scope).cancel()
                    if not whole:
                        with pytest.raises(trio_vrchat.ConnectionLost) as lost:
                            await anext(client)
                        assert lost.value.code == 1001
        with pytest.raises(OSError, match=str(handle.port)):
            await trio.open_tcp_stream("127.0.0.1", handle.port)


async def test_in_a_scope_that_is_cancelled_already_it_returns(autojump_clock: MockClock) -> None:
    listener = MemoryListener()
    with trio.fail_after(60), trio.CancelScope() as scope:
        scope.cancel()
        await trio_vrchat.serve(listeners=[listener])
    with pytest.raises(trio.BrokenResourceError):
        await listener.streams.send(stream_pair("late")[1])
    with trio.move_on_after(0):
        async with testing.open_server():
            pass


async def test_listeners_of_another_kind(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "socket"
    unix = trio.socket.socket(trio.socket.AF_UNIX)
    await unix.bind(str(path))
    unix.listen()
    async with trio.open_nursery() as nursery:
        listeners = [trio.SocketListener(unix)]
        handle: Handle = await nursery.start(partial(trio_vrchat.serve, listeners=listeners))
        assert (handle.port, handle.urls) == (0, ())
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(upgrade_request())
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_several_servers_in_one_program() -> None:
    async with trio.open_nursery() as nursery:
        handles = [await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0)) for _ in range(3)]
        assert len({handle.port for handle in handles}) == 3
        for handle in handles:
            async with trio_vrchat.open_client(handle.urls[0], "Tibi", "") as client:
                assert await client.members("lobby") == ("Tibi",)
        assert [handle.statistics.logins for handle in handles] == [1, 1, 1]
        nursery.cancel_scope.cancel()


async def test_every_interface_shares_one_free_port() -> None:
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, Config(port=0))
        assert handle.port > 0
        assert all(url.endswith(f":{handle.port}/") for url in handle.urls)
        assert f"ws://127.0.0.1:{handle.port}/" in handle.urls
        loopback = [("127.0.0.1" in url or "[::1]" in url) for url in handle.urls]
        assert loopback == sorted(loopback), "what the network can reach comes first"
        for url in handle.urls:
            if "127.0.0.1" in url or "[::1]" in url:
                async with trio_vrchat.open_client(url, "Tibi", "") as client:
                    await client.ping()
        nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_a_clear_error_and_leaves_nothing_behind() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(trio_vrchat.ListenError, match=f"port {port}: it is in use.*choose another"):
            await trio_vrchat.serve(Config(host="127.0.0.1", port=port))


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("no.such.name.invalid", "no address or known host name"),
        ("192.0.2.123", "no interface"),
        ("a..b", "no address or host name"),
    ],
)
async def test_a_host_that_is_not_ours_is_a_clear_error(host: str, why: str) -> None:
    with pytest.raises(trio_vrchat.ListenError, match=why):
        await trio_vrchat.serve(Config(host=host, port=0))


async def test_a_client_that_resets_at_any_point_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    """On a real socket: a reset discards what was not read, and `getpeername` and `send` fail in their own ways."""
    login = client_frame(1, b'{"system": "login", "options": {"user": "Tibi", "pass": ""}}')
    script = upgrade_request() + login + client_frame(1, b'{"room": "lobby", "data": "hello"}')
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0, events_at_once=0))
        async with trio_vrchat.open_client(handle.urls[0], "witness", "") as witness:
            for cut in (*range(0, len(script), 9), len(script)):
                with socket.create_connection(("127.0.0.1", handle.port)) as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.sendall(script[:cut])
                await witness.ping()
            await until(lambda: handle.statistics.connections == handle.statistics.members == 1)
            assert await witness.members("lobby") == ("witness",)
        nursery.cancel_scope.cancel()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_bug_of_ours_is_500_and_a_log_line_and_nothing_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        tibi.texts()
        with monkeypatch.context() as patch:
            patch.setattr("trio_vrchat._requests.read_transform", lambda data: 1 // 0)
            tibi.send({"room": "lobby", "type": "transform", "data": {"secret": "of Tibi"}})
            await settle()
        assert tibi.messages()[0]["response"] | {"time": 0} == {
            "time": 0,
            "code": 500,
            "msg": "Internal server error.",
            "detail": {"room": "lobby"},
        }
        assert "ZeroDivisionError" in caplog.text
        assert "secret" not in caplog.text
        with monkeypatch.context() as patch:
            patch.setattr("trio_vrchat._presence.Presence._say", lambda self, event: 1 // 0)
            tibi.send({"room": "lobby", "data": "lost"})
            await settle()
        tibi.send({"room": "lobby", "data": "the room goes on"})
        await settle()
        assert tibi.entries("lobby")[-1]["data"] == "the room goes on"


def test_exports_show_their_public_names() -> None:
    assert trio_vrchat.serve.__module__ == "trio_vrchat"
    assert repr(trio_vrchat.Config).startswith("<class 'trio_vrchat.Config")
    assert issubclass(trio_vrchat.ListenError, OSError)
