"""Where a Redis is: what the URL of a backplane says."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import attrs

from ._errors import ConfigError

# What servers keep and say there begins with it.
PREFIX = "trio_vrchat:"

_PORT = 6379


@attrs.frozen
class RedisPlace:
    """Where a Redis is, and who comes to it."""

    host: str
    port: int
    database: int
    user: str | None
    # Not for a log.
    password: str | None = attrs.field(repr=False)
    tls: bool

    @classmethod
    def of(cls, url: str) -> RedisPlace:
        """Raises ConfigError, which says nothing of a password."""
        wrong = ConfigError("backplane must be redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss://… for TLS")
        try:
            parts = urlsplit(url)
            port = parts.port or _PORT
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query:
            raise wrong
        user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
        return cls(parts.hostname, port, database, user or None, password, parts.scheme == "rediss")

    def prefix(self, program: str = PREFIX) -> str:
        """What all that a program keeps and says there begins with. (Channels know nothing of databases.)"""
        return f"{program}{self.database}:"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
