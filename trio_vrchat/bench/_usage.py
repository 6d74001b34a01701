"""What a server costs, process by process, with the engine behind it, and how many users each of its processes has."""

import time
from collections.abc import Callable, Mapping, Sequence

import psutil
from attrs import evolve, frozen


@frozen
class Usage:
    """What a process and its children have used up to one moment.

    Attributes:
        at_s: when, by `time.perf_counter`.
        cpu_s: CPU seconds in user and system mode since they started, by process; those of a child that ended
            are its parent's.
        rss_bytes: resident memory now; pages that several of them share count for each.
    """

    at_s: float
    cpu_s: Mapping[int, float]
    rss_bytes: int

    def fractions_since(self, before: "Usage") -> list[float]:
        """CPU seconds per second of each process between two moments, the busiest first."""
        seconds = self.at_s - before.at_s
        used = ((cpu_s - before.cpu_s.get(pid, 0.0)) / seconds for pid, cpu_s in self.cpu_s.items())
        return sorted(used, reverse=True)


@frozen
class Cost:
    """What a server has cost between two moments, as `Result` has it."""

    cpu_s: float | None = None
    cpu_fraction: float | None = None
    cpu_fraction_by_process: Sequence[float] = ()
    rss_mb: float | None = None
    engine_cpu_fraction: float | None = None


@frozen
class Reading:
    """What there is to read at one moment; None where it is not known.

    Attributes:
        server: what the server has used.
        engine: when it was read, and the CPU seconds that the engine behind it has used.
    """

    server: Usage | None
    engine: tuple[float, float] | None

    def cost_since(self, before: "Reading") -> Cost:
        """What was used between two moments."""
        cost = Cost()
        if self.server is not None and before.server is not None:
            cpu_s = sum(self.server.cpu_s.values()) - sum(before.server.cpu_s.values())
            cost = Cost(
                cpu_s=cpu_s,
                cpu_fraction=cpu_s / (self.server.at_s - before.server.at_s),
                cpu_fraction_by_process=self.server.fractions_since(before.server),
                rss_mb=self.server.rss_bytes / 1e6,
            )
        if self.engine is not None and before.engine is not None:
            seconds, cpu_s = (after - start for after, start in zip(self.engine, before.engine, strict=True))
            cost = evolve(cost, engine_cpu_fraction=cpu_s / seconds)
        return cost


@frozen
class Meter:
    """What a server costs is read by it.

    Attributes:
        pid: the server's process, if it is known.
        engine_cpu_s: returns the CPU seconds that the engine behind it has used, where there is one.
    """

    pid: int | None = None
    engine_cpu_s: Callable[[], float] | None = None

    def read(self) -> Reading:
        """Read it. Looking through the machine's processes takes milliseconds."""
        server = None if self.pid is None else usage(self.pid)
        return Reading(server, None if self.engine_cpu_s is None else (time.perf_counter(), self.engine_cpu_s()))


def usage(pid: int) -> Usage | None:
    """What process `pid` and its children have used; None if there is none, or it may not be looked at."""
    cpu_s: dict[int, float] = {}
    rss_bytes = 0
    for process in _family(pid):
        try:
            times = process.cpu_times()
            rss_bytes += process.memory_info().rss
        except psutil.Error:
            if process.pid == pid:
                return None
            continue  # a child that ended meanwhile is in its parent's times
        cpu_s[process.pid] = times.user + times.system + times.children_user + times.children_system
    return Usage(time.perf_counter(), cpu_s, rss_bytes) if cpu_s else None


def users_of(pid: int, port: int) -> list[int]:
    """How many connections to a port process `pid` and its children have, the most first.

    One that has none, and children that have, is left out: it only starts them. Empty where none may be looked at.
    """
    counts: list[int] = []
    for process in _family(pid):
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        count = sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in connections)
        if count or process.pid != pid:
            counts.append(count)
    return sorted(counts, reverse=True)


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        with root.oneshot():
            return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
