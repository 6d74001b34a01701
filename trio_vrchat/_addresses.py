"""Where a server can be reached: its sockets, and the URLs that name them."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import psutil
import trio

from ._admission import IPAddress, Networks, Peer
from ._errors import ListenError

# Several listeners on one free port: another program may take the port on one of them meanwhile.
_FREE_PORT_TRIES = 10


async def open_listeners(host: str | None, port: int) -> list[trio.SocketListener]:
    """Listen on `host` (None: every interface), all on one port. Raises ListenError."""
    for _ in range(_FREE_PORT_TRIES):
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ListenError(_why_not(host, port, error)) from error
        except UnicodeError as error:  # what the name service cannot even be asked
            raise ListenError(f"cannot listen on {host!r}: it is no address or host name ({error})") from error
        if len({_port(listener) for listener in listeners}) == 1:
            return list(listeners)
        # With port 0 each address family was given a port of its own: try whether the first one's is free for all.
        free = _port(listeners[0])
        for listener in listeners:
            await trio.aclose_forcefully(listener)
        try:
            return list(await trio.open_tcp_listeners(free, host=host))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ListenError(_why_not(host, port, error)) from error
    raise ListenError(f"found no port that is free on every interface, in {_FREE_PORT_TRIES} tries; give one")


def _why_not(host: str | None, port: int, error: OSError) -> str:
    where = f"{host or 'every interface'}, port {port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"cannot listen on {where}: it is in use; end the program that has it, or choose another port"
        case errno.EACCES:
            return f"cannot listen on {where}: ports below 1024 need a privilege; choose a higher one"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {where}: no interface of this machine has that address"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: {host!r} is no address or known host name ({error.strerror})"
    return f"cannot listen on {where}: {error.strerror or error}"


def _port(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port


def _on_tcp(listener: object) -> trio.SocketListener | None:
    """The TCP socket that this listener stands on, if it does."""
    if isinstance(listener, trio.SSLListener):
        return _on_tcp(listener.transport_listener)
    if isinstance(listener, trio.SocketListener) and listener.socket.family in (socket.AF_INET, socket.AF_INET6):
        return listener
    return None


def port_of(listeners: Sequence[object]) -> int:
    """The TCP port of these listeners; 0 where none is a socket."""
    return next((_port(found) for listener in listeners if (found := _on_tcp(listener))), 0)


def urls_of(listeners: Sequence[object], *, tls: bool) -> tuple[str, ...]:
    """A URL for each address that a client can use, those that the network can reach first. `tls`: on every socket."""
    schemes: dict[IPAddress, str] = {}
    for listener in listeners:
        found = _on_tcp(listener)
        if found is None:
            continue
        host = ipaddress.ip_address(found.socket.getsockname()[0].partition("%")[0])
        addresses = _interface_addresses(host.version) if host.is_unspecified else [host]
        schemes |= dict.fromkeys(addresses, "wss" if tls or listener is not found else "ws")
    ordered = sorted(schemes, key=lambda address: (address.is_loopback, address.version, address))
    return tuple(f"{schemes[address]}://{_in_url(address)}:{port_of(listeners)}/" for address in ordered)


def page_urls_of(urls: Sequence[str], *, tls: bool) -> tuple[str, ...]:
    """The same for a browser. `tls`: sockets speak it; on this machine they speak plain HTTP as well, which needs no
    certificate, and which browsers there trust as much.
    """
    found: list[str] = []
    for url in urls:
        scheme, _, rest = url.partition("://")
        is_here = ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
        found.append(f"{'http' if scheme == 'ws' or (tls and is_here) else 'https'}://{rest}")
    return tuple(found)


def machine_addresses() -> list[IPAddress]:
    """Every address by which this machine can be reached from elsewhere, or reaches itself."""
    return [*_interface_addresses(4), *_interface_addresses(6)]


def readable_on_the_network(urls: Sequence[str]) -> list[str]:
    """Those of these URLs where whoever is on the way reads along: no TLS, and not this machine alone."""
    parts = [(url, urlsplit(url)) for url in urls]
    return [
        url for url, part in parts if part.scheme == "ws" and not ipaddress.ip_address(part.hostname or "").is_loopback
    ]


def _interface_addresses(version: int) -> list[IPAddress]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        ipaddress.ip_address(address.address.partition("%")[0])
        for name, addresses in psutil.net_if_addrs().items()
        if name in up
        for address in addresses
        if address.family == family
    ]
    # A link-local address needs the name of the other machine's interface, which no URL can know.
    return [address for address in found if not address.is_link_local]


def _in_url(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def peer_at(address: object, networks: Networks) -> Peer:
    """The peer with this socket address."""
    match address:
        case (str(host), int(port), *_):
            return networks.peer(host, port)
    return Peer(f"a local socket of process {os.getpid()}")


def peer_of(stream: trio.abc.Stream, networks: Networks) -> Peer:
    """Who is at the other end. To be asked at once: a peer that resets the connection takes its address along."""
    if isinstance(stream, trio.SSLStream):
        return peer_of(stream.transport_stream, networks)
    if isinstance(stream, trio.SocketStream):
        try:
            return peer_at(stream.socket.getpeername(), networks)
        except OSError:  # reset before it could be accepted
            return Peer("a peer that has gone")
    # A stream of somebody's own may say whom it stands for.
    address: tuple[str, int] | None = getattr(stream, "address", None)
    return networks.peer(*address) if address else Peer(getattr(stream, "peer", "in memory"))
