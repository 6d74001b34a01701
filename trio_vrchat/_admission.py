"""Who may connect: the limits by address, and on connections in total.

An address is an IPv4 address or an IPv6 /64, which is what one customer of a provider has. Exempt networks skip the
limits by address, nothing else. A peer without an address (a stream in memory, a Unix socket) counts in total only.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from ._config import Config

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_WINDOW_S = 60.0


@attrs.frozen
class Peer:
    """Who is at the other end.

    - `text`: address and port, for the log.
    - `network`: what limits by address count, as text; None where there is no address.
    - `exempt`: whether those limits skip it.
    - `address`: None where there is none.
    """

    text: str
    network: str | None = None
    exempt: bool = True
    address: IPAddress | None = attrs.field(default=None, eq=False)

    def __str__(self) -> str:
        return self.text


class Networks:
    """Tells peers by address; `exempt` are the networks that limits by address skip."""

    def __init__(self, exempt: Sequence[str]) -> None:
        self._exempt = [ipaddress.ip_network(network) for network in exempt]

    def peer(self, host: str, port: int) -> Peer:
        """The peer at this IP address and TCP port."""
        address = ipaddress.ip_address(host.partition("%")[0])
        text = f"[{host}]:{port}" if address.version == 6 else f"{host}:{port}"
        # Of a socket for both families, IPv4 comes dressed as IPv6.
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self.peer_with(address, text)

    def peer_with(self, address: IPAddress, text: str) -> Peer:
        """The peer at this address; `text` is what the log calls it."""
        prefix = 64 if address.version == 6 else 32
        network = ipaddress.ip_network((address, prefix), strict=False)
        exempt = any(address in network for network in self._exempt)
        return Peer(text, str(network) if prefix == 64 else str(address), exempt, address)


class Admission:
    """Counts connections. What `admit` lets in MUST be given back to `release` once."""

    def __init__(self, config: Config, connections_possible: int, now: Callable[[], float]) -> None:
        # Of two limits the lower; 0 is none.
        self._limit = min(filter(None, (config.connections_limit, connections_possible)), default=0)
        self._per_address = config.connections_per_address
        self._per_minute = config.new_connections_per_minute
        self._now = now
        self._total = 0
        self._open: Counter[str] = Counter()
        # The minute under way and who came in it. Bounded by what can be accepted in a minute, and emptied with it.
        self._minute = 0
        self._came: Counter[str] = Counter()

    def admit(self, peer: Peer) -> str:
        """Count a new connection and return "", or return why it is refused."""
        if self._limit and self._total >= self._limit:
            return f"there are {self._total} connections already (connections_limit)"
        why = self.admit_client(peer)
        self._total += not why
        return why

    def admit_client(self, peer: Peer) -> str:
        """The same for whom a proxy stands for, whose own connection counts already: by address only.

        What is let in MUST be given back to `release_client` once.
        """
        network = peer.network
        if network is not None and not peer.exempt:
            if self._per_address and self._open[network] >= self._per_address:
                return f"{network} has {self._open[network]} connections already (connections_per_address)"
            minute = int(self._now() // _WINDOW_S)
            if minute != self._minute:
                self._minute, self._came = minute, Counter()
            if self._per_minute and self._came[network] >= self._per_minute:
                return f"{network} has connected {self._came[network]} times this minute (new_connections_per_minute)"
            self._came[network] += 1
            self._open[network] += 1
        return ""

    def release(self, peer: Peer) -> None:
        """A connection that was admitted has ended."""
        self._total -= 1
        self.release_client(peer)

    def release_client(self, peer: Peer) -> None:
        """What was admitted by `admit_client` has ended."""
        network = peer.network
        if network is not None and not peer.exempt:
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]
