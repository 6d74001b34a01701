"""`/metrics`: a server's figures in Prometheus's format, made when they are asked for.

Nothing is counted for it that is not counted anyway, so a message costs nothing more. What has one figure for each user
or connection is shown as a histogram of all of them: no label is anybody's name, and there are as many series with one
user as with a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ._http import Answer, Request
from ._outbox import Outbox
from ._statistics import Histogram, Statistics
from ._version import __version__

_PREFIX = "trio_vrchat_"

# By the field of `Statistics`. What goes up and down:
_NOW = {
    "connections": "WebSocket connections.",
    "sessions": "Users, those included whose connection is lost and who may resume.",
    "rooms": "Open rooms, the lobby included.",
    "members": "Members over all rooms: a user in two rooms counts twice.",
    "recording": "Whether a recording is running.",
    "backplane_connected": "Whether the engine of the backplane is found; 0 without a backplane.",
}
# What only goes up:
_SINCE_THE_START = {
    "http_requests": "Requests that were answered over HTTP.",
    "refused": "Connections that a limit refused.",
    "logins": "Logins that were granted, takeovers included.",
    "takeovers": "Logins that took over a session.",
    "resumes": "Sessions that were resumed.",
    "events_in": "Room messages taken from clients, transforms included.",
    "events_out": "Entries handed to members, each once for each recipient.",
    "bytes_in": "Bytes read from clients.",
    "bytes_out": "Bytes written to clients.",
    "batches": "Batches of transforms.",
    "frames_late": "Ticks that began a whole frame or more after their time.",
    "recorded": "Messages that went into recordings.",
    "recording_lost": "Messages that did not, because the disk did not keep up.",
    "recording_failures": "Recordings that ended by themselves.",
    "backplane_losses": "How often the engine of the backplane was lost.",
    "rate_limited": "Messages that were refused or dropped for a rate.",
}

# A wired machine in the same room, up to what nobody can talk over.
_ROUND_TRIP_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Up to the default limits of an outbox.
_OUTBOX_BOUNDS_FRAMES = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0)
_OUTBOX_BOUNDS_BYTES = (0.0, 1024.0, 16384.0, 65536.0, 262144.0, 1048576.0)


class Metrics:
    """The metrics of one server. `outboxes` gives those of its connections.

    `worker`: which of several it is, of which whoever asks reaches one or another. Each sample then says so in a label,
    or the counters of all would look like one that goes up and down.
    """

    def __init__(
        self, statistics: Statistics, outboxes: Callable[[], Iterable[Outbox]], worker: int | None = None
    ) -> None:
        # One of its own: two servers in one program do not see each other's, nor what the program counts itself.
        self._registry = CollectorRegistry()
        # And CPU, memory and descriptors of the process, where the machine says them.
        for collector in (_Figures(statistics, outboxes), ProcessCollector(registry=None)):
            self._registry.register(collector if worker is None else _OfWorker(collector, str(worker)))

    def answer(self, request: Request) -> Answer:
        """What `/metrics` says."""
        if any(
            token.partition(";")[0].strip() == "application/openmetrics-text" for token in request.tokens(b"accept")
        ):
            body = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            content_type = openmetrics.CONTENT_TYPE_LATEST
        else:
            body, content_type = generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
        return Answer(200, (("Content-Type", content_type), ("Cache-Control", "no-store")), body)


@attrs.frozen(eq=False)
class _Figures(Collector):
    _statistics: Statistics
    _outboxes: Callable[[], Iterable[Outbox]]

    def describe(self) -> list[Metric]:
        """Nothing: with one collector there is no name to clash with."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now."""
        statistics = self._statistics
        for field, text in _NOW.items():
            yield GaugeMetricFamily(_PREFIX + field, text, getattr(statistics, field))
        for field, text in _SINCE_THE_START.items():
            yield CounterMetricFamily(_PREFIX + field, text, getattr(statistics, field))
        lateness = statistics.batch_lateness_s
        yield HistogramMetricFamily(
            f"{_PREFIX}batch_lateness_seconds",
            "From a batch's time on the grid until its room began to send it.",
            buckets=_buckets(lateness),
            sum_value=lateness.total,
        )
        yield _of_all(
            "round_trip_seconds",
            "The last ping of each user.",
            _ROUND_TRIP_BOUNDS_S,
            statistics.round_trips_s.values(),
        )
        outboxes = list(self._outboxes())
        yield _of_all(
            "outbox_frames",
            "Frames that wait for each connection.",
            _OUTBOX_BOUNDS_FRAMES,
            (outbox.waiting_frames for outbox in outboxes),
        )
        yield _of_all(
            "outbox_bytes",
            "Bytes that wait for each connection.",
            _OUTBOX_BOUNDS_BYTES,
            (outbox.waiting_bytes for outbox in outboxes),
        )
        yield InfoMetricFamily(f"{_PREFIX}build", "What runs here.", {"version": __version__})


@attrs.frozen(eq=False)
class _OfWorker(Collector):
    _collector: Collector
    _worker: str

    def describe(self) -> list[Metric]:
        """Nothing, as above."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What it collects, with a label more."""
        for metric in self._collector.collect():
            metric.samples = [
                sample._replace(labels={**sample.labels, "worker": self._worker}) for sample in metric.samples
            ]
            yield metric


def _of_all(name: str, text: str, bounds: tuple[float, ...], values: Iterable[float]) -> Metric:
    """How many of those that there are now have which value."""
    histogram = Histogram(bounds)
    for value in values:
        histogram.add(value)
    return GaugeHistogramMetricFamily(_PREFIX + name, text, buckets=_buckets(histogram), gsum_value=histogram.total)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus counts: each bucket with all that is below it."""
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        so_far += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), so_far))
    return buckets
