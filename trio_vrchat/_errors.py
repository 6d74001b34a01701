"""The error tree.

VrchatError
├── ConfigError                 a setting is out of its range
├── ListenError                 the server cannot listen where it was told to
├── StoreError                  the store's file cannot be used
├── AccountError                an account cannot be made or changed as was asked
├── RecordingError              a recording cannot be made, or cannot be read
├── ReplayError                 a recording cannot be replayed, or not to its end
├── WorkerError                 one of several workers ends at once, again and again
├── FrameViolation              a peer broke the WebSocket framing: 1002, 1009
├── ClientError                 raised by the client of this package
│   ├── CannotConnect               nobody there, or nobody who speaks the protocol
│   └── ConnectionLost              the connection has ended, with the close code
└── RequestError                an answer with "info": "error", on either side of the wire
    ├── BadRequest          400     a key is missing or of the wrong kind
    ├── NotInRoom           401     not in that room
    ├── AccessDenied        403     not logged in, or the login is refused
    ├── InvalidStructure    406     not a JSON object in a text frame, or a rule of chapter 1 is broken
    ├── Conflict            409     already in that room, already logged in, or the name is taken
    ├── TooMuch             413     a limit on size or number is reached
    ├── SlowDown            429     a rate limit is reached
    ├── InternalError       500     the server's fault; its log has the rest
    ├── UnknownCommand      501     no such system request
    └── Unavailable         503     something that the request needs is out of reach for now

The codes and their texts are those of the protocol, chapter 2.
"""

from __future__ import annotations

from typing import Any, ClassVar


class VrchatError(Exception):
    """The base of every error that this package raises on purpose."""


class ConfigError(VrchatError, ValueError):
    """A setting is out of its range. The message names the setting, its value and the range."""


class ListenError(VrchatError, OSError):
    """The server cannot listen on the address and port it was given. The message says which and why."""


class StoreError(VrchatError):
    """The store's file cannot be opened, read or written. The message says which, why, and what to do."""


class AccountError(VrchatError):
    """An account cannot be made or changed as was asked. The message says why."""


class RecordingError(VrchatError):
    """A recording cannot be made, or cannot be read. The message says which, why, and what to do."""


class ReplayError(VrchatError):
    """A recording cannot be replayed, or not to its end. The message says why, and what to do."""


class WorkerError(VrchatError):
    """One of the workers of `--workers` ends at once, again and again. The message says which, and how."""


class FrameViolation(VrchatError):
    """A peer broke the WebSocket framing (RFC 6455, sections 5 and 7.4.1).

    `code` is the close code that answers it: 1002 (protocol error) or 1009 (message too big).
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (close code {self.code})"


class ClientError(VrchatError):
    """The base of what the client raises about its connection."""


class CannotConnect(ClientError):
    """The URL could not be reached, or what answers there is no WebSocket server."""


class ConnectionLost(ClientError):
    """The connection has ended.

    `code` is the WebSocket close code (README, "What the server sends": 1001 the server stops, 4001 no login in time,
    4008 too slow to be kept, 4009 the same user came on another connection), 1006 where it ended without one.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection has ended with close code {self.code}" + (f": {self.reason}" if self.reason else "")


class RequestError(VrchatError):
    """An error answer. `code` and `text` are fixed by the class; `detail` is the answer's `detail` object.

    `reason` says for the log (and in `detail` only where the protocol has it: 400) what was wrong.
    """

    code: ClassVar[int] = 500
    text: ClassVar[str] = "Internal server error."

    def __init__(self, reason: str = "", **detail: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail: dict[str, Any] = detail

    def __str__(self) -> str:
        return f"{self.code} {self.text}" + (f" {self.reason}" if self.reason else "")


class BadRequest(RequestError):
    """400: a key is missing or of the wrong kind; `detail["reason"]` says which."""

    code = 400
    text = "Bad request."

    def __init__(self, reason: str = "", **detail: Any) -> None:
        super().__init__(reason, **detail)
        self.detail["reason"] = reason


class NotInRoom(RequestError):
    """401: the user is not in that room."""

    code = 401
    text = "User unauthorized."


class AccessDenied(RequestError):
    """403: not logged in, or the login is refused."""

    code = 403
    text = "Access denied."


class InvalidStructure(RequestError):
    """406: not a JSON object in a text frame, or a rule for every message is broken (README, "The protocol")."""

    code = 406
    text = "Data object has invalid structure."


class Conflict(RequestError):
    """409: already in that room, already logged in, or the name is taken or looks like one that is."""

    code = 409
    text = "Request conflicts current status."


class TooMuch(RequestError):
    """413: a limit on size or number is reached; `detail` is `{"limit": NAME, "value": N}`."""

    code = 413
    text = "Too much."


class SlowDown(RequestError):
    """429: a rate limit is reached; `detail["retry_after"]` in seconds."""

    code = 429
    text = "Slow down."


class InternalError(RequestError):
    """500: the server failed. It never says more than that; the server's log has the rest."""


class UnknownCommand(RequestError):
    """501: no such system request."""

    code = 501
    text = "Command not recognized."


class Unavailable(RequestError):
    """503: something that the request needs is out of reach; `detail["retry_after"]` in seconds."""

    code = 503
    text = "Unavailable."


ERROR_BY_CODE: dict[int, type[RequestError]] = {
    error.code: error
    for error in (
        BadRequest,
        NotInRoom,
        AccessDenied,
        InvalidStructure,
        Conflict,
        TooMuch,
        SlowDown,
        InternalError,
        UnknownCommand,
        Unavailable,
    )
}
