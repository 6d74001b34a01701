"""The command `users`, as a stranger meets it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio

import trio_vrchat.__main__ as command_line
from trio_vrchat import _redis_engine
from trio_vrchat._account_file import AccountFile
from trio_vrchat._account_rules import Passwords, account_key
from trio_vrchat._accounts import Accounts
from trio_vrchat._backplane import FindAccount, Found, LinkLost, Reply
from trio_vrchat._database import Database
from trio_vrchat._redis_engine import RedisEngine

from .accounts import account, add_accounts, with_accounts_of
from .program import DEADLINE_S, environment
from .redis_server import RedisServer, needs_redis, running_redis

# With Ctrl+C as somebody at a terminal has it: whoever was started in the background of a shell ignores it.
ON_A_TERMINAL = """
import os, pty, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""
SECRET_URL = "redis://:secret@127.0.0.1:1"
COMMAND = (sys.executable, "-m", "trio_vrchat", "users")

Users = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def users(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Users:
    """Runs the command, without a process, with the store in the environment: exit status, stdout, stderr."""

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(os, "environ", environment({"TRIO_VRCHAT_STORE": str(path)}))
        monkeypatch.setattr(sys, "argv", ["trio-vrchat", "users", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def as_process(
    *arguments: str, stdin: bytes = b"", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        env=environment(variables),
        timeout=DEADLINE_S,
        check=False,
    )


def opens(path: Path, user: str, password: str) -> str | None:
    """How the account is spelled that this would open; None where it opens none."""
    with contextlib.closing(Database(path)) as database:
        reply = AccountFile(database).do(FindAccount(key=account_key(user)))
    return reply.account.name if isinstance(reply, Found) and Passwords().check(reply.account, password) else None


def test_from_the_first_account_to_the_last(users: Users, path: Path) -> None:
    assert users("add", "Tibi", stdin=b"correct horse\n") == (0, "added user Tibi\n", "")
    assert users("add", "\u65e5\u672c", "--role", "admin", stdin=b"staple\r\n") == (0, "added admin \u65e5\u672c\n", "")
    assert opens(path, "Tibi", "correct horse") == "Tibi"
    assert opens(path, "\u65e5\u672c", "staple") == "\u65e5\u672c"
    status, listed, _ = users("list")
    assert status == 0
    header, *rows = listed.splitlines()
    assert header == "NAME  ROLE   CREATED"
    assert [row[:-16] for row in rows] == ["Tibi  user   ", "\u65e5\u672c  admin  "]
    assert users("passwd", "TIBI", stdin=b"battery") == (0, "changed the password of Tibi\n", "")
    assert opens(path, "Tibi", "correct horse") is None
    assert opens(path, "Tibi", "battery") == "Tibi"
    assert users("remove", "tibi") == (0, "removed Tibi\n", "")
    assert opens(path, "Tibi", "battery") is None


def test_the_option_comes_before_the_environment(users: Users, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    assert users("add", "Tibi", "--store", str(other), stdin=b"1234\n")[0] == 0
    assert not path.exists()
    assert opens(other, "Tibi", "1234") == "Tibi"


def test_while_a_server_has_the_file_open(users: Users, path: Path) -> None:
    with contextlib.closing(Database(path)) as server:
        server.commit([("lobby", [(1.0, b"1")])])
        assert users("add", "Tibi", stdin=b"1234\n")[0] == 0
        assert opens(path, "Tibi", "1234") == "Tibi"
        server.commit([("lobby", [(2.0, b"2")])])
        assert users("remove", "Tibi")[0] == 0
        assert opens(path, "Tibi", "1234") is None
        assert server.load("lobby", 5, 100) == ([(1.0, b"1"), (2.0, b"2")], 0.0)


@pytest.mark.parametrize(
    ("arguments", "stdin", "problem"),
    [
        (("add", "TIBI"), b"1\n", "there is an account 'Tibi' already, and 'TIBI' is the same name"),
        (("add", "\u0422ibi"), b"1\n", "'\u0422ibi' looks like the account 'Tibi', in letters of another script"),
        (("add", "x" * 33), b"1\n", "a name of a user is at most 32 characters long, not 33"),
        (("add", "Ada"), b"", "a password must not be empty"),
        (("add", "Ada"), b"\n", "a password must not be empty"),
        (("add", "Ada"), b"\xff\n", "the password on stdin is not UTF-8"),
        (("add", "Ada"), b"." * 1025, "a password is at most 1024 bytes long"),
        (("add", "Ada", "secret"), b"", "unexpected argument 'secret'"),
        (("add", "Ada", "--role", "king"), b"1\n", '"king" for --role. Choose from: "user", "admin"'),
        (("passwd", "Ada"), b"1\n", "there is no account 'Ada'"),
        (("remove", "Ada"), b"", "there is no account 'Ada'"),
        (("list", "--store", "/"), b"", "the store '/': it cannot be opened"),
        (("list", "--store", "/none/store.db"), b"", "the store '/none/store.db': there is no such file"),
        (("fly",), b"", 'Unknown command "fly"'),
    ],
)
def test_what_is_wrong_is_one_line(
    users: Users, path: Path, arguments: Sequence[str], stdin: bytes, problem: str
) -> None:
    add_accounts(path, account("Tibi", "1234"))
    status, stdout, stderr = users(*arguments, stdin=stdin)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("trio-vrchat: error: ")
    assert problem in stderr
    assert stderr.count("\n") == 1
    assert [row.split()[0] for row in users("list")[1].splitlines()] == ["NAME", "Tibi"]


def test_a_file_must_be_there_for_all_but_add(users: Users, path: Path) -> None:
    for arguments in (("list",), ("passwd", "Tibi"), ("remove", "Tibi")):
        status, _, stderr = users(*arguments, stdin=b"1\n")
        assert status == 2
        assert "there is no such file" in stderr
        assert not path.exists()


def test_it_must_be_said_where_the_accounts_are() -> None:
    run = as_process("list")
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.decode().strip() == (
        "trio-vrchat: error: neither --store nor --backplane is given: say where the accounts are, by one of them "
        "(see trio-vrchat users list --help)"
    )


def test_and_only_once(users: Users, path: Path) -> None:
    for command in (["list"], ["add", "Tibi"], ["passwd", "Tibi"], ["remove", "Tibi"]):
        status, stdout, stderr = users(*command, "--backplane", SECRET_URL)
        assert (status, stdout) == (2, "")
        assert "TRIO_VRCHAT_STORE and --backplane are both given: leave out where the accounts are not" in stderr
        assert "secret" not in stderr
        assert not path.exists()


# On an engine


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        server.command("CONFIG SET requirepass secret")
        yield server


def url_of(redis: RedisServer) -> str:
    return redis.url.replace("//", "//:secret@")


@needs_redis
def test_on_an_engine_from_the_first_account_to_the_last(redis: RedisServer) -> None:
    variables = {"TRIO_VRCHAT_BACKPLANE": url_of(redis)}

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        done = as_process(*arguments, stdin=stdin, variables=variables)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    assert run("add", "Tibi", stdin=b"correct horse\n") == (0, "added user Tibi\n", "")
    assert run("add", "ada", "--role", "admin", stdin=b"staple\n") == (0, "added admin ada\n", "")
    for name, problem in (
        ("TIBI", "there is an account 'Tibi' already, and 'TIBI' is the same name"),
        ("\u0422ibi", "'\u0422ibi' looks like the account 'Tibi', in letters of another script"),
        ("x" * 33, "a name of a user is at most 32 characters long, not 33"),
    ):
        assert run("add", name, stdin=b"1\n") == (2, "", f"trio-vrchat: error: {problem}\n")
    assert run("passwd", "Ada", stdin=b"battery\n") == (0, "changed the password of ada\n", "")
    status, listed, _ = run("list")
    assert (status, [row.split()[:2] for row in listed.splitlines()]) == (
        0,
        [["NAME", "ROLE"], ["ada", "admin"], ["Tibi", "user"]],
    )
    assert run("remove", "tibi") == (0, "removed Tibi\n", "")
    assert run("passwd", "Tibi", stdin=b"1\n") == (2, "", "trio-vrchat: error: there is no account 'Tibi'\n")

    async def check(accounts: Accounts) -> list[str | None]:
        return [await accounts.authenticate("ada", password, "") for password in ("staple", "battery")]

    assert trio.run(with_accounts_of, RedisEngine(url_of(redis)), check) == [None, "ada"]


@needs_redis
def test_a_lost_engine_is_one_line_without_its_password(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_redis_engine, "_CALL_TIMEOUT_S", 0.3)
    monkeypatch.setattr(os, "environ", environment({"TRIO_VRCHAT_BACKPLANE": url_of(redis)}))

    def problem() -> str:
        assert command_line._main(["users", "list"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert "secret" not in printed.err
        return printed.err.removeprefix(f"trio-vrchat: error: Redis at {redis.url.removeprefix('redis://')}: ")

    def hang(*_: object) -> list[Reply]:
        raise LinkLost("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(_redis_engine._Session, "call", hang)
        assert problem() == "timed out; nobody knows whether it was done, but it may be done again\n"
    redis.hang()
    try:
        assert problem().endswith(": check the URL of the backplane, and that Redis runs\n")
    finally:
        redis.resume()
    redis.stop()
    assert problem().endswith(": check the URL of the backplane, and that Redis runs\n")


def test_as_a_process_and_on_a_terminal_that_cannot_show_a_name(path: Path) -> None:
    variables = {"TRIO_VRCHAT_STORE": str(path), "PYTHONIOENCODING": "ascii"}
    assert as_process("add", "\u65e5\u672c", stdin=b"1\n", variables=variables).stdout == b"added user \\u65e5\\u672c\n"
    run = as_process("list", variables=variables)
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"\\u65e5\\u672c  user" in run.stdout


def test_help_says_what_there_is(users: Users) -> None:
    status, stdout, _ = users()
    assert status == 0
    for command in ("add", "passwd", "remove", "list"):
        assert command in stdout
        described = users(command, "--help")[1]
        assert f"Usage: trio-vrchat users {command} " in described
        assert "--store FILE" in described
        assert "--backplane URL" in described


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("again", ["correct horse", "another"])
def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(path: Path, again: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *COMMAND, "add", "Tibi", "--store", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""

        def answer(prompt: bytes, text: str) -> None:
            nonlocal shown
            assert process.stdin is not None
            assert process.stdout is not None
            # Not before it is asked for: what is typed earlier is shown by the terminal.
            while not shown.endswith(prompt):
                byte = process.stdout.read(1)
                assert byte, shown
                shown += byte
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()

        answer(b"Password of Tibi: ", "correct horse")
        answer(b"The same again: ", again)
        shown += process.stdout.read()
        status = process.wait(DEADLINE_S)
    assert b"horse" not in shown
    assert b"another" not in shown
    if again == "correct horse":
        assert (status, opens(path, "Tibi", "correct horse")) == (0, "Tibi")
        assert shown.endswith(b"added user Tibi\r\n")
    else:
        assert (status, opens(path, "Tibi", "correct horse")) == (2, None)
        assert shown.endswith(b"trio-vrchat: error: the two passwords are not the same: nothing was changed\r\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    ("key", "status", "said"),
    [(b"\x04", 2, b"trio-vrchat: error: no password was given\r\n"), (b"\x03", 130, b"")],
    ids=["Ctrl+D", "Ctrl+C"],
)
def test_whoever_gives_up_at_the_prompt_gets_a_line_of_their_own(
    path: Path, key: bytes, status: int, said: bytes
) -> None:
    prompt = b"Password of Tibi: "
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *COMMAND, "add", "Tibi", "--store", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(len(prompt)) == prompt
        process.stdin.write(key)
        process.stdin.flush()
        assert process.stdout.read() == b"\r\n" + said
        assert process.wait(DEADLINE_S) == status
