"""What waits to be written to one connection.

A room offers frames to its members' outboxes and never waits for one: a client that does not read costs the others
nothing. Frames that must arrive wait here up to a limit; past it the outbox is closed and its connection ends with
4008. A batch of transforms is worth nothing when it is late, so it is taken only where nothing waits.

Where nothing waits a frame is written at once, in the middle of the offer: most frames never wait, and cost one system
call and no task.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

# One write: enough that a system call carries many frames, little enough that a client which reads at all finishes
# one before the deadline for a write.
_WRITE_BYTES = 64 * 1024


class Outbox:
    """A bounded queue of frames that belongs to one connection.

    - `offer` and `offer_batch` MUST NOT block, and MUST NOT raise for anything the client does.
    - Frames leave in the order in which they were offered, whole, each once.
    - What waits counts until it is written: `taken` bytes are still `waiting`. At most `limit_frames` frames wait, and
      at most `limit_bytes` bytes and one frame.
    - An offer past the limit closes the outbox and calls `on_overflow` once. A closed outbox takes nothing more.
    - `write` is called only where nothing waits. It writes what goes without waiting, and returns how many bytes of the
      frame did not. If those are a part of it, it keeps them, and they count as waiting until the next `written`.
    - `on_frames` is called whenever something waits and the writer may not know of it.
    - One writer: it calls `take`, writes, and calls `written`, in turn.
    """

    __slots__ = (
        "_frames",
        "_limit_bytes",
        "_limit_frames",
        "_on_frames",
        "_on_overflow",
        "_taken_bytes",
        "_taken_frames",
        "_write",
        "closed",
        "waiting_bytes",
        "waiting_frames",
    )

    def __init__(
        self,
        *,
        limit_frames: int,
        limit_bytes: int,
        write: Callable[[bytes], int],
        on_frames: Callable[[], object],
        on_overflow: Callable[[], object],
    ) -> None:
        self._limit_frames = limit_frames
        self._limit_bytes = limit_bytes
        self._write = write
        self._on_frames = on_frames
        self._on_overflow = on_overflow
        # Each with how many bytes of it wait. Of a frame that is partly out the rest is elsewhere: it is empty here.
        # (A list, because most are empty, and an empty deque takes 600 bytes.)
        self._frames: list[tuple[bytes, int]] = []
        self._taken_frames = 0
        self._taken_bytes = 0
        self.waiting_frames = 0
        self.waiting_bytes = 0
        self.closed = False

    def offer(self, frame: bytes) -> None:
        """Take a frame that must arrive, or close."""
        if self.closed:
            return
        # Checked before the frame is counted: a client that reads must get any single frame, whatever its size.
        if self.waiting_frames >= self._limit_frames or self.waiting_bytes >= self._limit_bytes:
            self.close()
            self._on_overflow()
            return
        if self.waiting_frames:
            self._queue(frame, len(frame))
        elif left := self._write(frame):
            self._queue(frame, left)

    def offer_batch(self, frame: bytes) -> bool:
        """Take a frame of transforms if nothing waits; say whether it was taken."""
        if self.waiting_frames or self.closed:
            return False
        if left := self._write(frame):
            self._queue(frame, left)
        return True

    def _queue(self, frame: bytes, waits: int) -> None:
        self._frames.append((frame if waits == len(frame) else b"", waits))
        self.waiting_frames += 1
        self.waiting_bytes += waits
        if self.waiting_frames == 1:
            self._on_frames()

    def take(self) -> bytes | None:
        """The next write: whole frames, as many as go well into one; None where nothing waits.

        It is empty where what waits is the rest that `write` has kept.
        """
        frames = self._frames
        if not frames:
            return None
        chunk, size = [frames[0][0]], frames[0][1]
        for frame, waits in itertools.islice(frames, 1, None):
            if size + waits > _WRITE_BYTES:
                break
            chunk.append(frame)
            size += waits
        del frames[: len(chunk)]
        self._taken_frames, self._taken_bytes = len(chunk), size
        return b"".join(chunk) if len(chunk) > 1 else chunk[0]

    def written(self) -> None:
        """What `take` gave is out: it waits no longer."""
        self.waiting_frames -= self._taken_frames
        self.waiting_bytes -= self._taken_bytes
        self._taken_frames = self._taken_bytes = 0

    def close(self) -> None:
        """Take nothing more. What waits stays, for a writer that still can write."""
        self.closed = True

    def clear(self) -> None:
        """Drop what waits and has not been taken: nobody will read it."""
        self.waiting_frames -= len(self._frames)
        self.waiting_bytes -= sum(waits for _, waits in self._frames)
        self._frames.clear()
