"""Waiting for what a real socket will bring, without a guess at how long it takes."""

from __future__ import annotations

from collections.abc import Callable

import trio


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else run until the condition holds; fail after a minute."""
    with trio.fail_after(60):
        while True:
            if condition():
                return
            await trio.lowlevel.checkpoint()
