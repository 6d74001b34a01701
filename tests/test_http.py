"""Requests to answers, without a server."""

from __future__ import annotations

import h11
import pytest

from trio_vrchat._http import (
    HEAD_LIMIT_BYTES,
    Answer,
    Reply,
    Request,
    head_end,
    head_too_slow,
    in_words,
    is_upgrade,
    refuse,
    respond,
)
from trio_vrchat.testing import upgrade_request

TIME = 784_111_777.0
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def head(request: str = "GET / HTTP/1.1", *lines: str, host: str | None = "memory") -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    return "".join(f"{line}\r\n" for line in (request, *hosts, *lines, "")).encode("latin-1")


def found(request: Request) -> Answer:
    return in_words(200, f"{request.method} {request.path}")


def parsed(reply: Reply, method: str = "GET") -> tuple[h11.Response, bytes]:
    """The reply as a client of HTTP reads it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "memory")]))
    client.send(h11.EndOfMessage())
    client.receive_data(reply.head + reply.body)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert (client.our_state is client.their_state is h11.DONE) != reply.close
    assert client.trailing_data == (b"", False)
    return response, body


def reply_to(request: bytes, *, last: bool = False) -> Reply:
    assert head_end(request) == len(request)
    reply = respond(request, found, time=TIME, last=last)
    assert reply is not None
    return reply


def status(request: bytes) -> int:
    return reply_to(request).status


def header(reply: Reply, name: str, method: str = "GET") -> str | None:
    response, _ = parsed(reply, method)
    values = [value.decode() for key, value in response.headers if key == name.lower().encode()]
    assert len(values) <= 1
    return values[0] if values else None


# A request and its answer


def test_a_get_is_answered_and_the_connection_stays() -> None:
    reply = reply_to(head("GET /a/b?c=d HTTP/1.1"))
    response, body = parsed(reply)
    assert (response.status_code, response.reason, body) == (200, b"OK", b"GET /a/b\n")
    assert dict(response.headers)[b"date"] == DATE
    assert not reply.close


def test_a_head_is_answered_like_a_get_without_its_body() -> None:
    reply = reply_to(head("HEAD /a/b HTTP/1.1"))
    assert reply.body == b""
    assert header(reply, "content-length", "HEAD") == "10"
    assert not reply.close


def test_what_has_not_changed_has_no_body() -> None:
    reply = respond(head(), lambda _: Answer(304, (("ETag", '"x"'),), b"of the file"), time=TIME, last=False)
    assert reply is not None
    assert (reply.status, reply.body, reply.close) == (304, b"", False)
    assert header(reply, "content-length") is None


@pytest.mark.parametrize(
    ("request_head", "last"),
    [
        (head("GET / HTTP/1.0"), False),
        (head("GET / HTTP/1.1", "Connection: close"), False),
        (head(), True),
    ],
)
def test_the_last_of_a_connection_says_so(request_head: bytes, last: bool) -> None:
    reply = reply_to(request_head, last=last)
    assert reply.close
    assert header(reply, "connection") == "close"


def test_a_client_may_name_the_whole_url() -> None:
    assert parsed(reply_to(head("GET http://memory:1/page?x HTTP/1.1")))[1] == b"GET /page\n"
    assert parsed(reply_to(head("GET http://memory HTTP/1.1")))[1] == b"GET /\n"
    assert parsed(reply_to(head("OPTIONS * HTTP/1.1")))[1] == b"OPTIONS *\n"


# What is not answered as it is asked


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (head("GET  / HTTP/1.1"), 400),
        (head(host=None), 400),
        (head("GET / HTTP/1.1", "Host: memory"), 400),
        (head("GET / HTTP/1.1", "a b: c"), 400),
        (head("GET / HTTP/1.1", "Content-Length: x"), 400),
        (head("GET / HTTP/1.1", "Content-Length: -1"), 400),
        (head(host="a b"), 400),
        (head(host="\xff"), 400),
        (head(host="a;b"), 400),
        (head(host="a@b"), 400),
        (head(host="a/b"), 400),
        (head(host="a:b"), 400),
        (head(host="a" * 301), 400),
        (head("GET / HTTP/2.0"), 505),
        (head("GET / HTTP/0.9"), 505),
        (head("PRI * HTTP/2.0"), 505),
        (head("GET / HTTP/1.1", "Content-Length: 5"), 413),
        (head("GET / HTTP/1.1", "Transfer-Encoding: chunked"), 413),
    ],
)
def test_what_is_wrong_is_said_and_is_the_last(request_head: bytes, code: int) -> None:
    reply = reply_to(request_head)
    assert (reply.status, reply.close) == (code, True)
    response, body = parsed(reply)
    assert body.endswith(b".\n")
    assert dict(response.headers)[b"connection"] == b"close"


@pytest.mark.parametrize("host", ["memory", "a.example:80", "127.0.0.1:42069", "[::1]:42069", "a_b", ""])
def test_any_host_will_do(host: str) -> None:
    assert status(head(host=host)) == 200


def test_an_empty_body_is_none() -> None:
    reply = reply_to(head("GET / HTTP/1.1", "Content-Length: 0"))
    assert (reply.status, reply.close) == (200, False)


def test_a_body_that_is_refused_anyway_keeps_the_other_reason() -> None:
    request = head("POST / HTTP/1.1", "Content-Length: 5")
    reply = respond(request, lambda _: in_words(405, "No."), time=TIME, last=False)
    assert reply is not None
    assert (reply.status, reply.close) == (405, True)


def test_what_is_no_request_has_an_answer() -> None:
    reply = refuse(head_too_slow(), time=TIME)
    assert (reply.status, reply.close) == (408, True)
    assert header(reply, "connection") == "close"


# Where a head ends


def test_a_head_ends_where_h11_ends_it() -> None:
    request = head()
    for cut in range(len(request)):
        assert head_end(request[:cut]) == 0
    assert head_end(request + b"more") == len(request)
    assert head_end(b"GET / HTTP/1.1\nHost: a\n\nmore") == 24


def test_a_head_has_a_limit_and_a_first_letter() -> None:
    longest = head("GET / HTTP/1.1", "X: " + "x" * (HEAD_LIMIT_BYTES - 37))
    assert len(longest) == HEAD_LIMIT_BYTES
    assert head_end(longest) == HEAD_LIMIT_BYTES
    assert head_end(longest[:-1]) == 0
    for too_long in (b"x" * HEAD_LIMIT_BYTES, longest.replace(b"X: x", b"X: xx") + b"more"):
        verdict = head_end(too_long)
        assert isinstance(verdict, Answer)
        assert verdict.status == 431
    for nothing in (b"\x16\x03\x01", b"\r\n\r\n", b"\n\n", b"\0", b" GET / HTTP/1.1\r\n\r\n"):
        for cut in range(1, len(nothing) + 1):
            verdict = head_end(nothing[:cut])
            assert isinstance(verdict, Answer)
            assert verdict.status == 400


# Upgrades

WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")


def replaced(name: str, *lines: str) -> list[str]:
    """The lines of an upgrade, with others in place of one."""
    return [line for line in WEBSOCKET if not line.startswith(f"{name}:")] + list(lines)


@pytest.mark.parametrize(
    "lines",
    [
        WEBSOCKET,
        replaced("Connection", "connection:keep-alive , uPgrade"),
        replaced("Connection", "Connection: Upgrade, keep-alive"),
        replaced("Upgrade", "upgrade:\tWebSocket "),
        replaced("Connection", "Connection:  keep-alive,Upgrade"),
    ],
)
def test_the_usual_upgrade_is_known_at_a_glance_and_by_h11(lines: list[str]) -> None:
    request = head("GET /any HTTP/1.1", *lines)
    assert is_upgrade(request)
    assert respond(request, found, time=TIME, last=False) is None


@pytest.mark.parametrize(
    "lines",
    [
        replaced("Connection", "Connection: keep-alive,\r\n Upgrade"),
        replaced("Upgrade", "Upgrade:\r\n websocket"),
        replaced("Connection", "Connection: keep-alive", "Connection: upgrade"),
    ],
)
def test_an_unusual_one_is_known_by_h11_at_least(lines: list[str]) -> None:
    assert respond(head("GET / HTTP/1.1", *lines), found, time=TIME, last=False) is None


def test_the_test_clients_is_one() -> None:
    assert is_upgrade(upgrade_request())


@pytest.mark.parametrize(
    ("request_head", "code", "why"),
    [
        (head("POST / HTTP/1.1", *WEBSOCKET), 400, "GET"),
        (head("GET / HTTP/1.0", *WEBSOCKET), 400, "HTTP/1.1"),
        (head("GET / HTTP/1.1", *replaced("Connection")), 400, "Connection"),
        (head("GET / HTTP/1.1", *replaced("Connection", "Connection: notupgrade")), 400, "Connection"),
        (head("GET / HTTP/1.1", *replaced("Connection", "X: a\r\n connection: upgrade")), 400, "Connection"),
        (head("GET / HTTP/1.1", *replaced("Upgrade")), 400, "Upgrade"),
        (head("GET / HTTP/1.1", *replaced("Sec-WebSocket-Key")), 400, "Key"),
        (head("GET / HTTP/1.1", *replaced("Sec-WebSocket-Version")), 400, "Version"),
    ],
)
def test_an_upgrade_that_is_none_says_why(request_head: bytes, code: int, why: str) -> None:
    assert not is_upgrade(request_head)
    reply = reply_to(request_head)
    assert (reply.status, reply.close) == (code, True)
    assert why.encode() in parsed(reply)[1]


def test_another_version_of_websocket_is_told_ours() -> None:
    reply = reply_to(head("GET / HTTP/1.1", *replaced("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")))
    assert reply.status == 426
    assert header(reply, "sec-websocket-version") == "13"
    assert header(reply, "upgrade") == "websocket"
    assert header(reply, "connection") == "Upgrade"


def test_another_upgrade_is_ignored() -> None:
    request = head("GET / HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AA")
    reply = reply_to(request)
    assert (reply.status, reply.close) == (200, False)
