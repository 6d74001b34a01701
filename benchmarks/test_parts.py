"""What decoding, a room and an outbox cost for each message, with `pytest-benchmark`, and a guard for each.

A guard is a ratio between two things that are measured by turns in the same run: the part, and the least that it could
cost. The limits leave room for a noisy machine; what doubles a part's cost goes past them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from trio_vrchat import Config, testing
from trio_vrchat._codec import encode, parse, read_plain_transform, read_room_message
from trio_vrchat._frames import TEXT, text_frame, whole_text
from trio_vrchat._members import Join, Member, Say
from trio_vrchat._outbox import Outbox
from trio_vrchat._presence import Presence
from trio_vrchat._requests import Requests
from trio_vrchat.testing import client_frame

TRANSFORM = (
    b'{"room":"lobby","type":"transform","data":'
    b'{"pos":{"x":1.234,"y":1.6,"z":-0.345},"rot":{"x":0.012,"y":1.571,"z":0.0}}}'
)
LINE = b'{"room":"lobby","type":"msg","data":"Hello, everybody. Who has seen the other half of the map?"}'
FRAME = client_frame(TEXT, TRANSFORM)
MEMBERS = 200
LIMIT = 65_536

_decode = msgspec.json.Decoder().decode


def best(function: Callable[[], object], calls: int) -> float:
    """Seconds of one call, in a row of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def ratio(part: Callable[[], object], least: Callable[[], object], *, calls: int = 2000, rounds: int = 30) -> float:
    """How many times what is least the part costs: the best of many rounds of each, by turns."""
    parts, leasts = [], []
    for _ in range(rounds):
        parts.append(best(part, calls))
        leasts.append(best(least, calls))
    return min(parts) / min(leasts)


def outbox(write: Callable[[bytes], int]) -> Outbox:
    return Outbox(limit_frames=256, limit_bytes=1 << 20, write=write, on_frames=lambda: None, on_overflow=lambda: None)


def presence() -> Presence:
    """A room that everybody is in."""
    moments = iter(range(1, 1_000_000_000))
    room = Presence("lobby", history=50, history_limit_bytes=1 << 18, stamp=lambda: float(next(moments)))
    room.apply([Join(Member(f"user {number}", outbox(lambda frame: 0))) for number in range(MEMBERS)])
    return room


# Decoding


def test_a_frame(benchmark: Any) -> None:
    assert benchmark(whole_text, FRAME, 0, LIMIT) == (TRANSFORM, len(FRAME))


def test_a_plain_transform(benchmark: Any) -> None:
    assert benchmark(read_plain_transform, TRANSFORM) is not None


def test_the_steps_for_a_line(benchmark: Any) -> None:
    text = LINE.decode()

    def steps() -> object:
        parse(text)
        return read_room_message(text)

    assert benchmark(steps)


def test_a_frame_costs_no_more_than_three_times_its_values() -> None:
    assert ratio(lambda: whole_text(FRAME, 0, LIMIT), lambda: _decode(TRANSFORM)) < 3


def test_a_plain_transform_costs_no_more_than_four_times_its_values() -> None:
    assert ratio(lambda: read_plain_transform(TRANSFORM), lambda: _decode(TRANSFORM)) < 4


# What a client said


async def _requests(use: Callable[[Requests, Callable[[], float]], object]) -> None:
    found: list[Requests] = []
    begin = Requests.begin

    def noting(requests: Requests, message: bytes | None, now: float) -> Any:
        found.append(requests)
        return begin(requests, message, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Requests, "begin", noting)
        async with testing.open_server(Config.unlimited(bytes_per_s=1 << 39)) as server:
            await server.login("Tibi")
            patch.undo()
            use(found[0], trio.current_time)


def test_a_transform_from_its_text_to_its_slot(benchmark: Any) -> None:
    async def measure() -> None:
        await _requests(lambda requests, now: benchmark(lambda: requests.begin(TRANSFORM, now())))

    testing.run(measure)


def test_all_that_is_checked_of_a_transform_costs_a_few_decodings() -> None:
    ratios: list[float] = []

    async def measure() -> None:
        await _requests(
            lambda requests, now: ratios.append(
                ratio(lambda: requests.begin(TRANSFORM, now()), lambda: _decode(TRANSFORM))
            )
        )

    testing.run(measure)
    assert ratios[0] < 7


# A room


def test_a_line_in_a_room(benchmark: Any) -> None:
    room = presence()
    member = room.members()[0]
    assert benchmark(lambda: room.apply([Say(member, "msg", b'"hello"')]))


def test_a_batch_of_everybody(benchmark: Any) -> None:
    room = presence()

    def tick() -> int:
        for member in room.members():
            member.move(1.0, TRANSFORM)
        return len(room.take_batch().members)

    assert benchmark(tick) == MEMBERS


def test_a_line_is_encoded_once_however_many_hear_it() -> None:
    room = presence()
    member = room.members()[0]
    alone = Presence("lobby", history=50, history_limit_bytes=1 << 18, stamp=time.time)
    single = Member("user", outbox(lambda frame: 0))
    alone.apply([Join(single)])
    assert (
        ratio(
            lambda: room.apply([Say(member, "msg", b'"hello"')]), lambda: alone.apply([Say(single, "msg", b'"hello"')])
        )
        < 1.3
    )


def test_a_batch_costs_little_more_than_its_entries() -> None:
    room = presence()
    entry = encode({"time": 1.0, "user": "user 1", "type": "transform", "data": msgspec.Raw(TRANSFORM)})

    def tick() -> None:
        for member in room.members():
            member.move(1.0, TRANSFORM)
        assert room.take_batch().moved is not None

    def least() -> bytes:
        return text_frame(b",".join([b"%b%b" % (entry, b"") for _ in range(MEMBERS)]))

    assert ratio(tick, least, calls=20, rounds=20) < 7


# An outbox


def test_an_offer_where_nothing_waits(benchmark: Any) -> None:
    benchmark(outbox(lambda frame: 0).offer, b"x" * 200)


def test_an_offer_costs_little_more_than_its_write() -> None:
    def write(frame: bytes) -> int:
        return 0

    box = outbox(write)
    assert ratio(lambda: box.offer(b"frame"), lambda: write(b"frame"), calls=20_000) < 4
