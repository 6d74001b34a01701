"""Where an admin's requests about recordings are done: the recorder, and the folder of what it has written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import Conflict, RecordingError
from ._recorder import Recorder
from ._threads import InThread

if TYPE_CHECKING:
    from ._recording_folder import RecordingFolder


class RecordingDesk:
    """`folder`: where recordings are; None where the server has none, and every request is refused (409).

    `in_thread` is not the recorder's: a long look at an old recording does not hold up the new one.
    """

    def __init__(self, recorder: Recorder, folder: str | None, in_thread: InThread) -> None:
        self._recorder = recorder
        self._path = Path(folder) if folder is not None else None
        self._folder = _recordings_in(self._path) if self._path is not None else None
        self._in_thread = in_thread

    async def switch(self, on: bool, notes: Mapping[str, str]) -> dict[str, Any]:
        """Begin or end a recording; returns its name, and how much is in it. Raises Conflict (409)."""
        _, path = self._there()
        try:
            if on:
                started = await self._recorder.start(path, notes)
                return {"recording": started.stem}
            recorded = await self._recorder.stop()
        except RecordingError as error:
            raise _conflict(str(error)) from None
        return {"recording": None, "recorded": recorded.path.stem, "messages": recorded.messages}

    async def listing(self) -> dict[str, Any]:
        """The recordings, newest first, and the name of the one that is being made. Raises Conflict (409)."""
        folder, _ = self._there()
        recordings = await self._in_thread(folder.listing)
        running = self._recorder.path
        return {"recordings": recordings, "recording": running.stem if running is not None else None}

    async def details(self, number: int) -> dict[str, Any]:
        """See `RecordingFolder.details`."""
        folder, _ = self._there()
        return await self._in_thread(partial(folder.details, number))

    async def excerpt(self, number: int, room: str, time: float, seconds: float, *, seek: bool) -> dict[str, Any]:
        """See `RecordingFolder.excerpt`."""
        folder, _ = self._there()
        return await self._in_thread(partial(folder.excerpt, number, room, time, seconds, seek=seek))

    def _there(self) -> tuple[RecordingFolder, Path]:
        if self._folder is None or self._path is None:
            raise _conflict("this server has no folder for recordings: start it with --recordings FOLDER")
        return self._folder, self._path


def _recordings_in(path: Path) -> RecordingFolder:
    # What reads the container is slow to import, and needed by nobody else.
    from ._recording_folder import RecordingFolder  # noqa: PLC0415

    return RecordingFolder(path)


def _conflict(reason: str) -> Conflict:
    error = Conflict(reason)
    # Admins may know.
    error.detail["reason"] = reason
    return error
