"""A server that sends each message back: `python -m tests.echo_server`. It prints its URL, and runs until it is killed.

Suites that test a WebSocket implementation expect one. All around the message is the real server: listener, guarded
stream, pump, meter, library, outbox, closing handshake. Only what is done with a message is not.
"""

from __future__ import annotations

from unittest import mock

import trio

import trio_vrchat
from trio_vrchat import Config, _connection
from trio_vrchat._frames import BINARY, text_frame

# As large as the suites' largest message, 16 MiB, and time to send it in small pieces: nobody logs in here.
CONFIG = Config.unlimited(
    host="127.0.0.1", port=0, message_limit_bytes=1 << 24, outbox_limit_bytes=1 << 25, login_timeout_s=3600
)


def binary_frame(payload: bytes) -> bytes:
    """One whole binary message from a server, which ours never sends."""
    return bytes([0x80 | BINARY]) + text_frame(payload)[1:]


class EchoConnection(_connection.Connection):
    """A connection that answers each message with itself."""

    def _take_from_library(self, message: str | bytes) -> None:
        self.outbox.offer(text_frame(message.encode()) if isinstance(message, str) else binary_frame(message))

    def _take(self, message: bytes | None, now: float) -> None:
        assert message is not None, "binary messages come from the library"
        self.outbox.offer(text_frame(message))


async def main() -> None:
    async with trio.open_nursery() as nursery:
        handle = await nursery.start(trio_vrchat.serve, CONFIG)
        print(handle.urls[0], flush=True)  # noqa: T201


if __name__ == "__main__":
    with mock.patch.object(_connection, "Connection", EchoConnection):
        trio.run(main)
