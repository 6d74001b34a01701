"""HTTP/1.1 as bytes: the head of one request in, its answer out. No waiting, no files, no state between two requests.

h11 parses and writes; what is decided here is how much of HTTP this server speaks:

- A request is its head. One that has a body is answered without reading it, and is the last of its connection; so the
  next request always begins right behind a head, and nothing that a client sends is kept but one head.
- What opens a WebSocket is not answered here: `is_upgrade` knows the usual form at a glance, `respond` the rest.
- One that means to open a WebSocket and does it wrong gets an answer that says what is wrong (RFC 6455, section 4.2.1),
  because what is wrong is mostly a proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

import attrs
import h11

# As h11's own default. Browsers send less than 2 KiB; cookies of other services on this host may be 4 KiB each.
HEAD_LIMIT_BYTES = 16 * 1024
# The end of a head as h11 finds it.
_HEAD_END = re.compile(rb"\n\r?\n")
# What h11 refuses before the line is complete: TLS to a port that does not speak it, for one.
_FIRST_BYTE = 0x21

# The usual form of an upgrade. No continued line begins like these headers, so what matches is what h11 would find.
_GET = re.compile(rb"GET [!-~]+ HTTP/1\.1\r?\n")
_UPGRADE = re.compile(rb"\nupgrade:[ \t]*websocket[ \t]*\r?\n", re.IGNORECASE)
_CONNECTION = re.compile(rb"\nconnection:(?:[^\n]*,)?[ \t]*upgrade[ \t]*(?:,[^\n]*)?\r?\n", re.IGNORECASE)
_KEY = re.compile(rb"\nsec-websocket-key:", re.IGNORECASE)
_VERSION = re.compile(rb"\nsec-websocket-version:[ \t]*13[ \t]*\r?\n", re.IGNORECASE)
_WEBSOCKET_VERSION = "13"

# RFC 3986, sections 3.2.2 and 3.2.3, without user and percent signs. What passes can stand in any header.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_HOST_CHARACTERS = 300
_ORIGIN_OF_A_PROXY = re.compile(r"https?://[^/?]*", re.IGNORECASE)


@attrs.frozen
class Request:
    """The head of a request.

    - `target`: as it was sent; begins with a slash, or is "*".
    - `host`: the `Host` header, checked; "" where an old client sends none.
    - `headers`: names in lower case.
    """

    method: str
    target: str
    host: str
    headers: tuple[tuple[bytes, bytes], ...]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def host_name(self) -> str:
        """The host without its port, in lower case, an IPv6 address in brackets."""
        found = _HOST.fullmatch(self.host)
        return found[1].lower() if found else ""

    @property
    def has_port(self) -> bool:
        """Whether the host has a port with it."""
        found = _HOST.fullmatch(self.host)
        return found is not None and found[2] is not None

    def value(self, name: bytes) -> str:
        """The values of this header, with commas between them; `name` in lower case."""
        return ", ".join(value.decode("latin-1") for key, value in self.headers if key == name)

    def tokens(self, name: bytes) -> list[str]:
        """The same, cut at the commas, in lower case."""
        return [token.strip().lower() for token in self.value(name).split(",")]


@attrs.frozen
class Answer:
    """What a request gets. `close`: it is the connection's last."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    close: bool = False


@attrs.frozen
class Reply:
    """An answer as bytes: `head`, and then `body` as it is. `close`: nothing is read after it."""

    status: int
    head: bytes
    body: bytes
    close: bool


def in_words(status: int, text: str, *headers: tuple[str, str], close: bool = False) -> Answer:
    """An answer for people, of one line."""
    more = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Answer(status, (*more, ("Cache-Control", "no-store"), *headers), f"{text}\n".encode(), close)


def head_end(data: bytes) -> int | Answer:
    """Where the head that `data` begins with ends, 0 while more of it is to come; or what is wrong with it.

    However the bytes were cut on their way, the verdict is the same.
    """
    if data and data[0] < _FIRST_BYTE:
        return in_words(400, "This is no HTTP request.", close=True)
    found = _HEAD_END.search(data, 0, HEAD_LIMIT_BYTES)
    if found:
        return found.end()
    if len(data) >= HEAD_LIMIT_BYTES:
        return in_words(431, f"The head of a request may have {HEAD_LIMIT_BYTES} bytes.", close=True)
    return 0


def head_too_slow() -> Answer:
    """The answer to a head that did not come in time."""
    return in_words(408, "The rest of the request did not come in time.", close=True)


def is_upgrade(head: bytes) -> bool:
    """Whether this head opens a WebSocket in the usual form. Where it says False, h11 decides."""
    return bool(
        _GET.match(head)
        and _UPGRADE.search(head)
        and _CONNECTION.search(head)
        and _KEY.search(head)
        and _VERSION.search(head)
    )


def respond(head: bytes, answer: Callable[[Request], Answer], *, time: float, last: bool) -> Reply | None:
    """The reply to the request with this head; None where it opens a WebSocket.

    `answer` knows what there is. `time`: seconds since the epoch. `last`: no further request will be read.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT_BYTES)
    method = b""
    try:
        connection.receive_data(head)
        event = connection.next_event()
        if not isinstance(event, h11.Request):
            raise h11.RemoteProtocolError("no request")
        method = event.method
        found = _checked(event, answer)
        if found is None:
            return None
        has_ended = isinstance(connection.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError as error:
        has_ended = False
        found = in_words(error.error_status_hint, "This is no sound HTTP request.")
    return _written(connection, found, time=time, close=last or found.close or not has_ended, bare=method == b"HEAD")


def refuse(answer: Answer, *, time: float) -> Reply:
    """The reply to what is no whole request. It is the connection's last."""
    return _written(h11.Connection(h11.SERVER), answer, time=time, close=True, bare=False)


def _checked(event: h11.Request, answer: Callable[[Request], Answer]) -> Answer | None:
    """The answer to a request that h11 has found sound; None where it opens a WebSocket."""
    headers = tuple((name, value) for name, value in event.headers)
    version = event.http_version
    if not version.startswith(b"1."):
        return in_words(505, "This server speaks HTTP/1.1.", close=True)
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) > 1 or not all(_is_host(host) for host in hosts):
        return in_words(400, "The Host header must be a host name or address, and perhaps a port.", close=True)
    target = event.target.decode("ascii")
    if not target.startswith("/"):
        # To a proxy a client names the whole URL; a server must understand that, too (RFC 9112, section 3.2.2).
        target = _ORIGIN_OF_A_PROXY.sub("", target, count=1) or "/"
        target = target if target.startswith("/") else "*"
    request = Request(event.method.decode("ascii"), target, hosts[0] if hosts else "", headers)
    if "websocket" in request.tokens(b"upgrade") or request.value(b"sec-websocket-key"):
        return _why_no_websocket(request, version)
    if request.value(b"transfer-encoding") or request.value(b"content-length") not in ("", "0"):
        found = answer(request)
        if found.status < 400:
            found = in_words(413, "A request has no body here.")
        return attrs.evolve(found, close=True)
    return answer(request)


def _is_host(host: str) -> bool:
    return not host or (len(host) <= _HOST_CHARACTERS and _HOST.fullmatch(host) is not None)


def _why_no_websocket(request: Request, version: bytes) -> Answer | None:
    """What is wrong with the opening of a WebSocket; None where nothing is that the library would not say better."""
    asked = request.value(b"sec-websocket-version")
    if asked not in ("", _WEBSOCKET_VERSION):
        # RFC 6455, section 4.4.
        return upgrade_required(f"This server speaks version {_WEBSOCKET_VERSION} of WebSocket.")
    lost = "is missing; a proxy in between may have taken it out"
    rules = (
        (request.method == "GET", "the method must be GET"),
        (version >= b"1.1", "it must be HTTP/1.1; a proxy in between may speak an older one"),
        ("upgrade" in request.tokens(b"connection"), f"the header Connection: Upgrade {lost}"),
        ("websocket" in request.tokens(b"upgrade"), f"the header Upgrade: websocket {lost}"),
        (any(name == b"sec-websocket-key" for name, _ in request.headers), "the header Sec-WebSocket-Key is missing"),
        (bool(asked), "the header Sec-WebSocket-Version is missing"),
    )
    for holds, why in rules:
        if not holds:
            return in_words(400, f"This opens no WebSocket: {why}.", close=True)
    return None


def upgrade_required(text: str) -> Answer:
    """The answer of what speaks WebSocket only (RFC 9110, section 15.5.22)."""
    return in_words(426, text, ("Upgrade", "websocket"), ("Sec-WebSocket-Version", _WEBSOCKET_VERSION))


def _written(connection: h11.Connection, answer: Answer, *, time: float, close: bool, bare: bool) -> Reply:
    """`bare`: the head of the answer only."""
    options = [option for option, holds in (("Upgrade", answer.status == 426), ("close", close)) if holds]
    headers = [("Date", formatdate(time, usegmt=True)), *answer.headers]
    if answer.status != 304:  # which has no body, and would say that it has
        headers.append(("Content-Length", str(len(answer.body))))
    if options:
        headers.append(("Connection", ", ".join(options)))
    reason = HTTPStatus(answer.status).phrase.encode()
    head = connection.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
    assert head is not None
    body = b"" if bare or answer.status == 304 else answer.body
    # It keeps count only: the body goes out from where it is.
    connection.send_with_data_passthrough(h11.Data(data=body))
    connection.send_with_data_passthrough(h11.EndOfMessage())
    return Reply(answer.status, head, body, close or connection.our_state is not h11.DONE)
