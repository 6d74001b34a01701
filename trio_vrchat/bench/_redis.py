"""The Redis of a backplane, as the load test asks it: in a few bytes on a plain socket.

What is asked is what it has cost so far, and whether it keeps what servers share; the latter is removed after a run, so
that each begins as the one before it did. The protocol is RESP2: a request is a list of strings, each with its length
before it; an answer begins with its kind.
"""

import socket
import ssl
from collections.abc import Iterator
from typing import Any, Self

from .._errors import ConfigError
from .._redis_place import RedisPlace
from ._options import BenchError

# On a local network an answer takes a millisecond.
_TIMEOUT_S = 5.0
_KEYS_AT_ONCE = 1000
# In user and system mode, of the process with all its threads, and of those that it has forked to write its files.
_CPU_SECONDS = (b"used_cpu_sys", b"used_cpu_user", b"used_cpu_sys_children", b"used_cpu_user_children")


class Redis:
    """A connection to the Redis at the URL of a backplane, its `place`, for as long as the context lasts.

    Raises: BenchError: the URL is none, or from any method: it cannot be reached, or refuses. None of them says
    anything of a password.
    """

    def __init__(self, url: str) -> None:
        try:
            place = RedisPlace.of(url)
        except ConfigError as error:
            raise BenchError(str(error)) from error
        self.place = place
        try:
            self._socket = _connected(place)
        except OSError as error:
            raise self._unreachable(error) from error
        self._answers = self._socket.makefile("rb")
        try:
            if place.password is not None:
                self._ask("AUTH", *([] if place.user is None else [place.user]), place.password)
            self._ask("SELECT", str(place.database))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._answers.close()
        self._socket.close()

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far, for whomever."""
        figures = (line.partition(b":") for line in self._ask("INFO", "cpu").splitlines())
        return sum(float(value) for name, _, value in figures if name in _CPU_SECONDS)

    def keeps_rooms(self) -> bool:
        """Whether its database has anything that servers of ours keep there."""
        return any(self._pages())

    def forget_rooms(self) -> None:
        """Remove from its database what servers of ours keep there."""
        for keys in self._pages():
            if keys:
                self._ask("UNLINK", *keys)

    def _pages(self) -> Iterator[list[bytes]]:
        cursor = b"0"
        while True:
            pattern = f"{self.place.prefix()}*"
            cursor, keys = self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", str(_KEYS_AT_ONCE))
            yield keys
            if cursor == b"0":
                return

    def _ask(self, *words: str | bytes) -> Any:
        """Its answer: bytes, a number, None, or a list of these."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        try:
            self._socket.sendall(request)
            return self._read()
        except (OSError, ValueError) as error:
            raise self._unreachable(error) from error

    def _read(self) -> Any:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("it hung up")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                why = rest.decode(errors="replace")
                raise BenchError(
                    f"backplane: Redis at {self.place} refuses ({why}): check the URL, and its user's rights"
                )
            case b":":
                return int(rest)
            case b"$":
                return None if (size := int(rest)) < 0 else self._answers.read(size + 2)[:size]
            case b"*":
                return [self._read() for _ in range(int(rest))]
        raise ValueError(f"it has answered {line[:100]!r}")

    def _unreachable(self, error: Exception) -> BenchError:
        return BenchError(f"backplane: cannot reach Redis at {self.place} ({error}): is it running there?")


def _connected(place: RedisPlace) -> socket.socket:
    connection = socket.create_connection((place.host, place.port), _TIMEOUT_S)
    if not place.tls:
        return connection
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=place.host)
    except BaseException:
        connection.close()
        raise
