"""From a listening socket to a task: floods, resets, silence, and a process that has run out of descriptors."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock
from websockets.sync.client import connect

from tests.program import DEADLINE_S, LOCAL, LOOPBACK, started
from tests.waiting import until
from trio_vrchat import Config, testing
from trio_vrchat._accept import Acceptor
from trio_vrchat._admission import Admission, Networks, Peer
from trio_vrchat._connection import Connections, serve_connection
from trio_vrchat.testing import settle, upgrade_request


@contextlib.contextmanager
def connected(port: int, first: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection((LOOPBACK, port), DEADLINE_S) as client:
        if first:
            client.sendall(first)
        yield client


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class CountingAdmission(Admission):
    """Counts who asked."""

    asked = 0

    def admit(self, peer: Peer) -> str:
        self.asked += 1
        return super().admit(peer)


@attrs.define(eq=False)
class Accepting:
    """An acceptor on a real socket, and what it has let in."""

    port: int
    admission: CountingAdmission
    tasks: trio.Nursery
    scope: trio.CancelScope
    began: list[Peer] = attrs.field(factory=list)
    refused: int = 0


@asynccontextmanager
async def accepting(config: Config | None = None, *, before: int = 0) -> AsyncIterator[Accepting]:
    """Accept; `before` connections were made and reset before that. Whoever is let in is told nothing."""
    config = config or Config(handshake_timeout_s=3600)
    [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
    port = listener.socket.getsockname()[1]
    for _ in range(before):
        with connected(port) as client:
            reset(client)
    admission = CountingAdmission(config, 0, trio.current_time)
    async with trio.open_nursery() as tasks:
        found = Accepting(port, admission, tasks, trio.CancelScope())

        async def serve(
            stream: trio.abc.Stream, peer: Peer, *, handshake_by: float, by_tls: bool | None = None
        ) -> None:
            assert by_tls is None
            assert handshake_by > trio.current_time()
            found.began.append(peer)
            await stream.receive_some()
            await trio.sleep_forever()

        def refused() -> None:
            found.refused += 1

        acceptor = Acceptor(
            serve,
            admission,
            Networks(config.exempt_networks),
            handshake_timeout_s=config.handshake_timeout_s,
            refused=refused,
        )

        async def run(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            with found.scope:
                await acceptor.run([listener], None, tasks)

        await tasks.start(run)
        yield found
        tasks.cancel_scope.cancel()
    assert admission._total == 0, "what was admitted was given back"
    assert not admission._open


# One after the other


async def test_who_share_a_socket_take_turns() -> None:
    [listener] = await trio.open_tcp_listeners(0, host=LOOPBACK)
    let_in = {"one": 0, "other": 0}

    async def serve(
        name: str, stream: trio.abc.Stream, peer: Peer, *, handshake_by: float, by_tls: bool | None = None
    ) -> None:
        let_in[name] += 1
        await trio.lowlevel.checkpoint()

    with contextlib.ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(connected(listener.socket.getsockname()[1], b"G"))
        async with trio.open_nursery() as tasks:
            for name in let_in:
                acceptor = Acceptor(
                    partial(serve, name),
                    CountingAdmission(Config(), 0, trio.current_time),
                    Networks(Config().exempt_networks),
                    handshake_timeout_s=3600,
                    refused=lambda: None,
                    shared=True,
                )
                same = trio.SocketListener(listener.socket.dup())
                tasks.start_soon(acceptor.run, [same], None, tasks)
            await until(lambda: sum(let_in.values()) == 10)
            assert let_in == {"one": 5, "other": 5}
            tasks.cancel_scope.cancel()
    await listener.aclose()


async def test_what_was_reset_while_it_waited_costs_nothing() -> None:
    async with accepting(before=50) as server:
        with connected(server.port, b"G"):
            await until(lambda: bool(server.began))
            assert len(server.began) == server.admission.asked == 1


async def test_who_says_nothing_is_no_connection_yet() -> None:
    async with accepting() as server, trio.open_nursery() as nursery:
        with connected(server.port) as silent, connected(server.port) as gone, connected(server.port, b"G"):
            # The kernel's queue is in order.
            await until(lambda: bool(server.began))
            assert (len(server.began), server.admission._total) == (1, 3)
            reset(gone)
            await until(lambda: server.admission._total == 2)
            silent.sendall(b"G")
            await until(lambda: len(server.began) == 2)
            nursery.cancel_scope.cancel()


async def test_who_goes_on_saying_nothing_is_closed() -> None:
    async with accepting(Config(handshake_timeout_s=0.1)) as server:
        with connected(server.port) as silent:
            silent.setblocking(False)
            await trio.lowlevel.wait_readable(silent)
            assert silent.recv(1) == b""
        await until(lambda: server.admission._total == 0)
        assert server.began == []


async def test_a_stop_waits_for_none_of_them() -> None:
    with trio.fail_after(60):
        async with accepting() as server:
            with connected(server.port) as silent, connected(server.port, b"G"):
                await until(lambda: bool(server.began))
                server.scope.cancel()
                await until(lambda: server.admission._total == 1)
                silent.setblocking(False)
                await trio.lowlevel.wait_readable(silent)
                assert silent.recv(1) == b""
                assert server.began, "who has begun is somebody else's to end"


async def test_who_comes_at_the_moment_of_a_stop_is_told_as_everybody_is(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = trio.Event()
    stop = Connections.stop

    def stop_and_say(connections: Connections) -> None:
        stop(connections)
        stopped.set()

    async def begin_late(stream: trio.abc.Stream, peer: Peer, **arguments: Any) -> None:
        await stopped.wait()
        await serve_connection(stream, peer, **arguments)

    monkeypatch.setattr(Connections, "stop", stop_and_say)
    monkeypatch.setattr("trio_vrchat._server.serve_connection", begin_late)
    async with testing.open_server() as server:
        client = await server.dial()
        client.send_bytes(upgrade_request())
        await settle()
        server.handle.cancel_scope.cancel()
        await settle()
        assert client.ended


# Refusals


async def test_a_refusal_says_so_in_http() -> None:
    async with accepting(Config(connections_limit=1, handshake_timeout_s=3600)) as server:
        with connected(server.port, b"G") as first:
            await until(lambda: bool(server.began))
            with connected(server.port) as client:
                client.setblocking(False)
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    await trio.lowlevel.wait_readable(client)
                    answer += client.recv(1000)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After: " in answer
                await trio.lowlevel.wait_readable(client)
                assert client.recv(1) == b""
            assert server.refused == 1
            server.tasks.cancel_scope.cancel()
            first.close()


async def test_a_flood_is_let_in_whole() -> None:
    async with accepting() as server:
        with contextlib.ExitStack() as clients:
            for _ in range(300):
                clients.enter_context(connected(server.port, b"G"))
                await trio.lowlevel.checkpoint()
            await until(lambda: len(server.began) == 300)


# Descriptors

# A server that can have so many files open, and gives all of them away when it is told to: SIGUSR1, and SIGUSR2 to
# take them back.
_FEW_FILES = """
import os, resource, signal, sys
from trio_vrchat.__main__ import main

taken = []

def take(*_):
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        print("all taken", flush=True)

def give_back(*_):
    while taken:
        os.close(taken.pop())

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
signal.signal(signal.SIGUSR1, take)
signal.signal(signal.SIGUSR2, give_back)
main()
"""
with_few_files = partial(started, *LOCAL, command=("-c", _FEW_FILES))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_where_descriptors_have_run_out_who_is_in_stays_and_who_waits_gets_in_later() -> None:
    with with_few_files() as program, connect(program.url()) as inside:
        program.process.send_signal(signal.SIGUSR1)
        program.until("all taken", program.stdout)
        port = inside.remote_address[1]
        with connected(port, upgrade_request()) as waiting:
            said = program.until("cannot accept connections", program.stderr)[-1]
            assert "Too many open files; trying again" in said
            inside.send('{"system": "ping"}')
            assert json.loads(inside.recv(timeout=DEADLINE_S))["response"]["code"] == 220
            program.process.send_signal(signal.SIGUSR2)
            assert waiting.recv(1000).startswith(b"HTTP/1.1 101 ")
        program.process.terminate()
        status, lines = program.end()
    assert status == 0
    assert not any("Traceback" in line for line in lines)
    assert sum("cannot accept" in line for line in lines) <= 1, "not a line for each try"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_connections_in_total_stay_below_the_limit_on_files() -> None:
    with with_few_files() as program, contextlib.ExitStack() as clients:
        url = program.url()
        port = int(re.findall(r":(\d+)/", url)[0])
        for _ in range(100 - 64):
            clients.enter_context(connect(url))
        with connected(port) as refused:
            assert refused.recv(1000).startswith(b"HTTP/1.1 503 ")
        refusal = program.until("refused a connection", program.stderr)[-1]
        assert "36 connections already (connections_limit)" in refusal
