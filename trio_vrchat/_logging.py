"""The log of a program that is this server: which records are shown, and in which form, on stderr.

`serve` only makes records, as a library should; a program that embeds it has a log of its own. `configure` is for the
command line and for `Server`, which own their process.

- What is WARNING or above is always shown, whoever says it. Below that the server's start and stop are always shown,
  and `level` decides on the rest of this package's records. Other packages' are never shown.
- A record is one line, whatever a client put into it: what does not print is escaped. Only a traceback on a terminal,
  where a person reads it, keeps its lines.
- The JSON form is ASCII, so that no encoding that stderr may have can break it.
- Of several workers (`--workers`), which share one stderr, each says in each record which it is.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from ._errors import ConfigError

LEVELS = (0, 1, 2, 3)

_HANDLER_NAME = "trio_vrchat"
# What the package's log calls give by `extra=`.
_EXTRA = ("worker", "pid", "peer", "user", "room", "code", "port", "count")


def check_level(level: object) -> None:
    """Raise ConfigError where `level` is no log level."""
    if type(level) is not int or level not in LEVELS:
        raise ConfigError(f"log_level must be 0, 1, 2 or 3, not {level!r}")


def configure(level: int, *, as_json: bool, worker: int | None = None) -> None:
    """Let the process's log go to stderr; a later call replaces an earlier one. `worker`: which of several this is.

    `level` is 0 for the server's start, stop and failures, 1 also for connections, logins and error answers, 2 also
    for joins and leaves, 3 for everything. The form is one JSON object a line with `as_json`, otherwise colours on a
    terminal and plain lines elsewhere.

    Raises ConfigError if there is no such level.
    """
    check_level(level)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if handler.get_name() == _HANDLER_NAME:
            root.removeHandler(handler)
    handler = _handler(as_json)
    handler.set_name(_HANDLER_NAME)
    if worker is not None:
        handler.addFilter(_OfWorker(worker))
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    accepting = logging.getLogger("trio.serve_listeners")
    accepting.filters[:] = [_Seldom()]
    for name, shown in {
        "trio_vrchat": False,
        "trio_vrchat.server": True,
        "trio_vrchat.supervisor": True,
        "trio_vrchat.connection": level >= 1,
        "trio_vrchat.room": level >= 2,
    }.items():
        threshold = logging.INFO if shown else logging.WARNING
        logging.getLogger(name).setLevel(logging.DEBUG if level == 3 else threshold)


class _Seldom(logging.Filter):
    """The same only every ten seconds, and no traceback: trio says ten times a second that descriptors have run out."""

    def __init__(self) -> None:
        super().__init__()
        self._last: object = None
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        same = (record.levelno, record.msg)
        if same == self._last and record.created < self._next_s:
            return False
        self._last = same
        self._next_s = record.created + 10.0
        record.exc_info = None
        return True


class _OfWorker(logging.Filter):
    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        record.worker = self._worker
        return True


def _worker_of(record: logging.LogRecord) -> str:
    """The worker that a record is of, or about."""
    worker = getattr(record, "worker", None)
    return "" if worker is None else f"worker {worker}: "


def _handler(as_json: bool) -> logging.Handler:
    handler: logging.Handler
    if not as_json and sys.stderr is not None and sys.stderr.isatty():
        # Slow to import, and needed by nobody else.
        from rich.console import Console  # noqa: PLC0415
        from rich.highlighter import NullHighlighter  # noqa: PLC0415
        from rich.logging import RichHandler  # noqa: PLC0415

        handler = RichHandler(
            console=Console(stderr=True),
            show_path=False,
            omit_repeated_times=False,
            log_time_format="%H:%M:%S",
            # Names and addresses are not code: in colours they only look like something else.
            highlighter=NullHighlighter(),
        )
        handler.setFormatter(_TerminalFormatter())
        return handler
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if as_json else _PlainFormatter())
    return handler


def one_line(text: str) -> str:
    """`text` with each character that does not print written as Python writes it in a string: `\\n`, `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        # (Not by the codec, which is imported when it is first used: where descriptors have run out, that fails.)
        character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(timespec="milliseconds")
        text = f"{time} {record.levelname} {record.name}: {_worker_of(record)}{record.getMessage()}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return one_line(text)


class _TerminalFormatter(logging.Formatter):
    """The time and the level are the handler's."""

    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{_worker_of(record)}{record.getMessage()}"]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n".join(one_line(line) for line in lines)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name in _EXTRA if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # Not msgspec's encoder: it writes UTF-8, which not every stderr takes, and raises at half a surrogate pair.
        return json.dumps({name: _whole(value) for name, value in fields.items()}, default=str)


def _whole(value: object) -> object:
    # json would write half a surrogate pair, which many a reader of the log would refuse.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
