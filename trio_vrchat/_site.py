"""What there is on the server's port for those who speak HTTP: the page, `/healthz` and `/metrics`. No waiting.

    request ─▶ Site.answer ─▶ the page's files, from a table
                   ├────────▶ /healthz: 200 while it serves
                   └────────▶ /metrics: to the networks of the setting only

Where TLS is on, a request that came without from another machine is sent to https, whatever it asks for.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from ._admission import IPAddress
from ._http import Answer, Request, in_words, upgrade_required
from ._web_files import File

_LOCAL_NAMES = ("localhost", "[::1]")
_METHODS = ("GET", "HEAD")
# What a Content-Security-Policy takes for a host: no IPv6 address, which would be an error in the browser's console.
_IN_A_POLICY = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:\d+)?")

_log = logging.getLogger("trio_vrchat.http")


@attrs.frozen
class Visitor:
    """Who asks. `address`: None where there is none. `by_tls`: over a connection that this server has encrypted."""

    address: IPAddress | None
    by_tls: bool = False


@attrs.define(eq=False)
class Site:
    """Answers requests.

    - `files`: by path; None where there is no page.
    - `metrics`: what `/metrics` says, to those from `metrics_networks`.
    - `draining`: the server comes down.
    """

    files: Mapping[str, File] | None
    metrics: Callable[[Request], Answer]
    metrics_networks: Sequence[str]
    draining: bool = False
    _networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._networks = [ipaddress.ip_network(network) for network in self.metrics_networks]

    def answer(self, request: Request, visitor: Visitor) -> Answer:
        """The answer to this request. Raises nothing."""
        try:
            answer = self._look_up(request, visitor)
        except Exception:  # noqa: BLE001  (a bug of ours is one answer, not a connection)
            _log.exception("cannot answer a request")
            return in_words(500, "Internal server error; the server's log has the rest.")
        if answer is None:
            return in_words(404, "There is nothing here.")
        if request.method not in _METHODS:
            return in_words(405, "Only GET and HEAD.", ("Allow", ", ".join(_METHODS)))
        return answer

    def _look_up(self, request: Request, visitor: Visitor) -> Answer | None:
        match request.path:
            case "/healthz":
                return in_words(503, "draining") if self.draining else in_words(200, "ok")
            case "/metrics":
                # Elsewhere it looks as if there were none.
                return self.metrics(request) if self._may_read_metrics(visitor) else None
        if self.files is None:
            if request.path == "/":
                return upgrade_required("This is a trio_vrchat server without a page: it speaks WebSocket.")
            return None
        file = self.files.get(request.path)
        if file is None:
            return None
        answer = file.answer(request)
        return attrs.evolve(answer, headers=answer.headers + _guards(request, visitor))

    def _may_read_metrics(self, visitor: Visitor) -> bool:
        # One without an address may stand for anybody: behind a proxy's local socket is the whole world.
        return visitor.address is not None and any(visitor.address in network for network in self._networks)


def _guards(request: Request, visitor: Visitor) -> tuple[tuple[str, str], ...]:
    """Headers by which the browser holds the page to this server."""
    # Browsers before Safari 15.4 do not take a WebSocket of the page's own host for "self".
    sockets = f" ws://{request.host} wss://{request.host}" if _IN_A_POLICY.fullmatch(request.host) else ""
    policy = (
        f"default-src 'self'; connect-src 'self'{sockets}; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'self'"
    )
    headers = [
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
        ("Permissions-Policy", "xr-spatial-tracking=(self)"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    # Anywhere else a browser ignores it, with an error in its console.
    if visitor.by_tls or request.host_name in _LOCAL_NAMES or request.host_name.startswith("127."):
        headers.append(("Cross-Origin-Opener-Policy", "same-origin"))
    return tuple(headers)


def to_https(request: Request) -> Answer:
    """The answer to a request that came without TLS from another machine: the same, by https.

    It names the host and port that the client itself has sent, so it leads nowhere else.
    """
    if not request.host or not request.target.startswith("/"):
        return in_words(400, "Not without TLS from another machine: use https.", close=True)
    # Left out, the port is that of http; https is on the same.
    port = "" if request.has_port else ":80"
    location = f"https://{request.host}{port}{request.target}"
    # Kept, it would stay when TLS has been turned off again. (`in_words` says so.)
    return in_words(308, f"Not without TLS from another machine: {location}", ("Location", location), close=True)


def no_websocket_without_tls() -> Answer:
    """The answer to who opens a WebSocket without TLS from another machine. (To be redirected, none would follow.)"""
    return in_words(400, "Not without TLS from another machine: connect to wss:// on the same port.", close=True)
