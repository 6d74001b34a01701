"""The settings, and why each default is what it is.

Units are in the names: `_s` seconds, `_bytes`, `_frames`. The docstring under a field is its help text on the command
line and in the README; the comment above it is the reason. A limit that protects the server has the precedent it
follows beside it; 0 is no limit where the help says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
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


def _texts(value: Any) -> Any:
    """Several texts: a list of them, or one text with commas between them, as the environment has it."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, Iterable):
        return tuple(part.strip() if isinstance(part, str) else part for part in value if part != "")
    return value


def _networks(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    for network in value if isinstance(value, tuple) else (value,):
        try:
            if not isinstance(network, str):
                raise ValueError("it is no text")
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ConfigError(
                f"{field.name} must be networks such as 192.168.1.0/24, not {network!r}: {error}"
            ) from None


def _origins(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    for origin in value if isinstance(value, tuple) else (value,):
        scheme, slashes, host = origin.partition("://") if isinstance(origin, str) else ("", "", "")
        if origin not in ("*", "null") and not (scheme and slashes and host and not set(host) & set("/?#@ ")):
            raise ConfigError(
                f"{field.name} must be origins such as https://example.org:8080 (no path), * or null, not {origin!r}"
            )


def _notes(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    for note in value if isinstance(value, tuple) else (value,):
        key, equals, _ = note.partition("=") if isinstance(note, str) else ("", "", "")
        if not key or not equals:
            raise ConfigError(f"{field.name} must be KEY=VALUE, not {note!r}")


def _flag(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{field.name} must be true or false, not {value!r}")


def _path(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{field.name} must be a file's path, or be left out, not {value!r}")


def _url(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    # What is in it may be a password. Whoever uses it looks more closely.
    if value is not None and not (isinstance(value, str) and value.startswith(("redis://", "rediss://"))):
        raise ConfigError(f"{field.name} must be redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss://… for TLS")


def _one_of(*choices: str) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    def check(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            raise ConfigError(f"{field.name} must be {' or '.join(choices)}, not {value!r}")

    return check


def _auto(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value != "auto":
        raise ConfigError(f"{field.name} must be auto, or be left out, not {value!r}")


def _seed(_instance: object, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and type(value) is not int:
        raise ConfigError(f"{field.name} must be a whole number, or be left out, not {value!r}")


# A field is the option of its name, but for these.
_OPTION = "option"


def option_of(field: attrs.Attribute[Any]) -> str | None:
    """The name of a field's option on the command line, in the environment and in the file; None where it has none."""
    option: str | None = field.metadata.get(_OPTION, field.name)
    return option


@attrs.frozen(kw_only=True)
class Config:
    """The settings of a server. Raises ConfigError where one is out of its range.

    `python -m trio_vrchat --help` and the README say what each means; `start_time` and `seed` are for tests.
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

    # A name belongs to whoever holds it, as on IRC without services.
    auth: str = attrs.field(default="open", validator=_one_of("open", "accounts"))
    """Who may log in. open: any name, which the password of its first login guards while it is held; accounts: those
    that `trio-vrchat users` has added, to the store or to the backplane's Redis."""

    store: str | None = attrs.field(default=None, validator=_path)
    """A file (SQLite) for accounts and history, made if it is missing. Left out: history lives as long as its room, or
    is in the backplane's Redis."""

    # A year of a small lab's talk. Ergo keeps 4096 lines of a channel in memory.
    keep_events: int = attrs.field(default=10_000, validator=_number(1, 10_000_000), metadata={_OPTION: "keep"})
    """Events of each room that the store keeps; the oldest go first."""

    # Whoever talks in ever new rooms would fill the disk; this bounds it, whatever the number of rooms.
    store_limit_bytes: int = attrs.field(default=1 << 30, validator=_number(1 << 20, 1 << 50))
    """Bytes of events that the store keeps, over all rooms; the oldest go first."""

    # One process serves one core, and one machine is one machine.
    backplane: str | None = attrs.field(default=None, validator=_url, repr=False)
    """redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] (rediss: by TLS): servers with the same Redis are one, with the
    same rooms, members, names, accounts and history. Needs Redis 7 or later, and pip install 'trio-vrchat[redis]'."""

    # A page from elsewhere that a browser on this network opens could otherwise use the server as its user.
    allow_origins: tuple[str, ...] = attrs.field(
        default=(), converter=_texts, validator=_origins, metadata={_OPTION: "allow_origin"}
    )
    """An origin (https://example.org) whose pages may connect, beside the server's own; * is any, null a local file.
    Several: give it again, or commas between them."""

    record: str | None = attrs.field(default=None, validator=_path)
    """A folder: everything that happens is recorded there, in a new file each time the server starts."""

    recordings: str | None = attrs.field(default=None, validator=_path)
    """A folder: an admin may record into it and see its recordings again, on the page; left out: that of --record."""

    note: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_notes)
    """KEY=VALUE for the recording's manifest: a condition, a seed, a participant. Several: give it again, or commas
    between them."""

    pseudonyms: str | None = attrs.field(default=None, validator=_path)
    """A file with a key, made if it is missing: recordings have pseudonyms made with it in place of names, and no chat
    texts."""

    # Before TLS, because it is what most people see of the server first.
    page: bool = attrs.field(default=True, validator=_flag)
    """Whether there is a page for browsers on the same port; --no-page: none."""

    # An operator's own Prometheus on the same machine. Behind a proxy there everybody comes from loopback.
    metrics_networks: tuple[str, ...] = attrs.field(
        default=("127.0.0.0/8", "::1/128"), converter=_texts, validator=_networks, metadata={_OPTION: "metrics"}
    )
    """Networks from where /metrics may be read, in the format of Prometheus; elsewhere it is 404. Empty: nowhere.
    Several: give it again, or commas between them."""

    # Nobody: whoever is believed can say that they are anybody.
    trust_proxy: tuple[str, ...] = attrs.field(default=(), converter=_texts, validator=_networks)
    """Networks of proxies that are believed who a client is, and whether it came by https, for the limits and the log
    (Forwarded, or X-Forwarded-For and -Proto). Several: give it again, or commas between them."""

    # Off, because a browser warns of a certificate that nobody else vouches for.
    tls: str | None = attrs.field(default=None, validator=_auto)
    """auto: the server makes a certificate of its own, for all its addresses, and speaks https and wss. Left out: TLS
    with --tls-cert and --tls-key, or none."""

    tls_cert: str | None = attrs.field(default=None, validator=_path)
    """A certificate chain (PEM): the server speaks wss. Needs the key."""

    tls_key: str | None = attrs.field(default=None, validator=_path)
    """The private key (PEM) of the certificate."""

    # Limits. Ergo has its own on by default, too: a server is found by scanners before its owner reads about limits.

    # A transform with hands is under 1 KiB and a long chat line under 10. Centrifugo's limit is 64 KiB as well.
    message_limit_bytes: int = attrs.field(default=64 * 1024, validator=_number(1024, 1 << 24))
    """Bytes of the largest message that a client may send (a larger one: close code 1009)."""

    # Some seconds of a busy room; a client that is further behind has lost touch with it.
    outbox_limit_frames: int = attrs.field(default=256, validator=_number(4, 1 << 20))
    """Frames that may wait for a client that reads too slowly (more: close code 4008)."""

    # Centrifugo ends a client at 1 MiB, too.
    outbox_limit_bytes: int = attrs.field(default=1024 * 1024, validator=_number(1024, 1 << 30))
    """Bytes that may wait for a client that reads too slowly (more: close code 4008)."""

    # As Redis (maxclients), which lowers it, too, where the process may not have so many descriptors.
    connections_limit: int = attrs.field(default=10_000, validator=_number(0, 10_000_000))
    """Connections in total; fewer where the process may not open so many files. 0: no limit."""

    # A classroom behind one router, and a few of it who load the page, for which a browser opens six for some seconds.
    # Ergo, which has no page, allows 16.
    connections_per_address: int = attrs.field(default=64, validator=_number(0, 10_000_000))
    """Connections from one address (IPv6: one /64). 0: no limit."""

    # Eighteen people behind one router who open the page, with seven connections each, in the same minute; with 256,
    # what an attacker from one address could do at once took the server's memory over 100 MB. Ergo allows 32 in ten.
    new_connections_per_minute: int = attrs.field(default=128, validator=_number(0, 10_000_000))
    """New connections a minute from one address (IPv6: one /64). 0: no limit."""

    # As in Ergo: a proxy, an `adb reverse` and the bench all come from loopback.
    exempt_networks: tuple[str, ...] = attrs.field(
        default=("127.0.0.0/8", "::1/128"), converter=_texts, validator=_networks
    )
    """Networks that the limits by address do not count. Several: give it again, or commas between them."""

    # A burst is somebody who enters a room of buttons; nobody types 10 lines a second. Ergo's fakelag allows 5 at once.
    events_at_once: int = attrs.field(default=20, validator=_number(0, 1_000_000))
    """Messages, transforms aside, that a client may send at once (more: 429). 0: no limit."""

    events_per_s: float = attrs.field(default=10.0, validator=_number(0.01, 1_000_000))
    """Messages a second, transforms aside, that a client may send in the long run (more: 429)."""

    # Transforms of a kilobyte, 90 times a second, in two rooms, and as much again.
    bytes_per_s: int = attrs.field(default=256 * 1024, validator=_number(0, 1 << 40))
    """Bytes a second that a client may send in the long run, each message counting for at least 512; transforms over it
    are dropped (429, once a second). As many may be said in one room, in messages over 1 KiB, by all of its members;
    what is more is not delivered (429). 0: no limit."""

    # Nobody is in 32 places at once. Ergo (IRC) allows 100 channels.
    rooms_per_user: int = attrs.field(default=32, validator=_number(0, 10_000_000))
    """Rooms that a user may be in at once, the lobby included (more: 413). 0: no limit."""

    # Everybody's transform at a kilobyte, in one batch, is what an outbox holds.
    members_per_room: int = attrs.field(default=1000, validator=_number(0, 10_000_000))
    """Members of one room (more: 413). 0: no limit."""

    # One for each connection; an empty room costs some 10 KB.
    rooms_limit: int = attrs.field(default=10_000, validator=_number(0, 10_000_000))
    """Open rooms, the lobby included (more: 413). 0: no limit."""

    # Whoever mistypes tries twice more. fail2ban's default is 5 in ten minutes.
    login_failures_per_account: int = attrs.field(default=3, validator=_number(0, 1_000_000))
    """Failed logins a minute to one name from one address (more: 429). 0: no limit."""

    # Several people behind one router mistype, too. Exempt networks are not counted.
    login_failures_per_address: int = attrs.field(default=10, validator=_number(0, 1_000_000))
    """Failed logins a minute from one address (more: 429). 0: no limit."""

    # A request fits into one packet: whoever takes longer is a scanner, or has gone. `websockets` gives 10 s.
    handshake_timeout_s: float = attrs.field(default=5.0, validator=_number(0.1, 3600))
    """Seconds for the opening handshake, TLS included."""

    # A program logs in, right after the handshake; nobody types meanwhile.
    login_timeout_s: float = attrs.field(default=10.0, validator=_number(0.1, 3600))
    """Seconds from the handshake to the login (later: close code 4001)."""

    # Many round trips of a bad Wi-Fi. NATS gives a write 10 s.
    write_timeout_s: float = attrs.field(default=5.0, validator=_number(0.1, 3600))
    """Seconds that a write to a client may stand still before its connection ends (close code 4008)."""

    # As `websockets`: routers forget a connection that is silent for a minute, some sooner.
    keepalive_interval_s: float = attrs.field(default=20.0, validator=_number(0.1, 3600))
    """Seconds between two pings of the server."""

    # As `websockets`: a headset that is put down for a moment is not gone.
    keepalive_timeout_s: float = attrs.field(default=20.0, validator=_number(0.1, 3600))
    """Seconds for the answer to a ping before the connection ends (close code 4008)."""

    # Long enough for a Wi-Fi to come back, short enough that nobody talks to a ghost. Socket.IO gives two minutes.
    resume_grace_s: float = attrs.field(default=30.0, validator=_number(0.0, 3600))
    """Seconds that a user whose connection is lost stays, where the client can resume."""

    # The peer's answer to our close frame, one round trip, and what is still on its way to us.
    close_timeout_s: float = attrs.field(default=3.0, validator=_number(0.0, 3600))
    """Seconds for the closing handshake."""

    # Twice what a healthy client needs, and under the 10 s after which container engines kill.
    drain_s: float = attrs.field(default=5.0, validator=_number(0.0, 3600), metadata={_OPTION: "drain"})
    """Seconds, when the server stops, for what waits to go out."""

    start_time: float | None = attrs.field(default=None, validator=_start_time, metadata={_OPTION: None})
    """The server's time at its start, in seconds since the Unix epoch. Left out: the machine's. For tests."""

    seed: int | None = attrs.field(default=None, validator=_seed, metadata={_OPTION: None})
    """What the session tokens are made from, in place of the machine's entropy. For tests: they can be guessed."""

    def __attrs_post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{given} is given without {missing}: TLS needs both (--tls-cert and --tls-key)")
        if self.tls is not None and self.tls_cert is not None:
            raise ConfigError("tls is auto, so tls_cert and tls_key must be left out: one certificate will do")

    @property
    def notes(self) -> dict[str, str]:
        """The notes by their keys."""
        return dict(note.split("=", 1) for note in self.note)

    @classmethod
    def unlimited(cls, **settings: Any) -> Config:
        """Settings without limits by rate, address or number, for a load that is its owner's own.

        What protects the process itself stays: the sizes of messages and outboxes, and every deadline. `settings` as
        for `Config`.
        """
        off: dict[str, Any] = dict.fromkeys(LIMITS_BY_COUNT, 0)
        return cls(**(off | settings))


LIMITS_BY_COUNT = (
    "connections_limit",
    "connections_per_address",
    "new_connections_per_minute",
    "events_at_once",
    "bytes_per_s",
    "rooms_per_user",
    "members_per_room",
    "rooms_limit",
    "login_failures_per_account",
    "login_failures_per_address",
)
