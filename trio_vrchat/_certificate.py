"""`--tls auto`: a certificate of the server's own, made once and kept.

Headsets grant WebXR only to https, and no authority certifies 192.168.1.20. So the server signs for itself, a browser
warns once, and its user lets it pass. That is asked for again whenever the certificate is another one, so it is made
anew only where it must be: it names a machine with other addresses, it nears its end, or its key is no secret any more.

- One file holds key and certificate, so that no crash can leave two that do not belong together.
- The file has mode 0600, its folder 0700, and a new one takes the place of the old in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import ssl
import stat
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ._admission import IPAddress
from ._errors import ConfigError
from ._tls import server_context

_FILE = "certificate.pem"
# Apple's systems take at most 825 from the first to the last.
_DAYS = 800
# The clock of a headset that has been in a drawer may be behind.
_BACKDATED_DAYS = 1
_RENEWED_BEFORE_DAYS = 30
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Other servers of this user that make one at the same instant.
_TRIES = 10


@attrs.frozen
class Names:
    """What a certificate is for. `addresses` as they are reached; `names` in lower case."""

    names: tuple[str, ...]
    addresses: tuple[IPAddress, ...]

    @property
    def lasting(self) -> Names:
        """Without which it must be made anew: an IPv6 address changes by the day, for the sake of privacy, and only
        where there is no other is it what people type.
        """
        old = tuple(address for address in self.addresses if address.version == 4 or address.is_loopback)
        has_other = any(not address.is_loopback for address in old)
        return attrs.evolve(self, addresses=old if has_other else self.addresses)


@attrs.frozen(eq=False)
class OwnTLS:
    """What a server with its own certificate does TLS with. `fingerprint`: SHA-256, in hexadecimal with colons.

    `path`: the file that holds certificate and key.
    """

    context: ssl.SSLContext
    fingerprint: str
    path: Path


def folder() -> Path:
    """Where this user's certificate is kept."""
    return platformdirs.user_data_path("trio_vrchat", appauthor=False)


def own_tls(folder: Path, names: Names, time: float) -> OwnTLS:
    """TLS with the certificate that is kept in this folder, made if there is none that will do. Raises ConfigError.

    `time`: now, in seconds since the epoch.
    """
    path = folder / _FILE
    now = datetime.fromtimestamp(time, UTC)
    try:
        for _ in range(_TRIES):
            kept = _read(path)
            if kept is None or not _will_do(kept, path, names, now):
                _write(path, _make(names, now))
                continue
            context = server_context(str(path), str(path))
            # What was loaded is what was read, unless another server was at it.
            if _read(path) == kept:
                return OwnTLS(context, _fingerprint(kept), path)
    except OSError as error:
        raise ConfigError(
            f"cannot keep a certificate in {str(folder)!r}: {error.strerror}; tls auto needs a folder to write to "
            "(on Linux $XDG_DATA_HOME says where), or give --tls-cert and --tls-key"
        ) from error
    raise ConfigError(f"the certificate in {str(path)!r} does not stay as it is made; is another server at it?")


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _will_do(pem: bytes, path: Path, names: Names, now: datetime) -> bool:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return False  # others could read the key
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, None)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    last = certificate.not_valid_after_utc - timedelta(days=_RENEWED_BEFORE_DAYS)
    if not certificate.not_valid_before_utc <= now <= last:
        return False
    if _public(key.public_key()) != _public(certificate.public_key()):  # type: ignore[arg-type]
        return False
    lasting = names.lasting
    return set(lasting.names) <= set(alternative.get_values_for_type(x509.DNSName)) and set(lasting.addresses) <= set(
        alternative.get_values_for_type(x509.IPAddress)
    )


def _public(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _make(names: Names, now: datetime) -> bytes:
    """A key and a certificate for these names, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trio_vrchat")])
    alternative = [
        *(x509.DNSName(known) for known in names.names),
        *(x509.IPAddress(address) for address in names.addresses),
    ]
    # (What it may be used for: a server's, not to sign others. Strict clients ask for the identifiers.)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=_BACKDATED_DAYS))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _write(path: Path, pem: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    # (Of mode 0600 from the first.)
    descriptor, new = tempfile.mkstemp(prefix=f".{_FILE}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def _fingerprint(pem: bytes) -> str:
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return hashlib.sha256(der).digest().hex(":").upper()


def names_of(host_name: str, host: str | None, addresses: Sequence[IPAddress]) -> Names:
    """All that a machine of this name and with these addresses is reached by, and by `host`, on which it listens."""
    first = host_name.lower().partition(".")[0]
    names = {"localhost": None, host_name.lower(): None, first: None, f"{first}.local": None}
    known = dict.fromkeys((*addresses, ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")))
    if host is not None:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            names[host.lower()] = None
        else:
            if not address.is_unspecified:
                known[address] = None
    return Names(tuple(filter(_is_name, names)), tuple(known))


def _is_name(name: str) -> bool:
    # What a certificate may hold and a browser may ask for (RFC 1123, section 2.1).
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))
