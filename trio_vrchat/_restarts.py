"""When a worker that has ended is started again: plain state, one for each worker.

A worker that has served for a while is started again at once, whatever ended it. One that ends as soon as it has
started is tried again later and later, and in the end not any more: what ends it will not go away by itself, and a
process that starts over and over takes a core for nothing.
"""

from __future__ import annotations

import attrs

# Long enough for whatever is wrong with settings, files or the machine to show.
STEADY_S = 5.0
# Before each new start, in a row of workers that ended at once. Together they outlast what ends by itself within
# seconds: memory or processes that have run out.
DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0)


@attrs.define(eq=False)
class Restarts:
    """Of one worker. `in_a_row`: how often it has ended at once since it last served for `STEADY_S`."""

    in_a_row: int = 0

    def ended(self, served_s: float) -> float | None:
        """It has ended, and had served for so many seconds (0.0: it never did).

        Returns how many seconds later it is to be started again; None: not any more.
        """
        if served_s >= STEADY_S:
            self.in_a_row = 0
            return 0.0
        self.in_a_row += 1
        return DELAYS_S[self.in_a_row - 1] if self.in_a_row <= len(DELAYS_S) else None
