"""A stock trio-websocket server, as its documentation shows one: what the attacks are a danger to.

    python -m tests.stock_server

It prints its URL, and then answers each line on stdin, a number of seconds, with a line of JSON: how many descriptors,
tasks and bytes it holds after so many seconds *of its own clock*, which it jumps. So what is still held an hour later
is known now. It ends with its stdin.

Its handler is a chat: what anybody says goes to everybody. It closes who says "bye", and refuses who sends an Origin.
"""

from __future__ import annotations

import json
import os
import sys

import psutil
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, WebSocketServer, serve_websocket

_members: set[WebSocketConnection] = set()


async def chat(request: WebSocketRequest) -> None:
    """Serve one client."""
    if any(name == b"origin" for name, _ in request.headers):
        await request.reject(403)
        return
    websocket = await request.accept()
    _members.add(websocket)
    try:
        while (message := await websocket.get_message()) != "bye":
            for member in list(_members):
                try:
                    await member.send_message(message)
                except ConnectionClosed:
                    _members.discard(member)
    except ConnectionClosed:
        pass
    finally:
        _members.discard(websocket)


async def main(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, chat, "127.0.0.1", 0, None)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)  # noqa: T201
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
            async for seconds in commands:
                clock.jump(float(seconds))
                await trio.testing.wait_all_tasks_blocked(0.1)
                process = psutil.Process()
                held = {
                    "descriptors": process.num_fds(),
                    "tasks": trio.lowlevel.current_statistics().tasks_living,
                    "bytes": process.memory_info().rss,
                }
                print(json.dumps(held), flush=True)  # noqa: T201
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    mock_clock = trio.testing.MockClock(rate=1.0)
    trio.run(main, mock_clock, clock=mock_clock)
