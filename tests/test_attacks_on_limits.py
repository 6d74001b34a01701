"""More connections than there is room for: in the process, and for one address."""

from __future__ import annotations

import contextlib
import sys

import pytest

from .attacks import ATTACKS
from .attacks.client import Target, until
from .attacks.witness import beside_a_witness, descriptors, until_descriptors_are
from .program import LOCAL, started

if sys.platform != "win32":
    import resource

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit, and all of 127.0.0.0/8")

_PER_ADDRESS = 64


async def test_without_a_free_descriptor_who_is_in_stays_and_who_waits_gets_in_later() -> None:
    with started(*LOCAL, "--log-level", "0") as server:
        port = int(server.url().rpartition(":")[2].rstrip("/"))
        async with beside_a_witness(port) as witness:
            await witness.hear_another()
            baseline = descriptors(server)
            _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (baseline + 10, hard))
            async with contextlib.AsyncExitStack() as crowd:
                target = Target("127.0.0.1", port)
                for _ in range(50):
                    await crowd.enter_async_context(target.dial())
                await until(lambda: descriptors(server) >= baseline + 10)
                for _ in range(5):
                    await witness.hear_another()
            async with Target("127.0.0.1", port).login():
                pass
            await until_descriptors_are(server, baseline)
        assert server.process.poll() is None
        server.process.terminate()
        status, errors = server.end()
        assert status == 0
        assert len(errors) < 10, "one line each would be what a flood wants"


async def test_with_few_descriptors_it_refuses_before_it_runs_out() -> None:
    limits = "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    run = "runpy.run_module('trio_vrchat', run_name='__main__', alter_sys=True)"
    with started(*LOCAL, "--log-level", "0", command=("-c", limits + run)) as server:
        port = int(server.url().rpartition(":")[2].rstrip("/"))
        async with beside_a_witness(port) as witness:
            await witness.hear_another()
            baseline = descriptors(server)
            async with contextlib.AsyncExitStack() as crowd:
                target = Target("127.0.0.1", port)
                statuses = []
                for _ in range(80):
                    client = await crowd.enter_async_context(target.dial())
                    statuses.append(await client.upgrade())
                assert 101 in statuses
                assert statuses[-1] == 503
                assert descriptors(server) < 100
            await until_descriptors_are(server, baseline)
            await ATTACKS["many connections"].run(target)
            await until_descriptors_are(server, baseline)
            async with target.login():
                pass


async def test_one_address_has_its_share_and_leaves_the_rest_to_others() -> None:
    with started(*LOCAL, "--exempt-networks", "127.0.0.1/32", "--log-level", "0") as server:
        port = int(server.url().rpartition(":")[2].rstrip("/"))
        async with beside_a_witness(port) as witness, contextlib.AsyncExitStack() as crowd:
            await witness.hear_another()
            baseline = descriptors(server)
            target = Target("127.0.0.1", port)
            clients = [await crowd.enter_async_context(target.dial()) for _ in range(_PER_ADDRESS + 8)]
            assert [await client.upgrade() for client in clients] == [101] * _PER_ADDRESS + [503] * 8
            async with Target("127.0.0.1", port).login():
                pass
            await crowd.aclose()
            await until_descriptors_are(server, baseline)
