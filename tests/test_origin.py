"""Whose pages may connect."""

from __future__ import annotations

import logging

import pytest
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat._origin import is_allowed
from trio_vrchat.testing import settle, upgrade_request

ALLOWED = [
    ("http://192.168.1.20:42069", "192.168.1.20:42069"),
    ("https://chat.example", "chat.example"),
    ("https://chat.example", "chat.example:443"),
    ("http://chat.example", "chat.example:80"),
    ("https://CHAT.example", "chat.EXAMPLE"),
    ("http://[2001:db8::1]:42069", "[2001:db8::1]:42069"),
    ("https://[2001:db8::1]", "[2001:db8::1]:443"),
]
REFUSED = [
    ("http://192.168.1.20:8000", "192.168.1.20:42069"),
    ("https://evil.example", "chat.example"),
    ("https://chat.example.evil.example", "chat.example"),
    ("http://chat.example", "chat.example:443"),
    ("null", "chat.example"),
    ("", ""),
    ("chat.example", "chat.example"),
    ("file://", ""),
    ("http://[2001:db8::1]", "[2001:db8::1]:42069"),
]


@pytest.mark.parametrize(("origin", "host"), ALLOWED)
def test_the_servers_own_page_may(origin: str, host: str) -> None:
    assert is_allowed([origin], [host], ())


@pytest.mark.parametrize(("origin", "host"), REFUSED)
def test_others_may_not(origin: str, host: str) -> None:
    assert not is_allowed([origin], [host], ())


def test_who_sends_none_is_no_browser() -> None:
    assert is_allowed([], ["chat.example"], ())
    assert is_allowed([], [], ())


def test_those_that_the_owner_allows_may() -> None:
    allowed = ("https://app.example", "null")
    assert is_allowed(["https://app.example"], ["chat.example"], allowed)
    assert is_allowed(["https://APP.example"], ["chat.example"], allowed)
    assert is_allowed(["null"], ["chat.example"], allowed)
    assert not is_allowed(["https://app.example:8443"], ["chat.example"], allowed)
    assert is_allowed(["https://anything.example"], ["chat.example"], ("*",))


def test_several_origins_or_hosts_are_nobodys() -> None:
    own = "https://chat.example"
    assert not is_allowed([own, own], ["chat.example"], ("*",))
    assert not is_allowed([own], ["chat.example", "chat.example"], ())
    assert not is_allowed([own], [], ())


async def test_a_foreign_page_is_answered_with_403(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat")
    async with testing.open_server() as server:
        client = await server.dial()
        client.send_bytes(upgrade_request(headers="Origin: https://evil.example\r\n"))
        await settle()
        answer = client.take_bytes()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"--allow-origin" in answer
        assert client.ended
        assert "https://evil.example" in caplog.text
        assert "--allow-origin" in caplog.text
        assert server.statistics.connections == 0


async def test_the_own_page_and_allowed_ones_are_let_in(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(allow_origins=("https://app.example",))) as server:
        await server.connect(headers="Origin: http://memory\r\n")
        await server.connect(headers="Origin: https://app.example\r\n")
        with pytest.raises(ConnectionError, match="403"):
            await server.connect(headers="Origin: https://app.example:1\r\n")
