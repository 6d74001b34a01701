"""Anything at all, drawn by Hypothesis: handshakes of a few bytes too many or too few, and messages of odd parts.

Whatever it is, it gets an answer or an end, in bounded time, and nobody else notices. `tests/fuzz` does the same
guided by coverage.
"""

from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.test_codec import values
from tests.test_hostile import PING_MESSAGE, head, with_a_witness
from trio_vrchat import testing
from trio_vrchat._codec import (
    encode,
    encode_entry,
    encode_payload,
    parse,
    read_login,
    read_room_message,
    read_system_request,
    read_transform,
)
from trio_vrchat._errors import BadRequest, InvalidStructure
from trio_vrchat._frames import TEXT
from trio_vrchat.testing import MemoryServer, RawClient, client_frame, settle, upgrade_request

# The fixtures are the same for all examples: each begins and ends with nobody connected, and clears the log.
SHARED_FIXTURES = [HealthCheck.function_scoped_fixture]


# --- the handshake --------------------------------------------------------------------------------------------

ANSWER = re.compile(rb"HTTP/1\.1 (\d\d\d) ")
# What h11, wsproto and trio-websocket each look at.
HEADERS = ("Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol")
MORE_HEADERS = ("Sec-WebSocket-Extensions", "Origin", "Content-Length", "Transfer-Encoding", "Expect", "Cookie", "X")
header_values = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            *(b"websocket", b"Upgrade", b"keep-alive, Upgrade", b"13", b"8", b"", b" ", b"chunked", b"100-continue"),
            *(b"memory:80", b"xn--a", b"[::1]", b"\xff", b"\xc3\xa9", b"null", b"http://elsewhere", b"0", b"-1"),
            *(b"permessage-deflate", b"permessage-deflate; client_max_window_bits=x", b"a,,b", b'"', b";", b"x" * 9000),
        ]
    ),
)
request_lines = st.sampled_from(
    [
        *(
            "GET / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET / HTTP/2.0",
            "POST / HTTP/1.1",
            "GET * HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ),
        *("GET http://memory/ HTTP/1.1", "GET /%ff HTTP/1.1", "GET /?a=b#c HTTP/1.1", "GET  / HTTP/1.1", "GET /", ""),
    ]
)
heads = st.builds(
    lambda request, headers: head(request=request, headers=headers),
    request_lines,
    st.dictionaries(st.sampled_from(HEADERS + MORE_HEADERS), header_values, max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn, requests: st.SearchStrategy[bytes]) -> bytes:
    """A request of which some parts are left out, doubled, or others."""
    data = draw(requests)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        patches = st.sampled_from([b"", data[start:end] * 2, b"\r\n", b"\n", b"\0", b" ", b":", b"\r\n\r\n", b"\xff"])
        data = data[:start] + draw(st.one_of(patches, st.binary(max_size=4))) + data[end:]
    return data


openings = st.one_of(
    st.binary(max_size=300),
    damaged(st.just(upgrade_request())),
    damaged(heads),
    st.builds(lambda request, more: request + more, heads, st.binary(max_size=30)),
)


async def open_with(server: MemoryServer, pieces: list[bytes]) -> tuple[RawClient, bytes]:
    """A client that begins with these bytes, and what it is told before it ends or waits."""
    client = await server.dial()
    for piece in pieces:
        client.send_bytes(piece)
        await settle()
    return client, client.take_bytes()


@settings(max_examples=150, suppress_health_check=SHARED_FIXTURES)
@given(
    opening=openings, cuts=st.lists(st.integers(0, 400), max_size=5), after=st.sampled_from(["silence", "end", "reset"])
)
@example(opening=upgrade_request(), cuts=list(range(400)), after="silence")
@example(opening=upgrade_request() + client_frame(TEXT, PING_MESSAGE), cuts=[len(upgrade_request())], after="end")
async def test_any_opening_ends_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, opening: bytes, cuts: list[int], after: str
) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat")
    caplog.clear()
    cuts = sorted({cut for cut in cuts if 0 < cut < len(opening)})
    pieces = [opening[start:end] for start, end in zip([0, *cuts], [*cuts, len(opening)], strict=True)]
    async with with_a_witness() as server:
        _, told = await open_with(server, [opening])
        client, told_in_pieces = await open_with(server, pieces)
        answer = ANSWER.match(told)
        assert answer or not told
        event(f"answer: {answer and int(answer[1])}")
        if opening.startswith(upgrade_request()):
            assert answer
            assert int(answer[1]) == 101
        assert told_in_pieces == told, "where a packet ends has no meaning"
        if after == "end":
            client.end()
        elif after == "reset":
            client.reset()
        await settle()
        assert after == "silence" or client.ended, "who hangs up is not waited for"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# --- messages -------------------------------------------------------------------------------------------------


numbers = st.floats(allow_nan=False, allow_infinity=False).map(repr)
plain_values = st.one_of(numbers, st.sampled_from(["null", "true", '""', '"hello"', "[]", "{}", '{"x":1}']))
# What the codec's own tests are made of breaks a rule for every message more often than not.
any_values = st.integers(0, 19).flatmap(lambda number: plain_values if number else values)


def mostly(values_: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One of these, seldom something else."""
    return st.integers(0, 9).flatmap(lambda number: values_ if number else any_values)


def strings(*choices: str) -> st.SearchStrategy[str]:
    return mostly(st.sampled_from([json.dumps(choice) for choice in choices]))


@st.composite
def objects(draw: st.DrawFn, members: dict[str, st.SearchStrategy[str]]) -> str:
    """An object with these members, of which one is left out now and then, as JSON."""
    missing = draw(st.sampled_from([*members, *[None] * 9]))
    return "{" + ",".join(f'"{key}":{draw(value)}' for key, value in members.items() if key != missing) + "}"


rooms = strings("lobby", "lobby", "den", "", "x" * 65, "a\u202eb")
types = strings("msg", "join", "leave", "list", "transform", "transform", "emote", "")
group = mostly(objects({axis: mostly(numbers) for axis in "xyz"}))
options = objects({"user": rooms, "pass": rooms, "resume": any_values, "session": any_values, "seen": any_values})
messages = mostly(
    st.one_of(
        objects({"room": rooms, "type": types, "data": any_values}),
        objects({"room": rooms, "type": strings("transform"), "data": mostly(objects({"pos": group, "rot": group}))}),
        objects({"system": strings("ping", "login", "rooms", "resume", "other"), "options": mostly(options)}),
    )
)


@settings(max_examples=400)
@given(messages)
def test_every_reader_reads_or_refuses_what_parse_lets_through(text: str) -> None:
    try:
        tree = parse(text)
    except InvalidStructure:
        return
    try:
        options = read_system_request(tree).options
        read_login(options)
    except BadRequest:
        pass
    try:
        message = read_room_message(text)
    except BadRequest:
        return
    data = bytes(message.data)
    sent = encode_payload(encode(message.room), [encode_entry(1.0, b'"Tibi"', encode(message.type), data)])
    entry = json.loads(sent)["payload"][0]
    # As text, so that 1, 1.0 and true are different.
    assert json.dumps(entry["data"]) == json.dumps(tree["data"])
    try:
        complete = parse(read_transform(data).decode())
    except BadRequest:
        return
    event("a transform")
    assert all(type(complete[group][axis]) in (int, float) for group in ("pos", "rot") for axis in "xyz")


@settings(max_examples=60, suppress_health_check=SHARED_FIXTURES)
@given(texts=st.lists(messages, min_size=1, max_size=8))
async def test_any_message_is_answered_and_never_with_500(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, texts: list[str]
) -> None:
    caplog.clear()
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        for text in texts:
            client.texts()
            # Half a surrogate pair is no UTF-8: the connection ends there.
            client.send_frame(TEXT, text.encode(errors="surrogatepass"))
            await settle()
            codes = [message["response"]["code"] for message in client.messages() if message["info"] != "user"]
            for code in codes:
                event(f"code {code}")
            assert 500 not in codes
        client.reset()
        await settle()
        assert server.statistics.members == 0
    assert caplog.records == []
