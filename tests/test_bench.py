"""The load test: its WebSocket, its books, its figures, and small runs against a fake server on a real
socket."""

import contextlib
import io
import json
import os
import resource
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from rich.console import Console
from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState

from trio_vrchat import bench
from trio_vrchat.bench import _load, _options, _server_process, _target, _usage, _wire
from trio_vrchat.bench._ledger import ChatAccount, Ledger, percentile, together
from trio_vrchat.bench._protocol import LOBBY, ChatMark, Contents, Scanner, lap, login_frame, transform_frame
from trio_vrchat.bench._room import rooms_of
from trio_vrchat.bench._schedule import Schedule
from trio_vrchat.bench._user import Stage, User

LOOPBACK = "127.0.0.1"
FIGURES = list(attrs.fields_dict(bench.Result))
BROKEN = ("chat_lines_lost", "chat_lines_duplicated", "chat_lines_out_of_order", "connections_closed")


# --- the wire ---------------------------------------------------------------------------------------------


def shaken_hands() -> tuple[WSConnection, int]:
    """A server by another hand than ours that has accepted our handshake, and how long its answer was."""
    server = WSConnection(ConnectionType.SERVER)
    key = _wire.new_key()
    server.receive_data(_wire.upgrade_request("example.org:42069", "/chat?room=1", key))
    (request,) = server.events()
    assert isinstance(request, events.Request)
    assert (request.host, request.target) == ("example.org:42069", "/chat?room=1")
    answer = server.send(events.AcceptConnection())
    assert _wire.upgrade_answer_size(answer + b"\x81", key) == len(answer)
    assert all(_wire.upgrade_answer_size(answer[:cut], key) is None for cut in range(len(answer)))
    return server, len(answer)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_client_frames_are_what_another_library_reads(size: int) -> None:
    server, _ = shaken_hands()
    server.receive_data(_wire.client_frame(_wire.TEXT, b"x" * size))
    received = list(server.events())
    assert "".join(event.data for event in received if isinstance(event, events.TextMessage)) == "x" * size


def test_client_close_frame_carries_its_code() -> None:
    server, _ = shaken_hands()
    server.receive_data(_wire.close_frame(4008))
    (close,) = server.events()
    assert isinstance(close, events.CloseConnection)
    assert close.code == 4008


def server_bytes() -> tuple[bytes, list[_wire.Message]]:
    """Frames of every kind and length form by another library, and what they say."""
    server, _ = shaken_hands()
    long, longer = "m" * 300, "l" * 70_000
    frames = [
        server.send(events.TextMessage(data="hi")),
        server.send(events.TextMessage(data="")),
        server.send(events.TextMessage(data=long)),
        server.send(events.TextMessage(data="one ", message_finished=False)),
        server.send(events.Ping(payload=b"there?")),
        server.send(events.TextMessage(data="", message_finished=False)),
        server.send(events.TextMessage(data="two", message_finished=True)),
        server.send(events.BytesMessage(data=b"\x00\xff")),
        server.send(events.TextMessage(data=longer)),
        server.send(events.CloseConnection(code=1001, reason="stops")),
    ]
    expected = [
        _wire.Message(_wire.TEXT, b"hi"),
        _wire.Message(_wire.TEXT, b""),
        _wire.Message(_wire.TEXT, long.encode()),
        _wire.Message(_wire.PING, b"there?"),
        _wire.Message(_wire.TEXT, b"one two"),
        _wire.Message(_wire.BINARY, b"\x00\xff"),
        _wire.Message(_wire.TEXT, longer.encode()),
        _wire.Message(_wire.CLOSE, b"\x03\xe9stops"),
    ]
    return b"".join(frames), expected


def fed(*pieces: bytes) -> tuple[list[_wire.Message], int]:
    reader = _wire.FrameReader()
    return [message for piece in pieces for message in reader.feed(memoryview(piece))], reader.frames


def test_frames_may_be_cut_anywhere() -> None:
    data, expected = server_bytes()
    assert fed(data) == (expected, 10)
    interesting = [
        *range(600),
        *range(len(data) - 70_100, len(data) - 69_900),
        *range(len(data) - 12, len(data)),
    ]
    for cut in interesting:
        assert fed(data[:cut], data[cut:]) == (expected, 10), cut


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_frames_may_come_in_small_pieces(size: int) -> None:
    data, expected = server_bytes()
    assert fed(*(data[start : start + size] for start in range(0, len(data), size))) == (expected, 10)


def test_nothing_is_read_after_a_close_frame() -> None:
    reader = _wire.FrameReader()
    assert len(reader.feed(memoryview(b"\x88\x02\x0f\xa8\x81\x01x"))) == 1
    assert reader.feed(memoryview(b"\x81\x01x")) == []


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x81\x81abcdx", "masked"),
        (b"\xc1\x01x", "reserved"),
        (b"\x83\x01x", "opcode"),
        (b"\x89\x7e\x00\x7e", "too long"),
        (b"\x09\x01x", "control frame that is fragmented"),
        (b"\x80\x01x", "out of place"),
        (b"\x01\x01x\x81\x01y", "out of place"),
        (b"\x82\x7f" + (_wire.MESSAGE_BYTES + 1).to_bytes(8), "more than"),
    ],
)
def test_broken_framing_is_refused_at_its_header(frame: bytes, reason: str) -> None:
    with pytest.raises(_wire.WireError, match=reason):
        fed(frame)


def test_fragments_together_may_not_exceed_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "MESSAGE_BYTES", 5)
    assert fed(b"\x01\x03abc\x80\x02de") == ([_wire.Message(_wire.TEXT, b"abcde")], 2)
    with pytest.raises(_wire.WireError, match="more than 5 bytes"):
        fed(b"\x01\x03abc\x00\x03def")


def test_close_codes() -> None:
    assert _wire.close_code(b"\x0f\xa8too slow") == 4008
    assert _wire.close_code(b"") == 1005
    with pytest.raises(_wire.WireError):
        _wire.close_code(b"\x0f")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "does not fit"),
        (b"SSH-2.0 server\r\n" + b"x" * _wire.HANDSHAKE_BYTES, "longer"),
    ],
)
def test_bad_handshakes_are_refused(answer: bytes, reason: str) -> None:
    with pytest.raises(_wire.WireError, match=reason):
        _wire.upgrade_answer_size(answer, _wire.new_key())


# --- what is said and heard -------------------------------------------------------------------------------


def said_by(frame: bytes) -> dict[str, object]:
    server, _ = shaken_hands()
    server.receive_data(frame)
    (event,) = server.events()
    assert isinstance(event, events.TextMessage)
    said: dict[str, object] = json.loads(event.data)
    return said


def test_users_say_what_the_protocol_asks_for() -> None:
    assert said_by(login_frame("Tibi")) == {"system": "login", "options": {"user": "Tibi", "pass": "bench"}}
    steps = [said_by(transform_frame(data, LOBBY)) for data in lap()]
    assert len({json.dumps(step) for step in steps}) == len(steps)
    for step in steps:
        assert (step["room"], step["type"]) == ("lobby", "transform")
        data = step["data"]
        assert isinstance(data, dict)
        assert all(sorted(data[group]) == ["x", "y", "z"] for group in ("pos", "rot"))
    assert said_by(ChatMark("run").frame(3))["type"] == "msg"


def room_message(*entries: tuple[str, object], compact: bool = False) -> bytes:
    payload = [{"time": 1.5, "user": "Tibi", "type": kind, "data": data} for kind, data in entries]
    message = {"info": "user", "room": "lobby", "payload": payload}
    return json.dumps(message, separators=(",", ":") if compact else None).encode()


def line_data(number: int, run: str = "run") -> object:
    return said_by(ChatMark(run).frame(number))["data"]


@pytest.mark.parametrize("compact", [True, False])
def test_batches_and_lines_are_counted_in_either_spelling(compact: bool) -> None:
    scanner = Scanner(ChatMark("run"))
    mixed = room_message(("transform", {}), ("msg", line_data(7)), ("transform", {}), compact=compact)
    for _ in range(2):  # the second time it is the message before
        assert scanner.scan(mixed) == Contents(transforms=2, lines=(7,))
    lines = room_message(("msg", line_data(8)), ("msg", line_data(12)), compact=compact)
    assert scanner.scan(lines) == Contents(lines=(8, 12))


def test_what_others_say_is_not_counted() -> None:
    scanner = Scanner(ChatMark("run"))
    said = 'look: "transform", "bench run 3 and how'
    assert scanner.scan(room_message(("msg", said), ("join", ""), ("msg", line_data(3, "gun")))) == Contents()


def test_messages_that_start_differently_are_decoded() -> None:
    scanner = Scanner(ChatMark("run"))
    entries = [
        {"user": "Tibi", "type": "transform", "data": {}},
        {"user": "A", "type": "msg", "data": line_data(3)},
    ]
    turned = json.dumps({"payload": entries, "room": "lobby", "info": "user"}).encode()
    assert scanner.scan(turned) == Contents(transforms=1, lines=(3,))
    answer = b'{"info": "system", "response": {"code": 220, "msg": "Pong.", "detail": {"a": "transform"}}}'
    assert scanner.scan(answer) == Contents()
    error = b'{"info": "error", "response": {"code": 429, "msg": "Slow down.", "detail": {"type": "transform"}}}'
    assert scanner.scan(error) == Contents(error_code=429)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"[]",
        b'{"info": 3}',
        b'{"info": "error", "response": 3}',
        b'{"info": "\xff"}',
        b'{"info": "system", "deep": ' + b"[" * 9999,
    ],
)
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    scanner = Scanner(ChatMark("run"))
    with pytest.raises(_wire.WireError):
        scanner.scan(payload)


# --- schedules --------------------------------------------------------------------------------------------


def test_schedule_is_even_and_starts_at_once() -> None:
    schedule = Schedule(start_s=100.0, rate_hz=4.0)
    assert schedule.due(99.9) == range(0)
    assert [list(schedule.due(100.0 + step / 8)) for step in range(5)] == [[0], [], [1], [], [2]]
    assert schedule.next_s == 100.75


def test_schedule_gives_late_numbers_in_portions_and_none_twice() -> None:
    schedule = Schedule(start_s=0.0, rate_hz=1000.0)
    portions = [schedule.due(1.0) for _ in range(30)]
    assert [number for portion in portions for number in portion] == list(range(1001))
    assert max(map(len, portions)) < 100


def test_schedule_ends_at_its_limit() -> None:
    schedule = Schedule(start_s=0.0, rate_hz=10.0, limit=3)
    assert schedule.due(60.0) == range(3)
    assert schedule.next_s == float("inf")


def test_schedule_at_rate_nought_has_nothing() -> None:
    schedule = Schedule(start_s=0.0, rate_hz=0.0)
    assert schedule.due(60.0) == range(0)
    assert schedule.next_s == float("inf")


# --- the books --------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, p) for p in (0, 1, 50, 99, 100)] == [1.0, 1.0, 50.0, 99.0, 100.0]
    assert [percentile([1.0, 2.0, 3.0], p) for p in (33, 34, 50, 99)] == [1.0, 2.0, 2.0, 3.0]
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) is None


def booked(senders: list[int], *orders: list[int]) -> Ledger:
    """The books after line n was sent by `senders[n]` at n seconds, and each user received an order, a second
    later."""
    ledger = Ledger(users=len(orders), lines=len(senders))
    for line, sender in enumerate(senders):
        assert ledger.next_line == line
        ledger.sent(sender, float(line))
    for user, order in enumerate(orders):
        for line in order:
            ledger.arrived(user, line, line + 1.0)
    return ledger


def test_sound_books() -> None:
    ledger = booked([0, 1, 0], [0, 1, 2], [0, 1, 2])
    assert ledger.complete
    account = ledger.close()
    assert (account.sent, account.delivered, account.delays_s) == (3, 6, [1.0] * 6)
    assert (account.lost, account.gaps, account.duplicated, account.out_of_order) == (0, 0, 0, 0)


def test_the_room_may_reach_an_order_of_its_own_among_senders() -> None:
    assert booked([0, 1, 2], [2, 0, 1], [2, 0, 1]).close().out_of_order == 0


def test_lost_lines_and_gaps() -> None:
    # User 1 misses line 0, which line 2 of the same sender overtook, and line 3, which may be on its way.
    ledger = booked([0, 1, 0, 1], [0, 1, 2, 3], [1, 2])
    assert not ledger.complete
    account = ledger.close()
    assert (account.delivered, account.lost, account.gaps) == (6, 2, 1)
    assert (account.duplicated, account.out_of_order) == (0, 0)


def test_duplicates_count_neither_as_delivered_nor_as_disorder() -> None:
    ledger = booked([0, 0], [0, 1, 0, 0], [0, 1])
    assert ledger.complete
    account = ledger.close()
    assert (account.delivered, account.duplicated, account.out_of_order, account.lost) == (4, 2, 0, 0)
    assert len(account.delays_s) == 4


def test_another_order_than_the_first_users_is_disorder() -> None:
    assert booked([0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 0, 3], [0, 1, 2, 3]).close().out_of_order == 1
    assert booked([0, 1, 2, 3], [0, 1, 2, 3], [3, 0, 1, 2]).close().out_of_order == 3


def test_a_senders_lines_turned_round_for_everybody_are_disorder() -> None:
    assert booked([0, 1, 0], [2, 1, 0], [2, 1, 0]).close().out_of_order == 2
    assert booked([0, 0, 0], [2, 0, 1]).close().out_of_order == 2


def test_disorder_is_found_when_the_first_user_was_cut_off() -> None:
    account = booked([0, 1, 2], [0], [0, 1, 2], [0, 2, 1]).close()
    assert (account.lost, account.out_of_order) == (2, 1)


def test_lines_that_the_order_to_compare_with_lacks_are_held_to_their_senders() -> None:
    account = booked([0, 1, 0, 1, 1], [0, 1, 3, 4], [0, 1, 2], [2, 0, 1]).close()
    assert (account.lost, account.out_of_order) == (5, 1)


def test_the_books_of_several_rooms_are_made_up_together() -> None:
    one = ChatAccount(sent=1, delivered=2, lost=3, gaps=4, duplicated=5, out_of_order=6, delays_s=[0.1, 0.3])
    other = ChatAccount(sent=10, delivered=20, lost=30, gaps=40, duplicated=50, out_of_order=60, delays_s=[0.2])
    both = ChatAccount(
        sent=11, delivered=22, lost=33, gaps=44, duplicated=55, out_of_order=66, delays_s=[0.1, 0.2, 0.3]
    )
    assert together([one, other]) == both


def test_what_is_said_counts_in_the_room_of_its_sender() -> None:
    # Users 0, 2 and 4 in the first, 1 and 3 in the second.
    first, second = rooms_of(bench.Options(users=5, rooms=2, chat_hz=1.0, seconds=7.0), "run")
    assert (first.name, second.name) == ("bench-1", "bench-2")
    said: list[bytes] = []
    for number in range(7):
        room = (first, second)[number % 5 % 2]
        line = said_by(room.next_line())
        assert line["room"] == room.name
        said.append(room_message(("msg", line["data"])))
        room.sent(number % 5, 0.0)
    for user in range(5):
        for text in said:  # of the other room, too, where nobody should hear it
            (first, second)[user % 2].heard(user, text, 1.0)
    accounts = [room.ledger.close() for room in (first, second)]
    assert [(each.sent, each.delivered, each.lost, each.duplicated) for each in accounts] == [
        (4, 12, 0, 0),
        (3, 6, 0, 0),
    ]
    assert first.ledger.complete
    assert second.ledger.complete


def test_lines_that_nobody_sent_are_ignored() -> None:
    account = booked([0], [0, 1, 99]).close()
    assert (account.delivered, account.duplicated) == (1, 0)


# --- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (bench.Options(users=0), "users is 0"),
        (bench.Options(seconds=0.0), "seconds is 0"),
        (bench.Options(seconds=float("inf")), "seconds is inf"),
        (bench.Options(fps=-1.0), "fps is -1"),
        (bench.Options(rooms=0), "rooms is 0"),
        (bench.Options(users=2, rooms=3), "rooms is 3"),
        (bench.Options(send_hz=-1.0), "send_hz is -1"),
        (bench.Options(chat_hz=float("nan")), "chat_hz is nan"),
        (bench.Options(pid=1), "no url"),
        (bench.Options(users=1000, chat_hz=1000.0, seconds=60.0), "60,000,000 deliveries"),
    ],
)
def test_options_that_make_no_sense(options: bench.Options, reason: str) -> None:
    with pytest.raises(bench.BenchError, match=reason):
        bench.run(options, lambda fraction: None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://h/",
        "ws:///x",
        "ws://h:x/",
        "ws://h:99999/",
        "ws://h/a b",
        "ws://[::1/",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(bench.BenchError, match="give one like ws://"):
        _target.parse_url(url)


def test_urls_are_taken_apart() -> None:
    target = _target.parse_url("ws://[::1]:8000/chat?a=b")
    assert attrs.astuple(target) == ("ws://[::1]:8000/chat?a=b", "::1", 8000, "/chat?a=b", "[::1]:8000", False)
    assert attrs.astuple(_target.parse_url("wss://h")) == ("wss://h", "h", 443, "/", "h", True)
    target = _target.parse_url("ws://example.org")
    assert (target.host, target.port, target.path, target.authority) == (
        "example.org",
        80,
        "/",
        "example.org",
    )


class FakeLimit:
    """A limit of open files that belongs to nobody."""

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limits

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        self.limits = limits


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], FakeLimit]:
    def install(soft: int, hard: int) -> FakeLimit:
        fake = FakeLimit(soft, hard)
        monkeypatch.setattr(resource, "getrlimit", fake.get)
        monkeypatch.setattr(resource, "setrlimit", fake.set)
        return fake

    return install


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (256, 5000, 1000 + _options.SPARE_DESCRIPTORS),
        (256, resource.RLIM_INFINITY, 1000 + _options.SPARE_DESCRIPTORS),
        (2000, 5000, 2000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_open_files_are_allowed_for(limit: Callable[[int, int], FakeLimit], soft: int, hard: int, then: int) -> None:
    fake = limit(soft, hard)
    _options.allow_descriptors(1000)
    assert fake.limits == (then, hard)


def test_too_few_open_files_are_an_error(limit: Callable[[int, int], FakeLimit]) -> None:
    fake = limit(256, 1000)
    with pytest.raises(bench.BenchError, match="hard limit is 1000"):
        bench.run(bench.Options(users=1000), lambda fraction: None)
    assert fake.limits == (256, 1000)


# --- one user ---------------------------------------------------------------------------------------------


def test_a_user_whose_server_does_not_read_falls_silent_and_its_frames_stay_whole() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    server, _ = shaken_hands()
    selector = selectors.DefaultSelector()
    target = _target.parse_url("ws://example.org/")
    with theirs, selector:
        user = User(0, "Tibi", LOBBY, target, ours, selector)
        user.stage = Stage.PRESENT
        frame = _wire.client_frame(_wire.TEXT, b"x" * 5000)
        taken = 0
        while user.send(frame):
            taken += 1
            assert taken < 100_000
        assert not user.send(frame)
        theirs.settimeout(5)
        received = bytearray()
        while len(received) < taken * len(frame):
            received += theirs.recv(1 << 20)
            for _key, happened in selector.select(0):
                if happened & selectors.EVENT_WRITE:
                    user.on_writable()
        server.receive_data(bytes(received))
        texts = [event.data for event in server.events() if isinstance(event, events.TextMessage)]
        assert "".join(texts) == "x" * 5000 * taken
        assert user.send(frame)
        user.close()


# --- whole runs -------------------------------------------------------------------------------------------


class FakeServer:
    """Just enough of the protocol, by another WebSocket library, in threads: subclasses misbehave.

    A transform goes out at once as a batch of one.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.members: dict[str, tuple[WSConnection, socket.socket]] = {}
        self.pongs: list[bytes | bytearray] = []
        self.close_codes: list[int] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "FakeServer":
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = f"ws://{LOOPBACK}:{self._listener.getsockname()[1]}/"
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for sock in self._sockets:
            with self.lock, contextlib.suppress(OSError):  # closed already, by us or them
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self._start(self._talk, sock)

    def _talk(self, sock: socket.socket) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        name = ""
        try:
            while data := sock.recv(65536):
                connection.receive_data(data)
                for event in connection.events():
                    with self.lock:
                        name = self.on_event(event, name, connection, sock)
        except OSError:
            pass  # reset, or shut down at the end of the test
        finally:
            with self.lock:
                self.members.pop(name, None)
                sock.close()

    def on_event(self, event: events.Event, name: str, connection: WSConnection, sock: socket.socket) -> str:
        match event:
            case events.Request():
                sock.sendall(connection.send(events.AcceptConnection()))
            case events.CloseConnection():
                self.close_codes.append(event.code)
                if connection.state is ConnectionState.REMOTE_CLOSING:
                    sock.sendall(connection.send(event.response()))
                sock.shutdown(socket.SHUT_WR)
            case events.Pong():
                self.pongs.append(event.payload)
            case events.TextMessage():
                message = json.loads(event.data)
                if "system" in message:
                    name = message["options"]["user"]
                    self.on_login(name, connection, sock)
                elif message["type"] == "transform":
                    self.on_transform(name, message["data"])
                else:
                    self.on_line(name, message["data"])
        return name

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        self.members[name] = (connection, sock)
        response = {"time": 1.5, "code": 202, "msg": "Access granted.", "detail": {}}
        self.send(name, json.dumps({"info": "system", "response": response}))
        self.send(name, self.message(*((member, "join", "") for member in sorted(self.members))))
        for member in list(self.members):
            if member != name:
                self.send(member, self.message((name, "join", "")))

    def on_transform(self, name: str, data: object) -> None:
        for member in list(self.members):
            self.send(member, self.message((name, "transform", data)))

    def on_line(self, name: str, data: object) -> None:
        for member in list(self.members):
            self.send(member, self.message((name, "msg", data)))

    @staticmethod
    def message(*entries: tuple[str, str, object]) -> str:
        payload = [{"time": 1.5, "user": user, "type": kind, "data": data} for user, kind, data in entries]
        return json.dumps({"info": "user", "room": "lobby", "payload": payload})

    def send(self, member: str, text: str) -> None:
        self.send_event(member, events.TextMessage(data=text))

    def send_event(self, member: str, event: events.Event) -> None:
        connection, sock = self.members[member]
        sock.sendall(connection.send(event))

    @staticmethod
    def number(member: str) -> int:
        """The 1-based number of a user of the load test."""
        return int(member.rpartition("-")[2])


class Dawdler(FakeServer):
    """Cuts every chat line in two, with a ping in between."""

    def on_line(self, name: str, data: object) -> None:
        text = self.message((name, "msg", data))
        for member in list(self.members):
            self.send_event(member, events.TextMessage(data=text[:60], message_finished=False))
            self.send_event(member, events.Ping(payload=b"still there?"))
            self.send_event(member, events.TextMessage(data=text[60:], message_finished=True))


class Hasty(FakeServer):
    """Sends a ping in one piece with its half of the handshake."""

    def on_event(self, event: events.Event, name: str, connection: WSConnection, sock: socket.socket) -> str:
        if not isinstance(event, events.Request):
            return super().on_event(event, name, connection, sock)
        sock.sendall(connection.send(events.AcceptConnection()) + connection.send(events.Ping(payload=b"hello")))
        return name


class Ponderer(FakeServer):
    """Keeps the 12 chat lines of a small run to itself until the window is over."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, object]] = []

    def on_line(self, name: str, data: object) -> None:
        self.kept.append((name, data))
        if len(self.kept) == 12:
            self._start(self.think)

    def think(self) -> None:
        time.sleep(0.2)
        with self.lock:
            for name, data in self.kept:
                super().on_line(name, data)


class Forgetter(FakeServer):
    """Keeps every chat line from user 2, and answers it with an error."""

    def on_line(self, name: str, data: object) -> None:
        error = json.dumps(
            {"info": "error", "response": {"time": 1.5, "code": 503, "msg": "Unavailable.", "detail": {}}}
        )
        text = self.message((name, "msg", data))
        for member in list(self.members):
            self.send(member, error if self.number(member) == 2 else text)


class Repeater(FakeServer):
    """Sends every chat line to user 2 twice."""

    def on_line(self, name: str, data: object) -> None:
        super().on_line(name, data)
        for member in list(self.members):
            if self.number(member) == 2:
                self.send(member, self.message((name, "msg", data)))


class Bouncer(FakeServer):
    """Cuts user 3 off as soon as somebody speaks."""

    def on_line(self, name: str, data: object) -> None:
        super().on_line(name, data)
        for member in list(self.members):
            if self.number(member) == 3:
                self.send_event(member, events.CloseConnection(code=4008, reason="too slow"))
                del self.members[member]


class Hotel(FakeServer):
    """Has more rooms than the lobby. Everybody is in one, or on the way from one to another in both.

    Who wants to join hears from the lobby first, and is asked for a pong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rooms: dict[str, list[str]] = {}

    def on_event(self, event: events.Event, name: str, connection: WSConnection, sock: socket.socket) -> str:
        message = json.loads(event.data) if isinstance(event, events.TextMessage) else {}
        match message:
            case {"type": "join", "room": room}:
                self.send(name, self.message((name, "join", "")))
                self.send_event(name, events.Ping(payload=room.encode()))
            case {"type": "leave", "room": room}:
                assert (room, len(self.rooms[name])) == ("lobby", 2), (
                    "it is in the lobby for as long as it is nowhere else"
                )
                self.rooms[name].remove(room)
            case {"room": room, "type": kind, "data": data}:
                assert self.rooms[name] == [room]
                for member in self.guests(room):
                    self.send(member, self.message((name, kind, data)))
            case _ if isinstance(event, events.Pong):
                room = event.payload.decode()
                self.rooms[name].append(room)
                guests = ((member, "join", "") for member in self.guests(room))
                self.send(name, self.message(*guests).replace('"lobby"', f'"{room}"'))
            case _:
                return super().on_event(event, name, connection, sock)
        return name

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        self.rooms[name] = ["lobby"]
        super().on_login(name, connection, sock)

    def guests(self, room: str) -> list[str]:
        return [member for member in self.members if room in self.rooms[member]]


class Doorkeeper(FakeServer):
    """Lets nobody in."""

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        self.members[name] = (connection, sock)
        response = {"time": 1.5, "code": 403, "msg": "Access denied.", "detail": {}}
        self.send(name, json.dumps({"info": "error", "response": response}))


class Mumbler(FakeServer):
    """Answers a login with what is not JSON."""

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        self.members[name] = (connection, sock)
        self.send(name, "welcome")


class Slammer(FakeServer):
    """Closes the connection instead of answering a login."""

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        sock.sendall(connection.send(events.CloseConnection(code=1008, reason="go away")))


class Sphinx(FakeServer):
    """Does not answer a login."""

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        pass


class Snob(FakeServer):
    """Leaves newcomers out of their own list of members."""

    def on_login(self, name: str, connection: WSConnection, sock: socket.socket) -> None:
        self.members[name] = (connection, sock)
        self.send(name, self.message(("somebody better", "join", "")))


class Webpage(FakeServer):
    """Has no WebSocket where it is asked for one."""

    def on_event(self, event: events.Event, name: str, connection: WSConnection, sock: socket.socket) -> str:
        assert isinstance(event, events.Request)
        sock.sendall(connection.send(events.RejectConnection(status_code=404)))
        return name


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_load, "_WARM_UP_S", 0.05)
    monkeypatch.setattr(_load, "_WAIT_FOR_LATE_S", 0.3)


def small(server: FakeServer) -> bench.Options:
    return bench.Options(url=server.url, users=3, send_hz=50.0, chat_hz=40.0, seconds=0.3, pid=os.getpid())


@pytest.mark.usefixtures("quick")
def test_a_sound_run() -> None:
    shares: list[float] = []
    with FakeServer() as server:
        result = bench.run(small(server), shares.append)
    assert result.sound
    assert (result.users, result.url, result.fps) == (3, server.url, None)
    assert (result.chat_lines_sent, result.chat_lines_delivered, result.chat_lines_lost) == (12, 36, 0)
    assert (result.chat_lines_duplicated, result.chat_lines_out_of_order, result.chat_gaps) == (0, 0, 0)
    latencies = (result.chat_latency_p50_ms, result.chat_latency_p99_ms, result.chat_latency_max_ms)
    assert all(latency is not None and latency > 0 for latency in latencies)
    assert 0 < result.batches_per_s_min <= result.batches_per_s_mean <= result.batches_per_s_max
    # A batch of one: so many of them as transforms, and all frames but the chat lines.
    assert result.transforms_delivered_per_s == pytest.approx(result.batches_per_s_mean * 3)
    assert result.frames_in_per_s > result.transforms_delivered_per_s
    assert result.transforms_sent_per_s > 0
    assert result.megabytes_in_per_s > 100e-6 * result.frames_in_per_s
    assert result.window_s >= 0.3
    assert (result.connections_closed, result.close_codes, result.error_frames, result.first_error_code) == (
        0,
        {},
        0,
        None,
    )
    assert result.server_cpu_s is not None
    assert result.server_rss_mb is not None
    assert result.server_rss_mb > 1
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert server.close_codes == [1000, 1000, 1000]


@pytest.mark.usefixtures("quick")
def test_a_sound_run_in_several_rooms() -> None:
    hotel = Hotel()
    with hotel as server:
        asked = attrs.evolve(small(server), users=5, rooms=2)
        result = bench.run(asked, lambda fraction: None)
        rooms = sorted(hotel.rooms.values())
    assert rooms == [["bench-1"]] * 3 + [["bench-2"]] * 2
    assert result.sound
    assert (result.users, result.rooms) == (5, 2)
    # Of 12 lines user 1 says the first, user 5 the fifth, and so on: 7 for three to hear, and 5 for two.
    assert (result.chat_lines_sent, result.chat_lines_delivered) == (12, 7 * 3 + 5 * 2)


@pytest.mark.usefixtures("quick")
def test_a_run_without_chat_and_without_motion() -> None:
    with FakeServer() as server:
        result = bench.run(attrs.evolve(small(server), send_hz=0.0, chat_hz=0.0, pid=None), lambda fraction: None)
    assert result.sound
    assert (result.chat_lines_sent, result.chat_latency_p50_ms, result.batches_per_s_max) == (0, None, 0.0)
    assert (result.server_cpu_s, result.server_cpu_fraction, result.server_rss_mb) == (None, None, None)


@pytest.mark.usefixtures("quick")
def test_fragments_and_pings_in_a_run() -> None:
    with Dawdler() as server:
        result = bench.run(small(server), lambda fraction: None)
    assert result.sound
    assert result.chat_lines_delivered == 36
    assert server.pongs == [b"still there?"] * 36


@pytest.mark.usefixtures("quick")
def test_frames_that_come_with_the_handshake() -> None:
    with Hasty() as server:
        assert bench.run(small(server), lambda fraction: None).sound
    assert server.pongs == [b"hello"] * 3


@pytest.mark.usefixtures("quick")
def test_late_lines_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_load, "_WAIT_FOR_LATE_S", 30.0)
    with Ponderer() as server:
        result = bench.run(small(server), lambda fraction: None)
    assert result.sound
    assert result.chat_lines_delivered == 36


@pytest.mark.usefixtures("quick")
def test_lost_lines_and_error_messages_in_a_run() -> None:
    with Forgetter() as server:
        result = bench.run(small(server), lambda fraction: None)
    assert not result.sound
    assert (result.chat_lines_lost, result.chat_lines_delivered) == (12, 24)
    assert (result.error_frames, result.first_error_code, result.connections_closed) == (12, 503, 0)


@pytest.mark.usefixtures("quick")
def test_duplicated_lines_in_a_run() -> None:
    with Repeater() as server:
        result = bench.run(small(server), lambda fraction: None)
    assert not result.sound
    assert (result.chat_lines_duplicated, result.chat_lines_delivered, result.chat_lines_lost) == (12, 36, 0)


@pytest.mark.usefixtures("quick")
def test_a_user_who_is_cut_off_in_a_run() -> None:
    with Bouncer() as server:
        result = bench.run(small(server), lambda fraction: None)
    assert not result.sound
    assert (result.connections_closed, result.close_codes) == (1, {4008: 1})
    # User 3 spoke every third of the 12 lines until it was cut off, at the first: the others' eight came to
    # two.
    assert (result.chat_lines_sent, result.chat_lines_delivered, result.chat_lines_lost) == (8, 17, 7)
    assert 4008 in server.close_codes


@pytest.mark.usefixtures("quick")
def test_a_run_ends_when_nobody_is_left() -> None:
    with Bouncer() as server:
        server.number = lambda member: 3  # type: ignore[method-assign]
        result = bench.run(attrs.evolve(small(server), seconds=600.0, chat_hz=1.0), lambda fraction: None)
    assert result.connections_closed == 3
    assert result.window_s < 600


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Doorkeeper, r"was refused \(403 Access denied.\)"),
        (Mumbler, "received b'welcome', which is not a message"),
        (Slammer, r"was cut off \(1008, a close frame\)"),
        (Sphinx, "only 0 of 3 users were logged in"),
        (Snob, "only 0 of 3 users were logged in"),
        (Webpage, "HTTP/1.1 404"),
    ],
)
def test_logins_that_fail(kind: type[FakeServer], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind in (Sphinx, Snob):
        monkeypatch.setattr(_load, "_LOGIN_DEADLINE_S", 0.2)
    with kind() as server, pytest.raises(bench.BenchError, match=reason):
        bench.run(small(server), lambda fraction: None)


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A URL at which nobody listens, and nobody will while the test runs."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        yield f"ws://{LOOPBACK}:{sock.getsockname()[1]}/"


def test_nobody_listens(dead_url: str) -> None:
    with pytest.raises(bench.BenchError, match=r"cannot reach ws://.* is the server running there"):
        bench.run(bench.Options(url=dead_url), lambda fraction: None)


def test_a_pid_that_nobody_has(dead_url: str) -> None:
    with pytest.raises(bench.BenchError, match="no process 999999999"):
        bench.run(bench.Options(url=dead_url, pid=999_999_999), lambda fraction: None)


# --- what a run prints ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_main_prints_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer() as server:
        assert bench.main(small(server), json=True) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert list(figures) == [*FIGURES, "doubtful", "kept_up", "sound"]
    assert (figures["chat_lines_delivered"], figures["close_codes"], figures["sound"]) == (36, {}, True)
    assert printed.out.count("\n") == 1
    assert printed.err == ""


@pytest.mark.usefixtures("quick")
def test_main_prints_a_table_and_says_by_its_status_that_lines_were_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Forgetter() as server:
        assert bench.main(small(server), json=False) == 1
    printed = capsys.readouterr()
    assert server.url in printed.out
    assert "12 (first 503)" in printed.out
    assert printed.err == ""


def test_main_says_in_one_line_what_was_wrong(capsys: pytest.CaptureFixture[str], dead_url: str) -> None:
    assert bench.main(bench.Options(url=dead_url), json=True) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"trio-vrchat: error: cannot reach {dead_url}")
    assert printed.err.count("\n") == 1


def some_result(load_cpu_fraction: float) -> bench.Result:
    """A result whose other figures are all different."""
    values: dict[str, Any] = {name: number for number, name in enumerate(FIGURES, 1001)}
    values |= {"url": "ws://h/", "close_codes": {1006: 7, 4008: 1}, "load_cpu_fraction": load_cpu_fraction}
    values |= {"server_cpu_fraction_by_process": [0.123456789, 0.045], "users_by_process": [61, 59]}
    return bench.Result(**values)


def shown(result: bench.Result) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(bench.table(result))
    return console.export_text()


def test_figures_of_a_busy_load_process_are_doubtful() -> None:
    assert some_result(0.86).doubtful
    assert not some_result(0.84).doubtful
    assert json.loads(bench.to_json(some_result(0.86)))["doubtful"] is True
    assert "Doubtful: the load process used 86% of a core" in shown(some_result(0.86))
    assert "Doubtful" not in shown(some_result(0.84))


def test_the_table_shows_every_figure() -> None:
    text = shown(some_result(0.5)).replace(",", "")
    values = attrs.asdict(some_result(0.5))
    by_process = ("server_cpu_fraction_by_process", "users_by_process")
    for name in (
        "url",
        "fps",
        "close_codes",
        "server_cpu_fraction",
        "load_cpu_fraction",
        "engine_cpu_fraction",
        *by_process,
    ):
        del values[name]
    assert [name for name, value in values.items() if f"{value:g}" not in text] == []
    assert "1006: 7 4008: 1" in text
    assert "50.0%" in text
    assert "12.3% 4.5%" in text
    assert "61 59" in text


@pytest.mark.parametrize("field", BROKEN)
def test_what_makes_a_result_unsound(field: str) -> None:
    nothing_broken: dict[str, Any] = dict.fromkeys(BROKEN, 0)
    assert attrs.evolve(some_result(0.5), **nothing_broken).sound
    assert not attrs.evolve(some_result(0.5), **nothing_broken | {field: 1}).sound


# --- processes --------------------------------------------------------------------------------------------


def serve_with(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(_server_process, "_command", lambda fps: [sys.executable, "-c", script])


def test_the_command_of_an_own_server() -> None:
    command = _server_process._command(30.0)
    assert command[:3] == [sys.executable, "-m", "trio_vrchat"]
    assert command[3:11] == ["--host", "127.0.0.1", "--port", "0", "--fps", "30.0", "--log-level", "0"]
    assert {"--events-at-once=0", "--bytes-per-s=0", "--members-per-room=0", "--connections-limit=0"} < {*command[11:]}


def test_an_own_server_is_found_by_its_url_and_ended_by_sigint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    serve_with(
        monkeypatch,
        f"""
import pathlib, signal, time
# (As a server of ours has it, also where the tests run in the background of a shell, which ignores it.)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("hello")
    print("at ws://127.0.0.1:4711/ now")
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path({str(farewell)!r}).touch()
""",
    )
    with _server_process.own_server(20.0) as server:
        assert server.url == "ws://127.0.0.1:4711/"
        process = psutil.Process(server.pid)
        assert process.is_running()
    assert not process.is_running()
    assert farewell.exists()


def test_an_own_server_is_ended_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_with(monkeypatch, "import time; print('ws://127.0.0.1:4711/'); time.sleep(600)")
    processes = []

    def interrupted() -> None:
        with _server_process.own_server(20.0) as server:
            processes.append(psutil.Process(server.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not processes[0].is_running()


def test_an_own_server_that_ignores_sigint_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server_process, "_STOP_DEADLINE_S", 0.1)
    ignore = f"import signal, time; signal.signal({int(signal.SIGINT)}, signal.SIG_IGN)"
    serve_with(monkeypatch, f"{ignore}; print('ws://127.0.0.1:4711/'); time.sleep(600)")
    with _server_process.own_server(20.0) as server:
        process = psutil.Process(server.pid)
    assert not process.is_running()


def test_an_own_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_with(monkeypatch, "import sys; sys.exit('no such\\noption')")
    with pytest.raises(bench.BenchError, match=r"before it listened, with status 1: no such \| option$"):
        bench.run(bench.Options(), lambda fraction: None)


def test_an_own_server_that_never_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server_process, "_START_DEADLINE_S", 0.1)
    serve_with(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(bench.BenchError, match="did not listen within"):
        bench.run(bench.Options(), lambda fraction: None)


def test_an_own_server_that_ends_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_with(monkeypatch, "import sys; print('ws://127.0.0.1:4711/'); sys.exit('tired')")

    def outlived() -> None:
        with _server_process.own_server(20.0) as server:
            process = psutil.Process(server.pid)
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)

    with pytest.raises(bench.BenchError, match=r"ended during the run, with status 1: tired$"):
        outlived()


def test_usage_counts_children_that_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {burn!r}])"
    serve_with(monkeypatch, f"{script}; print('ws://127.0.0.1:4711/'); time.sleep(600)")
    with _server_process.own_server(20.0) as server:
        used = _usage.usage(server.pid)
    assert used is not None
    assert sum(used.cpu_s.values()) >= 0.25
    assert used.rss_bytes > 1_000_000


def test_usage_of_nobody() -> None:
    assert _usage.usage(999_999_999) is None
    assert _usage.users_of(999_999_999, 1) == []


def test_what_each_process_used_between_two_moments() -> None:
    before = _usage.Usage(10.0, {1: 5.0, 2: 0.0, 3: 7.0}, 1)
    after = _usage.Usage(12.0, {1: 5.5, 2: 1.5, 4: 0.25}, 1)
    assert after.fractions_since(before) == [0.75, 0.25, 0.125]


def test_users_are_counted_at_the_process_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that binds, and two that it starts: of these one accepts all that it can, and the other nobody.
    accept = "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\nheld = [s.accept() for _ in range(9)]"
    serve_with(
        monkeypatch,
        f"""
import socket, subprocess, sys, time
s = socket.create_server(("127.0.0.1", 0))
for script in ({accept!r}, "import time; time.sleep(600)"):
    subprocess.Popen([sys.executable, "-c", script, str(s.fileno())], pass_fds=[s.fileno()])
print(f"ws://127.0.0.1:{{s.getsockname()[1]}}/")
time.sleep(600)
""",
    )
    with _server_process.own_server(20.0) as server, contextlib.ExitStack() as sockets:
        port = _target.parse_url(server.url).port
        for _ in range(3):
            sockets.enter_context(socket.create_connection((LOOPBACK, port)))
        while _usage.users_of(server.pid, port) != [3, 0]:
            time.sleep(0.01)
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children()]
        assert _usage.users_of(os.getpid(), port) == [3, 0, 0]
    assert len(family) == 3
    while any(lives(process) for process in family):  # nor does what it has started outlive the run
        time.sleep(0.01)


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("fps", "send_hz", "batches", "kept_up"),
    [(20.0, 20.0, 19.5, True), (20.0, 20.0, 18.9, False), (20.0, 0.1, 0.3, True), (None, 20.0, 5.0, None)],
)
def test_a_server_that_does_not_keep_up_is_said_so(
    fps: float | None, send_hz: float, batches: float, kept_up: bool | None
) -> None:
    result = attrs.evolve(some_result(0.1), fps=fps, send_hz=send_hz, users=3, rooms=1, batches_per_s_mean=batches)
    assert result.kept_up is kept_up
    assert json.loads(bench.to_json(result))["kept_up"] is kept_up
    caption = bench.table(result).caption
    assert attrs.evolve(result, users=3 * 7, rooms=7).kept_up is kept_up
    assert (kept_up is False) == ("did not keep up" in str(caption))
