"""The outbox: each MUST of its contract, and a state machine against a list of frames."""

import itertools
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_vrchat._outbox import Outbox

# The size up to which one write gathers frames.
WRITE_BYTES = 64 * 1024


@attrs.define(eq=False)
class Box:
    """An outbox that counts its calls."""

    limit_frames: int = 4
    limit_bytes: int = 100
    frames_calls: int = 0
    overflow_calls: int = 0
    on_overflow: Callable[[], object] = lambda: None
    outbox: Outbox = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(
            limit_frames=self.limit_frames,
            limit_bytes=self.limit_bytes,
            write=len,
            on_frames=self._frames,
            on_overflow=self._overflow,
        )

    def _frames(self) -> None:
        self.frames_calls += 1

    def _overflow(self) -> None:
        self.overflow_calls += 1
        self.on_overflow()

    def offer(self, *frames: bytes) -> None:
        for frame in frames:
            self.outbox.offer(frame)

    def write_all(self) -> bytes:
        """Be the writer until nothing waits."""
        out = bytearray()
        while chunk := self.outbox.take():
            out += chunk
            self.outbox.written()
        return bytes(out)


# --- order ----------------------------------------------------------------------------------------------------


def test_frames_leave_in_the_order_in_which_they_were_offered_whole_each_once() -> None:
    box = Box()
    box.offer(b"one", b"two", b"three")
    assert box.write_all() == b"onetwothree"
    assert box.outbox.take() is None
    box.offer(b"four")
    assert box.write_all() == b"four"


def test_one_write_gathers_whole_frames_up_to_its_size() -> None:
    half, rest = b"a" * (WRITE_BYTES // 2), b"b"
    box = Box(limit_frames=100, limit_bytes=10 * WRITE_BYTES)
    box.offer(half, half, rest, half)
    for chunk in (half + half, rest + half, None):
        assert box.outbox.take() == chunk
        box.outbox.written()


def test_a_frame_larger_than_a_write_leaves_alone_and_whole() -> None:
    large = b"l" * (WRITE_BYTES + 1)
    box = Box(limit_frames=100, limit_bytes=10 * WRITE_BYTES)
    box.offer(b"a", large, b"b", b"c")
    for chunk in (b"a", large, b"bc", None):
        assert box.outbox.take() == chunk
        box.outbox.written()


# --- bounds ---------------------------------------------------------------------------------------------------


def test_at_most_the_limit_of_frames_waits() -> None:
    box = Box(limit_frames=4)
    box.offer(b"1", b"2", b"3", b"4")
    assert (box.outbox.waiting_frames, box.outbox.closed, box.overflow_calls) == (4, False, 0)
    box.offer(b"5")
    assert (box.outbox.waiting_frames, box.outbox.closed, box.overflow_calls) == (4, True, 1)
    assert box.write_all() == b"1234"


def test_at_most_the_limit_of_bytes_and_one_frame_wait() -> None:
    box = Box(limit_frames=100, limit_bytes=100)
    box.offer(b"x" * 99, b"y" * 500)
    assert (box.outbox.waiting_bytes, box.outbox.closed, box.overflow_calls) == (599, False, 0)
    box.offer(b"z")
    assert (box.outbox.waiting_bytes, box.outbox.closed, box.overflow_calls) == (599, True, 1)
    assert box.write_all() == b"x" * 99 + b"y" * 500


def test_the_limit_of_bytes_is_reached_and_not_only_passed() -> None:
    box = Box(limit_frames=100, limit_bytes=100)
    box.offer(b"x" * 100, b"y")
    assert box.outbox.closed


def test_any_single_frame_passes_where_nothing_waits() -> None:
    box = Box(limit_bytes=100)
    for _ in range(3):
        box.offer(b"x" * 10_000)
        assert box.write_all() == b"x" * 10_000
    assert not box.outbox.closed


def test_what_is_taken_waits_until_it_is_written() -> None:
    box = Box(limit_frames=2)
    box.offer(b"1", b"22")
    chunk = box.outbox.take()
    assert chunk == b"122"
    assert (box.outbox.waiting_frames, box.outbox.waiting_bytes) == (2, 3)
    box.outbox.written()
    assert (box.outbox.waiting_frames, box.outbox.waiting_bytes) == (0, 0)
    box.offer(b"3", b"4")
    assert not box.outbox.closed
    box.outbox.take()
    box.offer(b"5")
    assert box.outbox.closed


# --- overflow and closing -------------------------------------------------------------------------------------


def test_an_overflow_is_told_once() -> None:
    box = Box(limit_frames=1)
    box.offer(b"1", b"2", b"3", b"4")
    box.outbox.close()
    box.offer(b"5")
    assert box.overflow_calls == 1


def test_the_outbox_is_closed_before_its_overflow_is_told() -> None:
    box = Box(limit_frames=1)
    seen: list[bool] = []

    def look() -> None:
        seen.append(box.outbox.closed)
        box.outbox.close()  # as a connection that ends does
        box.offer(b"a last word")

    box.on_overflow = look
    box.offer(b"1", b"2")
    assert seen == [True]
    assert box.write_all() == b"1"


def test_a_closed_outbox_takes_nothing_more_and_keeps_what_waits() -> None:
    box = Box()
    box.offer(b"1", b"2")
    box.outbox.close()
    box.offer(b"3")
    assert not box.outbox.offer_batch(b"4")
    assert box.write_all() == b"12"
    box.offer(b"5")
    assert not box.outbox.offer_batch(b"6")
    assert box.outbox.take() is None
    assert box.overflow_calls == 0


def test_what_is_cleared_was_not_taken() -> None:
    box = Box(limit_frames=10, limit_bytes=10 * WRITE_BYTES)
    large = b"l" * WRITE_BYTES
    box.offer(large, b"1", b"2")
    assert box.outbox.take() == large
    box.outbox.clear()
    assert (box.outbox.waiting_frames, box.outbox.waiting_bytes) == (1, WRITE_BYTES)
    box.outbox.written()
    assert (box.outbox.waiting_frames, box.outbox.waiting_bytes) == (0, 0)
    assert box.outbox.take() is None


# --- batches --------------------------------------------------------------------------------------------------


def test_a_batch_is_taken_only_where_nothing_waits() -> None:
    box = Box()
    assert box.outbox.offer_batch(b"batch")
    assert not box.outbox.offer_batch(b"another")
    assert box.write_all() == b"batch"
    box.offer(b"chat")
    assert not box.outbox.offer_batch(b"another")
    assert box.write_all() == b"chat"
    assert box.outbox.offer_batch(b"another")
    assert box.overflow_calls == 0


def test_a_batch_is_not_taken_while_a_write_is_under_way() -> None:
    box = Box()
    box.offer(b"chat")
    assert box.outbox.take() == b"chat"
    assert not box.outbox.offer_batch(b"batch")
    box.outbox.written()
    assert box.outbox.offer_batch(b"batch")


def test_a_batch_that_waits_counts_as_any_frame() -> None:
    box = Box(limit_frames=2, limit_bytes=100)
    assert box.outbox.offer_batch(b"batch")
    assert (box.outbox.waiting_frames, box.outbox.waiting_bytes) == (1, 5)
    box.offer(b"1", b"2")
    assert box.outbox.closed
    assert box.write_all() == b"batch1"


# --- the writer's call ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", [Outbox.offer, Outbox.offer_batch])
def test_the_writer_is_called_for_the_first_frame_that_waits(offer: Callable[[Outbox, bytes], Any]) -> None:
    box = Box()
    for calls in (1, 2, 3):
        offer(box.outbox, b"x")
        assert box.frames_calls == calls
        box.write_all()


def test_the_frame_is_there_when_the_writer_is_called() -> None:
    seen: list[bytes | None] = []
    outbox = Outbox(
        limit_frames=1, limit_bytes=1, write=len, on_frames=lambda: seen.append(outbox.take()), on_overflow=lambda: None
    )
    outbox.offer(b"x")
    assert seen == [b"x"]


# --- writing at once ------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Kernel:
    """Takes so many bytes of each write."""

    room: int
    written: bytearray = attrs.field(init=False, factory=bytearray)

    def write(self, frame: bytes) -> int:
        self.written += frame[: self.room]
        return max(0, len(frame) - self.room)


def outbox_on(kernel: Kernel, calls: list[str]) -> Outbox:
    return Outbox(
        limit_frames=4,
        limit_bytes=100,
        write=kernel.write,
        on_frames=lambda: calls.append("frames"),
        on_overflow=lambda: calls.append("overflow"),
    )


@pytest.mark.parametrize("offer", [Outbox.offer, Outbox.offer_batch])
def test_where_nothing_waits_a_frame_goes_out_at_once(offer: Callable[[Outbox, bytes], Any]) -> None:
    kernel, calls = Kernel(room=1000), list[str]()
    outbox = outbox_on(kernel, calls)
    for _ in range(20):
        offer(outbox, b"0123456789")
    assert kernel.written == b"0123456789" * 20
    assert (outbox.waiting_frames, outbox.waiting_bytes, outbox.take(), calls) == (0, 0, None, [])


def test_the_rest_of_a_frame_waits_and_everything_behind_it() -> None:
    kernel, calls = Kernel(room=4), list[str]()
    outbox = outbox_on(kernel, calls)
    outbox.offer(b"0123456789")
    assert (outbox.waiting_frames, outbox.waiting_bytes, calls) == (1, 6, ["frames"])
    assert not outbox.offer_batch(b"batch")
    outbox.offer(b"next")
    assert kernel.written == b"0123", "nothing is written while something waits"
    assert (outbox.waiting_frames, outbox.waiting_bytes) == (2, 10)
    assert outbox.take() == b"next", "the rest is not ours to write, but it is in front"
    outbox.written()
    assert (outbox.waiting_frames, outbox.waiting_bytes, outbox.take()) == (0, 0, None)


def test_a_rest_alone_is_a_write_of_nothing() -> None:
    outbox = outbox_on(Kernel(room=4), [])
    outbox.offer(b"0123456789")
    assert outbox.take() == b""
    assert not outbox.offer_batch(b"batch")
    outbox.written()
    assert outbox.offer_batch(b"ba")


# --- any order of calls ---------------------------------------------------------------------------------------

sizes = st.one_of(st.integers(1, 20), st.sampled_from([60, 200, 20_000, 40_000, WRITE_BYTES, 70_000]))


class OutboxMachine(RuleBasedStateMachine):
    """An outbox beside a list of frames, and a writer that only acts when it is called."""

    @initialize(limit_frames=st.integers(1, 6), limit_bytes=st.sampled_from([1, 50, 100_000]))
    def begin(self, limit_frames: int, limit_bytes: int) -> None:
        self.limit_frames, self.limit_bytes = limit_frames, limit_bytes
        self.outbox = Outbox(
            limit_frames=limit_frames,
            limit_bytes=limit_bytes,
            write=self.write,
            on_frames=self.wake,
            on_overflow=self.overflow,
        )
        self.serial = itertools.count()
        # What the kernel takes of the next write, and what is kept beneath the outbox of a frame that is partly out.
        self.room = 0
        self.kept = b""
        # The model: what waits, what of it the writer has taken, what the outbox had to take and to give. A frame that
        # is partly out stands among the waiting with its rest.
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []
        self.expected: list[bytes] = []
        self.written = bytearray()
        self.closed = False
        self.overflows = self.overflows_told = 0
        # The writer has found nothing and sleeps until it is called.
        self.writer_sleeps = True

    def wake(self) -> None:
        self.writer_sleeps = False

    def overflow(self) -> None:
        assert self.outbox.closed
        self.overflows_told += 1
        self.outbox.close()

    def frame(self, size: int) -> bytes:
        """A frame like no other, where its size allows it."""
        mark = b"%d." % next(self.serial)
        return (mark * (size // len(mark) + 1))[:size]

    def write(self, frame: bytes) -> int:
        assert not self.taken
        assert self.waiting == [frame], "only where nothing else waits"
        sent = min(self.room, len(frame))
        self.written += frame[:sent]
        if sent:
            self.kept = frame[sent:]
            self.waiting = [self.kept] if self.kept else []
            event("partly out" if self.kept else "out at once")
        return len(frame) - sent

    @rule(room=st.sampled_from([0, 1, 10, 100_000]))
    def kernel_has_room(self, room: int) -> None:
        self.room = room

    def accept(self, frame: bytes) -> None:
        self.waiting.append(frame)
        self.expected.append(frame)

    @rule(size=sizes)
    def offer(self, size: int) -> None:
        frame = self.frame(size)
        wait = self.taken + self.waiting
        if not self.closed:
            if len(wait) >= self.limit_frames or sum(map(len, wait)) >= self.limit_bytes:
                self.closed = True
                self.overflows += 1
                event("overflow")
            else:
                self.accept(frame)
        self.outbox.offer(frame)

    @rule(size=sizes)
    def offer_batch(self, size: int) -> None:
        frame = self.frame(size)
        wanted = not (self.taken or self.waiting or self.closed)
        if wanted:
            self.accept(frame)
        assert self.outbox.offer_batch(frame) is wanted

    @precondition(lambda self: not self.writer_sleeps and not self.taken)
    @rule()
    def writer_takes(self) -> None:
        chunk = self.outbox.take()
        size = 0
        while self.waiting and (not size or size + len(self.waiting[0]) <= WRITE_BYTES):
            size += len(self.waiting[0])
            self.taken.append(self.waiting.pop(0))
        if not self.taken:
            assert chunk is None
            self.writer_sleeps = True
            return
        assert chunk is not None
        assert self.kept + chunk == b"".join(self.taken), "what is kept goes out in front"

    @precondition(lambda self: self.taken)
    @rule()
    def writer_has_written(self) -> None:
        chunk = b"".join(self.taken)
        self.written += chunk
        self.outbox.written()
        self.taken = []
        self.kept = b""

    @precondition(lambda self: self.expected)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.outbox.close()

    # (Not with a rest among them: who clears writes that rest all the same, in front of a close frame.)
    @precondition(lambda self: self.waiting and (self.taken or not self.kept))
    @rule()
    def clear(self) -> None:
        del self.expected[-len(self.waiting) :]
        self.waiting = []
        self.outbox.clear()

    @invariant()
    def what_waits_is_known_and_bounded(self) -> None:
        wait = self.taken + self.waiting
        assert self.outbox.waiting_frames == len(wait) <= self.limit_frames
        assert self.outbox.waiting_bytes == sum(map(len, wait))
        assert sum(map(len, wait[:-1])) < self.limit_bytes

    @invariant()
    def the_outbox_closes_and_tells_once(self) -> None:
        assert self.outbox.closed == self.closed
        assert self.overflows_told == self.overflows <= 1

    @invariant()
    def the_writer_never_sleeps_while_frames_wait(self) -> None:
        assert not (self.writer_sleeps and self.outbox.waiting_frames)

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        if self.taken:
            self.writer_has_written()
        while not self.writer_sleeps:
            self.writer_takes()
            if self.taken:
                self.writer_has_written()
        assert bytes(self.written) == b"".join(self.expected)
        assert self.outbox.waiting_frames == self.outbox.waiting_bytes == 0


TestAnyOrderOfCalls = OutboxMachine.TestCase
TestAnyOrderOfCalls.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
