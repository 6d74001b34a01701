"""Names, passwords and sessions. The stock server has none of these."""

from __future__ import annotations

import itertools

import trio

from ._registry import at_once, attack
from .client import Connection, Target

_TRIES = 40


@attack
async def come_and_go(target: Target) -> None:
    """Log in and be gone, many at once: a join and a leave for everybody else."""

    async def once(number: int) -> None:
        async with target.login() as client:
            if number % 2:
                client.reset()

    await at_once(once, range(_TRIES))


@attack
async def wrong_logins(target: Target) -> None:
    """Logins of every wrong kind on one connection, until the server will not hear more."""
    wrong = ['{"system": "login"}', '{"system": "login", "options": {"user": "x"}}']
    wrong += [
        f'{{"system": "login", "options": {{"user": "{name}", "pass": ""}}}}' for name in ("", "x" * 33, "\\u0000")
    ]
    async with target.connect() as client:
        for text in itertools.islice(itertools.cycle(wrong), _TRIES):
            await client.say(text)
            if not target.stock and not await client.read_response():
                return


@attack
async def guessed_passwords(target: Target) -> None:
    """Logins with the name of somebody who is there, and a wrong password each."""
    name = next(target.names)

    async def guess(number: int) -> None:
        async with target.connect() as client:
            await _log_in(client, target, name, f"guess {number}")

    async with target.login(name):
        await at_once(guess, range(_TRIES))


@attack
async def guessed_tokens(target: Target) -> None:
    """Resume sessions that do not exist."""

    async def guess(number: int) -> None:
        async with target.connect() as client:
            options = {"session": f"guess {number}" * 50, "seen": {f"room {n}": n / 7 for n in range(100)}}
            await client.say({"system": "resume", "options": options})
            if not target.stock:
                await client.read_response()

    await at_once(guess, range(_TRIES))


@attack
async def takeovers(target: Target) -> None:
    """One user logs in again and again, and keeps each connection open: the newest wins, the others get 4009."""
    name = next(target.names)

    async def take_over(_: int) -> None:
        try:
            async with target.connect() as client:
                await _log_in(client, target, name, "secret", resume=True)
                through.release()
                await all_are.wait()
        finally:
            through.release()

    through, all_are = trio.Semaphore(0), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at_once, take_over, range(_TRIES))
        for _ in range(_TRIES):
            await through.acquire()
        all_are.set()


@attack
async def abandoned_sessions(target: Target) -> None:
    """Ask for a session that may be resumed, and be gone: each name and each member has to be kept for a while."""

    async def abandon(_: int) -> None:
        async with target.connect() as client:
            await _log_in(client, target, next(target.names), "secret", resume=True)
            client.reset()

    await at_once(abandon, range(_TRIES))


async def _log_in(client: Connection, target: Target, name: str, password: str, **options: bool) -> None:
    if not target.stock:
        await client.login(name, password, **options)
