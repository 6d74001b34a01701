"""What a server counts while it runs."""

from __future__ import annotations

import math
from bisect import bisect_left

import attrs

# Seconds. From what nobody notices to several frames of a headset.
_LATENESS_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@attrs.define(eq=False)
class Histogram:
    """How often a figure was what.

    - `bounds`: in ascending order.
    - `counts`: for each bound how many values were at most that, and more than the bound before; the last, of which
      there is one more, are those over all bounds.
    - `total`: of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int] = attrs.field(init=False)
    total: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def most(self, share: float) -> float:
        """The least bound that this share of all values does not pass (0.99: of a hundred 99).

        Infinity where they do not keep to the last; 0.0 where there are none.
        """
        left = share * sum(self.counts)
        if not left:
            return 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            left -= count
            if left <= 0:
                return bound
        return math.inf


@attrs.define(eq=False)
class Statistics:
    """Live figures of one server. What is said to be "now" goes up and down; the others count from the start.

    - `connections`: WebSocket connections now.
    - `http_requests`: requests that were answered over HTTP; what opened a WebSocket is none.
    - `refused`: connections that a limit refused (by address, or in total).
    - `logins`: logins that were granted, takeovers included.
    - `takeovers`: logins that took over a session.
    - `resumes`: sessions that were resumed.
    - `sessions`: users now, those included whose connection is lost and who may resume.
    - `rooms`: open rooms now, the lobby included.
    - `members`: members now, over all rooms: a user in two rooms counts twice.
    - `events_in`: room messages taken from clients, transforms included.
    - `events_out`: entries handed to members: each entry of a payload, once for each recipient.
    - `bytes_in`, `bytes_out`: bytes read from and written to clients, handshakes and frame headers included.
    - `batches`: batches of transforms: one for each room and tick that sent any.
    - `frames_late`: ticks that began a whole frame or more after their time on the grid.
    - `batch_lateness_s`: seconds from a batch's time on the grid until its room began to send it.
    - `rate_limited`: messages that were answered with 429, or were dropped for the same reason.
    - `recording`: recordings that run now, 1 or 0.
    - `recorded`: messages that went into recordings.
    - `recording_lost`: those that did not, because the disk did not keep up.
    - `recording_failures`: recordings that ended by themselves.
    - `backplane_connected`: whether the engine of the backplane is found now, 1 or 0.
    - `backplane_losses`: how often it was lost.
    - `round_trips_s`: for each user now, the seconds that the answer to the last ping took.
    """

    connections: int = 0
    http_requests: int = 0
    refused: int = 0
    logins: int = 0
    takeovers: int = 0
    resumes: int = 0
    sessions: int = 0
    rooms: int = 0
    members: int = 0
    events_in: int = 0
    events_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    batches: int = 0
    frames_late: int = 0
    batch_lateness_s: Histogram = attrs.field(factory=lambda: Histogram(_LATENESS_BOUNDS_S))
    rate_limited: int = 0
    recording: int = 0
    recorded: int = 0
    recording_lost: int = 0
    recording_failures: int = 0
    backplane_connected: int = 0
    backplane_losses: int = 0
    round_trips_s: dict[str, float] = attrs.field(factory=dict)
