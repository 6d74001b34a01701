"""What a server counts while it runs."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Statistics:
    """Live figures of one server. What is said to be "now" goes up and down; the others count from the start.

    - `connections`: WebSocket connections now.
    - `refused`: connections that a limit refused (by address, or in total).
    - `logins`: logins that were granted, takeovers included.
    - `takeovers`: logins that took over a session.
    - `resumes`: sessions that were resumed.
    - `sessions`: users now, those included whose connection is lost and who may resume.
    - `rooms`: open rooms now, the lobby included.
    - `members`: members now, over all rooms: a user in two rooms counts twice.
    - `events_in`: room messages taken from clients, transforms included.
    - `events_out`: entries handed to members: each entry of a payload, once for each recipient.
    - `bytes_in`, `bytes_out`: bytes read from and written to clients, handshakes and frame headers included.
    - `batches`: batches of transforms: one for each room and tick that sent any.
    - `frames_late`: ticks that began a whole frame or more after their time on the grid.
    - `rate_limited`: messages that were answered with 429, or were dropped for the same reason.
    - `round_trips_s`: for each user now, the seconds that the answer to the last ping took.
    """

    connections: int = 0
    refused: int = 0
    logins: int = 0
    takeovers: int = 0
    resumes: int = 0
    sessions: int = 0
    rooms: int = 0
    members: int = 0
    events_in: int = 0
    events_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    batches: int = 0
    frames_late: int = 0
    rate_limited: int = 0
    round_trips_s: dict[str, float] = attrs.field(factory=dict)
