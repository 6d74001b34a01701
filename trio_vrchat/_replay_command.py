"""The command `replay`: recorded people come back, on a running server or on one of its own.

The page's address goes to stdout, all else that it says to stderr.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import urllib.parse
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated

import attrs
import trio
from cyclopts import Parameter

from . import recording
from ._announcement import announce
from ._background import open_background
from ._config import Config
from ._descriptors import raise_limit
from ._errors import ReplayError
from ._open_client import open_client
from ._replaying import PASSWORD, Connect, Replayed
from ._replaying import replay as replay_once
from ._server import Handle, serve
from ._terminal import say

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# So that a recording of a moment is not replayed as fast as the machine can.
_BETWEEN_ROUNDS_S = 1.0


@attrs.frozen
class Wish:
    """What the user has asked for."""

    into: str | None = None
    room: str | None = None
    speed: float = 1.0
    from_s: float = 0.0
    loop: bool = False
    password: str = ""


def replay(
    file: Annotated[Path, Parameter(help="The recording.", metavar="FILE")],
    /,
    *,
    into: Annotated[
        str | None,
        Parameter(
            help="The server: ws://host:port/ or wss://. Left out: one on this machine that the replay starts, without "
            "limits, for as long as it takes.",
            metavar="URL",
        ),
    ] = None,
    room: Annotated[str | None, Parameter(help="This room only.")] = None,
    speed: Annotated[float, Parameter(help="So many times as fast.", metavar="NUMBER")] = 1.0,
    from_s: Annotated[
        float,
        Parameter(name="--from", help="Begin so many seconds after the recording's first event.", metavar="SECONDS"),
    ] = 0.0,
    loop: Annotated[bool, Parameter(negative="", help="Again and again, until Ctrl+C.")] = False,
) -> int:
    """Let the people of a recording come back as clients."""
    if not (math.isfinite(speed) and speed > 0):
        raise ReplayError(f"--speed must be a number above 0, not {speed:g}")
    if not (math.isfinite(from_s) and from_s >= 0):
        raise ReplayError(f"--from must be seconds from 0 up, not {from_s:g}")
    # Nobody can guess it, and take the place of somebody who is replayed.
    password = os.environ.get(PASSWORD) or secrets.token_hex()
    wish = Wish(None if into is None else _checked(into), room, speed, from_s, loop, password)
    raise_limit()
    with recording.open(file) as session:
        trio.run(_until_a_signal, session, wish)
    return 0


def _checked(url: str) -> str:
    """As clients take it. Of the page's address, which is what people copy, the server's."""
    try:
        parts = urllib.parse.urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        if scheme in ("ws", "wss") and parts.hostname and parts.port != 0:
            return parts._replace(scheme=scheme, fragment="").geturl()
    except ValueError:
        pass
    raise ReplayError(f"--into must be a server's URL, ws://host:port/ or wss://host:port/, not {url!r}")


async def _until_a_signal(session: recording.Recording, wish: Wish) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with open_background() as nursery:
            with trio.CancelScope() as going_on:
                nursery.start_soon(_cancel_on, signals, going_on)
                await _replay(session, wish, nursery)


async def _cancel_on(signals: AsyncIterator[int], going_on: trio.CancelScope) -> None:
    await anext(signals)
    # A second one ends the process at once, however long everybody takes to leave.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    going_on.cancel()


async def _replay(session: recording.Recording, wish: Wish, nursery: trio.Nursery) -> None:
    url = wish.into
    if url is None:
        handle: Handle = await nursery.start(serve, Config.unlimited(host="127.0.0.1", port=0))
        announce(handle)
        url = handle.urls[0]
    await rounds(session, partial(open_client, url, password=wish.password, reconnect=False, transforms=False), wish)


async def rounds(session: recording.Recording, connect: Connect, wish: Wish) -> None:
    """Replay it once, or again and again."""
    while True:
        replayed = await replay_once(session, connect, speed=wish.speed, from_s=wish.from_s, room=wish.room)
        _report(session, replayed)
        if not wish.loop:
            return
        await trio.sleep(_BETWEEN_ROUNDS_S)


def _report(session: recording.Recording, replayed: Replayed) -> None:
    if session.lost:
        say(f"warning: {session.lost}")
    if replayed.left_out:
        say(f"warning: {replayed.left_out} transforms were left out: the server or this machine was too slow for them")
    if replayed.missed:
        say(f"warning: {replayed.missed} messages had no effect; the first: {replayed.why}")
    say(f"replayed {replayed.acts} messages in {replayed.stays} stays, the latest {replayed.latest_s:.3f} s late")
