"""One user of the load test: a socket, from connecting through the login to the close.

Rules:

- Nothing here blocks; the load's selector says when there is something to do.
- At most one frame waits to be written, answers to pings aside. While one waits the user says nothing: the
  server does not read, and queueing for it would only measure the queue.
- Until the login is complete every failure is a `BenchError`, for there is no point in a run with fewer users
  than asked for. From then on a lost connection is a figure, and only what no server of the protocol may do
  is an error.

- Over TLS no certificate is checked: nothing that is said here is a secret, and whose server it is that is
  measured its owner knows.

Theory of operation: a user goes through the stages in one direction, and may skip to GONE from each. It is
PRESENT once its room's list of members with its own name in it has arrived, since from then on the room owes
it every event. Everybody comes to the lobby; whose room is another one joins it from there, and leaves the
lobby. A failing `send` does not end it: the server's close frame, with the reason, may still wait to be read.
Reading finds the end.
"""

import enum
import os
import selectors
import socket
import ssl

from . import _wire
from ._options import BenchError
from ._protocol import LOBBY, Response, join_frame, leave_frame, login_frame, read_message
from ._target import Target

# What a socket that does not wait says where it would have to.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE

# What answers to pings may take while the server does not read; further pings go unanswered.
_WAITING_BYTES = 4096


class Stage(enum.Enum):
    """How far a user has come."""

    CONNECTING = enum.auto()
    STARTING_TLS = enum.auto()
    SHAKING_HANDS = enum.auto()
    LOGGING_IN = enum.auto()
    JOINING = enum.auto()
    PRESENT = enum.auto()
    LEAVING = enum.auto()
    GONE = enum.auto()


class User:
    """User number `index`, in the room `room`, on a `connection` that is made or being made.

    It is registered with the selector, as the key's data, until it is GONE. The figures `bytes_in`, `batches`
    and `transforms` and the reader's `frames` only grow. `close_code` is set when the server ends the
    connection.
    """

    def __init__(
        self,
        index: int,
        name: str,
        room: str,
        target: Target,
        connection: socket.socket,
        selector: selectors.BaseSelector,
    ) -> None:
        self.index = index
        self.name = name
        self.room = room
        self.stage = Stage.CONNECTING
        self.close_code: int | None = None
        self.bytes_in = 0
        self.batches = 0
        self.transforms = 0
        self.reader = _wire.FrameReader()
        self._target = target
        self._key = _wire.new_key()
        self._handshake = bytearray()
        self._waiting = bytearray()
        self._socket = connection
        self._selector = selector
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def send(self, frame: bytes) -> bool:
        """Send a frame; False if it was not taken because an earlier one still waits."""
        if self._waiting:
            return False
        self._write(frame)
        return True

    def _write(self, frame: bytes) -> None:
        try:
            written = self._socket.send(frame)
        except _NOT_NOW:
            written = 0
        except OSError:
            return  # reading will find the end, and the reason if there is one
        if written < len(frame):
            self._waiting += frame[written:]
            self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def leave(self) -> None:
        """Send a close frame, if the user is PRESENT and can; the server's answer makes it GONE."""
        if self.stage is Stage.PRESENT:
            self.stage = Stage.LEAVING
            self.send(_wire.close_frame(_wire.NORMAL_CLOSURE))

    def on_writable(self) -> None:
        """The socket is connected, or takes bytes again."""
        waiting = bytes(self._waiting)
        self._waiting.clear()
        if self.stage is Stage.CONNECTING:
            failure = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failure:
                raise self._failure(f"could not connect ({os.strerror(failure)})", "does the server take that many?")
            if self._target.tls:
                self._start_tls()
                return
            self.stage = Stage.SHAKING_HANDS
            waiting = _wire.upgrade_request(self._target.authority, self._target.path, self._key)
        elif self.stage is Stage.STARTING_TLS:
            self._go_on_with_tls()
            return
        self._selector.modify(self._socket, selectors.EVENT_READ, self)
        self._write(waiting)

    def _start_tls(self) -> None:
        self.stage = Stage.STARTING_TLS
        self._selector.unregister(self._socket)
        self._socket = _TLS.wrap_socket(self._socket, server_hostname=self._target.host, do_handshake_on_connect=False)
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        self._go_on_with_tls()

    def _go_on_with_tls(self) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(self._socket, selectors.EVENT_READ, self)
        except ssl.SSLWantWriteError:
            self._selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        except OSError as error:
            raise self._failure(f"could not speak TLS ({error})", "is that a wss:// server?") from error
        else:
            self.stage = Stage.SHAKING_HANDS
            self._selector.modify(self._socket, selectors.EVENT_READ, self)
            self._write(_wire.upgrade_request(self._target.authority, self._target.path, self._key))

    def receive(self, buffer: memoryview) -> list[bytes]:
        """Read, by way of `buffer`, and answer what needs an answer; the text messages that came.

        Of a plain socket one read; of TLS all that it has decrypted, because no selector tells of that.

        Raises:
            BenchError: the login failed, or the server speaks another protocol.
        """
        if self.stage is Stage.STARTING_TLS:
            self._go_on_with_tls()
            return []
        texts = self._receive_once(buffer)
        while self.stage is not Stage.GONE and self._has_pending():
            texts += self._receive_once(buffer)
        return texts

    def _has_pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _receive_once(self, buffer: memoryview) -> list[bytes]:
        try:
            size = self._socket.recv_into(buffer)
        except _NOT_NOW:
            return []
        except OSError as error:
            self._end(_wire.NO_CLOSE_FRAME, f"without a close frame, {error.strerror}")
            return []
        if not size:
            self._end(_wire.NO_CLOSE_FRAME, "without a close frame")
            return []
        self.bytes_in += size
        try:
            return self._take(buffer[:size])
        except _wire.WireError as error:
            raise self._failure(f"received {error}", "is that a server of this protocol?") from error

    def _take(self, data: memoryview) -> list[bytes]:
        if self.stage is Stage.SHAKING_HANDS:
            self._handshake += data
            answer_size = _wire.upgrade_answer_size(self._handshake, self._key)
            if answer_size is None:
                return []
            self.stage = Stage.LOGGING_IN
            self._write(login_frame(self.name))
            data = memoryview(bytes(self._handshake[answer_size:]))
        texts = []
        for message in self.reader.feed(data):
            if message.opcode == _wire.TEXT:
                if self.stage in (Stage.LOGGING_IN, Stage.JOINING):
                    self._log_in(message.payload)
                texts.append(message.payload)
            elif message.opcode == _wire.PING:
                self._answer(_wire.client_frame(_wire.PONG, message.payload))
            elif message.opcode == _wire.CLOSE:
                code = _wire.close_code(message.payload)
                if self.stage is not Stage.LEAVING:
                    self._answer(_wire.close_frame(code))
                self._end(code, "a close frame")
            elif message.opcode == _wire.BINARY:
                raise _wire.WireError("a binary message")
        return texts

    def _answer(self, frame: bytes) -> None:
        # Unlike all else it may queue behind what waits: a server may end a connection for want of an answer.
        if not self._waiting:
            self._write(frame)
        elif len(self._waiting) + len(frame) <= _WAITING_BYTES:
            self._waiting += frame

    def _log_in(self, payload: bytes) -> None:
        message = read_message(payload)
        if message.info == "error":
            why = message.response or Response(0)
            raise self._failure(
                f"was refused ({why.code} {why.msg})", "the server must let that many in, under any password"
            )
        if not any(entry.user == self.name and entry.type == "join" for entry in message.payload):
            return
        if self.stage is Stage.LOGGING_IN and self.room != LOBBY:
            self.stage = Stage.JOINING
            self._answer(join_frame(self.room))
        elif self.stage is Stage.LOGGING_IN:
            self.stage = Stage.PRESENT
        elif message.room == self.room:
            self.stage = Stage.PRESENT
            self._answer(leave_frame(LOBBY))

    def _end(self, code: int, how: str) -> None:
        too_early = self.stage not in (Stage.PRESENT, Stage.LEAVING, Stage.GONE)
        self.close_code = code
        self.close()
        if too_early:
            raise self._failure(
                f"was cut off ({code}, {how}) before its login was complete", "the server's log may say why"
            )

    def _failure(self, what: str, advice: str) -> BenchError:
        return BenchError(f"user {self.name} at {self._target.url} {what}: {advice}")

    def close(self) -> None:
        """Close the socket; does nothing the second time."""
        if self.stage is not Stage.GONE:
            self.stage = Stage.GONE
            self._selector.unregister(self._socket)
            self._socket.close()
