"""Who is behind a proxy: `Forwarded` (RFC 7239) and `X-Forwarded-For`, from proxies that the settings trust.

Each proxy on the way appends who asked it, so the list is read from its end: it is true as far as each who wrote is
trusted, and the first who is not is the client. What stands before was written by the client, or by somebody it has
made up.

A proxy writes one of the two headers and hands the other on, as the client has sent it. So where both are there, they
must name the same client: otherwise neither is believed, for one of them is a lie that would get around every limit.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

import attrs

from ._admission import IPAddress, Networks, Peer
from ._origin import values_of

# RFC 7239, section 4: one pair, and what ends it. (A value may be empty only in quotes; nobody minds.)
_PAIR = re.compile(r'[ \t]*([!#-\'*+.^-z|~-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)[ \t]*(;|,|$)', re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")


class CannotTell(Exception):
    """What the proxy says makes no sense. The message is for who runs it."""


@attrs.frozen
class Asker:
    """Who asks, and whether by https; None where nobody says."""

    peer: Peer
    by_tls: bool | None = None


@attrs.frozen
class _Hop:
    # None: the proxy does not say.
    address: IPAddress | None
    scheme: str = ""


class Proxies:
    """The proxies of these networks are believed. `exempt` are the networks that limits by address skip."""

    def __init__(self, trusted: Sequence[str], exempt: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._networks = Networks(exempt)

    def trust(self, address: IPAddress | None) -> bool:
        """Whether what is said from this address is believed."""
        return address is not None and any(address in network for network in self._trusted)

    def asker(self, head: bytes, proxy: Peer) -> Asker:
        """Who asks, by the head of a request that a trusted `proxy` has sent. Raises CannotTell."""
        new = self._client(_forwarded(values_of(head, b"forwarded")))
        old = self._client([_Hop(_address(text)) for text in _listed(head, b"x-forwarded-for")])
        if new is not None and old is not None and new.address != old.address:
            raise CannotTell(
                "Forwarded and X-Forwarded-For name two clients: have the proxy remove the one that it does not write"
            )
        client = new or old
        schemes = [client.scheme] if client and client.scheme else _listed(head, b"x-forwarded-proto")
        by_tls = schemes[-1].lower() in ("https", "wss") if schemes else None
        if client is None or client.address is None:
            return Asker(proxy, by_tls)
        return Asker(self._networks.peer_with(client.address, f"{client.address} by {proxy.text}"), by_tls)

    def _client(self, hops: Sequence[_Hop]) -> _Hop | None:
        client = None
        for hop in reversed(hops):
            if hop.address is None:
                # Nobody says who asked; who is known to have handed it on is who counts.
                return client or hop
            client = hop
            if not self.trust(hop.address):
                break
        return client


def _listed(head: bytes, name: bytes) -> list[str]:
    return [text.strip() for value in values_of(head, name) for text in value.split(",") if text.strip()]


def _forwarded(values: Sequence[str]) -> list[_Hop]:
    hops: list[_Hop] = []
    for value in values:
        parameters: dict[str, str] = {}
        for name, text, end in _pairs(value):
            parameters[name.lower()] = text
            if end != ";":
                hops.append(_Hop(_address(parameters.get("for", "")), parameters.get("proto", "")))
                parameters = {}
    return hops


def _pairs(value: str) -> Iterator[tuple[str, str, str]]:
    position = 0
    while position < len(value):
        found = _PAIR.match(value, position)
        if found is None or (found[3] and found.end() == len(value)):
            raise CannotTell(f"Forwarded is not as RFC 7239 has it: {value!r:.200}")
        text = found[2]
        yield found[1], _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text, found[3]
        position = found.end()


def _address(node: str) -> IPAddress | None:
    """The address of a node, which may have a port, and brackets; None where it is hidden or unknown."""
    if node.startswith("["):
        node = node[1:].partition("]")[0]
    elif node.count(":") == 1:
        node = node.partition(":")[0]
    try:
        address = ipaddress.ip_address(node)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
