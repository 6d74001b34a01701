"""The guarded stream and the socket beneath it: whole frames, in turn, also where the peer reads a little at a time."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Statistics
from trio_vrchat._memory_stream import Pipe, stream_pair
from trio_vrchat._socket_stream import SocketStream
from trio_vrchat._stream import GuardedStream
from trio_vrchat.testing import settle


def guarded() -> tuple[GuardedStream, Pipe]:
    _, server_end, _, down = stream_pair("peer")
    stream = GuardedStream(
        server_end,
        message_limit_bytes=1000,
        bytes_per_s=0,
        write_timeout_s=5,
        statistics=Statistics(),
        on_text=lambda text, now: None,
        backlog=(),
    )
    return stream, down


async def test_nothing_is_written_into_the_middle_of_a_frame(autojump_clock: MockClock) -> None:
    stream, pipe = guarded()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"p" * 70_000)
        await settle()
        received = pipe.take(100)
        # The pipe has room again, and the task that is half through its frame has not run yet.
        assert stream.send_now(b"frame") == 5
        while len(received) < 70_000:
            received += pipe.take()
            await settle()
    assert stream.send_now(b"frame") == 0
    assert received + pipe.take() == b"p" * 70_000 + b"frame"


async def test_the_rest_of_a_frame_comes_before_everything_else(autojump_clock: MockClock) -> None:
    stream, pipe = guarded()
    assert stream.send_now(b"a" * 65_530) == 0
    assert stream.send_now(b"0123456789") == 4
    received = pipe.take()
    await stream.send_all(b"pong")
    await stream.send_all(b"")
    assert received + pipe.take() == b"a" * 65_530 + b"0123456789pong"


async def test_nothing_follows_a_close_frame_or_a_break(autojump_clock: MockClock) -> None:
    stream, _ = guarded()
    await stream.send_all(b"\x88\x00")
    assert stream.send_now(b"frame") == 5
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"frame")
    stream, pipe = guarded()
    pipe.reset = True
    assert stream.send_now(b"frame") == 5
    assert stream.broken
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"frame")


def socket_pair() -> tuple[SocketStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    return SocketStream(ours), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def test_a_socket_stream_moves_bytes_both_ways() -> None:
    ours, theirs = socket_pair()
    large = bytes(range(256)) * 20_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, large)
        received = b""
        while len(received) < len(large):
            received += await theirs.receive_some(10_000)
        assert received == large
    sent = ours.send_nowait(large)
    assert 0 < sent < len(large), "what the kernel takes"
    while (more := ours.send_nowait(large)) > 0:
        sent += more
    assert ours.send_nowait(large) == 0, "and not a byte more"
    await theirs.send_all(b"answer")
    assert await ours.receive_some() == b"answer"
    await ours.send_eof()
    while data := await theirs.receive_some(1 << 20):
        sent -= len(data)
    assert sent == 0
    await theirs.aclose()
    assert await ours.receive_some() == b""
    await ours.aclose()
    await ours.aclose()


async def test_a_socket_stream_says_broken_and_closed_as_trio_does() -> None:
    ours, theirs = socket_pair()
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        ours.send_nowait(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"x")
    await ours.aclose()
    ours, theirs = socket_pair()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    await theirs.aclose()
