"""Run seeds, until the time is over or one fails. They are of three kinds, by turns (`kinds`).

python -m tests.simulation --minutes 10     as many seeds as ten minutes hold, on two processes
python -m tests.simulation --seeds 200      so many
python -m tests.simulation --seed 7         one, exactly as it was; prints the hash of its transcript
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from .run import Report, SimulationError, simulate


def main() -> int:
    """Exit status 0: every seed has passed; 1: one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, help="begin no new seed after so many minutes (10 unless --seeds)")
    parser.add_argument("--seeds", type=int, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed)
    minutes = options.minutes or (10.0 if options.seeds is None else float("inf"))
    seeds = itertools.count(options.first)
    chosen = seeds if options.seeds is None else itertools.islice(seeds, options.seeds)
    return _many(chosen, minutes * 60, options.workers)


def _one(seed: int) -> int:
    try:
        report = simulate(seed)
    except SimulationError as error:
        _say(error)
        return 1
    _say(f"{_summary([report])}; transcript {report.digest}")
    return 0


def _many(seeds: Iterator[int], seconds: float, workers: int) -> int:
    end = time.monotonic() + seconds
    reports: list[Report] = []
    failure: SimulationError | None = None
    with ProcessPoolExecutor(workers) as pool:
        running: set[Future[Report]] = set()
        while True:
            # As many as there are processes: what is in line when one fails would be waited for.
            while failure is None and len(running) < workers and time.monotonic() < end:
                seed = next(seeds, None)
                if seed is None:
                    break
                running.add(pool.submit(simulate, seed))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    reports.append(future.result())
                except SimulationError as error:
                    failure = failure or error
            _say(_summary(reports))
    if failure is not None:
        _say(failure)
        return 1
    return 0


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _summary(reports: list[Report]) -> str:
    hours = sum(report.virtual_s for report in reports) / 3600
    acts, lines, frames = (sum(getattr(report, name) for report in reports) for name in ("acts", "lines", "frames"))
    return (
        f"{len(reports)} seeds: {hours:.1f} virtual hours, {acts} acts, {frames} frames, "
        f"{lines} events compared with their rooms' order"
    )


if __name__ == "__main__":
    sys.exit(main())
