"""Limits on a rate: the token bucket.

A bucket holds `at_once` and is filled by `per_s` every second. What is taken must be in it.
"""

from __future__ import annotations

# What a message or a frame counts for at least where bytes are counted: one of no bytes costs the server as much as
# one of 512, some tens of microseconds.
MESSAGE_WEIGHT_BYTES = 512


class Bucket:
    """A token bucket, full at the start. `now` is any clock that never runs backwards, in seconds."""

    __slots__ = ("_at", "_at_once", "_level", "_per_s")

    def __init__(self, at_once: float, per_s: float, now: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._level = at_once
        self._at = now

    def _fill(self, now: float) -> None:
        self._level = min(self._at_once, self._level + (now - self._at) * self._per_s)
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount` if it is there and return 0.0; otherwise take nothing, and return for how many seconds not."""
        self._fill(now)
        if amount <= self._level:
            self._level -= amount
            return 0.0
        # What never fits is worth a full bucket.
        return (min(amount, self._at_once) - self._level) / self._per_s or 1 / self._per_s

    def owe(self, amount: float, now: float) -> float:
        """Take `amount`, whatever is there; returns for how many seconds there will be less than nothing in it."""
        self._fill(now)
        self._level -= amount
        return -self._level / self._per_s if self._level < 0 else 0.0
