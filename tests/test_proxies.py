"""Who is behind a proxy: what its headers mean, whom they are believed from, and what follows for limits and log."""

from __future__ import annotations

import logging

import pytest
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat._admission import Networks
from trio_vrchat._proxies import CannotTell, Proxies
from trio_vrchat.testing import MemoryServer, RawClient, settle

PROXY, INNER_PROXY, CLIENT, OTHER = "10.1.0.1", "10.1.0.2", "192.0.2.7", "198.51.100.9"
TRUSTED = ("10.1.0.0/16", "fd00:1::/32")
proxies = Proxies(TRUSTED, ())
proxy = Networks(()).peer(PROXY, 4000)


def told(*lines: str) -> tuple[str, bool | None]:
    """Who asks, and whether by TLS, where a trusted proxy sends these lines."""
    head = "\r\n".join(("GET / HTTP/1.1", "Host: x", *lines, "", "")).encode("latin-1")
    asker = proxies.asker(head, proxy)
    return str(asker.peer.address), asker.by_tls


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # From nobody else: the proxy itself asks.
        ([], (PROXY, None)),
        ([f"X-Forwarded-For: {CLIENT}"], (CLIENT, None)),
        ([f"x-forwarded-for:{CLIENT}:4711", "X-Forwarded-Proto: https"], (CLIENT, True)),
        ([f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: http"], (CLIENT, False)),
        (["X-Forwarded-For: 2001:db8::7"], ("2001:db8::7", None)),
        (["X-Forwarded-For: [2001:db8::7]:4711"], ("2001:db8::7", None)),
        (["X-Forwarded-For: ::ffff:192.0.2.7"], (CLIENT, None)),
        # What the client has written stands before what the proxy has.
        ([f"X-Forwarded-For: {OTHER}, {CLIENT}"], (CLIENT, None)),
        ([f"X-Forwarded-For: {OTHER}", f"X-Forwarded-For: {CLIENT}"], (CLIENT, None)),
        ([f"X-Forwarded-For: 127.0.0.1, {CLIENT}, {INNER_PROXY}"], (CLIENT, None)),
        # All of them trusted: the first is the client.
        ([f"X-Forwarded-For: {INNER_PROXY}, {PROXY}"], (INNER_PROXY, None)),
        # Whoever hides counts as who has handed it on.
        (["X-Forwarded-For: unknown"], (PROXY, None)),
        ([f"X-Forwarded-For: {OTHER}, unknown, {INNER_PROXY}"], (INNER_PROXY, None)),
        ([f"Forwarded: for={CLIENT}"], (CLIENT, None)),
        ([f"Forwarded: for={CLIENT};proto=https;by=10.1.0.1;host=x"], (CLIENT, True)),
        ([f"FORWARDED: Proto=HTTP ; For={CLIENT}"], (CLIENT, False)),
        (['Forwarded: for="[2001:db8::7]:4711"'], ("2001:db8::7", None)),
        ([r'Forwarded: for="\1\9\2.0.2.7"'], (CLIENT, None)),
        ([f'Forwarded: for="{OTHER}, for={CLIENT}"'], (PROXY, None)),
        ([f"Forwarded: for={OTHER};proto=https, for={CLIENT};proto=http"], (CLIENT, False)),
        ([f"Forwarded: for={OTHER}, for={CLIENT}", f"Forwarded: for={INNER_PROXY}"], (CLIENT, None)),
        (["Forwarded: for=unknown;proto=https"], (PROXY, True)),
        (["Forwarded: for=_hidden"], (PROXY, None)),
        (["Forwarded: proto=https"], (PROXY, True)),
        (["Forwarded: "], (PROXY, None)),
        # Both, and they agree.
        ([f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {OTHER}, {CLIENT}"], (CLIENT, None)),
    ],
)
def test_who_is_the_client(lines: list[str], expected: tuple[str, bool | None]) -> None:
    assert told(*lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        # A proxy that writes one hands on the other, which may be anything.
        [f"Forwarded: for={OTHER}", f"X-Forwarded-For: {CLIENT}"],
        ["Forwarded: for=unknown", f"X-Forwarded-For: {CLIENT}"],
        [f"Forwarded: for={CLIENT};"],
        [f"Forwarded: for={CLIENT},"],
        ['Forwarded: for="192.0.2.7'],
        ["Forwarded: for=[2001:db8::7] x"],
        ["Forwarded: =x"],
        ["Forwarded: \xff"],
    ],
)
def test_what_makes_no_sense_is_not_guessed_at(lines: list[str]) -> None:
    with pytest.raises(CannotTell):
        told(*lines)


def test_the_longest_header_is_read_in_a_moment() -> None:
    for text in ("1.2.3.4," * 2000, "for=1;" * 2500 + "for=1", 'for="' + "\\a" * 8000, "a" * 16000):
        for name in ("X-Forwarded-For", "Forwarded"):
            try:
                told(f"{name}: {text}")
            except CannotTell:
                continue


# In a server


async def statuses(server: MemoryServer, address: str, *lines: str, path: str = "/healthz") -> bytes:
    client = await server.dial(address=address)
    headers = "".join(f"{line}\r\n" for line in lines)
    client.send_bytes(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    await settle()
    return client.take_bytes().partition(b" ")[2][:3]


async def by_proxy(server: MemoryServer, client: str, *, address: str = PROXY) -> RawClient:
    return await server.connect(address=address, headers=f"X-Forwarded-For: {client}\r\n")


async def test_clients_behind_a_proxy_are_counted_one_by_one(autojump_clock: MockClock) -> None:
    config = Config(trust_proxy=TRUSTED, connections_per_address=2)
    async with testing.open_server(config) as server:
        [first, _, _, _] = [await by_proxy(server, client) for client in (CLIENT, CLIENT, OTHER, OTHER)]
        with pytest.raises(ConnectionError, match=r"503 .*Retry-After: 60"):
            await by_proxy(server, CLIENT)
        assert server.statistics.refused == 1
        first.reset()
        await settle()
        await by_proxy(server, CLIENT)
        assert server.statistics.connections == 4


async def test_a_client_is_the_same_with_a_proxy_and_without(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(trust_proxy=TRUSTED, connections_per_address=1)) as server:
        await server.connect(address=CLIENT)
        with pytest.raises(ConnectionError, match="503"):
            await by_proxy(server, CLIENT)


async def test_who_is_not_trusted_stands_for_nobody(autojump_clock: MockClock) -> None:
    for trusted in (TRUSTED, ()):
        async with testing.open_server(Config(trust_proxy=trusted, connections_per_address=1)) as server:
            await by_proxy(server, "127.0.0.1", address=CLIENT)
            assert server.statistics.connections == 1
            client = await server.dial(address=CLIENT)
            await settle()
            assert client.ended, "one from this address is there already"


async def test_exempt_is_the_client_and_not_its_proxy(autojump_clock: MockClock) -> None:
    config = Config(trust_proxy=TRUSTED, exempt_networks=(f"{OTHER}/32",), connections_per_address=1)
    async with testing.open_server(config) as server:
        for _ in range(3):
            await by_proxy(server, OTHER)
        await by_proxy(server, CLIENT)
        with pytest.raises(ConnectionError, match="503"):
            await by_proxy(server, CLIENT)


async def test_a_handshake_that_fails_is_counted_back(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(trust_proxy=TRUSTED, connections_per_address=1)) as server:
        with pytest.raises(ConnectionError, match="403"):
            await server.connect(address=PROXY, headers=f"X-Forwarded-For: {CLIENT}\r\nOrigin: http://other\r\n")
        await by_proxy(server, CLIENT)


async def test_each_request_of_a_proxy_is_somebody_else_s(autojump_clock: MockClock) -> None:
    config = Config(trust_proxy=TRUSTED, metrics_networks=(f"{CLIENT}/32", "10.1.0.0/16"))
    async with testing.open_server(config) as server:
        proxy = await server.dial(address=PROXY)
        for client in (CLIENT, OTHER, CLIENT):
            proxy.send_bytes(f"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n".encode())
        await settle()
        told = proxy.take_bytes().split(b"HTTP/1.1 ")[1:]
        assert [reply[:3] for reply in told] == [b"200", b"404", b"200"]


async def test_two_headers_that_differ_are_refused(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    lines = (f"Forwarded: for={OTHER}", f"X-Forwarded-For: {CLIENT}")
    async with testing.open_server(Config(trust_proxy=TRUSTED)) as server:
        assert await statuses(server, PROXY, *lines) == b"400"
        assert "have the proxy remove" in caplog.text
        assert await statuses(server, CLIENT, *lines) == b"200", "from elsewhere nobody looks at them"


async def test_the_log_names_both(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with testing.open_server(Config(trust_proxy=TRUSTED)) as server:
        client = await by_proxy(server, CLIENT)
        client.send({"system": "login", "options": {"user": "Tibi", "pass": "x"}})
        await settle()
    assert f"{CLIENT} by {PROXY}:1: Tibi has logged in" in caplog.text


async def test_failed_logins_are_the_client_s(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(trust_proxy=TRUSTED, login_failures_per_account=1)) as server:
        await server.login("Tibi", "right")
        codes = []
        for address in (CLIENT, CLIENT, OTHER):
            client = await by_proxy(server, address)
            client.send({"system": "login", "options": {"user": "Tibi", "pass": "wrong"}})
            await settle()
            codes += [message["response"]["code"] for message in client.messages()]
        assert codes == [409, 429, 409]


async def test_https_at_the_proxy_is_https_for_the_page(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(trust_proxy=TRUSTED)) as server:
        for scheme, expected in (("https", True), ("http", False)):
            client = await server.dial(address=PROXY)
            client.send_bytes(
                f"GET / HTTP/1.1\r\nHost: chat.example\r\nX-Forwarded-For: {CLIENT}\r\n"
                f"X-Forwarded-Proto: {scheme}\r\n\r\n".encode()
            )
            await settle()
            assert (b"Cross-Origin-Opener-Policy" in client.take_bytes()) is expected
