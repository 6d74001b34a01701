"""What a server counts while it runs."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Statistics:
    """Live figures of one server. "Now" goes up and down; the others count from the start."""

    connections: int = 0
    """WebSocket connections now."""
    logins: int = 0
    """Logins that were granted."""
    rooms: int = 0
    """Open rooms now, the lobby included."""
    members: int = 0
    """Members now, over all rooms: a user in two rooms counts twice."""
    events_in: int = 0
    """Room messages taken from clients, transforms included."""
    events_out: int = 0
    """Entries handed to members: each entry of a payload, once for each recipient."""
    bytes_in: int = 0
    """Bytes read from clients, handshakes and frame headers included."""
    bytes_out: int = 0
    """Bytes written to clients, handshakes and frame headers included."""
    batches: int = 0
    """Batches of transforms: one for each room and tick that sent any."""
    frames_late: int = 0
    """Ticks that began a whole frame or more after their time on the grid."""
