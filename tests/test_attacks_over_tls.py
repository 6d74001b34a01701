"""The attacks before the WebSocket on a port that speaks TLS, and those on TLS itself."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme

import trio_vrchat
from trio_vrchat._frames import TEXT
from trio_vrchat.testing import client_frame, upgrade_request

from .attacks import ATTACKS, handshake
from .attacks.client import Target
from .attacks.witness import descriptors, until_descriptors_are
from .program import DEADLINE_S, LOCAL, Program, started
from .test_attacks import IMPATIENT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")

BEFORE_THE_WEBSOCKET = [name for name, attack in ATTACKS.items() if attack.act.__module__ == handshake.__name__]


@attrs.frozen
class Secured:
    """A server that speaks TLS, and what a client of it needs."""

    program: Program
    port: int
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with _started(chain, key) as program:
        url = program.until("wss://127", program.stdout)[-1]
        yield Secured(program, int(url.rpartition(":")[2].rstrip("/")), context)


def _started(chain: Path, key: Path) -> Any:
    return started(*LOCAL, *IMPATIENT, "--tls-cert", str(chain), "--tls-key", str(key), "--log-level", "0")


@asynccontextmanager
async def beside_a_witness(server: Secured) -> AsyncIterator[None]:
    """Somebody who hears what they say before the block and after it, and nothing else; and then all is freed."""
    url = f"wss://127.0.0.1:{server.port}/"
    with trio.fail_after(DEADLINE_S):
        async with trio_vrchat.open_client(url, "witness", "", ssl_context=server.context) as witness:

            async def hear(line: str) -> None:
                await witness.say("lobby", line)
                while not (isinstance(event := await anext(witness), trio_vrchat.Said) and event.data == line):
                    assert not isinstance(event, trio_vrchat.Refused)

            await hear("before")
            baseline = descriptors(server.program)
            yield
            await hear("after")
            await until_descriptors_are(server.program, baseline)


@pytest.mark.parametrize("name", BEFORE_THE_WEBSOCKET)
async def test_what_is_no_tls(name: str, server: Secured) -> None:
    async with beside_a_witness(server):
        await ATTACKS[name].run(Target("127.0.0.1", server.port))


_Act = Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]


async def silence(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.do_handshake()
    await _until_hung_up(stream)


async def a_broken_record(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(upgrade_request())
    await stream.receive_some()
    await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    await _until_hung_up(stream)


async def broken_frames(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(upgrade_request() + client_frame(TEXT, b"x" * 70_000))
    await _until_hung_up(stream)


async def a_host_in_bytes(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(upgrade_request().replace(b"Host: memory", b"Host: \xff"))
    await _until_hung_up(stream)


async def an_end_without_a_close(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(upgrade_request())
    await stream.receive_some()
    await stream.transport_stream.send_eof()
    await _until_hung_up(stream)


async def _until_hung_up(stream: trio.SSLStream[trio.SocketStream]) -> None:
    while await stream.transport_stream.receive_some():
        pass


@pytest.mark.parametrize("act", [silence, a_broken_record, broken_frames, a_host_in_bytes, an_end_without_a_close])
async def test_within_tls(act: _Act, server: Secured) -> None:
    async with beside_a_witness(server):
        transport = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with trio.SSLStream(
            transport, server.context, server_hostname="127.0.0.1", https_compatible=True
        ) as stream:
            with suppress(trio.BrokenResourceError):
                await act(stream)
            await trio.aclose_forcefully(transport)


async def test_resets_in_the_tls_handshake(server: Secured) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = server.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with beside_a_witness(server):
        for cut in range(1, len(hello), 20):
            async with Target("127.0.0.1", server.port).dial() as attacker:
                await attacker.send(hello[:cut])
                attacker.reset()
        async with Target("127.0.0.1", server.port).dial() as attacker:
            await attacker.send(hello)
            attacker.reset()
