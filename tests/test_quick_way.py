"""Messages that are read by ourselves, and not by the WebSocket library: the same comes of them, however they are cut.

There are three ways for a client's bytes: all through the library, whole messages in the stream (memory, TLS), whole
messages by the pump (sockets). The first is what the other two are held to.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from hypothesis import event, example, given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.frame_protocol import FrameProtocol, Opcode

from trio_vrchat import Config, serve, testing
from trio_vrchat._codec import encode, parse, read_plain_transform, read_room_message, read_transform
from trio_vrchat._frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameMeter, whole_text
from trio_vrchat._messages import TRANSFORM
from trio_vrchat._pump import Pump
from trio_vrchat._stream import GuardedStream
from trio_vrchat._timer import Timer
from trio_vrchat.bench._wire import FrameReader
from trio_vrchat.testing import client_frame, settle, upgrade_request

LIMIT = 65536
PLAIN = b'{"room":"lobby","type":"transform","data":{"pos":{"x":1,"y":1.6,"z":0},"rot":{"x":0,"y":0.5,"z":0}}}'
LENGTHS = [0, 1, 3, 4, 5, 125, 126, 127, 1000, 65535]

linux = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")


# A frame


@pytest.mark.parametrize("length", LENGTHS)
def test_a_whole_text_is_read_wherever_it_begins(length: int) -> None:
    text = ("é" * (length // 2) + "x" * (length % 2)).encode()
    frame = client_frame(TEXT, text)
    assert whole_text(frame, 0, LIMIT) == (text, len(frame))
    assert whole_text(b"before" + frame + b"after", 6, LIMIT) == (text, 6 + len(frame))


@pytest.mark.parametrize("length", LENGTHS[:-1])
def test_a_part_of_a_frame_is_none(length: int) -> None:
    frame = client_frame(TEXT, b"x" * length)
    assert [cut for cut in range(len(frame)) if whole_text(frame[:cut], 0, LIMIT) is not None] == []


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(TEXT, b"x", final=False),
        client_frame(CONTINUATION, b"x"),
        client_frame(BINARY, b"x"),
        client_frame(PING, b"x"),
        client_frame(CLOSE, b"\x03\xe8"),
        client_frame(TEXT, b"\xff"),
        client_frame(TEXT, b"half of it: \xc3"),
        client_frame(TEXT, b"\xed\xa0\x80"),
        client_frame(TEXT, b"x" * (LIMIT + 1)),
        b"\x81\x02{}" + bytes(10),  # no mask
        b"\xc1" + client_frame(TEXT, b"{}")[1:],  # a reserved bit
        b"\x81\xfe\x00\x02" + bytes(4) + b"{}",  # a length in another than its shortest form
    ],
)
def test_what_is_no_whole_text_is_left_to_the_library(frame: bytes) -> None:
    assert whole_text(frame + bytes(10), 0, LIMIT) is None


def test_a_message_over_the_limit_is_left_to_the_library() -> None:
    assert whole_text(client_frame(TEXT, b"12345"), 0, 5) is not None
    assert whole_text(client_frame(TEXT, b"123456"), 0, 5) is None


@given(st.binary(max_size=300))
@example(client_frame(TEXT, b"hello") + client_frame(TEXT, b""))
def test_whole_texts_are_what_another_library_reads(data: bytes) -> None:
    position = 0
    ours = []
    while (found := whole_text(data, position, LIMIT)) is not None:
        text, position = found
        ours.append(text)
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data[:position])
    theirs = [
        (frame.opcode, str(frame.payload).encode(), frame.message_finished) for frame in protocol.received_frames()
    ]
    assert theirs == [(Opcode.TEXT, text, True) for text in ours]
    meter = FrameMeter(LIMIT)
    assert meter.feed(data[:position]) == position
    assert meter.between_messages


def test_the_meter_knows_where_a_message_may_begin() -> None:
    stream = client_frame(TEXT, b"a", final=False) + client_frame(PING, b"b") + client_frame(CONTINUATION, b"cd")
    meter = FrameMeter(LIMIT)
    between = []
    for position in range(len(stream)):
        meter.feed(stream[position : position + 1])
        between.append(meter.between_messages)
    assert between == [False] * (len(stream) - 1) + [True]
    assert meter.messages == 1
    meter.feed(client_frame(CLOSE, b""))
    assert not meter.between_messages


# A plain transform

_numbers = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(10**400),
    st.booleans(),
    st.none(),
)
_coordinates = st.dictionaries(st.sampled_from("xyzw"), _numbers, max_size=5)
_data = st.dictionaries(
    st.sampled_from(["pos", "rot", "quat", "t", "hands", "data", "é"]), st.one_of(_coordinates, _numbers), max_size=5
)
_complete = st.fixed_dictionaries({axis: st.integers(-5, 5) for axis in "xyz"})


@st.composite
def nearly_transforms(draw: st.DrawFn) -> bytes:
    """Messages that are nearly, or altogether, what most are."""
    data = draw(_data) | draw(st.fixed_dictionaries({}, optional={"pos": _complete, "rot": _complete}))
    message: dict[str, Any] = {"room": draw(st.sampled_from(["lobby", "data", ""])), "type": TRANSFORM, "data": data}
    message |= draw(st.dictionaries(st.sampled_from(["room", "type", "data", "more"]), _numbers, max_size=1))
    text = json.dumps(message, ensure_ascii=draw(st.booleans())).encode()
    if draw(st.booleans()):
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.sampled_from([b'"data":1e999,', b"1e999", b"\\u0064", b"[", b"}", b" ", b""]))
            + text[place:]
        )
    return text


@given(nearly_transforms())
@example(PLAIN)
@example(PLAIN.replace(b'"data":', b'"data":1e999,"data":'))
@example(PLAIN.replace(b'"data":', b'"d\\u0061ta":1e999,"data":'))
@example(PLAIN.replace(b"1.6", b"1e999"))
@example(PLAIN.replace(b"1.6", b"9" * 400))
@example(PLAIN[:-2] + b',"quat":{"x":0,"y":0,"z":0,"w":1},"t":1.5,"hands":{"left":{"pos":{"x":0,"y":0,"z":0}}}}}')
def test_a_plain_transform_is_what_the_steps_make_of_it(text: bytes) -> None:
    plain = read_plain_transform(text)
    if plain is None:
        return
    event("plain")
    parse(text.decode())
    message = read_room_message(text.decode())
    assert plain == (message.room, read_transform(message.data))
    assert message.type == TRANSFORM


def test_what_headsets_send_is_plain() -> None:
    place = {"pos": {"x": 0.5, "y": 1.6, "z": -1}, "rot": {"x": 0.0, "y": 1.5, "z": 0.0}}
    quaternion = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    for more in ({}, {"t": 5.5}, {"quat": quaternion, "hands": {"left": place | {"quat": quaternion}, "right": place}}):
        data = encode(place | more)
        assert read_plain_transform(b'{"room":"lobby","type":"transform","data":%b}' % data) == ("lobby", data)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(b'"transform"', b'"msg"'),
        PLAIN.replace(b',"z":0}', b"}", 1),
        PLAIN.replace(b'"x":1', b'"x":"1"'),
        PLAIN.replace(b'"rot"', b'"rotation"'),
        PLAIN[:-1] + b',"more":1e999}',
        PLAIN[:-1],
        b"[" * 60_000,
        b"",
    ],
)
def test_what_is_not_plain_goes_the_steps(text: bytes) -> None:
    assert read_plain_transform(text) is None


# The ways of a conversation


def text(message: dict[str, Any]) -> bytes:
    return client_frame(TEXT, json.dumps(message).encode())


# Whole messages, and everything that must not overtake them or be overtaken.
CONVERSATION = b"".join(
    [
        text({"system": "login", "options": {"user": "Tibi", "pass": "secret"}}),
        text({"room": "lobby", "data": 1}),
        client_frame(TEXT, b'{"room":"lob', final=False),
        client_frame(PING, b"inside"),
        client_frame(CONTINUATION, b'by","data":2}'),
        text({"room": "lobby", "data": 3}),
        client_frame(BINARY, b"{}"),
        text({"room": "den", "type": "join", "data": ""}),
        client_frame(TEXT, PLAIN.replace(b"lobby", b"den")),
        text({"room": "den", "data": "é"}),
        client_frame(PING, b"between"),
        text({"room": "den", "data": "x" * 200}),
        client_frame(TEXT, b"", final=False) + client_frame(CONTINUATION, b"{"),
        text({"room": "den", "type": "leave", "data": ""}),
        text({"room": "den", "data": "outside"}),
        text({"room": "lobby", "data": 4}),
        text({"system": "ping"}),
    ]
)
# Once the server has taken that: whoever closes at once may miss what is said in the same moment.
GOODBYE = client_frame(CLOSE, b"\x03\xe8")
ENTRIES = {
    "lobby": ["join", 1, 2, 3, 4],
    "den": ["join", "é", "x" * 200],
}
ANSWERS = [202, 406, 406, 401, 220]


@attrs.define
class Heard:
    """What a client was sent, in one order for each room, and one for answers."""

    entries: dict[str, list[Any]] = attrs.field(factory=dict)
    transforms: int = 0
    answers: list[int] = attrs.field(factory=list)
    pongs: list[bytes] = attrs.field(factory=list)
    close_code: int | None = None
    _reader: FrameReader = attrs.field(factory=FrameReader)

    def feed(self, data: bytes) -> None:
        for message in self._reader.feed(memoryview(data)):
            if message.opcode == PONG:
                self.pongs.append(bytes(message.payload))
            elif message.opcode == CLOSE:
                self.close_code = int.from_bytes(message.payload[:2], "big")
            elif message.opcode == TEXT:
                self._message(json.loads(bytes(message.payload)))

    def _message(self, message: dict[str, Any]) -> None:
        if message["info"] != "user":
            self.answers.append(message["response"]["code"])
            return
        for entry in message["payload"]:
            if entry["type"] == TRANSFORM:
                self.transforms += 1
            else:
                what = entry["data"] if entry["type"] == "msg" else entry["type"]
                self.entries.setdefault(message["room"], []).append(what)

    def check(self) -> None:
        assert self.entries == ENTRIES
        assert self.answers == ANSWERS
        assert self.pongs == [b"inside", b"between"]
        assert self.close_code == 1000


@pytest.fixture(params=["by the library", "in the stream"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(GuardedStream, "quick", request.param == "in the stream")
    return str(request.param)


async def test_a_conversation_in_memory_cut_anywhere(autojump_clock: MockClock, way: str) -> None:
    for cut in range(1, len(CONVERSATION)):
        async with testing.open_server() as server:
            client = await server.connect()
            heard = Heard()
            for piece in (CONVERSATION[:cut], CONVERSATION[cut:], GOODBYE):
                client.send_bytes(piece)
                await settle()
                heard.feed(client.take_bytes())
            heard.check()


async def test_a_conversation_in_memory_byte_by_byte(autojump_clock: MockClock, way: str) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        heard = Heard()
        for piece in [*(bytes([byte]) for byte in CONVERSATION), GOODBYE]:
            client.send_bytes(piece)
            await settle()
            heard.feed(client.take_bytes())
        heard.check()


async def test_whole_messages_never_reach_the_library(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_on: list[bytes] = []
    receive_some = GuardedStream.receive_some

    async def noting(stream: GuardedStream, max_bytes: int | None = None) -> bytes:
        data = await receive_some(stream, max_bytes)
        given_on.append(data)
        return data

    monkeypatch.setattr(GuardedStream, "receive_some", noting)
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        for number in range(10):
            tibi.send({"room": "lobby", "data": number})
            tibi.send_bytes(client_frame(TEXT, PLAIN))
        await settle()
        tibi.send_frame(PING, b"x")
        await settle()
        two = client_frame(TEXT, b"{", final=False) + client_frame(CONTINUATION, b"}")
        tibi.send_bytes(two)
        await settle()
        tibi.send({"room": "lobby", "data": "whole again"})
        await settle()
    assert given_on[0].startswith(b"GET /")
    assert given_on[1:] == [client_frame(PING, b"x"), two]


# Real sockets


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        handle = await nursery.start(serve, config)
        yield handle.port
        nursery.cancel_scope.cancel()


async def converse(port: int, pieces: list[bytes]) -> Heard:
    heard = Heard()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(upgrade_request())
        head = await stream.receive_some()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.endswith(b"\r\n\r\n")
        for piece in pieces:
            await stream.send_all(piece)
            # The server has taken all of it, and waits for more.
            await wait_all_tasks_blocked()
        await stream.send_all(GOODBYE)
        while heard.close_code is None and (data := await stream.receive_some()):
            heard.feed(data)
    return heard


# One user comes after the other: what the one said is no history of the next.
_SOCKETS = Config(host="127.0.0.1", port=0, events_at_once=1000, history=0)


@linux
async def test_a_conversation_on_a_socket_cut_anywhere() -> None:
    async with opened(_SOCKETS) as port:
        for cut in range(1, len(CONVERSATION)):
            (await converse(port, [CONVERSATION[:cut], CONVERSATION[cut:]])).check()


@linux
async def test_a_conversation_on_a_socket_byte_by_byte() -> None:
    async with opened(_SOCKETS) as port:
        (await converse(port, [bytes([byte]) for byte in CONVERSATION])).check()


@linux
async def test_the_pump_reads_for_those_who_are_with_it_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[int] = []
    add = Pump.add

    def noting(pump: Pump, descriptor: int, read: Any) -> None:
        added.append(descriptor)
        add(pump, descriptor, read)

    monkeypatch.setattr(Pump, "add", noting)
    async with opened(_SOCKETS) as port:
        (await converse(port, [CONVERSATION])).check()
        assert added, "the socket was with the pump"
        del added[:]
        # Nothing but whole messages that wait for nothing: given to it once, and never taken back.
        pieces = [text({"room": "lobby", "data": 1}) for _ in range(20)]
        login = text({"system": "login", "options": {"user": "Tibi", "pass": "secret"}})
        heard = await converse(port, [login, *pieces])
        assert heard.entries["lobby"] == ["join"] + [1] * 20
        assert len(added) <= 3, "at the start, after the login's join, and at the end"


@linux
async def test_many_who_talk_at_once_are_all_heard_in_their_order() -> None:
    async with opened(_SOCKETS) as port, trio.open_nursery() as nursery:
        heard = {number: Heard() for number in range(20)}
        present = trio.Semaphore(0)
        start = trio.Event()
        done = trio.Semaphore(0)
        over = trio.Event()

        async def talk(number: int) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(upgrade_request())
                await stream.receive_some()
                login = {"system": "login", "options": {"user": f"user {number}", "pass": "secret"}}
                await stream.send_all(text(login))
                listener = heard[number]
                while not listener.entries:
                    listener.feed(await stream.receive_some())
                present.release()
                await start.wait()
                for line in range(20):
                    await stream.send_all(text({"room": "lobby", "data": [number, line]}))
                while sum(isinstance(entry, list) for entry in listener.entries["lobby"]) < 400:
                    listener.feed(await stream.receive_some())
                done.release()
                await over.wait()

        for number in heard:
            nursery.start_soon(talk, number)
        for _ in heard:
            await present.acquire()
        start.set()
        for _ in heard:
            await done.acquire()
        over.set()
    lines = [[tuple(entry) for entry in each.entries["lobby"] if isinstance(entry, list)] for each in heard.values()]
    assert all(each == lines[0] for each in lines), "one order"
    for number in heard:
        assert [line for of, line in lines[0] if of == number] == list(range(20))


@linux
async def test_the_pump_turns_to_others_between_two_turns() -> None:
    """A reader that takes its time does not keep other tasks waiting for all of them."""
    pump = Pump()
    pairs = [trio.socket.socketpair() for _ in range(3)]
    order: list[str] = []

    def read(now: float) -> None:
        order.append("read")
        if order.count("read") % 3:
            deadline = trio.current_time() + 0.02
            while trio.current_time() < deadline:
                pass
        else:
            nursery.cancel_scope.cancel()

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if order and order[-1] == "read":
                order.append("other")

    try:
        for ours, theirs in pairs:
            pump.add(ours.fileno(), read)
            await theirs.send(b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump.run)
            nursery.start_soon(other)
        assert "other" in order[: order.index("read", order.index("read", order.index("read") + 1) + 1)]
    finally:
        for ours, _ in pairs:
            pump.remove(ours.fileno())
            pump.remove(ours.fileno())  # (twice is once)
        pump.close()
        for sock in itertools.chain.from_iterable(pairs):
            sock.close()


@linux
@pytest.mark.parametrize("talks", [False, True])
async def test_sockets_wait_longer_for_one_another_where_people_only_move(
    monkeypatch: pytest.MonkeyPatch, talks: bool
) -> None:
    slept: set[Timer] = set()
    rest = Timer.sleep

    async def noting(timer: Timer) -> None:
        slept.add(timer)
        await rest(timer)

    monkeypatch.setattr(Timer, "sleep", noting)
    pump = Pump()
    pairs = [trio.socket.socketpair() for _ in range(2)]

    def read(now: float) -> None:
        # Nothing is taken, so both are ready in each turn.
        if talks:
            pump.talked(now)
        if slept:
            running.cancel()

    try:
        for ours, theirs in pairs:
            pump.add(ours.fileno(), read)
            await theirs.send(b"x")
        with trio.CancelScope() as running:
            await pump.run()
        (timer,) = slept
        assert timer.seconds == (0.001 if talks else 0.004)
    finally:
        for ours, _ in pairs:
            pump.remove(ours.fileno())
        pump.close()
        for sock in itertools.chain.from_iterable(pairs):
            sock.close()
