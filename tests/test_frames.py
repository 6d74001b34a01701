"""WebSocket frames: the server's, as another library reads them, and the meter for the client's (RFC 6455)."""

from collections.abc import Iterable, Sequence

import attrs
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from trio_vrchat._frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MESSAGE_TOO_BIG,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    FrameMeter,
    close_frame,
    text_frame,
)

LIMIT = 1000
NO_LIMIT = 1 << 62
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 100_000]


# --- the server's frames --------------------------------------------------------------------------------------


def read_as_client(data: bytes) -> list[Frame]:
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    return list(protocol.received_frames())


@pytest.mark.parametrize("length", LENGTHS)
def test_a_text_frame_is_read_by_another_library(length: int) -> None:
    payload = ("é" * (length // 2) + "x" * (length % 2)).encode()
    (frame,) = read_as_client(text_frame(payload))
    assert frame.opcode is Opcode.TEXT
    assert frame.frame_finished
    assert frame.message_finished
    assert str(frame.payload).encode() == payload


@pytest.mark.parametrize(("length", "header_bytes"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_length_is_in_its_shortest_form(length: int, header_bytes: int) -> None:
    assert len(text_frame(b"x" * length)) == header_bytes + length


def test_frames_that_follow_each_other_stay_apart() -> None:
    payloads = [b"x" * length for length in LENGTHS]
    frames = read_as_client(b"".join(map(text_frame, payloads)) + close_frame(1001, "the server stops"))
    assert [str(frame.payload).encode() for frame in frames[:-1]] == payloads
    assert frames[-1].payload == (CloseReason.GOING_AWAY, "the server stops")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1007, 1009, 4001, 4008, 4009])
@pytest.mark.parametrize("reason", ["", "a reason"])
def test_a_close_frame_is_read_by_another_library(code: int, reason: str) -> None:
    (frame,) = read_as_client(close_frame(code, reason))
    assert frame.opcode is Opcode.CLOSE
    assert frame.payload == (code, reason)
    assert read_as_client(close_frame(code))[0].payload == (code, "")


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(), st.text(st.sampled_from("xé中😀"), min_size=30, max_size=130)))
def test_a_close_reason_is_cut_between_characters_as_late_as_possible(reason: str) -> None:
    (frame,) = read_as_client(close_frame(1001, reason))
    kept = str(frame.payload[1])
    assert reason.startswith(kept)
    assert len(kept.encode()) <= 123
    assert kept == reason or len(reason[: len(kept) + 1].encode()) > 123


@pytest.mark.parametrize("length", [122, 123, 124, 200])
def test_a_close_frame_is_never_larger_than_a_control_frame_may_be(length: int) -> None:
    assert len(close_frame(4008, "x" * length)) == 2 + 2 + min(length, 123)


# --- the client's frames --------------------------------------------------------------------------------------


@attrs.frozen
class Sent:
    """A frame as a client might send it, sound or not."""

    opcode: int = TEXT
    payload: bytes = b""
    final: bool = True
    reserved: int = 0
    masked: bool = True
    # Where they differ from what the payload has: the bytes that hold the length (0, 2 or 8), and the length.
    length_bytes: int | None = None
    length: int | None = None

    def announced(self) -> int:
        return len(self.payload) if self.length is None else self.length

    def header(self) -> bytes:
        length = self.announced()
        extra = self.length_bytes
        if extra is None:
            extra = 0 if length < 126 else 2 if length < 65536 else 8
        short = {0: length, 2: 126, 8: 127}[extra]
        first = (0x80 if self.final else 0) | self.reserved << 4 | self.opcode
        mask = b"\x07\x01\x80\xff" if self.masked else b""
        return bytes((first, (0x80 if self.masked else 0) | short)) + length.to_bytes(8, "big")[8 - extra :] + mask

    def encoded(self) -> bytes:
        if not self.masked:
            return self.header() + self.payload
        mask = self.header()[-4:]
        return self.header() + bytes(byte ^ mask[number % 4] for number, byte in enumerate(self.payload))


def encoded(frames: Iterable[Sent]) -> bytes:
    return b"".join(frame.encoded() for frame in frames)


def code_of(meter: FrameMeter) -> int:
    return meter.violation.code if meter.violation is not None else 0


def metered(frames: Iterable[Sent], limit: int = LIMIT) -> FrameMeter:
    """A meter that has read these sound frames."""
    meter = FrameMeter(limit)
    data = encoded(frames)
    assert meter.feed(data) == len(data)
    assert meter.violation is None
    return meter


PIECE = Sent(TEXT, b"ab", final=False)
REST = Sent(CONTINUATION, b"cd")

BAD_IN_ANY_PLACE = {
    "first_reserved_bit": Sent(reserved=4),
    "second_reserved_bit": Sent(reserved=2),
    "third_reserved_bit": Sent(reserved=1),
    "reserved_bit_of_a_ping": Sent(PING, reserved=4),
    "text_not_masked": Sent(masked=False),
    "ping_not_masked": Sent(PING, masked=False),
    "close_not_masked": Sent(CLOSE, masked=False),
    **{f"opcode_{opcode:X}": Sent(opcode) for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)},
    **{f"ping_in_pieces_{opcode:X}": Sent(opcode, final=False) for opcode in (CLOSE, PING, PONG)},
    **{f"long_control_{opcode:X}": Sent(opcode, b"x" * 126) for opcode in (CLOSE, PING, PONG)},
    "huge_control": Sent(PING, length=1 << 20),
    "control_of_0_in_2_bytes": Sent(PING, length_bytes=2),
}
# These are a violation for their lengths, where a message may begin.
BAD_LENGTHS = {
    **{f"{length}_in_2_bytes": Sent(length=length, length_bytes=2) for length in (0, 1, 125)},
    **{f"{length}_in_8_bytes": Sent(length=length, length_bytes=8) for length in (0, 1, 125, 126, 65535)},
    "top_bit": Sent(length=1 << 63, length_bytes=8),
    "all_bits": Sent(length=(1 << 64) - 1, length_bytes=8),
}


@pytest.mark.parametrize("bad", BAD_IN_ANY_PLACE.values(), ids=BAD_IN_ANY_PLACE)
@pytest.mark.parametrize("before", [[], [Sent(TEXT, b"hello")], [PIECE], [PIECE, Sent(PING, b"p")]])
def test_a_broken_header_is_a_protocol_error_in_any_place(bad: Sent, before: list[Sent]) -> None:
    meter = metered(before, NO_LIMIT)
    assert meter.feed(bad.header()) == 0
    assert code_of(meter) == PROTOCOL_ERROR == 1002


@pytest.mark.parametrize("bad", BAD_LENGTHS.values(), ids=BAD_LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION])
def test_a_length_in_another_than_its_shortest_form_is_a_protocol_error(bad: Sent, opcode: int) -> None:
    meter = metered([PIECE] if opcode == CONTINUATION else [], NO_LIMIT)
    assert meter.feed(attrs.evolve(bad, opcode=opcode).header()) == 0
    assert code_of(meter) == PROTOCOL_ERROR


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_every_length_in_its_shortest_form_is_sound(length: int, opcode: int) -> None:
    metered([Sent(opcode, b"x" * length), Sent(opcode, b"x" * length)], 100_000)


@pytest.mark.parametrize("length", [0, 1, 125])
@pytest.mark.parametrize("opcode", [PING, PONG])
def test_control_frames_of_up_to_125_bytes_are_sound_also_inside_a_message(length: int, opcode: int) -> None:
    control = Sent(opcode, b"x" * length)
    metered([control, PIECE, control, control, REST, control])


@pytest.mark.parametrize("final", [True, False])
def test_a_continuation_without_a_start_is_a_protocol_error(final: bool) -> None:
    bad = Sent(CONTINUATION, b"ab", final=final)
    for before in ([], [Sent(TEXT, b"hello")], [PIECE, REST], [Sent(PING)]):
        meter = metered(before)
        assert meter.feed(bad.encoded()) == 0
        assert code_of(meter) == PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("final", [True, False])
def test_a_new_message_inside_another_is_a_protocol_error(opcode: int, final: bool) -> None:
    for first in (PIECE, Sent(BINARY, final=False)):
        meter = metered([first, Sent(PING), Sent(CONTINUATION, b"more", final=False)])
        assert meter.feed(Sent(opcode, final=final).encoded()) == 0
        assert code_of(meter) == PROTOCOL_ERROR


def test_a_message_of_the_limit_passes_and_one_byte_more_is_too_big() -> None:
    metered([Sent(TEXT, b"x" * LIMIT)] * 3)
    meter = metered([Sent(TEXT, b"x" * LIMIT)])
    # The header says enough: none of the payload has to come first.
    assert meter.feed(Sent(length=LIMIT + 1).header()) == 0
    assert code_of(meter) == MESSAGE_TOO_BIG == 1009


def test_the_pieces_of_a_message_count_together() -> None:
    pieces = [Sent(TEXT, b"x" * 400, final=False), Sent(PING, b"x" * 125), Sent(CONTINUATION, b"x" * 400, final=False)]
    metered([*pieces, Sent(CONTINUATION, b"x" * 200), *pieces, Sent(CONTINUATION, b"x" * 200)])
    meter = metered(pieces)
    assert meter.feed(Sent(CONTINUATION, b"x" * 201).encoded()) == 0
    assert code_of(meter) == MESSAGE_TOO_BIG


def test_the_largest_announced_length_is_too_big() -> None:
    meter = FrameMeter(1 << 24)
    assert meter.feed(Sent(length=(1 << 63) - 1).header()) == 0
    assert code_of(meter) == MESSAGE_TOO_BIG


@pytest.mark.parametrize(("limit_bytes", "most"), [(1024, 64), (64 * 1024, 4096), (64 * 1024 + 15, 4096)])
def test_empty_pieces_without_end_are_too_big(limit_bytes: int, most: int) -> None:
    empty = Sent(CONTINUATION, final=False)
    start = Sent(TEXT, final=False)
    ping = Sent(PING)
    full = [start, *[empty] * (most - 2)]
    metered([*full, Sent(CONTINUATION), ping, *full, ping, ping, Sent(CONTINUATION)], limit_bytes)
    meter = metered([*full, ping, empty], limit_bytes)
    assert meter.feed(Sent(PONG).encoded()) == len(Sent(PONG).encoded())
    assert meter.feed(empty.encoded()) == 0
    assert code_of(meter) == MESSAGE_TOO_BIG


def test_the_bytes_before_a_bad_frame_are_sound() -> None:
    good = [Sent(TEXT, b"hello"), PIECE, Sent(PING, b"ping"), REST]
    meter = FrameMeter(LIMIT)
    assert meter.feed(encoded([*good, Sent(reserved=1), *good])) == len(encoded(good))


def test_bytes_of_a_bad_frame_that_came_earlier_are_not_taken_back() -> None:
    bad = Sent(opcode=3, payload=b"hello")
    meter = FrameMeter(LIMIT)
    first = Sent(TEXT, b"hello").encoded() + bad.encoded()[:1]
    assert meter.feed(first) == len(first)
    assert meter.feed(bad.encoded()[1:]) == 0
    assert code_of(meter) == PROTOCOL_ERROR


def test_nothing_after_a_violation_is_sound() -> None:
    meter = metered([])
    meter.feed(Sent(length=LIMIT + 1).header())
    for data in (b"x", b"", Sent(TEXT, b"hello").encoded(), Sent(reserved=1).encoded(), Sent(CLOSE).encoded()):
        assert meter.feed(data) == 0
    assert code_of(meter) == MESSAGE_TOO_BIG
    assert not meter.peer_closed


def test_the_meter_notes_the_header_of_a_close_frame() -> None:
    close = Sent(CLOSE, b"\x03\xe8bye")
    data = encoded([Sent(PING), PIECE, close])
    meter = FrameMeter(LIMIT)
    for position in range(len(data)):
        assert meter.peer_closed == (position >= len(data) - len(close.payload))
        assert meter.feed(data[position : position + 1]) == 1
    assert meter.peer_closed


@pytest.mark.parametrize("bad", [Sent(CLOSE, reserved=1), Sent(CLOSE, final=False), Sent(CLOSE, b"x" * 126)])
def test_a_broken_close_frame_closes_nothing(bad: Sent) -> None:
    meter = FrameMeter(LIMIT)
    meter.feed(bad.encoded())
    assert not meter.peer_closed
    assert code_of(meter) == PROTOCOL_ERROR


def test_a_payload_that_looks_like_frames_is_not_looked_into() -> None:
    # Masked, the payload is what would be a broken frame; the meter must not see it as one.
    assert metered([Sent(BINARY, b"\xff" * 500), Sent(BINARY, bytes(range(256)))]).violation is None


# --- any frames -----------------------------------------------------------------------------------------------


def expected(frames: Sequence[Sent], limit: int) -> tuple[int, int]:
    """Where the first bad frame is, and its close code, by RFC 6455 and our limits; the end and 0 if none is."""
    in_message = 0
    size = 0
    for index, frame in enumerate(frames):
        length = frame.announced()
        shortest = 0 if length < 126 else 2 if length < 65536 else 8
        if (
            frame.reserved
            or not frame.masked
            or frame.opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
            or frame.length_bytes not in (None, shortest)
            or length >= 1 << 63
        ):
            return index, 1002
        if frame.opcode in (CLOSE, PING, PONG):
            if not frame.final or length > 125:
                return index, 1002
            continue
        if (frame.opcode == CONTINUATION) is not bool(in_message):
            return index, 1002
        in_message += 1
        size += length
        if size > limit or in_message > limit // 16:
            return index, 1009
        if frame.final:
            in_message = size = 0
    return len(frames), 0


@st.composite
def data_payloads(draw: st.DrawFn) -> bytes:
    length = draw(st.one_of(st.integers(0, 20), st.sampled_from([100, 125, 126, 127, 200, 300])))
    return b"x" * length


def sound_messages() -> st.SearchStrategy[list[Sent]]:
    """One message in one to three pieces, with control frames between them."""
    controls = st.lists(
        st.builds(Sent, st.sampled_from([PING, PONG]), st.sampled_from([b"", b"p", b"x" * 125])), max_size=1
    )

    @st.composite
    def build(draw: st.DrawFn) -> list[Sent]:
        pieces = draw(st.lists(data_payloads(), min_size=1, max_size=3))
        frames: list[Sent] = []
        for number, piece in enumerate(pieces):
            opcode = draw(st.sampled_from([TEXT, BINARY])) if number == 0 else CONTINUATION
            frames.append(Sent(opcode, piece, final=number == len(pieces) - 1))
            frames += draw(controls)
        return frames

    return build()


# Close frames without a payload are the meter's and the library's: what is in one is the library's alone.
any_frames = st.one_of(
    st.builds(
        Sent,
        opcode=st.sampled_from([TEXT, TEXT, BINARY, CONTINUATION, PING]),
        payload=data_payloads(),
        final=st.booleans(),
    ),
    st.sampled_from([*BAD_IN_ANY_PLACE.values(), *BAD_LENGTHS.values(), Sent(length=70_000)]),
    st.builds(Sent, opcode=st.integers(0, 15), reserved=st.sampled_from([0, 0, 0, 1, 2, 4]), masked=st.booleans()),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    """Sound messages, then perhaps something that may be bad and more after it; a close frame only at the end."""
    frames = [frame for message in draw(st.lists(sound_messages(), max_size=3)) for frame in message]
    frames += draw(st.lists(any_frames, max_size=3))
    for index, frame in enumerate(frames):
        if frame.opcode == CLOSE:
            return frames[: index + 1]
    if draw(st.booleans()):
        frames.append(Sent(CLOSE, b"\x03\xe8bye"))
    return frames


def payload_is_whole(frame: Sent) -> bool:
    return frame.length is None


def until_incomplete(frames: list[Sent]) -> list[Sent]:
    """The frames up to the first that announces more, or less, than it has: what follows would be read as payload."""
    for index, frame in enumerate(frames):
        if not payload_is_whole(frame):
            return frames[: index + 1]
    return frames


@settings(deadline=None, max_examples=400)
@given(streams().map(until_incomplete), st.data())
def test_any_frames_split_anywhere_are_judged_as_the_standard_says(frames: list[Sent], data: st.DataObject) -> None:
    limit = data.draw(st.sampled_from([20, 200, LIMIT]), label="limit")
    index, code = expected(frames, limit)
    stream = encoded(frames)
    bad_start = len(encoded(frames[:index]))
    # The header's last byte is what shows the violation.
    bad_known = bad_start + len(frames[index].header()) - 1 if code else len(stream)
    if data.draw(st.booleans(), label="byte by byte"):
        cuts = list(range(1, len(stream)))
    else:
        # Cuts inside headers are the interesting ones.
        starts = [len(encoded(frames[:number])) for number in range(len(frames) + 1)]
        near = st.builds(
            lambda start, more: min(start + more, len(stream)), st.sampled_from(starts), st.integers(0, 14)
        )
        cuts = sorted(data.draw(st.lists(st.one_of(near, st.integers(0, len(stream))), max_size=8), label="cuts"))
    meter = FrameMeter(limit)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        sound = meter.feed(bytearray(stream[start:end]) if end % 2 else stream[start:end])
        if end <= bad_known:
            assert sound == end - start
            assert meter.violation is None
        else:
            assert sound == max(0, bad_start - start)
            assert code_of(meter) == code
    assert code_of(meter) == code
    assert meter.peer_closed == any(frame.opcode == CLOSE for frame in frames[:index])
    event(f"code {code}")


class WsprotoServer:
    """What the library under the server makes of the same frames."""

    def __init__(self) -> None:
        self.protocol = FrameProtocol(client=False, extensions=[])

    def takes(self, frame: Sent) -> bool:
        self.protocol.receive_bytes(frame.encoded())
        if frame.announced() > len(frame.payload):
            # Of a message inside a message it has nothing to say before the first byte of its payload.
            self.protocol.receive_bytes(b"\x07")
        try:
            list(self.protocol.received_frames())
        except ParseFailed:
            return False
        return True


@settings(deadline=None, max_examples=400)
@given(streams().map(until_incomplete))
@example([Sent(final=False), Sent(length_bytes=8, length=70_000)])
def test_the_meter_accepts_what_the_library_accepts(frames: list[Sent]) -> None:
    meter = FrameMeter(NO_LIMIT)
    library = WsprotoServer()
    for frame in frames:
        taken = library.takes(frame)
        data = frame.encoded()
        assert meter.feed(data) == (len(data) if taken else 0)
        assert (meter.violation is None) == taken
        event(f"taken: {taken}")
        if not taken:
            assert code_of(meter) == PROTOCOL_ERROR
            return
    assert meter.peer_closed == any(frame.opcode == CLOSE for frame in frames)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_any_bytes_are_metered_without_an_exception(chunks: list[bytes]) -> None:
    meter, whole = FrameMeter(LIMIT), FrameMeter(LIMIT)
    for chunk in chunks:
        assert 0 <= meter.feed(chunk) <= len(chunk)
    whole.feed(b"".join(chunks))
    assert (code_of(meter), meter.peer_closed) == (code_of(whole), whole.peer_closed)
