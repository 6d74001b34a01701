"""Several servers under the same load, in turn, round after round: figures that may be laid side by side.

A machine that does other work too is a different one from minute to minute. So each round runs every server once, and
what is shown of each is its median over the rounds; only ratios within one table mean anything.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen
from rich.table import Table

from ._load import measure
from ._options import BenchError, Options, allow_descriptors, check
from ._result import Result, as_plain, number
from ._server_process import other_server, own_server
from ._target import parse_url

OURS = "trio_vrchat"


@frozen
class Comparison:
    """What was measured: for each server, by its name, the results of the rounds."""

    options: Options
    results: Mapping[str, Sequence[Result]]

    @property
    def sound(self) -> bool:
        """Whether every run was."""
        return all(result.sound for results in self.results.values() for result in results)


def compare(
    options: Options, commands: Mapping[str, str], rounds: int, progress: Callable[[str, float], None]
) -> Comparison:
    """Put the load on a server of this package, and then on those that the commands start, `rounds` times.

    Args:
        options: the load; without a `url`.
        commands: what starts each of the others, by a name for it; {port} and {fps} stand for what it is given.
        rounds: how often each is measured.
        progress: called as that of `bench.run` is, with what is being measured.

    Raises:
        BenchError: as `bench.run`; or the options, the commands or the rounds make no sense.
    """
    check(options)
    if options.url is not None:
        raise BenchError(f"url is {options.url!r}: a comparison starts its servers itself, give their commands")
    if OURS in commands:
        raise BenchError(f"a server is named {OURS!r}: that is the name of our own, which is always measured")
    if rounds < 1:
        raise BenchError(f"rounds is {rounds}: it takes at least 1")
    allow_descriptors(options.users)
    results: dict[str, list[Result]] = {name: [] for name in (OURS, *commands)}
    for turn in range(1, rounds + 1):
        for name, measured in results.items():
            starting = own_server(options.fps) if name == OURS else other_server(commands[name], options.fps)

            def show(share: float, name: str = name, turn: int = turn) -> None:
                progress(f"{name}, {turn} of {rounds}", share)

            try:
                with starting as server:
                    measured.append(measure(options, parse_url(server.url), server.pid, show))
            except BenchError as error:
                raise BenchError(f"{name}: {error}") from error
    return Comparison(options, results)


def to_plain(comparison: Comparison) -> dict[str, list[dict[str, object]]]:
    """The results as JSON has them: for each server those of its rounds."""
    return {name: [as_plain(result) for result in results] for name, results in comparison.results.items()}


def table(comparison: Comparison) -> Table:
    """The medians for a terminal, a line for each server."""
    options = comparison.options
    rounds = len(comparison.results[OURS])
    title = (
        f"{options.users} users, {options.send_hz:g} transforms/s each, {options.fps:g} batches/s, "
        f"{options.chat_hz:g} chat lines/s\nmedians of {rounds} rounds of {options.seconds:g} s each"
    )
    grid = Table(title=title)
    grid.add_column("", no_wrap=True)
    # (Short enough for 80 columns.)
    columns = ("server\nCPU", "of\nours", "batch\nper s", "chat\np50 ms", "p99", "max", "lost", "MB")
    for column in columns:
        grid.add_column(column, justify="right")
    ours = _median(comparison.results[OURS], lambda result: result.server_cpu_fraction)
    doubtful = False
    for name, results in comparison.results.items():
        cpu = _median(results, lambda result: result.server_cpu_fraction)
        lost = sum(
            result.chat_lines_lost + result.chat_lines_duplicated + result.connections_closed for result in results
        )
        busy = any(result.doubtful for result in results)
        doubtful = doubtful or busy
        grid.add_row(
            name + (" ?" if busy else ""),
            number(cpu, ".1%"),
            number(None if cpu is None or not ours else cpu / ours, ".2f"),
            number(_median(results, lambda result: result.batches_per_s_mean), ".1f"),
            number(_median(results, lambda result: result.chat_latency_p50_ms), ".2f"),
            number(_median(results, lambda result: result.chat_latency_p99_ms), ".2f"),
            number(_median(results, lambda result: result.chat_latency_max_ms), ".2f"),
            f"[red]{lost:,}[/red]" if lost else "0",
            number(_median(results, lambda result: result.server_rss_mb), ".0f"),
        )
    if doubtful:
        grid.caption = "?: the load process was so busy that it may have been the bottleneck."
    return grid


def _median(results: Sequence[Result], figure: Callable[[Result], float | None]) -> float | None:
    values = [value for result in results if (value := figure(result)) is not None]
    return statistics.median(values) if values else None
