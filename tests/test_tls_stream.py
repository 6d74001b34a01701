"""TLS that can read and write without waiting, against trio's own at the other end."""

from __future__ import annotations

import random
import socket
import ssl

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from tests.guarded import guarded
from trio_vrchat._frames import text_frame
from trio_vrchat._outbox import Outbox
from trio_vrchat._socket_stream import SocketStream
from trio_vrchat._tls_stream import TLSStream

AUTHORITY = trustme.CA()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("server.test").configure_cert(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    return server, client


def pair(*, https: bool = False, buffer_bytes: int = 0) -> tuple[TLSStream, trio.SSLStream[trio.SocketStream]]:
    ours, theirs = socket.socketpair()
    if buffer_bytes:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    server, client = contexts()
    other = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    return TLSStream(SocketStream(ours), server), trio.SSLStream(
        other, client, server_hostname="server.test", https_compatible=https
    )


async def shake_hands(ours: TLSStream, theirs: trio.SSLStream[trio.SocketStream]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"hello")
        assert await ours.receive_some() == b"hello"


async def test_bytes_both_ways() -> None:
    ours, theirs = pair()
    assert ours.send_nowait(b"too early") == 0
    await shake_hands(ours, theirs)
    assert ours.receive_nowait(100) is None, "nothing has come"
    assert ours.send_nowait(b"one") == 3
    await ours.send_all(b"two")
    received = await theirs.receive_some()
    while received != b"onetwo":
        received += await theirs.receive_some()
    large = random.Random(1).randbytes(300_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, large)
        got = b""
        while len(got) < len(large):
            got += await ours.receive_some(1000)
        assert got == large
        nursery.start_soon(ours.send_all, large)
        got = b""
        while len(got) < len(large):
            got += await theirs.receive_some(10_000)
        assert got == large
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_what_was_read_of_the_socket_is_given_whole_and_a_part_of_a_record_is_nothing() -> None:
    ours, theirs = pair()
    await shake_hands(ours, theirs)
    await theirs.send_all(b"a" * 5000)
    await theirs.send_all(b"b" * 5000)
    pieces: list[bytes | None] = []
    while sum(len(piece or b"") for piece in pieces) < 10_000:
        pieces.append(ours.receive_nowait(1000))
    assert b"".join(filter(None, pieces)) == b"a" * 5000 + b"b" * 5000
    assert pieces[0] is None, "1000 bytes of a record of 5000"
    assert ours.receive_nowait(1000) is None, "and nothing is left that no socket would tell of"
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


@pytest.mark.parametrize("goodbye", [True, False])
async def test_the_end_is_the_end_with_and_without_an_alert(goodbye: bool) -> None:
    for read_now in (True, False):
        ours, theirs = pair(https=True)
        await shake_hands(ours, theirs)
        # (A socket that is closed with something unread, such as the session's tickets, is reset.)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.receive_some)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await theirs.send_all(b"last")
        if goodbye:
            await theirs.aclose()
        else:
            await theirs.transport_stream.aclose()
        got: list[bytes | None] = []
        while not got or got[-1]:
            got.append(ours.receive_nowait(16_384) if read_now else await ours.receive_some())
        assert b"".join(filter(None, got)) == b"last"
        await ours.aclose()


async def test_the_peer_sees_our_goodbye() -> None:
    ours, theirs = pair()  # (without the leniency of https, an end without one is an error)
    await shake_hands(ours, theirs)
    assert ours.send_nowait(b"last") == 4
    await ours.aclose()
    assert await theirs.receive_some() == b"last"
    assert await theirs.receive_some() == b""
    await ours.aclose()
    await trio.aclose_forcefully(theirs)


async def test_broken_records_break_it() -> None:
    for read_now in (True, False):
        ours, theirs = pair()
        await shake_hands(ours, theirs)
        await theirs.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))

        async def read(ours: TLSStream = ours, read_now: bool = read_now) -> object:
            return ours.receive_nowait(16_384) if read_now else await ours.receive_some()

        with pytest.raises(trio.BrokenResourceError) as caught:
            await read()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        await ours.aclose()
        await trio.aclose_forcefully(theirs)


async def test_a_handshake_that_fails_breaks_it_and_is_told_to_the_client() -> None:
    ours, theirs = pair()
    context = ssl.create_default_context()  # which trusts nobody
    client = trio.SSLStream(theirs.transport_stream, context, server_hostname="server.test")
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await ours.receive_some()

        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.do_handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        await trio.aclose_forcefully(client)
    await ours.aclose()
    ours, theirs = pair()
    await theirs.transport_stream.send_all(b"\x16\x03\x01\x00\x05hello")
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()
    assert (await theirs.transport_stream.receive_some()).startswith(b"\x15\x03"), "an alert"
    await ours.aclose()
    await trio.aclose_forcefully(theirs)


async def test_frames_are_whole_and_in_order_for_a_client_that_reads_late() -> None:
    dice = random.Random(2)
    ours, theirs = pair(buffer_bytes=4096)
    await shake_hands(ours, theirs)
    stream = guarded(ours, write_timeout_s=30)
    frames = [text_frame(bytes([number]) * dice.choice([1, 100, 5000, 20_000, 70_000])) for number in range(100)]
    expected = b"".join(frames)
    writers = 0
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            while (chunk := box.take()) is not None:
                await stream.send_all(chunk)
                box.written()

        def start_writer() -> None:
            nonlocal writers
            writers += 1
            nursery.start_soon(write)

        box = Outbox(
            limit_frames=1000,
            limit_bytes=1 << 24,
            write=stream.send_now,
            on_frames=start_writer,
            on_overflow=nursery.cancel_scope.cancel,
        )
        got = b""
        offered = 0
        for frame in frames:
            box.offer(frame)
            offered += len(frame)
            # Now and then the client reads some of what is there, or all of it, so that writes are cut in all places.
            until = dice.choice([0, 0, len(got) + 1, offered])
            while len(got) < min(until, offered):
                got += await theirs.receive_some(dice.choice([10, 1000, 50_000]))
            await wait_all_tasks_blocked()
        while len(got) < len(expected):
            got += await theirs.receive_some(10_000)
        assert got == expected
        await wait_all_tasks_blocked()
        assert box.waiting_bytes == box.waiting_frames == 0
    assert writers > 1
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_the_last_frame_goes_out_though_nothing_follows_it() -> None:
    """All of it was taken, and the end of it waits beneath, encrypted."""
    ours, theirs = pair(buffer_bytes=4096)
    await shake_hands(ours, theirs)
    taken, frame = 0, b"x" * 10_000
    while not ours.waiting_bytes:
        size = ours.send_nowait(frame)
        assert size == len(frame), "less than a record"
        taken += size
    got = b""
    async with trio.open_nursery() as nursery:
        stream = guarded(ours, write_timeout_s=30)
        nursery.start_soon(stream.send_all, b"")
        while len(got) < taken:
            got += await theirs.receive_some()
    assert not ours.waiting_bytes
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_what_waits_is_a_record_at_most() -> None:
    ours, theirs = pair(buffer_bytes=4096)
    await shake_hands(ours, theirs)
    taken = ours.send_nowait(b"x" * 1_000_000)
    assert taken < 1_000_000
    assert 0 < ours.waiting_bytes < 17_000
    assert ours.send_nowait(b"x") == 0
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, b"y")
        while len(got) < taken + 1:
            got += await theirs.receive_some()
    assert got == b"x" * taken + b"y"
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)
