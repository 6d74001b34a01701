"""TLS: a certificate and its key from two files."""

from __future__ import annotations

import ssl

from ._errors import ConfigError


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """What a server with this certificate chain and private key (PEM files) does TLS with. Raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An encrypted key would ask for its passphrase on the terminal of a server that has none.
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        raise ConfigError(
            f"cannot use the certificate {certificate!r} with the key {key!r}: {error.reason or error}; "
            "both must be PEM files, and belong together"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot read the certificate {certificate!r} or the key {key!r}: {error.strerror}"
        ) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key of the certificate is encrypted; give one that needs no passphrase")
