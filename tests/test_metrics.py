"""/metrics: every figure, in a format that Prometheus's own parsers read."""

from __future__ import annotations

import attrs
import pytest
import trio
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain
from trio.testing import MockClock

import trio_vrchat
from trio_vrchat import Config, Statistics, testing
from trio_vrchat._http import Request
from trio_vrchat._metrics import Metrics
from trio_vrchat._outbox import Outbox
from trio_vrchat.testing import MemoryServer, settle

FROM_HERE = "127.0.0.1"


def outbox(waiting: int) -> Outbox:
    """One in which so many frames of ten bytes wait."""
    found = Outbox(limit_frames=1000, limit_bytes=1 << 20, write=len, on_frames=lambda: None, on_overflow=lambda: None)
    for _ in range(waiting):
        found.offer(b"x" * 10)
    return found


def text_of(metrics: Metrics, accept: str = "") -> str:
    answer = metrics.answer(Request("GET", "/metrics", "memory", ((b"accept", accept.encode()),)))
    assert answer.status == 200
    return answer.body.decode()


def values(text: str) -> dict[str, float]:
    """Each sample, by its name and its bound if it has one."""
    found: dict[str, float] = {}
    for family in read_plain(text):
        for sample in family.samples:
            name = f"{sample.name} {sample.labels['le']}" if "le" in sample.labels else sample.name
            assert name not in found
            found[name] = sample.value
    return found


def test_every_statistic_is_there() -> None:
    statistics = Statistics()
    histograms = {"batch_lateness_s": "batch_lateness_seconds_count", "round_trips_s": "round_trip_seconds_gcount"}
    names: dict[str, str] = {}
    for number, name in enumerate(field.name for field in attrs.fields(Statistics)):
        if name not in histograms:
            setattr(statistics, name, 1000 + number)
    for _ in range(3):
        statistics.batch_lateness_s.add(0.003)
    statistics.round_trips_s |= {"Tibi": 0.02, "Anna": 0.3}
    found = values(text_of(Metrics(statistics, list)))
    for field in attrs.fields(Statistics):
        name = f"trio_vrchat_{histograms.get(field.name, field.name)}"
        names[field.name] = name if name in found else f"{name}_total"
        expected = {"batch_lateness_s": 3, "round_trips_s": 2}.get(field.name)
        expected = getattr(statistics, field.name) if expected is None else expected
        assert found[names[field.name]] == expected
    now = {field for field, name in names.items() if not name.endswith("_total") and field not in histograms}
    assert now == {"connections", "sessions", "rooms", "members", "recording", "backplane_connected"}, (
        "what the docstring says goes up and down"
    )


def test_histograms_add_up_from_below() -> None:
    statistics = Statistics()
    for lateness in (0.0005, 0.003, 0.003, 7.0):
        statistics.batch_lateness_s.add(lateness)
    found = values(text_of(Metrics(statistics, list)))
    name = "trio_vrchat_batch_lateness_seconds"
    assert [found[f"{name}_bucket {bound}"] for bound in ("0.001", "0.002", "0.005", "0.1", "+Inf")] == [1, 1, 3, 3, 4]
    assert found[f"{name}_sum"] == pytest.approx(7.0065)


def test_outboxes_are_looked_at_when_it_is_asked_for() -> None:
    outboxes = [outbox(0), outbox(0), outbox(3), outbox(200)]
    metrics = Metrics(Statistics(), lambda: outboxes)
    found = values(text_of(metrics))
    assert [found[f"trio_vrchat_outbox_frames_bucket {bound}"] for bound in ("0.0", "4.0", "256.0", "+Inf")] == [
        2,
        3,
        4,
        4,
    ]
    assert [found[f"trio_vrchat_outbox_bytes_bucket {bound}"] for bound in ("0.0", "1024.0", "16384.0")] == [2, 3, 4]
    assert found["trio_vrchat_outbox_frames_gsum"] == 203
    del outboxes[2:]
    assert values(text_of(metrics))["trio_vrchat_outbox_frames_gcount"] == 2


def test_it_is_read_by_prometheus_in_both_formats() -> None:
    statistics = Statistics(logins=5)
    metrics = Metrics(statistics, lambda: [outbox(1)])

    def names(families: list[Metric]) -> set[str]:
        return {family.name for family in families if family.name.startswith("trio_vrchat_")}

    newer = text_of(
        metrics, "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    )
    assert newer.endswith("# EOF\n")
    families = list(read_openmetrics(newer))  # type: ignore[no-untyped-call]
    assert {"trio_vrchat_logins", "trio_vrchat_outbox_frames", "trio_vrchat_batch_lateness_seconds"} <= names(families)
    assert {family.name: family.type for family in families}["trio_vrchat_outbox_frames"] == "gaugehistogram"
    for accept in ("", "text/plain", "application/openmetrics", "text/plain;version=x;q=y", ";;,="):
        older = text_of(metrics, accept)
        assert "# EOF" not in older
        assert names(list(read_plain(older))) >= {"trio_vrchat_logins", "trio_vrchat_outbox_frames"}


def test_as_many_series_with_a_thousand_users_as_with_none() -> None:
    statistics = Statistics()
    few = values(text_of(Metrics(statistics, list)))
    statistics.round_trips_s |= {f"user {number}": 0.01 for number in range(1000)}
    text = text_of(Metrics(statistics, lambda: [outbox(0)] * 1000))
    assert values(text).keys() == few.keys()
    assert "user 1" not in text


def test_each_server_has_its_own_and_the_program_keeps_its_own() -> None:
    before = [family.name for family in REGISTRY.collect()]
    one, other = (Metrics(Statistics(logins=number), list) for number in (1, 2))
    assert [values(text_of(metrics))["trio_vrchat_logins_total"] for metrics in (one, other)] == [1, 2]
    assert [family.name for family in REGISTRY.collect()] == before
    assert not [
        line for line in text_of(one).splitlines() if line.startswith(("python_", "trio_vrchat_logins_created"))
    ]


def test_each_sample_of_a_worker_says_so_in_both_formats() -> None:
    statistics = Statistics(logins=5)
    statistics.batch_lateness_s.add(0.003)
    metrics = Metrics(statistics, lambda: [outbox(1)], 3)
    newer = text_of(metrics, "application/openmetrics-text")
    for families in (read_plain(text_of(metrics)), read_openmetrics(newer)):  # type: ignore[no-untyped-call]
        samples = [sample for family in families for sample in family.samples]
        assert {sample.labels.get("worker") for sample in samples} == {"3"}
        names = {sample.name for sample in samples}
        assert {"trio_vrchat_logins_total", "trio_vrchat_outbox_frames_bucket", "process_cpu_seconds_total"} <= names
    assert "worker=" not in text_of(Metrics(statistics, list))


async def scraped(server: MemoryServer, address: str | None) -> tuple[int, str]:
    client = await server.dial(address=address)
    client.send_bytes(b"GET /metrics HTTP/1.1\r\nHost: memory\r\n\r\n")
    await settle()
    head, _, body = client.take_bytes().partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def test_a_running_server_says_what_it_counts(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=10)) as server:
        tibi = await server.login("Tibi")
        await server.login("Anna")
        tibi.send({"room": "lobby", "type": "transform", "data": {}})
        await trio.sleep(1)
        status, text = await scraped(server, FROM_HERE)
        assert status == 200
        found = values(text)
        assert (found["trio_vrchat_connections"], found["trio_vrchat_logins_total"]) == (2, 2)
        assert found["trio_vrchat_batch_lateness_seconds_count"] == 1
        assert found["trio_vrchat_outbox_frames_gcount"] == 2, "who only asks for figures has no outbox"
        assert "Tibi" not in text
        assert f'version="{trio_vrchat.__version__}"' in text


@pytest.mark.parametrize(
    ("networks", "address", "status"),
    [
        (("127.0.0.0/8",), "127.0.0.1", 200),
        (("127.0.0.0/8",), "192.0.2.7", 404),
        (("192.0.2.0/24",), "192.0.2.7", 200),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", 200),
        ((), "127.0.0.1", 404),
        (("0.0.0.0/0", "::/0"), None, 404),
    ],
)
async def test_from_where_it_is_read(
    autojump_clock: MockClock, networks: tuple[str, ...], address: str | None, status: int
) -> None:
    async with testing.open_server(Config(metrics_networks=networks)) as server:
        assert (await scraped(server, address))[0] == status
