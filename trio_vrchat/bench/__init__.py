"""A load test for any server of this protocol, over real sockets and from a process of its own.

    from trio_vrchat import bench

    result = bench.run(bench.Options(url="ws://127.0.0.1:42069/", users=100), lambda fraction: None)
    print(result.batches_per_s_min, result.chat_latency_p99_ms)

`run` measures, `table` and `to_json` show what came of it, and `main` does both for a command line. `compare` measures
several servers in turn, and `scale` one as several numbers of processes.

Reading order: `_load.py` is the run, `_user.py` one of its users. Beneath those, `_wire.py` knows WebSocket,
`_protocol.py` what is said, `_motion.py` where, `_schedule.py` when, and `_target.py` to whom. `_room.py` is one of the
rooms, and `_ledger.py` keeps the books on its chat. `_result.py` holds the figures. `_server_process.py` starts
servers, and `_usage.py` reads what they cost. `_rounds.py` measures several in turn and lays their figures side by
side: in `_compare.py` those of others, in `_scaling.py` those of more and more processes, which share their rooms by a
Redis, as `_redis.py` speaks to it. `_options.py` says what may be asked for.

Trio has no part in it, nor has any WebSocket library: a load generator that shares its machinery with the
server would be slow where the server is slow, and would show it as the server's speed.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ._compare import compare
from ._load import measure
from ._options import BenchError, Options, allow_descriptors, check
from ._result import Result, table, to_json
from ._rounds import Comparison, to_plain
from ._rounds import table as comparison_table
from ._scaling import scale
from ._server_process import own_server
from ._target import parse_url
from ._usage import Meter

__all__ = ["BenchError", "Comparison", "Options", "Result", "compare", "main", "run", "scale", "table", "to_json"]

_EXIT_SOUND = 0
_EXIT_UNSOUND = 1
_EXIT_NOT_DONE = 2


def run(options: Options, progress: Callable[[float], None]) -> Result:
    """Put the load on the server at `options.url`, or on one started for the run, and measure.

    It takes about `options.seconds`, and up to 30 s for the logins, 4 s around the measured window, and 30 s
    to start and end a server. The process's soft limit of open files is raised if that many users need it.

    Args:
        options: what to measure.
        progress: called at most twice a second with the share of warm-up and window that has passed, from 0.0
            to 1.0. It MUST be quick: while it runs, nothing is read.

    Raises:
        BenchError: the options make no sense, the server cannot be started or reached, does not let all users
            in, breaks the protocol, or was started for the run and ended by itself.
    """
    check(options)
    allow_descriptors(options.users)
    if options.url is not None:
        return measure(options, parse_url(options.url), Meter(options.pid), progress)
    with own_server(options.fps) as server:
        return measure(options, parse_url(server.url), Meter(server.pid), progress)


def main(
    options: Options,
    *,
    json: bool,
    others: Mapping[str, str] | None = None,
    workers: Sequence[int] = (),
    backplane: str | None = None,
    rounds: int = 3,
) -> int:
    """Run, and print the figures on stdout; what keeps the run from being done is one line on stderr.

    Args:
        options: what to measure.
        json: print one JSON object instead of a table.
        others: compare with the servers that these commands start, by their names.
        workers: measure our own as so many processes, for each of these numbers; not with `others`.
        backplane: the URL of the Redis by which these share their rooms.
        rounds: how often each of them is measured.

    Returns:
        The exit status: 0, or 1 if a result is not `Result.sound`, or 2 if there is none.
    """
    measured: Result | Comparison
    try:
        with _progress_bar(options) as show:
            if workers or backplane is not None:
                if others:
                    raise BenchError(f"compare is {', '.join(others)}: leave it out, or workers and backplane")
                measured = scale(options, workers, backplane, rounds, show)
            elif others:
                measured = compare(options, others, rounds, show)
            else:
                measured = run(options, lambda share: show(f"{options.users} users", share))
    except BenchError as error:
        sys.stderr.write(f"trio-vrchat: error: {error}\n")
        return _EXIT_NOT_DONE
    if json:
        sys.stdout.write(_as_json(measured) + "\n")
    else:
        Console().print(comparison_table(measured) if isinstance(measured, Comparison) else table(measured))
    return _EXIT_SOUND if measured.sound else _EXIT_UNSOUND


def _as_json(measured: Result | Comparison) -> str:
    return dumps(to_plain(measured), allow_nan=False) if isinstance(measured, Comparison) else to_json(measured)


@contextmanager
def _progress_bar(options: Options) -> Iterator[Callable[[str, float], None]]:
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Drawn between two turns of the load, never by a thread that would hold it up in the middle of one.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(f"{options.users} users", total=1.0)

        def show(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share, refresh=True)

        yield show
