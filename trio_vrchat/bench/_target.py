"""Where the server is, and connections to it.

The first connection waits, and tries every address of the host, as ``localhost`` has two; the others go to
the address that it found. They only begin to connect, and the load's selector says when they have.
"""

import errno
import os
import socket
from urllib.parse import urlsplit

from attrs import frozen

from ._options import BenchError

# A server on another continent answers a connection in well under a second.
_REACH_TIMEOUT_S = 10.0

_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


@frozen
class Target:
    """A server's URL, taken apart.

    Attributes:
        url: as it was given.
        host: the name or address to connect to.
        port: the port to connect to.
        path: what to ask for, with the query.
        authority: host and port as they stand in the URL.
        tls: whether TLS is spoken.
    """

    url: str
    host: str
    port: int
    path: str
    authority: str
    tls: bool = False


def parse_url(url: str) -> Target:
    """Take a ``ws://`` or ``wss://`` URL apart.

    Raises:
        BenchError: it is not one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BenchError(f"the URL {url!r} cannot be read ({error}): give one like ws://127.0.0.1:42069/") from error
    if parts.scheme not in ("ws", "wss") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise BenchError(f"the URL {url!r} is not one that the load test can use: give one like ws://127.0.0.1:42069/")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    tls = parts.scheme == "wss"
    return Target(url, host, port or (443 if tls else 80), path, parts.netloc.rpartition("@")[2], tls)


def reach(target: Target) -> socket.socket:
    """A connection to the first address of the target that answers.

    Raises:
        BenchError: none of them answers.
    """
    try:
        return socket.create_connection((target.host, target.port), _REACH_TIMEOUT_S)
    except OSError as error:
        raise BenchError(f"cannot reach {target.url} ({error}): is the server running there?") from error


def begin_to_connect(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    """A socket that is on its way to an address: it becomes writable when it has arrived, or has failed.

    Raises:
        BenchError: that failed at once.
    """
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BenchError(f"cannot make a further socket ({error}): ask for fewer users") from error
    connection.setblocking(False)
    failure = connection.connect_ex(address)
    if failure not in _UNDER_WAY:
        connection.close()
        raise BenchError(f"cannot connect to {address} ({os.strerror(failure)}): is the server still up?")
    return connection
