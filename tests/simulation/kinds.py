"""What kinds of runs there are. A seed alone says of which kind it is."""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """PLAIN: one server, alone. SHARED: one server, whose rooms and names are kept by an engine. SEVERAL: several of
    those, and harm to the engine.
    """

    PLAIN = "plain"
    SHARED = "shared"
    SEVERAL = "several"


_KINDS = tuple(Kind)


def kind_of(seed: int) -> Kind:
    """By turns, so that any few seeds that follow each other are of all kinds."""
    return _KINDS[seed % len(_KINDS)]
