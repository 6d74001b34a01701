"""A guarded stream as tests need it."""

from __future__ import annotations

from collections.abc import Callable, Sized

import trio

from trio_vrchat import Statistics
from trio_vrchat._pump import Pump
from trio_vrchat._stream import GuardedStream


def guarded(
    stream: trio.abc.Stream,
    *,
    bytes_per_s: float = 0.0,
    write_timeout_s: float = 5.0,
    on_text: Callable[[bytes, float], object] = lambda text, now: None,
    backlog: Sized = (),
    pump: Pump | None = None,
) -> GuardedStream:
    """One of which nobody takes messages, unless said."""
    return GuardedStream(
        stream,
        message_limit_bytes=1000,
        bytes_per_s=bytes_per_s,
        write_timeout_s=write_timeout_s,
        statistics=Statistics(),
        on_text=on_text,
        backlog=backlog,
        pump=pump,
    )
