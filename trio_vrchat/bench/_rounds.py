"""Several servers under the same load, in turn, round after round: figures that may be laid side by side.

A machine that does other work too is a different one from minute to minute. So each round runs every server once, and
what is shown of each is its median over the rounds; only ratios within one table mean anything.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from attrs import frozen
from rich.table import Table

from ._load import measure
from ._options import BenchError, Options, allow_descriptors, check
from ._result import Result, as_plain, number, where
from ._server_process import RunningServer
from ._target import parse_url
from ._usage import Meter

# Starts a server, which is ended with the context.
Start = Callable[[], AbstractContextManager[RunningServer]]


@frozen
class Comparison:
    """What was measured: for each server, by its name, the results of the rounds.

    Attributes:
        options: the load.
        results: by the servers' names; what the others cost is given as a ratio to the first.
        names: what the names are, for the head of their column.
    """

    options: Options
    results: Mapping[str, Sequence[Result]]
    names: str = ""

    @property
    def sound(self) -> bool:
        """Whether every run was."""
        return all(result.sound for results in self.results.values() for result in results)


def check_rounds(options: Options, rounds: int) -> None:
    """Raise `BenchError` for options or rounds with which several servers cannot be measured."""
    check(options)
    if options.url is not None:
        raise BenchError(f"url is {options.url!r}: servers that are compared are started for it, leave the url out")
    if rounds < 1:
        raise BenchError(f"rounds is {rounds}: it takes at least 1")


def in_turn(
    options: Options, servers: Mapping[str, Start], rounds: int, names: str, progress: Callable[[str, float], None]
) -> Comparison:
    """Put the load on each of these servers, by their names, `rounds` times.

    Args:
        options: the load; checked, as the rounds are.
        servers: what starts each, by its name.
        rounds: how often each is measured.
        names: what the names are.
        progress: called as that of `bench.run` is, with what is being measured.

    Raises:
        BenchError: as `bench.run`.
    """
    allow_descriptors(options.users)
    results: dict[str, list[Result]] = {name: [] for name in servers}
    for turn in range(1, rounds + 1):
        for name, measured in results.items():

            def show(share: float, name: str = name, turn: int = turn) -> None:
                progress(f"{names} {name}, {turn} of {rounds}".lstrip(), share)

            try:
                with servers[name]() as server:
                    meter = Meter(server.pid, server.engine_cpu_s)
                    measured.append(measure(options, parse_url(server.url), meter, show))
            except BenchError as error:
                raise BenchError(f"{names} {name}: {error}".lstrip()) from error
    return Comparison(options, results, names)


def to_plain(comparison: Comparison) -> dict[str, list[dict[str, object]]]:
    """The results as JSON has them: for each server those of its rounds."""
    return {name: [as_plain(result) for result in results] for name, results in comparison.results.items()}


@frozen
class _Column:
    header: str
    # What is shown of the results of one server, and of the first.
    cell: Callable[[Sequence[Result], Sequence[Result]], str]


def table(comparison: Comparison) -> Table:
    """The medians for a terminal, a line for each server. It fits 80 columns."""
    options = comparison.options
    first = next(iter(comparison.results.values()))
    title = (
        f"{where(options.users, options.rooms)}, {options.send_hz:g} transforms/s each, {options.fps:g} batches/s, "
        f"{options.chat_hz:g} chat lines/s\nmedians of {len(first)} rounds of {options.seconds:g} s each"
    )
    shared = any(result.engine_cpu_fraction is not None for each in comparison.results.values() for result in each)
    columns = [*_COST, *(_COST_OF_SHARING if shared else ()), *_DELIVERY, *(_SPREAD if shared else ())]
    grid = Table(title=title, padding=(0, 0) if shared else (0, 1))
    grid.add_column(comparison.names, no_wrap=True)
    for column in columns:
        grid.add_column(column.header, justify="right")
    doubts: dict[str, str] = {}
    for name, results in comparison.results.items():
        marks = ""
        for mark, meaning, doubt in _DOUBTS:
            if any(doubt(result) for result in results):
                marks += mark
                doubts[mark] = meaning
        grid.add_row(f"{name} {marks}".rstrip(), *(column.cell(results, first) for column in columns))
    grid.caption = "\n".join(f"{mark}: {meaning}" for mark, meaning in doubts.items()) or None
    return grid


_DOUBTS: Sequence[tuple[str, str, Callable[[Result], bool]]] = (
    ("?", "the load process was so busy that it may have been the bottleneck.", lambda result: result.doubtful),
    ("!", "not all batches came, so that what it cost is too little.", lambda result: result.kept_up is False),
)


def _median(results: Sequence[Result], figure: Callable[[Result], float | None]) -> float | None:
    values = [value for result in results if (value := figure(result)) is not None]
    return statistics.median(values) if values else None


def _median_column(header: str, figure: Callable[[Result], float | None], form: str) -> _Column:
    return _Column(header, lambda results, first: number(_median(results, figure), form))


def _ratio(results: Sequence[Result], first: Sequence[Result]) -> str:
    cpu, of = (_median(each, lambda result: result.server_cpu_fraction) for each in (results, first))
    return number(None if cpu is None or not of else cpu / of, ".2f")


def _lost(results: Sequence[Result], first: Sequence[Result]) -> str:
    lost = sum(result.chat_lines_lost + result.chat_lines_duplicated + result.connections_closed for result in results)
    return f"[red]{lost:,}[/red]" if lost else "0"


def _spread(results: Sequence[Result], first: Sequence[Result]) -> str:
    counts = [count for result in results for count in result.users_by_process]
    if not counts:
        return "-"
    fewest, most = min(counts), max(counts)
    return f"{fewest}-{most}" if fewest < most else f"{most}"


# (All of them together fit 80 columns.)
_COST = (
    _median_column("server\nCPU", lambda result: result.server_cpu_fraction, ".1%"),
    _Column("of\nfirst", _ratio),
)
_COST_OF_SHARING = (
    _median_column("busiest\nprocess", lambda result: result.server_cpu_fraction_busiest, ".1%"),
    _median_column("Redis\nCPU", lambda result: result.engine_cpu_fraction, ".1%"),
)
_DELIVERY = (
    _median_column("batch\nper s", lambda result: result.batches_per_s_mean, ".1f"),
    _median_column("chat\np50 ms", lambda result: result.chat_latency_p50_ms, ".2f"),
    _median_column("p99", lambda result: result.chat_latency_p99_ms, ".1f"),
    _median_column("max", lambda result: result.chat_latency_max_ms, ".1f"),
    _Column("lost", _lost),
    _median_column("MB", lambda result: result.server_rss_mb, ".0f"),
)
_SPREAD = (_Column("users\neach", _spread),)
