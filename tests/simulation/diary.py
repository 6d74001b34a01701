"""What a run notes of itself."""

from __future__ import annotations

from collections import deque

import attrs

from .network import Transcript


@attrs.define(eq=False)
class Diary:
    """What a report, or the message of a failure, is made of."""

    # The last of them.
    acts: deque[str] = attrs.field(factory=lambda: deque(maxlen=30))
    transcript: Transcript = attrs.field(factory=Transcript)
    act_count: int = 0
    # Events that an observer has compared with a room's order.
    lines: int = 0
    # In virtual seconds.
    ended_at: float = 0.0
