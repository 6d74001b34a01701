"""What an `admin` may ask of a server: to record, what was recorded, and to see some of it again.

    record      on or off           ─▶ 200
    recordings  all, or one's details ─▶ 212, 200
    playback    some seconds of one ─▶ 200

README, "Recording a study", has the shapes. Who is an admin is decided before; what a recording is, behind `Desk`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ._codec import read_playback, read_record, read_recordings
from ._errors import BadRequest
from ._messages import LISTING, OK

# Long enough to stay ahead at eight times the speed, and short enough to be read between two batches.
PLAYBACK_LIMIT_S = 20.0


class Desk(Protocol):
    """Where recordings are made and looked at. Each raises RequestError, and what a disk may raise."""

    async def switch(self, on: bool, notes: Mapping[str, str]) -> dict[str, Any]: ...

    async def listing(self) -> dict[str, Any]: ...

    async def details(self, number: int) -> dict[str, Any]: ...

    async def excerpt(self, number: int, room: str, time: float, seconds: float, *, seek: bool) -> dict[str, Any]: ...


Answer = tuple[tuple[int, str], dict[str, Any]]


async def _record(desk: Desk, options: dict[str, Any]) -> Answer:
    asked = read_record(options)
    return OK, await desk.switch(asked["on"], asked.get("notes", {}))


async def _recordings(desk: Desk, options: dict[str, Any]) -> Answer:
    number = read_recordings(options).get("number")
    if number is None:
        return LISTING, await desk.listing()
    return OK, await desk.details(number)


async def _playback(desk: Desk, options: dict[str, Any]) -> Answer:
    asked = read_playback(options)
    seconds = asked["seconds"]
    if not 0 < seconds <= PLAYBACK_LIMIT_S:
        raise BadRequest(f"options: seconds must be more than 0 and at most {PLAYBACK_LIMIT_S:g}, not {seconds!r:.40}")
    seek = asked.get("seek", False)
    return OK, await desk.excerpt(asked["number"], asked["room"], asked["time"], seconds, seek=seek)


ADMIN_REQUESTS: Mapping[str, Callable[[Desk, dict[str, Any]], Awaitable[Answer]]] = {
    "record": _record,
    "recordings": _recordings,
    "playback": _playback,
}
