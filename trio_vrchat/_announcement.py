"""What the program says on stdout when it listens: where to go, for people first, and then for programs."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

# Modules of white around a QR code. The standard asks for four; cameras read it with two.
_QR_BORDER = 2
# White on black, whatever the terminal's own colours are: a code in its negative is not read by every camera.
_QR_COLOURS = ("\x1b[97;40m", "\x1b[0m")


class Found(Protocol):
    """Where a server is found: a `Handle`, or what is the same of several."""

    @property
    def urls(self) -> tuple[str, ...]:
        """For programs."""
        ...

    @property
    def page_urls(self) -> tuple[str, ...]:
        """For browsers; empty where there is no page."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of a certificate of its own; else ""."""
        ...


def announce(found: Found) -> None:
    """Print on stdout where the server is found. It goes on where nobody reads that."""
    try:
        text = announcement(found.urls, found.page_urls, found.fingerprint, _code_for_terminal)
        print(text, flush=True)  # noqa: T201  (it is what the program says)
    except (OSError, ValueError):  # ValueError: closed by the program itself
        # What waits in the buffer would fail again at the end, and spoil the exit status.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def announcement(
    urls: Sequence[str],
    page_urls: Sequence[str],
    fingerprint: str = "",
    code: Callable[[str], list[str]] = lambda _: [],
) -> str:
    """What is said at the start: a line for each URL, the network's first, and how to stop.

    `code` gives the lines of a URL's QR code, none where it cannot be shown.
    """
    lines = _for_browsers(page_urls, fingerprint, code) if page_urls else ["Listening, without a page for browsers."]
    lines += ["Programs connect to:", *_indented(urls)]
    return "\n".join([*lines, "Ctrl+C stops the server."])


def _for_browsers(urls: Sequence[str], fingerprint: str, code: Callable[[str], list[str]]) -> list[str]:
    here = [url for url in urls if _address(url).is_loopback]
    network = [url for url in urls if url not in here]
    # Nobody types an IPv6 address where there is a shorter one.
    network = [url for url in network if _address(url).version == 4] or network
    port = urlsplit(urls[0]).port
    lines: list[str] = []
    if network:
        lines += ["Open it in a browser, on any headset or computer of this network:", *_indented(network)]
        lines += code(network[0])
    if here:
        where = "On this machine" if network else "Open it in a browser on this machine"
        lines += [f"{where} (or a headset on its cable: adb reverse tcp:{port} tcp:{port}):", *_indented(here[:1])]
    if fingerprint:
        middle = len(fingerprint) // 2
        halves = fingerprint[:middle], fingerprint[middle + 1 :]
        lines += ["Browsers warn of its certificate, which is its own. The SHA-256 fingerprint:", *_indented(halves)]
    elif any(url.startswith("http:") for url in network):
        lines.append("Headsets enter VR over https only, or on the cable: --tls auto turns https on.")
    return lines


def _address(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(urlsplit(url).hostname or "")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _code_for_terminal(url: str) -> list[str]:
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return []
    return qr_code(url, columns=shutil.get_terminal_size().columns, encoding=sys.stdout.encoding)


def qr_code(url: str, *, columns: int, encoding: str) -> list[str]:
    """The lines of this URL's QR code; none where they are wider than that, or the encoding has no blocks."""
    # Slow to import, and needed on a terminal only.
    import segno  # noqa: PLC0415

    drawn = io.StringIO()
    segno.make_qr(url, error="l").terminal(drawn, border=_QR_BORDER, compact=True)
    lines = drawn.getvalue().splitlines()
    try:
        drawn.getvalue().encode(encoding)
    except UnicodeEncodeError:
        return []
    before, after = _QR_COLOURS
    return [f"{before}{line}{after}" for line in lines] if len(lines[0]) <= columns else []
