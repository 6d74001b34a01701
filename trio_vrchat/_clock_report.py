"""How far a client's clock is off, measured by pings and told to the server, whose recordings note it.

The server's time in a pong lies between the moments at which the ping was sent and the pong came. By their middle the
offset is known to half the round trip, whatever the way there and the way back took (Cristian, 1989); the shortest of
a few round trips says the most.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ._conversation import Conversation
from ._errors import ConnectionLost, RequestError

# Nobody's first seconds are made longer by it, and a short recording has it, too.
_FIRST_AFTER_S = 5.0
# A clock drifts by a millisecond or two in such a time.
_EVERY_S = 60.0
_PINGS = 4


async def report_clock(conversation: Conversation, wall_clock: Callable[[], float]) -> None:
    """Tell the server now and then what to add to `wall_clock` (seconds) to have its time. Returns at the end."""
    pause_s = _FIRST_AFTER_S
    try:
        while True:
            await trio.sleep(pause_s)
            pause_s = _EVERY_S
            bound, offset = min([await _measure(conversation, wall_clock) for _ in range(_PINGS)])
            await conversation.system("clock", {"offset": offset, "bound": bound})
    except (ConnectionLost, RequestError):
        # It is over, or this server does not want to know.
        return


async def _measure(conversation: Conversation, wall_clock: Callable[[], float]) -> tuple[float, float]:
    """Half the round trip, and the offset by it."""
    sent = wall_clock()
    theirs = (await conversation.system("ping"))["time"]
    received = wall_clock()
    return (received - sent) / 2, theirs - (sent + received) / 2
