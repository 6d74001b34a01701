"""A hundred honest members talk and move while every attack runs beside them: none is cut, nothing is lost.

Three processes on real sockets: the server with its default settings, the bench as the honest members, and all attacks
side by side, again and again. The figures are printed, so that they stand in CI's log.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import psutil
import pytest
import trio

from .attacks.client import Target
from .attacks.members import MEMBERS
from .program import LOCAL, rest, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8, and /proc")

# The server takes 50 alone. Each of some fifty attackers may hold 64 connections, of 29 KB and what waits there.
_MEMORY_BYTES = 150_000_000
# Each kind of attack comes from an address of its own in 127.0.0.0/8. They are counted as those of a network are; the
# members, who share one, are not.
_ATTACKERS_COUNT = ("--exempt-networks", "127.0.0.1/32")
# Against hanging only.
_DEADLINE_S = 300


def test_a_hundred_members_beside_every_attack(capsys: pytest.CaptureFixture[str]) -> None:
    with started(*LOCAL, *_ATTACKERS_COUNT, "--log-level", "0") as server:
        url = server.url()
        port = int(url.rpartition(":")[2].rstrip("/"))
        with started(url, command=("-m", "tests.attacks.members")) as members:
            members.until("all are in", members.stdout)
            with started("127.0.0.1", str(port), command=("-m", "tests.attacks")) as attackers:
                attackers.until("all have begun", attackers.stdout)
                newcomers_s = trio.run(_come_in, port)
                assert members.process.wait(_DEADLINE_S) == 0, rest(members.stderr)
                attackers.process.terminate()
                status, errors = attackers.end()
                # Whole, where a plain assertion would cut it.
                assert status == 0, "\n".join(errors)
                attacks = json.loads(rest(attackers.stdout)[-1])
            figures = json.loads(rest(members.stdout)[-1])
        cpu_s = sum(psutil.Process(server.process.pid).cpu_times()[:2])
        peak_bytes = _peak_bytes(server.process.pid)
        alive = server.process.poll() is None
    assert alive
    report = f"""
  {MEMBERS} members beside {sum(attacks.values())} attacks of {len(attacks)} kinds:
    lines said: {figures["chat_lines_sent"]}, delivered: {figures["chat_lines_delivered"]}
    lost: {figures["chat_lines_lost"]}, twice: {figures["chat_lines_duplicated"]}, \
out of order: {figures["chat_lines_out_of_order"]}, members cut: {figures["connections_closed"]} \
{figures["close_codes"] or ""}
    a line takes p50 {figures["chat_latency_p50_ms"]:.0f} ms, p99 {figures["chat_latency_p99_ms"]:.0f} ms, \
at most {figures["chat_latency_max_ms"]:.0f} ms
    newcomers got in after {", ".join(f"{took_s:.2f}" for took_s in newcomers_s)} s
    the server's memory at its peak: {peak_bytes / 1e6:.0f} MB; its CPU time: {cpu_s:.0f} s
    {", ".join(f"{name}: {runs}" for name, runs in attacks.items())}
"""
    with capsys.disabled():
        sys.stdout.write(report)
    assert figures["chat_lines_sent"] > 0
    assert figures["chat_lines_delivered"] == figures["chat_lines_sent"] * MEMBERS
    for broken in ("chat_lines_lost", "chat_gaps", "chat_lines_duplicated", "chat_lines_out_of_order"):
        assert figures[broken] == 0
    assert figures["connections_closed"] == 0, figures["close_codes"]
    assert figures["error_frames"] == 0, figures["first_error_code"]
    assert peak_bytes < _MEMORY_BYTES
    assert not [name for name, runs in attacks.items() if not runs]


async def _come_in(port: int) -> list[float]:
    """How many seconds it took five newcomers, one after the other, to log in."""
    took_s = []
    for _ in range(5):
        start = trio.current_time()
        async with Target("127.0.0.1", port, address="127.0.0.1").login():
            took_s.append(trio.current_time() - start)
    return took_s


def _peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
