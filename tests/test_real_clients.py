"""Clients that were not written here talk through the server, on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import websockets
from websockets.asyncio.client import connect

import trio_vrchat
from tests.waiting import until
from trio_vrchat import Config, Handle

NODE = Path(__file__).parent / "node"


@contextmanager
def deadline() -> Iterator[None]:
    """For what a broken server would never answer."""
    with trio.fail_after(60):
        yield


async def test_websockets_for_python() -> None:
    """Two users on `websockets`, in a thread with asyncio, which has no say in our loop."""

    async def talk(url: str) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        async with asyncio.timeout(60), connect(url) as tibi, connect(url) as anna:

            async def hear(socket: Any) -> dict[str, Any]:
                text = await socket.recv()
                assert isinstance(text, str), "text frames"
                message: dict[str, Any] = json.loads(text)
                return message

            async def login(socket: Any, user: str) -> None:
                await socket.send(json.dumps({"system": "login", "options": {"user": user, "pass": "1"}}))
                assert (await hear(socket))["response"]["code"] == 202
                assert (await hear(socket))["payload"][0]["type"] == "join"

            await login(tibi, "Tibi")
            await login(anna, "anna")
            assert (await hear(tibi))["payload"][0]["user"] == "anna"
            await anna.send(["{", '"room":"lobby",', '"data":"in ', 'fragments €"', "}"])
            await tibi.send(json.dumps({"room": "lobby", "type": "transform", "data": {"pos": {"x": 1}}}))
            heard += [await hear(tibi), await hear(tibi)]
            assert heard == [await hear(anna), await hear(anna)]
            await (await tibi.ping())
            await anna.send(b"binary")
            assert (await hear(anna))["response"]["code"] == 406
            await anna.send("x" * 70_000)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await hear(anna)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
            assert (await hear(tibi))["payload"][0]["type"] == "leave"
        return heard

    with deadline():
        async with trio.open_nursery() as nursery:
            handle: Handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0))
            line, batch = await trio.to_thread.run_sync(lambda: asyncio.run(talk(handle.urls[0])))
            assert line["payload"][0]["data"] == "in fragments €"
            assert batch["payload"][0]["data"]["pos"] == {"x": 1, "y": 0, "z": 0}
            await until(lambda: handle.statistics.connections == 0)
            nursery.cancel_scope.cancel()


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a client on Node and `ws`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "talk.mjs"):
        shutil.copy(NODE / name, folder)
    installed = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if installed.returncode:
        pytest.skip(f"npm cannot install ws: {installed.stderr[-300:]}")
    return [node, os.fspath(folder / "talk.mjs")]


async def test_ws_for_node(node_client: list[str]) -> None:
    with deadline():
        async with trio.open_nursery() as nursery:
            handle: Handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0))
            async with trio_vrchat.open_client(handle.urls[0], "Tibi", "1") as tibi:
                run = [*node_client, handle.urls[0], "Nöde"]
                process = await nursery.start(partial(trio.run_process, run, capture_stdout=True))
                events = [await anext(tibi) for _ in range(3)]
                await tibi.say("lobby", "goodbye")
                while not isinstance(events[-1], trio_vrchat.Left):
                    events.append(await anext(tibi))
            await process.wait()
            nursery.cancel_scope.cancel()
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Joined", "Said", "Moved", "Said", "Left"]
    assert [event.user for event in events] == ["Nöde", "Nöde", "Nöde", "Tibi", "Nöde"]  # type: ignore[union-attr]
    said, moved = events[1], events[2]
    assert isinstance(said, trio_vrchat.Said)
    assert said.data == "hello from Node 👋"
    assert isinstance(moved, trio_vrchat.Moved)
    assert moved.transform.pos == trio_vrchat.Vector(0, 1.6, 0)
    assert moved.transform.more == {"hands": {"left": None}}
