"""A timer of the kernel's, for a task that sleeps hundreds of times a second.

trio ends a sleep by cancelling it: a deadline, an exception and its way up, some 120 µs of a process that was asleep.
Waiting for a descriptor that becomes readable costs half of that. Python has timerfd since 3.13; before, the C library
is asked.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

import trio


class _Interval(ctypes.Structure):
    """`struct itimerspec`: the period, which is zero for a timer that rings once, and the time until it rings."""

    _fields_ = (
        ("period_s", ctypes.c_long),
        ("period_ns", ctypes.c_long),
        ("after_s", ctypes.c_long),
        ("after_ns", ctypes.c_long),
    )


class Timer:
    """Sleeps for `seconds` (less than one) at a time. Only on Linux. Raises OSError."""

    def __init__(self, seconds: float) -> None:
        assert sys.platform == "linux"
        self.seconds = seconds
        self._interval = ctypes.byref(_Interval(0, 0, 0, round(seconds * 1e9)))
        library = ctypes.CDLL(None, use_errno=True)
        self._set = library.timerfd_settime
        # (O_NONBLOCK is what Linux calls TFD_NONBLOCK.)
        self._descriptor = library.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self._descriptor < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    async def sleep(self) -> None:
        """Sleep. Only one task at a time."""
        self._set(self._descriptor, 0, self._interval, None)
        await trio.lowlevel.wait_readable(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
