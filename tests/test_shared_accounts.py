"""Servers that have their accounts in common: in virtual time, on an engine that is lost and comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_vrchat
from tests.accounts import with_accounts_of
from trio_vrchat import Config, ConfigError, testing
from trio_vrchat._account_rules import Passwords
from trio_vrchat._accounts import Accounts
from trio_vrchat._backplane import Account
from trio_vrchat.testing import MemoryEngine, MemoryServer, RawClient

# For what goes by the engine and back.
SOON_S = 0.05
# Within which servers are back in an engine that is.
BACK_S = 5.0


@asynccontextmanager
async def two_servers(engine: MemoryEngine) -> AsyncIterator[tuple[MemoryServer, MemoryServer]]:
    """Tibi has an account, and Ada is an admin."""

    async def add(accounts: Accounts) -> None:
        await accounts.add("Tibi", "1234", "user")
        await accounts.add("Ada", "1234", "admin")

    await with_accounts_of(engine, add)
    config = Config(auth="accounts")
    async with (
        testing.open_server(config, backplane=engine) as a,
        testing.open_server(config, backplane=engine) as b,
    ):
        yield a, b


async def ask(client: RawClient, system: str, **options: Any) -> dict[str, Any]:
    """The answer's response."""
    client.messages()
    client.send({"system": system, "options": options})
    await trio.sleep(SOON_S)
    [response, *_] = [message["response"] for message in client.messages() if "response" in message]
    found: dict[str, Any] = response
    return found


async def login(
    server: MemoryServer, user: str, password: str, address: str | None = None, **options: Any
) -> tuple[RawClient, dict[str, Any]]:
    client = await server.connect(address=address)
    return client, await ask(client, "login", user=user, **{"pass": password}, **options)


async def test_an_account_is_one_on_all_servers(autojump_clock: MockClock) -> None:
    async with two_servers(MemoryEngine()) as (a, b):
        tibi, granted = await login(a, "tibi", "1234", resume=True)
        assert (granted["code"], granted["detail"]["user"]) == (202, "Tibi"), "the account's own spelling"
        for server in (a, b):
            wrong = (await login(server, "Tibi", "wrong"))[1]
            unknown = (await login(server, "nobody", "1234"))[1]
            assert (wrong["code"], wrong["detail"]) == (unknown["code"], unknown["detail"]) == (403, {})
        assert (await login(b, "TIBI", "1234"))[1]["code"] == 202
        tibi.texts()
        assert tibi.close_code == 4009


async def test_a_role_holds_on_all_servers(autojump_clock: MockClock) -> None:
    async with two_servers(MemoryEngine()) as (a, b):
        tibi, _ = await login(a, "Tibi", "1234")
        assert (await ask(tibi, "recordings"))["code"] == 403
        ada, granted = await login(b, "Ada", "1234", resume=True)
        assert granted["detail"]["role"] == "admin"
        assert (await ask(ada, "recordings"))["code"] != 403


async def test_a_changed_password_is_seen_by_all_servers(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with two_servers(engine) as (a, b):
        tibi, granted = await login(a, "Tibi", "1234", resume=True)
        ada, ada_granted = await login(a, "Ada", "1234", resume=True)
        await with_accounts_of(engine, lambda accounts: accounts.set_password("Tibi", "5678"))
        for client in (tibi, ada):
            client.reset()
        await trio.sleep(SOON_S)
        resumed = await ask(await a.connect(), "resume", session=granted["detail"]["session"])
        assert resumed["code"] == 403
        resumed = await ask(await a.connect(), "resume", session=ada_granted["detail"]["session"])
        assert resumed["code"] == 202
        for server in (a, b):
            assert (await login(server, "Tibi", "1234"))[1]["code"] == 403
            assert (await login(server, "Tibi", "5678"))[1]["code"] == 202
        await with_accounts_of(engine, lambda accounts: accounts.remove("Tibi"))
        assert (await login(b, "Tibi", "5678"))[1]["code"] == 403


async def test_a_hash_of_other_parameters_is_made_anew_in_the_engine(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()

    async def hash_of_tibi(accounts: Accounts) -> str:
        return next(account.hash for account in await accounts.accounts() if account.name == "Tibi")

    async with two_servers(engine) as (a, b):
        assert "m=8," in await with_accounts_of(engine, hash_of_tibi)
        assert (await login(a, "Tibi", "wrong"))[1]["code"] == 403
        assert "m=8," in await with_accounts_of(engine, hash_of_tibi)
        assert (await login(a, "Tibi", "1234"))[1]["code"] == 202
        assert "m=19456," in await with_accounts_of(engine, hash_of_tibi)
        assert (await login(b, "Tibi", "1234"))[1]["code"] == 202


async def test_without_the_engine_nobody_gets_in_and_nobody_is_turned_away(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with two_servers(engine) as (a, _):
        tibi, granted = await login(a, "Tibi", "1234", resume=True)
        token = granted["detail"]["session"]
        tibi.reset()
        engine.stop()
        await trio.sleep(1)
        for user, password in [("Tibi", "1234"), ("Ada", "wrong"), *[("nobody", "x")] * 5]:
            refused = (await login(a, user, password, address="192.0.2.7"))[1]
            assert refused["code"] == 503, "and no failure that is counted"
            assert refused["detail"]["retry_after"] > 0
        back = await a.connect()
        refused = await ask(back, "resume", session=token)
        assert refused["code"] == 503
        assert refused["detail"]["retry_after"] > 0
        engine.start()
        await trio.sleep(BACK_S)
        assert (await ask(back, "resume", session=token))["code"] == 202, "the token was not used up"
        assert (await login(a, "Ada", "1234", address="192.0.2.7"))[1]["code"] == 202


async def test_an_engine_that_hangs_holds_nobody_up_for_long(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with two_servers(engine) as (a, _):
        engine.hang()
        clients = [await a.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send({"system": "login", "options": {"user": f"{number}", "pass": "1234"}})
        await trio.sleep(4)
        for client in clients:
            [message] = client.messages()
            assert message["response"]["code"] == 503
        engine.resume()
        await trio.sleep(BACK_S)
        assert (await login(a, "Tibi", "1234"))[1]["code"] == 202


async def test_an_engine_that_goes_while_a_password_is_verified(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MemoryEngine()
    check = Passwords.check

    def check_and_stop(passwords: Passwords, account: Account | None, password: str) -> bool:
        engine.stop()
        return check(passwords, account, password)

    async with two_servers(engine) as (a, _):
        with monkeypatch.context() as patch:
            patch.setattr(Passwords, "check", check_and_stop)
            for _ in range(4):
                client = await a.connect(address="192.0.2.7")
                client.send({"system": "login", "options": {"user": "Tibi", "pass": "1234"}})
                await trio.sleep(4)
                [message] = client.messages()
                assert message["response"]["code"] == 503
                engine.start()
                await trio.sleep(BACK_S)
        assert (await login(a, "Tibi", "1234", address="192.0.2.7"))[1]["code"] == 202, (
            "it was no failure of the user's"
        )


async def test_an_engine_that_has_lost_its_memory_knows_no_accounts(autojump_clock: MockClock) -> None:
    engine = MemoryEngine()
    async with two_servers(engine) as (a, _):
        tibi, granted = await login(a, "Tibi", "1234", resume=True)
        engine.stop()
        engine.start(empty=True)
        await trio.sleep(2 * BACK_S)
        tibi.texts()
        assert tibi.close_code is None, "who is there stays"
        assert (await login(a, "Tibi", "1234"))[1]["code"] == 403
        tibi.reset()
        await trio.sleep(SOON_S)
        assert (await ask(await a.connect(), "resume", session=granted["detail"]["session"]))["code"] == 403


async def test_what_is_changed_while_a_login_waits_for_its_turn_holds(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(latency_s=0.5)
    async with two_servers(engine) as (a, _):
        clients = [await a.connect() for _ in range(2)]
        for client in clients:
            client.send({"system": "login", "options": {"user": "Tibi", "pass": "1234"}})
            await trio.sleep(0.1)
        await with_accounts_of(engine, lambda accounts: accounts.remove("Tibi"))
        await trio.sleep(10)
        assert clients[1].messages()[0]["response"]["code"] == 403


# Where they are


async def test_there_must_be_a_place_for_accounts_and_not_two(tmp_path: Path) -> None:
    store = str(tmp_path / "chat.db")
    with pytest.raises(ConfigError, match=r"auth is accounts, .* \(--store FILE\) or a backplane \(--backplane URL\)"):
        await trio_vrchat.serve(Config(port=0, auth="accounts"))
    for settings in (Config(port=0, store=store), Config(port=0, auth="accounts", store=store)):
        with pytest.raises(ConfigError, match=r"there is a backplane, so store must be left out, not '.*chat.db'"):
            await trio_vrchat.serve(settings, backplane=MemoryEngine())


async def test_a_hook_decides_alone(autojump_clock: MockClock) -> None:
    async def authenticate(user: str, password: str, peer: str) -> bool:
        await trio.lowlevel.checkpoint()
        return password == "of the hook"

    engine = MemoryEngine()
    await with_accounts_of(engine, lambda accounts: accounts.add("Tibi", "1234", "admin"))
    async with testing.open_server(Config(auth="accounts"), backplane=engine, authenticate=authenticate) as server:
        assert (await login(server, "Tibi", "1234"))[1]["code"] == 403
        tibi, granted = await login(server, "Tibi", "of the hook")
        assert granted["code"] == 202
        assert (await ask(tibi, "recordings"))["code"] == 403, "the account of that name is none of its business"
