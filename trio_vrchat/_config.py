"""The settings, and why each default is what it is.

Units are in the names: `_s` seconds, `_bytes`, `_frames`. The docstring under a field is its help text on the command
line and in the README; the comment above it is the reason. A limit that protects the server has the precedent it
follows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ._errors import ConfigError

# Of the year 9999, the last that calendars of most languages know.
_LAST_SECOND = 253_402_300_799


def _number(low: float, high: float) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    """A validator: a finite number from `low` to `high`; whole where the field is an int."""

    def check(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
        kinds: tuple[type[int] | type[float], ...] = (int,) if field.type in ("int", int) else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
            whole = "a whole number" if kinds == (int,) else "a number"
            raise ConfigError(f"{field.name} must be {whole} from {low} to {high}, not {value!r}")

    return check


def _host(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{field.name} must be an address or a host name, or be left out, not {value!r}")


def _start_time(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (
        not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LAST_SECOND
    ):
        raise ConfigError(f"{field.name} must be seconds since the Unix epoch, or be left out, not {value!r:.60}")


@attrs.frozen(kw_only=True)
class Config:
    """The settings of a server. Raises ConfigError where one is out of its range.

    `python -m trio_vrchat --help` and the README say what each means; `start_time`, for tests, is the server's time at
    its start, in seconds since the Unix epoch.
    """

    host: str | None = attrs.field(default=None, validator=_host)
    """Address or name to listen on. Left out: every interface."""

    # The port of the original server; clients that hobbyists built have it compiled in.
    port: int = attrs.field(default=42069, validator=_number(0, 65535))
    """TCP port. 0 picks a free one."""

    # Networked-A-Frame sends 15 a second; with interpolation 20 looks smooth, and 30 costs half as much again.
    fps: float = attrs.field(default=20.0, validator=_number(0.1, 1000))
    """Batches of transforms a second, at most."""

    # Some screens full. Discord's API, too, returns 50 messages of a channel unless asked for more.
    history: int = attrs.field(default=50, validator=_number(0, 10_000))
    """Events of a room that a newcomer is shown."""

    # 50 events of the largest size would be 3 MiB in each room, and as much for each newcomer to take in before
    # anything else: one member could fill the memory, or make a room that nobody can enter.
    history_limit_bytes: int = attrs.field(default=256 * 1024, validator=_number(0, 1 << 30))
    """Bytes that the history of one room may take; the oldest events go first."""

    # A transform with hands is under 1 KiB and a long chat line under 10. Centrifugo's limit is 64 KiB as well.
    message_limit_bytes: int = attrs.field(default=64 * 1024, validator=_number(1024, 1 << 24))
    """Bytes of the largest message that a client may send (a larger one: close code 1009)."""

    # Some seconds of a busy room; a client that is further behind has lost touch with it.
    outbox_limit_frames: int = attrs.field(default=256, validator=_number(4, 1 << 20))
    """Frames that may wait for a client that reads too slowly (more: close code 4008)."""

    # Centrifugo ends a client at 1 MiB, too.
    outbox_limit_bytes: int = attrs.field(default=1024 * 1024, validator=_number(1024, 1 << 30))
    """Bytes that may wait for a client that reads too slowly (more: close code 4008)."""

    # Nobody is in 32 places at once. Ergo (IRC) allows 100 channels.
    rooms_per_user: int = attrs.field(default=32, validator=_number(1, 10_000))
    """Rooms that a user may be in at once, the lobby included (more: 413)."""

    # A request fits into one packet: whoever takes longer is a scanner, or has gone. `websockets` gives 10 s.
    handshake_timeout_s: float = attrs.field(default=5.0, validator=_number(0.1, 3600))
    """Seconds for the opening handshake."""

    # A program logs in, right after the handshake; nobody types meanwhile.
    login_timeout_s: float = attrs.field(default=10.0, validator=_number(0.1, 3600))
    """Seconds from the handshake to the login (later: close code 4001)."""

    # Many round trips of a bad Wi-Fi. NATS gives a write 10 s.
    write_timeout_s: float = attrs.field(default=5.0, validator=_number(0.1, 3600))
    """Seconds that a write to a client may stand still before its connection ends."""

    # The peer's answer to our close frame, one round trip, and what is still on its way to us.
    close_timeout_s: float = attrs.field(default=3.0, validator=_number(0.0, 3600))
    """Seconds for the closing handshake."""

    # Twice what a healthy client needs, and under the 10 s after which container engines kill.
    drain_timeout_s: float = attrs.field(default=5.0, validator=_number(0.0, 3600))
    """Seconds, when the server stops, for what waits to go out."""

    start_time: float | None = attrs.field(default=None, validator=_start_time)
    """The server's time at its start, in seconds since the Unix epoch. Left out: the machine's. For tests."""
