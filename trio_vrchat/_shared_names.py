"""Names of users that hold on all servers at once: leases of the engine."""

from __future__ import annotations

import random
from collections.abc import Callable

from ._backplane import Alike, Granted, Lease
from ._errors import Conflict
from ._names import are_look_alikes, name_key, skeleton
from ._node import Node

# Each try that fails is somebody else's success.
_CLAIMS = 5


class SharedNames:
    """`Names` of `_session.py`, kept by the engine. `dice`: for the leases' tokens."""

    def __init__(self, node: Node, dice: random.Random) -> None:
        self._node = node
        self._dice = dice

    async def claim(self, user: str, secret: str, accepts: Callable[[str], bool]) -> Lease | None:
        """As `Names.claim`."""
        lease = Lease(
            key=name_key(user),
            look=skeleton(user),
            user=user,
            node="",
            token=f"{self._dice.getrandbits(128):032x}",
            secret=secret,
        )
        instead_of = ""
        beside: tuple[str, ...] = ()
        for _ in range(_CLAIMS):
            reply = await self._node.claim(lease, beside=beside, instead_of=instead_of)
            if isinstance(reply, Granted):
                return lease
            if isinstance(reply, Alike):
                for other in reply.users:
                    if are_look_alikes(user, other):
                        raise Conflict(f"the name {user!r} looks like {other!r}, which is in use")
                beside = tuple(name_key(other) for other in reply.users)
            elif accepts(reply.lease.secret):
                instead_of = reply.lease.token
            else:
                return None
        raise Conflict(f"the name {user!r} goes from hand to hand")

    def release(self, lease: object) -> None:
        """As `Names.release`."""
        assert isinstance(lease, Lease)
        self._node.release(lease)
