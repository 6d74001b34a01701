"""The guarded stream and the socket beneath it: whole frames, in turn, also where the peer reads a little at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.guarded import guarded
from trio_vrchat._frames import CONTINUATION, PING, TEXT
from trio_vrchat._memory_stream import Pipe, stream_pair
from trio_vrchat._pump import Pump
from trio_vrchat._socket_stream import SocketStream
from trio_vrchat._stream import GuardedStream
from trio_vrchat.testing import client_frame, settle


def in_memory() -> tuple[GuardedStream, Pipe]:
    """A guarded stream, and what it writes to."""
    _, server_end, _, down = stream_pair("peer")
    return guarded(server_end), down


async def test_nothing_is_written_into_the_middle_of_a_frame(autojump_clock: MockClock) -> None:
    stream, pipe = in_memory()
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
    stream, pipe = in_memory()
    assert stream.send_now(b"a" * 65_530) == 0
    assert stream.send_now(b"0123456789") == 4
    received = pipe.take()
    await stream.send_all(b"pong")
    await stream.send_all(b"")
    assert received + pipe.take() == b"a" * 65_530 + b"0123456789pong"


async def test_nothing_follows_a_close_frame_or_a_break(autojump_clock: MockClock) -> None:
    stream, _ = in_memory()
    await stream.send_all(b"\x88\x00")
    assert stream.send_now(b"frame") == 5
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"frame")
    stream, pipe = in_memory()
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


# Reading


class Scripted(trio.abc.Stream):
    """A stream that has what it is given to read, and can be read by a pump."""

    def __init__(self, *reads: bytes) -> None:
        self.reads = list(reads)

    def fileno(self) -> int:
        return 7

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        return self.reads.pop(0) if self.reads else None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.reads.pop(0)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class HandPump(Pump):
    """Reads when it is told."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[float], object]] = {}

    def add(self, descriptor: int, read: Callable[[float], object]) -> None:
        assert descriptor not in self.readers
        self.readers[descriptor] = read

    def remove(self, descriptor: int) -> None:
        self.readers.pop(descriptor, None)


HEAD = b"GET / HTTP/1.1\r\n\r\n"
HELLO, WORLD = client_frame(TEXT, b"hello"), client_frame(TEXT, b"world")
FRAGMENTS = client_frame(TEXT, b"in two ", final=False) + client_frame(CONTINUATION, b"pieces")


class Reading:
    """A guarded stream, the texts that were read of it, and their backlog."""

    def __init__(self, *reads: bytes, pump: Pump | None = None, bytes_per_s: float = 0.0) -> None:
        self.texts: list[bytes] = []
        self.backlog: list[bytes] = []
        self.stream = guarded(
            Scripted(HEAD, *reads),
            bytes_per_s=bytes_per_s,
            on_text=lambda text, now: self.texts.append(text),
            backlog=self.backlog,
            pump=pump,
        )

    async def begin(self) -> None:
        assert await self.stream.receive_some() == HEAD
        self.stream.begin_frames()


async def test_what_follows_a_message_of_the_library_goes_its_way_until_it_was_returned(
    autojump_clock: MockClock,
) -> None:
    reading = Reading(HELLO + FRAGMENTS, WORLD, HELLO, WORLD + FRAGMENTS + HELLO, client_frame(PING, b"end"))
    await reading.begin()
    assert await reading.stream.receive_some() == FRAGMENTS
    assert reading.texts == [b"hello"]
    # The library has it, and has not given it.
    assert await reading.stream.receive_some() == WORLD, "it may not overtake"
    reading.stream.returned()
    assert await reading.stream.receive_some() == HELLO, "there is still the one behind it"
    reading.stream.returned()
    reading.stream.returned()
    assert await reading.stream.receive_some() == FRAGMENTS + HELLO
    assert reading.texts == [b"hello", b"world"]
    reading.stream.returned()
    reading.stream.returned()
    assert await reading.stream.receive_some() == client_frame(PING, b"end")


async def test_nothing_is_read_while_there_is_a_backlog(autojump_clock: MockClock) -> None:
    reading = Reading(HELLO, client_frame(PING, b""))
    await reading.begin()
    reading.backlog.append(b"under way")
    with trio.move_on_after(100):
        await reading.stream.receive_some()
    assert reading.texts == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reading.stream.receive_some)
        await settle()
        assert reading.texts == []
        reading.backlog.clear()
        reading.stream.read_on()
    assert reading.texts == [b"hello"]


async def test_the_pump_keeps_a_socket_as_long_as_whole_messages_come(autojump_clock: MockClock) -> None:
    pump = HandPump()
    reading = Reading(HELLO, WORLD + HELLO, WORLD + FRAGMENTS, pump=pump)
    await reading.begin()
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await reading.stream.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await settle()
        read = pump.readers[7]
        for _ in range(2):
            read(trio.current_time())
            await settle()
            assert list(pump.readers) == [7]
        read(trio.current_time())
        assert pump.readers == {}, "it is taken back at once"
    assert received == [FRAGMENTS]
    assert reading.texts == [b"hello", b"world", b"hello", b"world"]


@pytest.mark.parametrize("why", ["a backlog", "a pause", "more than is read at once"])
async def test_the_pump_gives_a_socket_back_that_must_wait(autojump_clock: MockClock, why: str) -> None:
    pump = HandPump()
    many = client_frame(TEXT, b"") * 100
    reading = Reading(many if why.startswith("more") else HELLO, WORLD, pump=pump, bytes_per_s=1000)
    await reading.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reading.stream.receive_some)
        await settle()
        read = pump.readers[7]
        if why == "a backlog":
            reading.backlog.append(b"under way")
        elif why == "a pause":
            reading.stream.refused()
        read(trio.current_time())
        assert pump.readers == {}
        await settle()
        if why == "a backlog":
            assert pump.readers == {}
            reading.backlog.clear()
            reading.stream.read_on()
        elif why == "a pause":
            assert pump.readers == {}
            await trio.sleep(8)  # 16 KiB at twice 1000 bytes a second
        await settle()
        assert list(pump.readers) == [7]
        assert len(reading.texts) == (100 if why.startswith("more") else 1)
        nursery.cancel_scope.cancel()
    assert pump.readers == {}, "nobody waits any more"


async def test_the_pump_hands_on_the_end_and_a_reset(autojump_clock: MockClock) -> None:
    for last in (b"", trio.BrokenResourceError("reset")):
        pump = HandPump()
        reading = Reading(HELLO, pump=pump)
        await reading.begin()
        ends: list[bytes | None] = []

        async def receive(stream: GuardedStream, ends: list[bytes | None]) -> None:
            try:
                ends.append(await stream.receive_some())
            except trio.BrokenResourceError:
                ends.append(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, reading.stream, ends)
            await settle()
            read = pump.readers[7]
            read(trio.current_time())

            def end(max_bytes: int, last: bytes | Exception = last) -> bytes:
                if isinstance(last, Exception):
                    raise last
                return last

            reading.stream._receive_nowait = end
            read(trio.current_time())
        assert ends == [b"" if last == b"" else None]
        assert reading.stream.broken == (last != b"")
        assert reading.texts == [b"hello"]
