"""TLS from two files; what a server says where there is none; and that no secret is in any log."""

from __future__ import annotations

import json
import logging
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from trio.testing import MockClock
from websockets.sync.client import connect

import trio_vrchat
from tests.program import DEADLINE_S, LOCAL, LOOPBACK, finished, started
from trio_vrchat import Config, ConfigError, Handle, Said, testing
from trio_vrchat._memory_stream import MemoryListener, stream_pair
from trio_vrchat.testing import settle, upgrade_request

AUTHORITY = trustme.CA()


class Files:
    """A certificate for this machine and its key, as files; and what goes wrong with such files."""

    def __init__(self, folder: Path) -> None:
        issued, other = AUTHORITY.issue_cert(LOOPBACK, "localhost"), AUTHORITY.issue_cert("elsewhere")
        self.cert = str(folder / "cert.pem")
        self.key = str(folder / "key.pem")
        self.foreign_key = str(folder / "foreign key.pem")
        self.encrypted_key = str(folder / "encrypted key.pem")
        self.garbage = str(folder / "garbage.pem")
        self.missing = str(folder / "missing.pem")
        for number, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(self.cert, append=number > 0)
        issued.private_key_pem.write_to_path(self.key)
        other.private_key_pem.write_to_path(self.foreign_key)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption = BestAvailableEncryption(b"of the key")
        Path(self.encrypted_key).write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)
        )
        Path(self.garbage).write_text("this is no certificate")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


# Who speaks it


async def test_a_login_over_tls(files: Files, trust: ssl.SSLContext) -> None:
    config = Config(host=LOOPBACK, port=0, tls_cert=files.cert, tls_key=files.key)
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, config)
        assert handle.urls == (f"wss://{LOOPBACK}:{handle.port}/",)
        async with (
            trio_vrchat.open_client(handle.urls[0], "Tibi", "1234", ssl_context=trust) as tibi,
            trio_vrchat.open_client(handle.urls[0], "anna", "1234", ssl_context=trust) as anna,
        ):
            # More than a record of TLS, and than one write; less than the limit on a client's bytes.
            for number in range(3):
                await tibi.say("lobby", [number, "x" * 60_000])
            said: list[int] = []
            with trio.fail_after(DEADLINE_S):
                while len(said) < 3:
                    event = await anext(anna)
                    if isinstance(event, Said):
                        said.append(event.data[0])
            assert said == [0, 1, 2]
        nursery.cancel_scope.cancel()


def test_the_program_speaks_it_and_a_client_of_another_maker_understands(files: Files, trust: ssl.SSLContext) -> None:
    with started(*LOCAL, "--tls-cert", files.cert, "--tls-key", files.key) as program:
        url = program.until("wss://", program.stdout)[-1].strip()
        with connect(url, ssl=trust) as client:
            client.send('{"system": "login", "options": {"user": "Tibi", "pass": "1234"}}')
            assert json.loads(client.recv(timeout=DEADLINE_S))["response"]["code"] == 202
            program.process.terminate()
            for _ in client:
                pass
            assert client.close_code == 1001, "a stop is said over TLS, too"
        status, lines = program.end()
    assert status == 0
    assert not any("no TLS" in line for line in lines)


GARBAGE = {
    "nothing": b"",
    "plain WebSocket": upgrade_request(),
    "a record that is none": b"\x16\x03\x01\x02\x00" + b"\xff" * 512,
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "zeros": bytes(10_000),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_what_is_no_tls_ends_alone_within_five_seconds(
    autojump_clock: MockClock, files: Files, trust: ssl.SSLContext, what: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[Handle]) -> None:
            await trio_vrchat.serve(
                listeners=[trio.SSLListener(listener, context, https_compatible=True)], task_status=task_status
            )

        handle: Handle = await nursery.start(serve)
        inside_end, inside_server_end, _, _ = stream_pair("inside")
        await listener.streams.send(inside_server_end)
        inside = trio.SSLStream(inside_end, trust, server_hostname="localhost", https_compatible=True)
        await inside.send_all(upgrade_request())
        assert (await inside.receive_some()).startswith(b"HTTP/1.1 101 ")
        _, server_end, up, _ = stream_pair("garbage")
        await listener.streams.send(server_end)
        up.data += GARBAGE[what]
        up.change()
        await trio.sleep(5)
        await settle()
        assert up.reader_closed
        assert handle.statistics.connections == 1
        await inside.send_all(testing.client_frame(1, b'{"system": "ping"}'))
        assert b"Pong." in await inside.receive_some()
        nursery.cancel_scope.cancel()


# Files that cannot be used

WRONG = [
    ("cert", "foreign_key", "cannot use the certificate .* belong together"),
    ("cert", "garbage", "cannot use the certificate .* must be PEM files"),
    ("garbage", "key", "cannot use the certificate .* must be PEM files"),
    ("key", "cert", "cannot use the certificate .* must be PEM files"),
    ("cert", "missing", "cannot read the certificate .* No such file"),
    ("missing", "key", "cannot read the certificate .* No such file"),
    ("cert", "encrypted_key", "the key of the certificate is encrypted"),
]


@pytest.mark.parametrize(("cert", "key", "why"), WRONG)
async def test_files_that_cannot_be_used(files: Files, cert: str, key: str, why: str) -> None:
    config = Config(host=LOOPBACK, port=0, tls_cert=getattr(files, cert), tls_key=getattr(files, key))
    with trio.fail_after(DEADLINE_S), pytest.raises(ConfigError, match=why) as caught:
        await trio_vrchat.serve(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cert", "key"), [("cert", "foreign_key"), ("cert", "encrypted_key"), ("missing", "key")])
def test_are_one_line_and_status_2(files: Files, cert: str, key: str) -> None:
    done = finished(*LOCAL, "--tls-cert", getattr(files, cert), "--tls-key", getattr(files, key))
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "certificate" in line


def test_one_file_without_the_other_is_an_error() -> None:
    with pytest.raises(ConfigError, match="tls_cert is given without tls_key"):
        Config(tls_cert="cert.pem")
    with pytest.raises(ConfigError, match="tls_key is given without tls_cert"):
        Config(tls_key="key.pem")


# Where there is none


@pytest.mark.parametrize(
    ("urls", "warned"),
    [
        (("ws://192.0.2.7:1/", "ws://127.0.0.1:1/"), "ws://192.0.2.7:1/"),
        (("ws://[2001:db8::1]:1/", "ws://[::1]:1/"), "ws://[2001:db8::1]:1/"),
        (("ws://127.0.0.1:1/", "ws://[::1]:1/"), None),
        (("wss://192.0.2.7:1/", "wss://127.0.0.1:1/"), None),
    ],
)
async def test_plain_text_on_the_network_is_a_warning(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    urls: tuple[str, ...],
    warned: str | None,
) -> None:
    monkeypatch.setattr("trio_vrchat._server.urls_of", lambda _listeners, *, tls: urls)
    async with testing.open_server():
        pass
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    if warned is None:
        assert warnings == []
    else:
        [warning] = warnings
        assert f"no TLS on {warned}: " in warning
        assert "--tls-cert" in warning


# Secrets


def test_no_secret_is_in_any_log(tmp_path: Path) -> None:
    secret = "hunter-two"
    account = tmp_path / "chat.db"
    with started(*LOCAL, "--log-level", "3", "--store", str(account), "--login-failures-per-account", "0") as program:
        url = program.url()
        tokens: list[str] = []

        def ask(message: object) -> int:
            with connect(url) as client:
                client.send(message if isinstance(message, str) else json.dumps(message))
                response = json.loads(client.recv(timeout=DEADLINE_S))["response"]
                tokens.extend(value for key, value in response["detail"].items() if key == "session")
                return int(response["code"])

        def login(**options: object) -> object:
            return {"system": "login", "options": {"user": "Tibi", "pass": secret} | options}

        with connect(url) as holder:
            holder.send(json.dumps(login()))
            assert json.loads(holder.recv(timeout=DEADLINE_S))["response"]["code"] == 202
            codes = [
                ask(login(**{"pass": secret + " but wrong"})),
                ask(login(user=5)),
                ask(login(user="x" * 40)),
                ask(login(resume=secret)),
                ask(login(**{"pass": [secret]})),
                ask(json.dumps(login())[:-1]),
                ask({"system": secret, "options": {}}),
                ask({"system": "resume", "options": {"session": secret}}),
                ask({"system": "resume", "options": {"session": [secret]}}),
                ask(login(resume=True)),
            ]
        assert codes == [409, 400, 400, 400, 400, 406, 403, 403, 400, 202]
        assert ask({"system": "resume", "options": {"session": tokens[0]}}) in (202, 403)
        program.process.terminate()
        status, lines = program.end()
    assert status == 0
    assert any("has logged in" in line for line in lines), "the log says something"
    assert any("400 Bad request" in line for line in lines)
    assert tokens
    for text in (secret, *tokens):
        assert not [line for line in lines if text in line]
