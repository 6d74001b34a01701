"""Attacks on a server, on real sockets. `ATTACKS` has them by name.

    python -m tests.attacks HOST PORT

runs all of them again and again, side by side, until SIGTERM, and prints how often each was run.

- `client`: a target, and a raw connection to it.
- `handshake`: what scanners and broken clients send before there is a WebSocket.
- `frames`: what is wrong in the framing.
- `silence`: peers that do nothing, at the worst time.
- `floods`: too much of what is allowed.
- `logins`: names, passwords and sessions.
- `control`: the stock server, which nothing was done for.
"""

from . import floods, frames, handshake, logins, silence
from ._registry import ATTACKS, Attack
from .client import Target

__all__ = ["ATTACKS", "Attack", "Target", "floods", "frames", "handshake", "logins", "silence"]
