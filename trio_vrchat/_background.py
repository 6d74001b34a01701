"""Tasks behind a context manager that its user need not know of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled when its body ends.

    An exception of the body comes out as it is: that there is a nursery is nobody's business. What the tasks raise
    comes out in a group, as everywhere in trio.
    """
    body_error: Exception | KeyboardInterrupt | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (raised again below, outside the nursery)
            body_error = error
        nursery.cancel_scope.cancel()
    if body_error is not None:
        raise body_error
