"""What a load test is asked to do, and the one exception for all that can keep it from being done.

Everything a run stores is bounded by its options before it starts: what would not fit is refused here, with
the value and what to do about it, and not found out after a minute of measuring.
"""

import math
import sys
from pathlib import Path

from attrs import frozen

if sys.platform != "win32":
    import resource

# A delivery (one chat line arriving at one user) is kept as 13 bytes until the accounts are made up; five
# million are 65 MB, and sorting their delays takes a few seconds. 200 users who read 300 lines a second for a
# minute make 3.6 million.
MOST_DELIVERIES = 5_000_000

# Beside the users' sockets: the standard streams, the selector, the pipes of an own server, and what Python
# has open.
SPARE_DESCRIPTORS = 64


class BenchError(Exception):
    """The load test could not be done. The message is one line: what was wrong, with what value, and what to
    do."""


@frozen
class Options:
    """What to measure, and with how much load.

    Attributes:
        url: the server, ``ws://host:port/path`` or ``wss://``; without one, a server is started for the run.
        users: how many log in.
        rooms: over how many rooms they are spread, as evenly as can be; a single one is the lobby.
        send_hz: transforms a second that each user sends.
        chat_hz: chat lines a second that all users together say, in all rooms together.
        seconds: how long to measure, after a warm-up of one second.
        fps: batches a second that a server started for the run may send; does nothing with a ``url``.
        pid: the process of the server at ``url``, for its CPU time and memory; its children are counted with
            it.
        motion: a recording, the paths of whose people the users take; without one, they walk in a circle.
    """

    url: str | None = None
    users: int = 100
    rooms: int = 1
    send_hz: float = 20.0
    chat_hz: float = 5.0
    seconds: float = 10.0
    fps: float = 20.0
    pid: int | None = None
    motion: Path | None = None

    @property
    def chat_lines(self) -> int:
        """How many chat lines are due in the measured window."""
        return math.ceil(self.chat_hz * self.seconds)


def check(options: Options) -> None:
    """Raise `BenchError` for options that make no sense or need more than a run may use."""
    if options.users < 1:
        raise BenchError(f"users is {options.users}: it takes at least 1")
    if not 1 <= options.rooms <= options.users:
        raise BenchError(f"rooms is {options.rooms}: it takes at least 1, and at least a user in each")
    for name in ("seconds", "fps"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise BenchError(f"{name} is {value}: it must be a number above 0")
    for name in ("send_hz", "chat_hz"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value >= 0):
            raise BenchError(f"{name} is {value}: it must be a number from 0 up")
    if options.url is None and options.pid is not None:
        raise BenchError(
            f"pid is {options.pid}, but there is no url: the server started for the run has a pid of its own"
        )
    deliveries = options.chat_lines * math.ceil(options.users / options.rooms)
    if deliveries > MOST_DELIVERIES:
        raise BenchError(
            f"chat_hz x seconds x users of a room makes {deliveries:,} deliveries, more than the {MOST_DELIVERIES:,} "
            "that are kept: ask for less of one of them"
        )


def allow_descriptors(users: int) -> None:
    """Raise the process's soft limit of open files where `users` connections need more, up to the hard limit.

    A server that is started afterwards inherits the new limit, and needs it as much.

    Raises:
        BenchError: the hard limit is too low.
    """
    if sys.platform == "win32":
        return  # there is no such limit
    needed = users + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"{users} users need {needed} open files and the hard limit is {hard}: "
            "ask for fewer users, or raise the limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
