"""Whether the page that a browser shows may use this server (RFC 6454, RFC 6455, section 10.2).

A browser says with `Origin` where the page came from that opens a connection; only browsers do. Without this check any
page on the web that somebody in the lab opens could talk to the server from inside the network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# RFC 6454, section 6, leaves these out of an origin; some clients write them into `Host`.
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


_LINE_END = re.compile(rb"\r?\n")


def values_of(head: bytes, name: bytes) -> list[str]:
    """The values of this header in the head of a request that an HTTP parser has accepted. `name` in lower case."""
    fields = (line.partition(b":") for line in _LINE_END.split(head)[1:])
    return [value.strip().decode("latin-1") for key, _, value in fields if key.strip().lower() == name]


def is_allowed(origins: Sequence[str], hosts: Sequence[str], allowed: Sequence[str]) -> bool:
    """Whether a request with these `Origin` and `Host` headers is let in.

    A request without an origin is. One with an origin must name the server's own host and port, as the request has
    them, or an origin in `allowed`, where "*" stands for any.
    """
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].lower()
    if "*" in allowed or origin in (entry.lower().rstrip("/") for entry in allowed):
        return True
    scheme, separator, own = origin.partition("://")
    if not separator or not own or len(hosts) != 1:
        return False
    return _with_port(own, scheme) == _with_port(hosts[0].lower(), scheme)


def _with_port(host: str, scheme: str) -> str:
    # The last colon of an IPv6 address in brackets is not the port's.
    _, colon, port = host.rpartition(":")
    return host if colon and port.isdigit() else f"{host}:{_DEFAULT_PORTS.get(scheme, '')}"
