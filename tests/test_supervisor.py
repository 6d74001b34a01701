"""The supervisor in virtual time, with workers that do what a test says."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import ConfigError
from trio_vrchat._errors import WorkerError
from trio_vrchat._restarts import DELAYS_S, STEADY_S
from trio_vrchat._supervisor import Supervisor

HOUR = 3600.0


@attrs.frozen
class Life:
    """What becomes of a worker: what it says, after how long, and how long it lives then."""

    answer: str | None = ""
    starts_s: float = 0.0
    lives_s: float = HOUR


@attrs.define(eq=False)
class FakeWorker:
    pid: int
    life: Life
    killed: trio.Event = attrs.field(factory=trio.Event)

    async def answer(self) -> str | None:
        await trio.sleep(self.life.starts_s)
        return self.life.answer

    async def ended(self) -> str:
        await trio.sleep(self.life.lives_s)
        return "with status 7"

    def kill(self) -> None:
        self.killed.set()


@attrs.define(eq=False)
class Workers:
    """Workers 1 and 2. `lives`: of those, one after another; the last is that of all later ones."""

    lives: dict[int, list[Life]] = attrs.field(factory=dict)
    # Seconds that a stop takes, unless it is killed.
    stop_s: float = 0.0
    no_process: bool = False
    started: dict[int, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    happened: list[str] = attrs.field(factory=list)

    @asynccontextmanager
    async def launch(self, number: int) -> AsyncIterator[FakeWorker]:
        if self.no_process:
            raise OSError(11, "Resource temporarily unavailable")
        lives = self.lives.get(number, [Life()])
        life = lives[min(len(self.started[number]), len(lives) - 1)]
        self.started[number].append(trio.current_time())
        worker = FakeWorker(1000 * number + len(self.started[number]), life)
        try:
            yield worker
        finally:
            with trio.move_on_after(self.stop_s, shield=True):
                await worker.killed.wait()
            self.happened.append(f"{number} {'killed' if worker.killed.is_set() else 'stopped'}")

    def supervisor(self) -> Supervisor:
        return Supervisor(
            2,
            self.launch,
            all_serve=lambda: self.happened.append("all serve"),
            stopping=lambda: self.happened.append("stopping"),
        )

    async def run(self, seconds: float) -> None:
        """Run them for so long, and stop them."""
        with trio.move_on_after(seconds):
            await self.supervisor().run()
            pytest.fail("it has ended by itself")


async def test_it_says_once_that_all_serve_and_stops_all_when_it_is_cancelled(autojump_clock: MockClock) -> None:
    workers = Workers({1: [Life(starts_s=2)], 2: [Life(starts_s=1, lives_s=10)]})
    await workers.run(1.5)
    assert workers.happened == ["stopping", "1 stopped", "2 stopped"] or workers.happened == [
        "stopping",
        "2 stopped",
        "1 stopped",
    ]
    workers.happened.clear()
    await workers.run(100)
    assert workers.happened.count("all serve") == 1
    assert workers.happened[-3] == "stopping", "before any of them has ended"


async def test_a_worker_that_has_served_is_started_again_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    workers = Workers({2: [Life(lives_s=STEADY_S)]})
    await workers.run(4.5 * STEADY_S)
    assert workers.started == {1: [0.0], 2: [0.0, *(number * STEADY_S for number in (1, 2, 3, 4))]}
    [line, *_] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert (line.getMessage(), line.__dict__["worker"]) == (
        "has ended: with status 7; it is started again at once",
        2,
    )
    served = [
        (record.__dict__["worker"], record.__dict__["pid"]) for record in caplog.records if "serves" in record.msg
    ]
    assert sorted(served) == [(1, 1001), *((2, 2001 + number) for number in range(5))]


@pytest.mark.parametrize("life", [Life(lives_s=0.0), Life(lives_s=STEADY_S / 2), Life(answer=None, lives_s=0.0)])
async def test_a_worker_that_ends_at_once_again_and_again_ends_all(autojump_clock: MockClock, life: Life) -> None:
    workers = Workers({2: [life]})
    with pytest.raises(WorkerError, match=r"worker 2 has ended 6 times in a row .* with status 7"):
        await workers.supervisor().run()
    due = 0.0
    for delay, started in zip((0.0, *DELAYS_S), workers.started[2], strict=True):
        due += delay
        assert started == pytest.approx(due)
        due += life.lives_s
    assert workers.happened[-2:] == ["stopping", "1 stopped"]


async def test_where_no_process_can_be_started_it_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(no_process=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(workers.run, HOUR)
        await trio.sleep(2.0)
        assert (
            "no process could be started: Resource temporarily unavailable; it is started again in 2 s" in caplog.text
        )
        workers.no_process = False
        await trio.sleep(2.0)
        assert workers.started == {1: [3.5], 2: [3.5]}
        nursery.cancel_scope.cancel()


async def test_what_a_worker_cannot_use_ends_all_while_they_start(autojump_clock: MockClock) -> None:
    workers = Workers({1: [Life(starts_s=1)], 2: [Life(answer="cannot read the key 'key.pem'")]})
    with pytest.raises(ConfigError) as caught:
        await workers.supervisor().run()
    assert str(caught.value) == "cannot read the key 'key.pem'"
    assert sorted(workers.happened) == ["1 stopped", "2 stopped", "stopping"]
    assert workers.started == {1: [0.0], 2: [0.0]}


async def test_what_a_worker_cannot_use_later_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Life(answer="cannot read the key 'key.pem'")
    workers = Workers({2: [Life(lives_s=60), gone, gone, Life()]})
    await workers.run(HOUR / 2)
    assert workers.started == {1: [0.0], 2: [60.0 * (number > 0) + 0.5 * (number > 2) for number in range(4)]}
    assert "cannot read the key 'key.pem'; it is started again in 0.5 s" in caplog.text


async def test_workers_that_take_long_to_stop_can_be_killed(autojump_clock: MockClock) -> None:
    workers = Workers(stop_s=HOUR)
    supervisor = workers.supervisor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
            assert workers.happened == ["all serve", "stopping"]
            supervisor.kill()
    assert sorted(workers.happened[2:]) == ["1 killed", "2 killed"]
    assert trio.current_time() == 11
