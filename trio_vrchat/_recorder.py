"""The recorder: everything that happens on a server, into a file, without anybody waiting for it.

    rooms ─▶ Recorder (a list in memory) ─▶ every half a second, in a thread ─▶ RecordingFile

- What the event loop pays for a transform is an entry of that list. JSON, compression and the disk are the thread's.
- The list is bounded. What a disk that hangs leaves no room for is not recorded, and is counted.
- What is half a second old is with the operating system: a process that is killed loses no more. A file that lost its
  end can be read.
- A disk that fails ends the recording, with one line in the log. It never ends anything else.
- A recording holds what people did and said: it is readable by its owner alone, and can be made with pseudonyms.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs
import msgspec
import trio

from ._clock import text_of
from ._codec import encode
from ._config import Config
from ._errors import RecordingError
from ._messages import MESSAGE
from ._names import name_key
from ._observer import Observation, Observer
from ._statistics import Statistics
from ._threads import InThread
from ._version import __version__

if TYPE_CHECKING:
    from ._recording_file import Kind, RecordingFile

FLUSH_S = 0.5
# A minute of a hall of a hundred headsets, while the disk has something else to do.
_LIMIT_BYTES = 128 * 1024 * 1024
# What an item takes in memory beside its bytes.
_ITEM_BYTES = 200
# The bytes of a key, as HMAC-SHA256 takes it; and the digits of a pseudonym: two of a million users have the same by
# a chance of one in a million.
_KEY_BYTES, _PSEUDONYM_DIGITS = 32, 16
# Of their own machine's files people's recordings say nothing.
_NOT_IN_A_MANIFEST = ("store", "backplane", "tls_cert", "tls_key", "record", "recordings", "pseudonyms", "note")
_NAMES_TRIED = 100

_log = logging.getLogger("trio_vrchat.recording")

# Kind, room, time and user as JSON (empty and 0.0 where `data` has them), and what is recorded as JSON.
_Item = tuple["Kind", str, float, bytes, bytes]


class _Entry(msgspec.Struct):
    time: float
    user: str
    type: str
    data: msgspec.Raw


_decode_entry = msgspec.json.Decoder(_Entry).decode


@attrs.frozen
class Recorded:
    """What a recording has become. `failure`: why it ended by itself; "" where it was stopped."""

    path: Path
    messages: int
    failure: str


@attrs.define(eq=False)
class _Running:
    path: Path
    stream: BinaryIO
    file: RecordingFile
    manifest: dict[str, str]
    pseudonym: Callable[[str], str] | None
    rooms: set[str] = attrs.field(factory=set)
    stopping: bool = False
    wake: trio.Event = attrs.field(factory=trio.Event)
    over: trio.Event = attrs.field(factory=trio.Event)
    failure: str = ""


class Recorder:
    """Records one server, when it is told to. Its `run` must run somewhere; `stop_for_good` ends that.

    `show` tells an observer who is where at this moment. `now` gives seconds since the Unix epoch. `worker`: which of
    several servers it records, all of which may record into the same folder.
    """

    def __init__(
        self,
        config: Config,
        observation: Observation,
        statistics: Statistics,
        in_thread: InThread,
        show: Callable[[Observer], object],
        now: Callable[[], float],
        worker: int | None = None,
    ) -> None:
        self._config = config
        self._worker = worker
        self._observation = observation
        self._statistics = statistics
        self._in_thread = in_thread
        self._show = show
        self._now = now
        self._starting = trio.StrictFIFOLock()
        self._running: _Running | None = None
        self._waiting: list[_Item] = []
        self._waiting_bytes = 0
        self._lost_of_this = 0
        self._wake = trio.Event()
        self._closing = False

    @property
    def path(self) -> Path | None:
        """The file that is being written, if one is."""
        return self._running.path if self._running is not None else None

    async def start(self, folder: str | os.PathLike[str], notes: Mapping[str, str] | None = None) -> Path:
        """Begin a recording in a new file in this folder, which is made if it is missing; returns the file's path.

        `notes` stand in its manifest. Raises RecordingError where one is running, or the file cannot be made.
        """
        async with self._starting:
            if self._running is not None:
                raise RecordingError(f"a recording is running already: {self._running.path}; stop it first")
            if self._closing:
                raise RecordingError("the server stops")
            opening = partial(_open, Path(folder), self._config, dict(notes or {}), self._now(), self._worker)
            try:
                running = await self._in_thread(opening)
            except OSError as error:
                raise RecordingError(
                    f"cannot record in {os.fspath(folder)!r}: {error.strerror or error}: check the name, and that it "
                    "may be written to"
                ) from error
            self._running = running
            self._lost_of_this = 0
            self._statistics.recording = 1
            self._observation.observer = self
            self._show(self)
            self._wake.set()
        _log.info("recording to %s", running.path, extra={"path": os.fspath(running.path)})
        return running.path

    async def stop(self) -> Recorded:
        """End the recording; returns once all of it is in the file. Raises RecordingError where none is running."""
        running = self._running
        if running is None:
            raise RecordingError("no recording is running")
        self._observation.observer = None
        running.stopping = True
        running.wake.set()
        await running.over.wait()
        return Recorded(running.path, running.file.count, running.failure)

    def close(self) -> None:
        """End the recording, if one is running, and let `run` return. Does not wait."""
        self._closing = True
        self._wake.set()
        if self._running is not None:
            self._observation.observer = None
            self._running.stopping = True
            self._running.wake.set()

    async def run(self) -> None:
        """Write what is recorded, until `close`."""
        while True:
            while self._running is None:
                if self._closing:
                    return
                await self._wake.wait()
                self._wake = trio.Event()
            await self._record(self._running)

    # The observer

    def happened(self, room: str, entry: bytes) -> None:
        self._add(("events", room, 0.0, b"", entry))

    def moved(self, room: str, user: bytes, time: float, data: bytes) -> None:
        self._add(("transforms", room, time, user, data))

    def round_trip(self, user: str, seconds: float) -> None:
        data = encode({"round_trip_s": seconds})
        self._add(("round_trips", "", self._now(), encode(user), data))

    def clock_offset(self, user: str, seconds: float, bound: float) -> None:
        data = encode({"offset_s": seconds, "bound_s": bound})
        self._add(("clocks", "", self._now(), encode(user), data))

    def _add(self, item: _Item) -> None:
        size = _ITEM_BYTES + len(item[4])
        if self._waiting_bytes + size > _LIMIT_BYTES:
            self._lose()
            return
        self._waiting_bytes += size
        self._waiting.append(item)
        self._statistics.recorded += 1

    def _lose(self) -> None:
        if not self._lost_of_this:
            _log.error("the disk does not keep up: what happens is not recorded until it does")
        self._lost_of_this += 1
        self._statistics.recording_lost += 1

    # The file

    async def _record(self, running: _Running) -> None:
        try:
            while not running.stopping:
                with trio.move_on_after(FLUSH_S):
                    await running.wake.wait()
                await self._write(running)
            await self._write(running)
            running.manifest["ended"] = text_of(self._now())
            await self._in_thread(partial(_finish, running))
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the server)
            running.failure = _why(error)
            self._statistics.recording_failures += 1
            trace = None if isinstance(error, OSError) else error
            _log.error(
                "the recording has ended: %s; %s holds what came before", running.failure, running.path, exc_info=trace
            )
            await self._in_thread(partial(_give_up, running))
        else:
            _log.info("recorded %d messages in %s", running.file.count, running.path)
        finally:
            self._observation.observer = None
            self._running = None
            self._waiting, self._waiting_bytes = [], 0
            self._statistics.recording = 0
            running.over.set()

    async def _write(self, running: _Running) -> None:
        items, self._waiting = self._waiting, []
        # Held until it is written: what comes meanwhile has so much less room.
        size = self._waiting_bytes
        await self._in_thread(partial(_write, running, items))
        self._waiting_bytes -= size


def _open(folder: Path, config: Config, notes: dict[str, str], time: float, worker: int | None) -> _Running:
    # What writes the container is slow to import, and needed by nobody else.
    from ._recording_file import VERSION, RecordingFile  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    pseudonym = _pseudonyms(Path(config.pseudonyms)) if config.pseudonyms is not None else None
    manifest = {
        "version": VERSION,
        "server": f"trio_vrchat {__version__}, Python {platform.python_version()}, trio {trio.__version__}",
        "started": text_of(time),
        "settings": json.dumps(_settings(config)),
        "notes": json.dumps(notes),
        "pseudonyms": json.dumps(pseudonym is not None),
    }
    if worker is not None:
        manifest["worker"] = str(worker)
    path, stream = _new_file(folder, time, "" if worker is None else f"-worker{worker}")
    try:
        running = _Running(path, stream, RecordingFile(stream, manifest), manifest, pseudonym)
        _write_manifest(running)
    except BaseException:
        stream.close()
        raise
    return running


def _new_file(folder: Path, time: float, suffix: str) -> tuple[Path, BinaryIO]:
    stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H%M%SZ") + suffix
    for number in range(_NAMES_TRIED):
        path = folder / f"{stamp}{f'-{number}' if number else ''}.mcap"
        with contextlib.suppress(FileExistsError):
            return path, open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
    raise FileExistsError(0, f"there are {_NAMES_TRIED} recordings of this second")


def _settings(config: Config) -> dict[str, object]:
    return {
        field.name: getattr(config, field.name)
        for field in attrs.fields(Config)
        if field.name not in _NOT_IN_A_MANIFEST
    }


def _write(running: _Running, items: Sequence[_Item]) -> None:
    for kind, room, time, user, data in items:
        if room:
            running.rooms.add(room)
        running.file.add(kind, *_message(kind, room, time, user, data, running.pseudonym))
    running.file.flush()


def _message(
    kind: Kind, room: str, time: float, user: bytes, data: bytes, pseudonym: Callable[[str], str] | None
) -> tuple[int, bytes]:
    """The message's time in nanoseconds, and the message."""
    if kind == "events":
        entry = _decode_entry(data)
        time = entry.time
        if pseudonym is not None:
            entry.user = pseudonym(entry.user)
            if entry.type == MESSAGE:
                entry.data = msgspec.Raw(b"null")
            data = encode(entry)
        return _nanoseconds(time), b'{"room":%b,%b' % (encode(room), data[1:])
    if pseudonym is not None:
        user = encode(pseudonym(msgspec.json.decode(user)))
    if kind == "transforms":
        message = b'{"room":%b,"time":%b,"user":%b,"type":"transform","data":%b}'
        return _nanoseconds(time), message % (encode(room), encode(time), user, data)
    return _nanoseconds(time), b'{"time":%b,"user":%b,%b' % (encode(time), user, data[1:])


def _nanoseconds(time: float) -> int:
    return round(time * 1e9)


def _finish(running: _Running) -> None:
    running.file.finish()
    os.fsync(running.stream.fileno())
    running.stream.close()
    running.manifest["messages"] = json.dumps(running.file.count)
    running.manifest["rooms"] = json.dumps(sorted(running.rooms))
    _write_manifest(running)


def _give_up(running: _Running) -> None:
    # What could not be written is written again by `close`, in vain.
    with contextlib.suppress(OSError, ValueError):
        running.stream.close()
    running.manifest["failure"] = running.failure
    with contextlib.suppress(OSError):
        _write_manifest(running)


def _write_manifest(running: _Running) -> None:
    """Beside the file, for people: the same that is in it, and at the end how it ended."""
    known = {
        key: json.loads(value) if key in ("settings", "notes", "pseudonyms", "messages", "rooms") else value
        for key, value in running.manifest.items()
    }
    path = running.path.with_suffix(".json")
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(known, file, indent=2, ensure_ascii=False)
        file.write("\n")
    os.replace(new, path)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"


def make_key(path: Path) -> None:
    """Make a key for pseudonyms in this file, if it is missing. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        _log.info("made a key for pseudonyms: %s", path)


def _pseudonyms(path: Path) -> Callable[[str], str]:
    """What makes pseudonyms with the key in this file, which is made if it is missing. Raises OSError."""
    make_key(path)
    key = path.read_bytes()
    if len(key) < _KEY_BYTES:
        raise OSError(0, f"the key in {os.fspath(path)!r} has {len(key)} bytes and needs {_KEY_BYTES}; remove it")

    # As many as there may be users in a run; past it they are only made again.
    @lru_cache(maxsize=10_000)
    def pseudonym(name: str) -> str:
        return hmac.new(key, name_key(name).encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM_DIGITS]

    return pseudonym
