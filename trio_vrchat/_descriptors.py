"""How many files this process may have open, and so how many connections."""

from __future__ import annotations

import contextlib
import sys

if sys.platform != "win32":
    import resource

# What is open beside connections: the standard streams, the listeners, the event loop's own, the store and its
# journals, a log's file, and connections that are just being refused.
_RESERVE = 64


def connections_possible() -> int:
    """How many connections the limit on open files leaves room for; 0: it sets none."""
    if sys.platform == "win32":
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else max(1, soft - _RESERVE)


def raise_limit() -> None:
    """Let this process open as many files as it is allowed to ask for; shells start programs with fewer."""
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS says "infinity" and does not mean it.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
