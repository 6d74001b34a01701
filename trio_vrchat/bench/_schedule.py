"""What is due when: numbers at an even rate."""

import math

from attrs import define

# So that what arrives is looked at between sends, however far behind they are.
_DUE_AT_ONCE = 64


@define(eq=False)
class Schedule:
    """Numbers 0, 1, 2, … below `limit` that fall due at `rate_hz`, the first at `start_s`; none at all at a
    rate of 0.

    Each is computed from the start, never from the one before it, so that delays do not add up: who comes
    late finds several due.
    """

    start_s: float
    rate_hz: float
    limit: float = math.inf
    _next: int = 0

    @property
    def next_s(self) -> float:
        """When the next number falls due; infinite if there is none."""
        if self.rate_hz == 0 or self._next >= self.limit:
            return math.inf
        return self.start_s + self._next / self.rate_hz

    def due(self, now_s: float) -> range:
        """The numbers that are due by `now_s` and were not given out before, at most some tens at a time."""
        first = self._next
        while self.next_s <= now_s and self._next - first < _DUE_AT_ONCE:
            self._next += 1
        return range(first, self._next)
