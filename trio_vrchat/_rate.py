"""Limits on rates: the token bucket, what one client may send, and what one room may be told.

A bucket holds `at_once` and is filled by `per_s` every second. What is taken must be in it.
"""

from __future__ import annotations

from ._config import Config
from ._errors import SlowDown

# What a message or a frame counts for at least where bytes are counted: one of no bytes costs the server as much as
# one of 512, some tens of microseconds.
MESSAGE_WEIGHT_BYTES = 512


# Of sums of thousands: far less than anybody sends.
_ROUNDING = 1e-6


class Bucket:
    """A token bucket, full at the start. `now` is any clock that never runs backwards, in seconds."""

    # What is in it is kept as the time at which it will be full again: nothing need be filled in between.
    __slots__ = ("_at_once", "_full_at", "_per_s")

    def __init__(self, at_once: float, per_s: float, now: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._full_at = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` if it is there and return 0.0; otherwise take nothing, and return for how many seconds not."""
        full_at = self._full_at
        missing = amount + (full_at - now) * self._per_s if full_at > now else amount
        if missing <= self._at_once + _ROUNDING:
            self._full_at = now + missing / self._per_s
            return 0.0
        # What never fits is worth a full bucket.
        return (missing - max(amount, self._at_once)) / self._per_s or 1 / self._per_s

    def owe(self, amount: float, now: float) -> float:
        """Take `amount`, whatever is there; returns for how many seconds there will be less than nothing in it."""
        full_at = self._full_at
        missing = amount + (full_at - now) * self._per_s if full_at > now else amount
        self._full_at = now + missing / self._per_s
        return max(0.0, (missing - self._at_once) / self._per_s)


# Answers a second to transforms that are dropped: a client that sends 90 a second is told, not flooded.
_DROPS_TOLD_PER_S = 1.0


class ClientRates:
    """What one client has sent, against its limits. `now` is as for `Bucket`."""

    __slots__ = ("_bytes", "_drops_told", "_events")

    def __init__(self, config: Config, now: float) -> None:
        self._events = Bucket(config.events_at_once, config.events_per_s, now) if config.events_at_once else None
        self._bytes = Bucket(config.bytes_per_s, config.bytes_per_s, now) if config.bytes_per_s else None
        self._drops_told = Bucket(1, _DROPS_TOLD_PER_S, now)

    def count_bytes(self, size: int, now: float) -> float:
        """Count a message of so many bytes; returns for how many seconds it is too much."""
        if self._bytes is None:
            return 0.0
        return self._bytes.take(size if size > MESSAGE_WEIGHT_BYTES else MESSAGE_WEIGHT_BYTES, now)

    def count_event(self, over_s: float, now: float) -> None:
        """Count an event whose bytes are too much for `over_s` seconds. Raises SlowDown (429)."""
        if wait_s := max(over_s, self.event_wait_s(now)):
            raise SlowDown("too many messages", retry_after=_rounded_up(wait_s))

    def event_wait_s(self, now: float) -> float:
        """Count an event; returns for how many seconds it is one too many."""
        return 0.0 if self._events is None else self._events.take(1, now)

    def drop_transform(self, wait_s: float, now: float) -> None:
        """A transform is dropped. Raises SlowDown (429) unless the client was told lately."""
        if not self._drops_told.take(1, now):
            raise SlowDown("too many transforms", retry_after=_rounded_up(wait_s))


# What nobody types is large.
_LARGE_BYTES = 1024


class RoomRate:
    """What is said in one room, against its limit. `now` is as for `Bucket`.

    Everybody's outbox takes all of it, so what counts is not what one sends but what all do: a dozen who each keep to
    their own limit, or one who connects anew when it is used up, would have everybody else closed for being too slow.
    Lines that people type are not counted, so that who floods a room cannot silence it.
    """

    __slots__ = ("_large",)

    def __init__(self, config: Config, now: float) -> None:
        self._large = Bucket(config.bytes_per_s, config.bytes_per_s, now) if config.bytes_per_s else None

    def count(self, size: int, now: float) -> None:
        """Count what somebody says, by its bytes. Raises SlowDown (429)."""
        if size > _LARGE_BYTES and self._large is not None and (wait_s := self._large.take(size, now)):
            raise SlowDown("too many large messages in the room", retry_after=_rounded_up(wait_s))


def _rounded_up(wait_s: float) -> float:
    # Who waits so long is not refused again.
    return max(0.001, round(wait_s + 0.0005, 3))
