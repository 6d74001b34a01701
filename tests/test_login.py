"""Who may log in: accounts and the hook of an embedding program."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.accounts import account, add_accounts, with_accounts
from trio_vrchat import Config, testing
from trio_vrchat._account_rules import Passwords
from trio_vrchat._backplane import Account
from trio_vrchat.testing import MemoryServer, RawClient, settle


def code(client: RawClient) -> int | None:
    answers = [message["response"]["code"] for message in client.messages() if message["info"] != "user"]
    return answers[0] if answers else None


@pytest.fixture
def accounts(tmp_path: Path) -> Config:
    path = str(tmp_path / "accounts.db")
    add_accounts(path, account("Tibi", "1234"))
    return Config(auth="accounts", store=path)


async def test_accounts(autojump_clock: MockClock, accounts: Config) -> None:
    async with testing.open_server(accounts) as server:
        wrong = (await server.login("Tibi", "wrong")).messages()
        unknown = (await server.login("nobody", "wrong")).messages()
        assert wrong == unknown, "alike in the answer"
        assert wrong[0]["response"]["code"] == 403
        assert wrong[0]["response"]["detail"] == {}
        old = await server.login("tibi", "1234")
        messages = old.messages()
        assert messages[0]["response"]["code"] == 202
        assert messages[1]["payload"][0]["user"] == "Tibi", "rooms show the account's own spelling"
        assert code(await server.login("TIBI", "wrong")) == 403, "a name in use tells nothing more"
        new = await server.login("TIBI", "1234")
        assert code(new) == 202
        old.texts()
        assert old.close_code == 4009


@pytest.mark.parametrize("change", ["removed", "another password", "nothing"])
async def test_a_resume_asks_whether_the_account_is_still_there(
    autojump_clock: MockClock, accounts: Config, change: str
) -> None:
    async with testing.open_server(accounts) as server:
        client = await server.login("Tibi", "1234", resume=True)
        token = client.messages()[0]["response"]["detail"]["session"]
        client.reset()
        await settle()
        assert accounts.store is not None
        if change == "removed":
            await with_accounts(accounts.store, lambda accounts: accounts.remove("Tibi"))
        elif change == "another password":
            await with_accounts(accounts.store, lambda accounts: accounts.set_password("Tibi", "5678"))
        back = await server.connect()
        back.send({"system": "resume", "options": {"session": token}})
        await settle()
        assert code(back) == (202 if change == "nothing" else 403)
        await trio.sleep(31)
        assert server.statistics.sessions == (change == "nothing")


async def test_failures_are_counted_before_a_hash(
    autojump_clock: MockClock, accounts: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = Passwords.check

    def counting(passwords: Passwords, account: Account | None, password: str) -> bool:
        checked.append(password)
        return check(passwords, account, password)

    monkeypatch.setattr(Passwords, "check", counting)
    async with testing.open_server(accounts) as server:
        codes = [code(await server.login("Tibi", f"guess {number}", address="192.0.2.7")) for number in range(5)]
        assert codes == [403, 403, 403, 429, 429]
        assert checked == ["guess 0", "guess 1", "guess 2"]
        assert code(await server.login("Tibi", "1234", address="192.0.2.8")) == 202, "nobody locks the owner out"
        codes = [code(await server.login(f"user {number}", "x", address="192.0.2.7")) for number in range(9)]
        assert codes == [403] * 7 + [429] * 2
        await trio.sleep(60)
        assert code(await server.login("Tibi", "1234", address="192.0.2.7")) == 202


# The hook


class Doorman:
    """A hook that decides when it is told to."""

    def __init__(self, *decisions: bool | str | Exception) -> None:
        self.decisions = list(decisions)
        self.asked: list[tuple[str, str, str]] = []
        self.waits = trio.Event()
        self.waits.set()

    async def __call__(self, user: str, password: str, peer: str) -> bool | str:
        self.asked.append((user, password, peer))
        await self.waits.wait()
        decision = self.decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        return decision


async def test_a_hook_is_asked(autojump_clock: MockClock) -> None:
    doorman = Doorman(True, False, True)
    async with testing.open_server(authenticate=doorman) as server:
        old = await server.login("Tibi", "1", address="192.0.2.7")
        assert code(old) == 202
        assert doorman.asked == [("Tibi", "1", "192.0.2.7:1")]
        assert code(await server.login("Tibi", "2")) == 403
        old.texts()
        assert old.close_code is None
        assert code(await server.login("Tibi", "3")) == 202, "who passes takes over, whatever the password"
        old.texts()
        assert old.close_code == 4009


async def test_a_hook_may_say_how_rooms_show_the_user(autojump_clock: MockClock) -> None:
    async with testing.open_server(authenticate=Doorman("Tibi of the lab")) as server:
        client = await server.login("tibi@lab")
        assert client.messages()[1]["payload"][0]["user"] == "Tibi of the lab"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 33, "\u3164"])
async def test_a_name_from_a_hook_that_is_none_is_the_servers_fault(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO, "trio_vrchat")
    async with testing.open_server(authenticate=Doorman(*[name] * 5)) as server:
        assert [code(await server.login("Tibi")) for _ in range(5)] == [500] * 5, "and no failure of the user's"
        assert "which is no name" in caplog.text


async def test_what_a_hook_raises_is_500_and_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    doorman = Doorman(RuntimeError("the directory is down"), *[False] * 3, True)
    async with testing.open_server(authenticate=doorman) as server:
        [message] = (await server.login("Tibi")).messages()
        assert message["response"]["code"] == 500
        assert message["response"]["detail"] == {}
        assert "the directory is down" in caplog.text
        codes = [code(await server.login("Tibi")) for _ in range(4)]
        assert codes == [403, 403, 403, 429], "it was no failure of the user's"


@pytest.mark.parametrize("row", [5, ["Tibi", "hash"], object()], ids=["number", "list", "object"])
async def test_a_hook_that_returns_something_else_lets_nobody_in(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, row: object
) -> None:
    async with testing.open_server(authenticate=Doorman(row)) as server:  # type: ignore[arg-type]
        assert code(await server.login("Tibi")) == 403
        assert type(row).__name__ in caplog.text
        assert "hash" not in caplog.text


async def slow_login(server: MemoryServer, user: str) -> RawClient:
    client = await server.connect()
    client.send({"system": "login", "options": {"user": user, "pass": ""}})
    await settle()
    return client


async def test_a_hook_has_as_long_as_a_login(autojump_clock: MockClock) -> None:
    doorman = Doorman()
    doorman.waits = trio.Event()
    async with testing.open_server(authenticate=doorman) as server:
        client = await slow_login(server, "Tibi")
        await trio.sleep(19)
        client.texts()
        assert client.close_code is None, "the time that the hook takes is not the client's"
        await trio.sleep(2)
        client.texts()
        assert client.close_code == 4001


async def test_two_who_pass_at_once(autojump_clock: MockClock) -> None:
    doorman = Doorman(True, True)
    doorman.waits = trio.Event()
    async with testing.open_server(authenticate=doorman) as server:
        clients = [await slow_login(server, user) for user in ("Tibi", "TIBI")]
        doorman.waits.set()
        await settle()
        old, new = clients
        assert code(new) == 202
        assert new.close_code is None, "the newer wins, whoever passes first"
        assert code(old) in (202, None)
        assert old.close_code == 4009
        assert server.statistics.members == server.statistics.sessions == 1


async def test_who_hangs_up_while_the_hook_decides(autojump_clock: MockClock) -> None:
    doorman = Doorman(True)
    doorman.waits = trio.Event()
    async with testing.open_server(authenticate=doorman) as server:
        client = await slow_login(server, "Tibi")
        client.reset()
        await settle()
        doorman.waits.set()
        await trio.sleep(15)
        assert server.statistics.sessions == server.statistics.connections == 0
