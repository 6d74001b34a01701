"""Every outbox of a server, held to its bounds at each offer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio_vrchat._connection as connection_module
from trio_vrchat._outbox import Outbox


class _WatchedOutbox(Outbox):
    def __init__(self, *, limit_frames: int, limit_bytes: int, **callbacks: Any) -> None:
        super().__init__(limit_frames=limit_frames, limit_bytes=limit_bytes, **callbacks)
        self._largest = 0

    def offer(self, frame: bytes) -> None:
        self._largest = max(self._largest, len(frame))
        super().offer(frame)
        self._check()

    def offer_batch(self, frame: bytes) -> bool:
        self._largest = max(self._largest, len(frame))
        taken = super().offer_batch(frame)
        self._check()
        return taken

    def _check(self) -> None:
        """Nothing more is kept than what is counted, and no more is counted than the limits allow."""
        held = sum(len(frame) for frame, _ in self._frames)
        assert held <= self.waiting_bytes, f"{held} bytes are kept and {self.waiting_bytes} counted"
        assert len(self._frames) <= self.waiting_frames <= self._limit_frames, f"{self.waiting_frames} frames wait"
        assert self.waiting_bytes <= self._limit_bytes + self._largest, f"{self.waiting_bytes} bytes wait"


@contextmanager
def watched_outboxes() -> Iterator[None]:
    """Servers that run within it have such outboxes."""
    connection_module.Outbox = _WatchedOutbox  # type: ignore[attr-defined]
    try:
        yield
    finally:
        connection_module.Outbox = Outbox  # type: ignore[attr-defined]
