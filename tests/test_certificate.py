"""`--tls auto`: the certificate that is made, when it is made anew, and who trusts it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import json
import os
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from websockets.sync.client import connect

import trio_vrchat
from tests.program import DEADLINE_S, LOCAL, LOOPBACK, started
from trio_vrchat import Config, ConfigError, Handle, _accept, _certificate
from trio_vrchat._addresses import machine_addresses, page_urls_of
from trio_vrchat._admission import IPAddress, Networks, Peer
from trio_vrchat._certificate import Names, OwnTLS, names_of, own_tls
from trio_vrchat._tls import server_context
from trio_vrchat.testing import upgrade_request

posix = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the folder is named by a variable on Linux only")
NOW = 1_800_000_000.0
DAY_S = 86_400.0


def addresses(*texts: str) -> list[IPAddress]:
    return [ipaddress.ip_address(text) for text in texts]


LAB = names_of("Lab-3", None, addresses("192.168.1.20", "fd00::2"))


def kept(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())


# What it is


def test_it_names_all_by_which_the_machine_is_reached(tmp_path: Path) -> None:
    own_tls(tmp_path, LAB, NOW)
    names = kept(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "lab-3", "lab-3.local"}
    found = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert found == {"192.168.1.20", "fd00::2", "127.0.0.1", "::1"}


def test_it_is_what_browsers_ask_of_one(tmp_path: Path) -> None:
    own = own_tls(tmp_path, LAB, NOW)
    certificate = kept(tmp_path)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    now = datetime.fromtimestamp(NOW, UTC)
    assert certificate.not_valid_before_utc == now - timedelta(days=1)
    assert (
        timedelta(days=700) < certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=825)
    )
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    [usage] = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == ExtendedKeyUsageOID.SERVER_AUTH
    certificate.verify_directly_issued_by(certificate)
    digest = ssl.PEM_cert_to_DER_cert(certificate.public_bytes(Encoding.PEM).decode())
    assert own.fingerprint.replace(":", "").lower() == hashlib.sha256(digest).hexdigest()


@posix
def test_nobody_else_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(mode=0o755, parents=True)
    own_tls(folder, LAB, NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "certificate.pem").stat().st_mode) == 0o600
    assert [entry.name for entry in folder.iterdir()] == ["certificate.pem"]


@pytest.mark.parametrize(
    ("host_name", "host", "names"),
    [
        ("lab", None, ["localhost", "lab", "lab.local"]),
        ("Lab.example.org", None, ["localhost", "lab.example.org", "lab", "lab.local"]),
        ("lab.local", None, ["localhost", "lab.local", "lab"]),
        ("localhost", None, ["localhost", "localhost.local"]),
        ("a_b", None, ["localhost"]),
        ("-", None, ["localhost"]),
        ("", None, ["localhost"]),
        ("l\u00e4b", None, ["localhost"]),
        ("x" * 64, None, ["localhost"]),
        ("lab", "Chat.example", ["localhost", "lab", "lab.local", "chat.example"]),
        ("lab", "0.0.0.0", ["localhost", "lab", "lab.local"]),
    ],
)
def test_names_that_a_certificate_may_hold(host_name: str, host: str | None, names: list[str]) -> None:
    found = names_of(host_name, host, [])
    assert list(found.names) == names
    assert found.addresses == tuple(addresses("127.0.0.1", "::1"))


def test_the_address_that_it_listens_on_is_one_of_them() -> None:
    assert ipaddress.ip_address("10.1.2.3") in names_of("lab", "10.1.2.3", []).addresses
    assert ipaddress.ip_address("fe80::1") in names_of("lab", "fe80::1%eth0", []).addresses


# When it is made anew


class Kept:
    """A folder with a certificate for LAB, and whether it is made anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "certificate.pem"
        self.first = own_tls(folder, LAB, NOW)

    def is_made_anew(self, names: Names = LAB, time: float = NOW) -> bool:
        before = self.file.read_bytes() if self.file.exists() else b""
        own = own_tls(self.folder, names, time)
        assert isinstance(own, OwnTLS)
        anew = own.fingerprint != self.first.fingerprint
        assert (self.file.read_bytes() != before) == anew
        return anew


@pytest.fixture
def lab(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_the_next_start_has_the_same(lab: Kept) -> None:
    assert not lab.is_made_anew()
    assert not lab.is_made_anew(time=NOW + 700 * DAY_S)
    assert not lab.is_made_anew(time=NOW - DAY_S / 2)


@pytest.mark.parametrize("moved", ["10.0.0.7", "192.168.1.21"])
def test_another_address(lab: Kept, moved: str) -> None:
    assert lab.is_made_anew(names_of("Lab-3", None, addresses(moved)))


def test_one_more_address(lab: Kept) -> None:
    assert lab.is_made_anew(names_of("Lab-3", None, addresses("192.168.1.20", "10.0.0.7")))


def test_one_address_less_is_no_reason(lab: Kept) -> None:
    assert not lab.is_made_anew(names_of("Lab-3", None, []))


def test_another_name(lab: Kept) -> None:
    assert lab.is_made_anew(names_of("lab-4", None, addresses("192.168.1.20", "fd00::2")))


def test_an_address_that_changes_by_the_day_is_a_reason_only_where_there_is_no_other(lab: Kept) -> None:
    assert not lab.is_made_anew(names_of("Lab-3", None, addresses("192.168.1.20", "fd00::3")))
    assert lab.is_made_anew(names_of("Lab-3", None, addresses("fd00::3")))


def test_near_its_end_or_before_its_beginning(lab: Kept) -> None:
    assert lab.is_made_anew(time=NOW + 771 * DAY_S)


def test_a_clock_that_was_wrong(lab: Kept) -> None:
    assert lab.is_made_anew(time=NOW - 2 * DAY_S)


@posix
def test_a_key_that_others_could_read(lab: Kept) -> None:
    lab.file.chmod(0o640)
    assert lab.is_made_anew()
    assert stat.S_IMODE(lab.file.stat().st_mode) == 0o600


def test_what_is_no_certificate(lab: Kept) -> None:
    whole = lab.file.read_bytes()
    certificate = whole[whole.index(b"-----BEGIN CERT") :]
    other = ec.generate_private_key(ec.SECP256R1())
    foreign = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for broken in (b"", b"nonsense", whole[:100], whole[:-100], certificate, foreign + certificate):
        lab.file.write_bytes(broken)
        own = own_tls(lab.folder, LAB, NOW)
        assert own_tls(lab.folder, LAB, NOW).fingerprint == own.fingerprint != lab.first.fingerprint


def test_one_that_was_removed(lab: Kept) -> None:
    lab.file.unlink()
    assert lab.is_made_anew()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot keep a certificate in .*file.*--tls-cert") as caught:
        own_tls(tmp_path / "file" / "folder", LAB, NOW)
    assert "\n" not in str(caught.value)


def test_two_servers_that_make_one_at_the_same_time_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is written between our reading and our loading: what is loaded must be what is said."""
    own_tls(tmp_path, LAB, NOW)
    load = server_context
    written: list[str] = []

    def load_late(certificate: str, key: str) -> ssl.SSLContext:
        if not written:
            (tmp_path / "certificate.pem").unlink()
            with monkeypatch.context() as patch:
                patch.setattr(_certificate, "server_context", load)
                written.append(own_tls(tmp_path, LAB, NOW).fingerprint)
        return load(certificate, key)

    monkeypatch.setattr(_certificate, "server_context", load_late)
    assert own_tls(tmp_path, LAB, NOW).fingerprint == written[0]


# A server with it


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this user's data, for tests."""
    monkeypatch.setattr("trio_vrchat._certificate.folder", lambda: tmp_path)
    return tmp_path


@linux
def test_the_program_with_it(tmp_path: Path) -> None:
    variables = {"XDG_DATA_HOME": str(tmp_path)}
    with started(*LOCAL, "--tls", "auto", variables=variables) as program:
        lines = program.until("Ctrl", program.stdout)
        port = int(lines[1].rpartition(":")[2].rstrip("/"))
        assert lines[1] == f"  http://{LOOPBACK}:{port}/", "which a browser here trusts, too"
        fingerprint = f"{lines[3].strip()}:{lines[4].strip()}"
        assert f"  wss://{LOOPBACK}:{port}/" in lines
        file = tmp_path / "trio_vrchat" / "certificate.pem"
        trust = ssl.create_default_context(cafile=str(file))
        for name in (LOOPBACK, "localhost"):
            client = http.client.HTTPSConnection(name, port, context=trust, timeout=DEADLINE_S)
            with contextlib.closing(client):
                client.connect()
                assert isinstance(client.sock, ssl.SSLSocket)
                der = client.sock.getpeercert(binary_form=True)
                assert der is not None
                assert hashlib.sha256(der).digest().hex(":").upper() == fingerprint
                client.request("GET", "/")
                answer = client.getresponse()
                assert (answer.status, answer.getheader("Cross-Origin-Opener-Policy")) == (200, "same-origin")
                answer.read()
        origin = f"https://{LOOPBACK}:{port}"
        with connect(f"wss://{LOOPBACK}:{port}/", ssl=trust, additional_headers={"Origin": origin}) as socket_:
            socket_.send('{"system": "ping"}')
            assert json.loads(socket_.recv(timeout=DEADLINE_S))["response"]["code"] == 220
    with started(*LOCAL, "--tls", "auto", variables=variables) as program:
        lines = program.until("Ctrl", program.stdout)
        assert f"{lines[3].strip()}:{lines[4].strip()}" == fingerprint, "the next start has the same"


@linux
def test_a_folder_that_cannot_be_ends_the_program_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    variable = {"XDG_DATA_HOME": str(tmp_path / "file")}
    with started(*LOCAL, "--tls", "auto", variables=variable) as program:
        status, [line] = program.end()
    assert status == 2
    assert "cannot keep a certificate" in line


async def test_every_address_of_this_machine_is_in_it(data: Path) -> None:
    async with trio.open_nursery() as nursery:
        handle: Handle = await nursery.start(trio_vrchat.serve, Config(port=0, tls="auto"))
        names = kept(data).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(machine_addresses()) <= set(names.get_values_for_type(x509.IPAddress))
        assert handle.fingerprint.count(":") == 31
        assert all(url.startswith("wss://") for url in handle.urls)
        assert len(handle.page_urls) == len(handle.urls)
        trust = ssl.create_default_context(cafile=str(data / "certificate.pem"))
        for url in handle.urls:
            async with trio_vrchat.open_client(url, "Tibi", "", ssl_context=trust) as client:
                await client.ping()
        nursery.cancel_scope.cancel()


def test_urls_for_browsers() -> None:
    assert page_urls_of(("ws://192.0.2.7:1/", "ws://127.0.0.1:1/"), tls=False) == (
        "http://192.0.2.7:1/",
        "http://127.0.0.1:1/",
    )
    assert page_urls_of(("wss://192.0.2.7:1/", "wss://[::1]:1/"), tls=True) == (
        "https://192.0.2.7:1/",
        "http://[::1]:1/",
    )
    assert page_urls_of(("wss://127.0.0.1:1/",), tls=False) == ("https://127.0.0.1:1/",), "somebody's own listener"


# Without TLS on a port that speaks it


@contextlib.asynccontextmanager
async def a_server_with_tls(data: Path, *, trust_proxy: tuple[str, ...] = ()) -> AsyncIterator[Handle]:
    async with trio.open_nursery() as nursery:
        config = Config(host=LOOPBACK, port=0, tls="auto", trust_proxy=trust_proxy)
        yield await nursery.start(trio_vrchat.serve, config)
        nursery.cancel_scope.cancel()


@pytest.fixture
def from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects does so from another machine."""
    elsewhere = Networks(()).peer("192.0.2.7", 7)

    def peer_at(address: object, networks: Networks) -> Peer:
        return elsewhere

    monkeypatch.setattr(_accept, "peer_at", peer_at)


async def told(port: int, request: bytes) -> bytes:
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            await stream.send_all(request)
            answer = b""
            while b"\r\n\r\n" not in answer and (data := await stream.receive_some()):
                answer += data
            return answer


GET = b"GET /a?b HTTP/1.1\r\nHost: lab.local:42069\r\n\r\n"


async def test_from_this_machine_it_is_served_as_it_comes(data: Path) -> None:
    async with a_server_with_tls(data) as handle:
        assert (await told(handle.port, GET)).startswith(b"HTTP/1.1 404 ")
        assert (await told(handle.port, GET.replace(b"/a?b", b"/healthz"))).startswith(b"HTTP/1.1 200 ")
        assert (await told(handle.port, upgrade_request())).startswith(b"HTTP/1.1 101 ")
        async with trio_vrchat.open_client(f"ws://{LOOPBACK}:{handle.port}/", "Tibi", "") as client:
            assert await client.members("lobby") == ("Tibi",)


async def test_from_elsewhere_it_is_sent_to_https(data: Path, from_elsewhere: None) -> None:
    async with a_server_with_tls(data) as handle:
        for path in (b"/a?b", b"/", b"/healthz", b"/metrics"):
            answer = await told(handle.port, GET.replace(b"/a?b", path))
            assert answer.startswith(b"HTTP/1.1 308 ")
            assert b"\r\nLocation: https://lab.local:42069" + path + b"\r\n" in answer
        assert (await told(handle.port, GET.replace(b"lab.local", b"a b"))).startswith(b"HTTP/1.1 400 ")
        trust = ssl.create_default_context(cafile=str(data / "certificate.pem"))
        async with trio_vrchat.open_client(handle.urls[0], "Tibi", "", ssl_context=trust) as client:
            await client.ping()


async def test_a_trusted_proxy_elsewhere_may_have_taken_tls_off(data: Path, from_elsewhere: None) -> None:
    async with a_server_with_tls(data, trust_proxy=("192.0.2.0/24",)) as handle:
        for scheme, get, upgrade in ((b"https", b"404", b"101"), (b"http", b"308", b"400")):
            line = b"\r\nX-Forwarded-Proto: " + scheme + b"\r\nHost:"
            assert (await told(handle.port, GET.replace(b"\r\nHost:", line)))[9:12] == get
            assert (await told(handle.port, upgrade_request().replace(b"\r\nHost:", line)))[9:12] == upgrade


@pytest.mark.parametrize(
    "request_", [upgrade_request(), upgrade_request().replace(b"Upgrade: websocket", b"Upgrade:\r\n websocket")]
)
async def test_from_elsewhere_an_upgrade_is_refused_and_never_redirected(
    data: Path, from_elsewhere: None, request_: bytes
) -> None:
    async with a_server_with_tls(data) as handle:
        answer = await told(handle.port, request_)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Location" not in answer
        assert handle.statistics.connections == 0
        assert handle.statistics.http_requests == 1
