"""A server as one process and as several, which share their rooms: how what it costs and how long it takes grow.

The first that is measured is one process without a backplane, so that one sees what sharing costs by itself, before
there is anybody to share with. What the servers keep in Redis is removed after each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import attrs

from ._options import BenchError, Options
from ._redis import Redis
from ._rounds import Comparison, Start, check_rounds, in_turn
from ._server_process import RunningServer, own_server

ALONE = "alone"


def scale(
    options: Options,
    workers: Sequence[int],
    backplane: str | None,
    rounds: int,
    progress: Callable[[str, float], None],
) -> Comparison:
    """Put the load on one process without a backplane, and then on each of these numbers of workers, `rounds` times.

    Args:
        options: the load; without a `url`.
        workers: numbers of processes, each once.
        backplane: the URL of a Redis, with a database in which no servers have rooms.
        rounds: how often each is measured.
        progress: called as that of `bench.run` is, with what is being measured.

    Raises:
        BenchError: as `bench.run`; or the options, the workers, the backplane or the rounds make no sense.
    """
    check_rounds(options, rounds)
    if not workers or min(workers) < 1 or len(set(workers)) < len(workers):
        shown = ",".join(map(str, workers)) or "nothing"
        raise BenchError(f"workers is {shown}: give numbers of processes from 1 up, each once, such as 1,2,4")
    if backplane is None:
        shown = ",".join(map(str, workers))
        raise BenchError(
            f"workers is {shown}, so backplane must be set (redis://127.0.0.1:6379/0): without one each worker would "
            "have rooms of its own"
        )
    with Redis(backplane) as redis:
        if redis.keeps_rooms():
            raise BenchError(
                f"backplane: servers have rooms in database {redis.place.database} of Redis at {redis.place}, and "
                "the load would be in them: give one that is empty"
            )
    servers: dict[str, Start] = {ALONE: partial(own_server, options.fps)}
    servers |= {str(number): partial(_sharing, options.fps, number, backplane) for number in workers}
    return in_turn(options, servers, rounds, "workers", progress)


@contextmanager
def _sharing(fps: float, workers: int, backplane: str) -> Iterator[RunningServer]:
    with Redis(backplane) as redis:
        try:
            with own_server(fps, "--workers", str(workers), "--backplane", backplane) as server:
                yield attrs.evolve(server, engine_cpu_s=redis.cpu_s)
        finally:
            redis.forget_rooms()
