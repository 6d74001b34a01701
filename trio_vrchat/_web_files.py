"""The page's files: a fixed table, made once, of what is in the folder `web` of this package.

No path of a request is ever joined to a folder: it is a key of this table, or there is no such file.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources
from collections.abc import Mapping

import attrs

from ._http import Answer, Request

# Not the machine's own table: on Windows that is the registry, where other programs have their say.
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_UNKNOWN_TYPE = "application/octet-stream"
# What gzip must save: less is not worth the work of unpacking.
_WORTH_PACKING = 0.9
_INDEX = "index.html"


@attrs.frozen
class Form:
    """A file as it goes out, plain or packed. `etag` with its quotes; each form has its own (RFC 9110, 8.8.3.3)."""

    body: bytes
    etag: str


@attrs.frozen
class File:
    """A file of the page. `packed`: by gzip, where that helps."""

    content_type: str
    plain: Form
    packed: Form | None

    def answer(self, request: Request) -> Answer:
        """The answer to a GET or HEAD of it: the form that the client takes, or 304 where it has that."""
        packed = self.packed if takes_gzip(request) else None
        form = packed or self.plain
        # It may be kept, and is asked after each time: so a new version is there with the next reload.
        headers = [("ETag", form.etag), ("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")]
        if self.packed is not None:
            headers.append(("Vary", "Accept-Encoding"))
        if _names(request.value(b"if-none-match"), form.etag):
            return Answer(304, tuple(headers))
        headers.append(("Content-Type", self.content_type))
        if packed is not None:
            headers.append(("Content-Encoding", "gzip"))
        return Answer(200, tuple(headers), form.body)


def _names(if_none_match: str, etag: str) -> bool:
    """Whether this header names this ETag; by the weak comparison, as RFC 9110, section 13.1.2, asks."""
    return any(part.strip().removeprefix("W/") in (etag, "*") for part in if_none_match.split(","))


def takes_gzip(request: Request) -> bool:
    """Whether the client takes gzip (RFC 9110, section 12.5.3)."""
    quality = {"gzip": 0.0, "*": 0.0}
    for token in request.tokens(b"accept-encoding"):
        coding, _, parameter = (part.strip() for part in token.partition(";"))
        name, _, value = (part.strip() for part in parameter.partition("="))
        try:
            quality[coding] = float(value) if name == "q" else 1.0
        except ValueError:
            quality[coding] = 0.0
        if coding == "gzip":
            return quality[coding] > 0
    return quality["*"] > 0


def table_of(contents: Mapping[str, bytes]) -> dict[str, File]:
    """The table of these files by path, from their contents by name. "/" is index.html."""
    table = {f"/{name}": _file(name, body) for name, body in contents.items()}
    if (index := table.get(f"/{_INDEX}")) is not None:
        table["/"] = index
    return table


def _file(name: str, body: bytes) -> File:
    digest = hashlib.sha256(body).hexdigest()[:32]
    # (With the same bytes each time: a time in it would be a new ETag's worth of difference.)
    packed = gzip.compress(body, mtime=0)
    return File(
        _TYPES.get(name.rpartition(".")[2].lower(), _UNKNOWN_TYPE),
        Form(body, f'"{digest}"'),
        Form(packed, f'"{digest}-gzip"') if len(packed) < _WORTH_PACKING * len(body) else None,
    )


@functools.cache
def own_files() -> Mapping[str, File]:
    """The table of this package's page. Read once in the life of a process."""
    folder = importlib.resources.files("trio_vrchat") / "web"
    return table_of({entry.name: entry.read_bytes() for entry in folder.iterdir() if _belongs(entry.name)})


def _belongs(name: str) -> bool:
    # An editor's and a system's own files begin with a dot, or end with a tilde.
    return "." in name and not name.startswith((".", "_")) and not name.endswith("~")
