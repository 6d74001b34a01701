"""What there is on the port: files from a table, health, and where one is sent."""

from __future__ import annotations

import gzip
import ipaddress
import logging
from collections.abc import Mapping

import pytest

import trio_vrchat._site as site_module
from trio_vrchat._http import Answer, Request, in_words
from trio_vrchat._site import Site, Visitor, to_https
from trio_vrchat._web_files import File, own_files, table_of

LONG = b"x = 1;\n" * 100
FILES = table_of({"index.html": b"<!doctype html>" * 30, "main.js": LONG, "tiny.css": b"a{}", "odd.xyz": b"\0" * 9})
VISITOR = Visitor(None)


def request(path: str, method: str = "GET", *, host: str = "memory:1", **headers: str) -> Request:
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Request(method, path, host, lines)


def site(files: Mapping[str, File] | None = FILES) -> Site:
    return Site(files, lambda _: in_words(200, "figures"), ("192.0.2.0/24", "::1/128"))


def answer(path: str, method: str = "GET", *, host: str = "memory:1", **headers: str) -> Answer:
    return site().answer(request(path, method, host=host, **headers), VISITOR)


def header(found: Answer, name: str) -> str | None:
    return dict(found.headers).get(name)


# Files


def test_a_file_is_what_its_name_says() -> None:
    kinds = {path: header(answer(path), "Content-Type") for path in FILES}
    assert kinds == {
        "/": "text/html; charset=utf-8",
        "/index.html": "text/html; charset=utf-8",
        "/main.js": "text/javascript; charset=utf-8",
        "/tiny.css": "text/css; charset=utf-8",
        "/odd.xyz": "application/octet-stream",
    }
    assert answer("/main.js").body == LONG
    assert answer("/main.js?version=7").body == LONG
    assert answer("/").body == answer("/index.html").body


@pytest.mark.parametrize(
    "path",
    ["/none", "/main.js/", "//main.js", "/./main.js", "/../_site.py", "/%6dain.js", "/MAIN.JS", "main.js", "*", "/web"],
)
def test_no_path_is_ever_joined(path: str) -> None:
    assert answer(path).status == 404


def test_every_file_is_held_to_this_server() -> None:
    for path in FILES:
        found = answer(path)
        policy = header(found, "Content-Security-Policy") or ""
        assert policy.startswith("default-src 'self'; connect-src 'self' ws://memory:1 wss://memory:1; ")
        assert "unsafe" not in policy
        assert header(found, "Cache-Control") == "no-cache"
        assert header(found, "X-Content-Type-Options") == "nosniff"
        assert header(found, "Referrer-Policy") == "no-referrer"
        assert header(found, "Permissions-Policy") == "xr-spatial-tracking=(self)"


@pytest.mark.parametrize("host", ["[::1]:1", "", "a_b"])
def test_a_host_that_no_policy_takes_is_left_out(host: str) -> None:
    assert "connect-src 'self';" in (header(answer("/", host=host), "Content-Security-Policy") or "")


@pytest.mark.parametrize(
    ("host", "by_tls", "given"),
    [
        ("memory:1", False, False),
        ("192.168.1.20:42069", False, False),
        ("192.168.1.20:42069", True, True),
        ("localhost:42069", False, True),
        ("127.0.0.1", False, True),
        ("[::1]:42069", False, True),
        ("localhost.example", False, False),
    ],
)
def test_a_window_of_its_own_where_browsers_grant_one(host: str, by_tls: bool, given: bool) -> None:
    found = site().answer(request("/", host=host), Visitor(None, by_tls))
    assert (header(found, "Cross-Origin-Opener-Policy") == "same-origin") == given


def test_who_has_a_file_gets_it_no_more() -> None:
    etag = header(answer("/main.js"), "ETag")
    assert etag
    for names in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        found = answer("/main.js", if_none_match=names)
        assert (found.status, found.body, header(found, "ETag")) == (304, b"", etag)
        assert header(found, "Vary") == "Accept-Encoding"
    assert answer("/main.js", if_none_match='"other"').status == 200
    assert answer("/tiny.css", if_none_match=etag).status == 200


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("br", False),
        ("", False),
        ("gzip;q=x", False),
        (";;==,,", False),
    ],
)
def test_gzip_where_it_is_taken(accept: str, packed: bool) -> None:
    found = answer("/main.js", accept_encoding=accept)
    assert header(found, "Content-Encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(found.body) if packed else found.body) == LONG
    assert header(found, "Vary") == "Accept-Encoding"
    plain = header(answer("/main.js"), "ETag")
    assert (header(found, "ETag") == plain) != packed, "each form has its own"


def test_no_gzip_where_it_does_not_help() -> None:
    found = answer("/tiny.css", accept_encoding="gzip")
    assert (header(found, "Content-Encoding"), header(found, "Vary")) == (None, None)


def test_the_table_is_the_same_each_time() -> None:
    assert table_of({"main.js": LONG}) == table_of({"main.js": LONG})


def test_the_packages_own_page_is_there() -> None:
    files = own_files()
    assert files["/"].content_type == "text/html; charset=utf-8"
    assert not [path for path in files if path.startswith(("/.", "/_"))]
    assert own_files() is files


# Methods, health, and no page


@pytest.mark.parametrize("path", ["/", "/main.js", "/healthz"])
def test_other_methods_are_told_which(path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
        found = answer(path, method)
        assert (found.status, header(found, "Allow")) == (405, "GET, HEAD")
    assert answer(path, "HEAD").status == 200
    assert answer("/none", "POST").status == 404


def test_health() -> None:
    ours = site()
    assert (ours.answer(request("/healthz"), VISITOR).status, answer("/healthz").body) == (200, b"ok\n")
    ours.draining = True
    assert ours.answer(request("/healthz"), VISITOR).status == 503
    assert ours.answer(request("/main.js"), VISITOR).status == 200


@pytest.mark.parametrize(
    ("address", "may"),
    [("192.0.2.7", True), ("::1", True), ("127.0.0.1", False), ("192.0.3.1", False), ("::2", False), (None, False)],
)
def test_metrics_are_for_some_networks_only(address: str | None, may: bool) -> None:
    visitor = Visitor(ipaddress.ip_address(address) if address else None)
    found = site().answer(request("/metrics"), visitor)
    assert found == (in_words(200, "figures") if may else answer("/none"))
    assert Site(FILES, lambda _: in_words(200, ""), ()).answer(request("/metrics"), visitor).status == 404


def test_without_a_page_it_says_what_it_is() -> None:
    bare = site(None)
    found = bare.answer(request("/"), VISITOR)
    assert (found.status, header(found, "Upgrade")) == (426, "websocket")
    assert b"trio_vrchat" in found.body
    assert bare.answer(request("/index.html"), VISITOR).status == 404
    assert bare.answer(request("/healthz"), VISITOR).status == 200


def test_a_bug_is_500_and_in_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(site_module, "_guards", lambda request, visitor: 1 // 0)
    assert answer("/").status == 500
    assert "ZeroDivisionError" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


# To https


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/", "192.168.1.20:42069", "https://192.168.1.20:42069/"),
        ("/a?b=c", "[fd00::2]:42069", "https://[fd00::2]:42069/a?b=c"),
        ("//evil.example/", "lab.local:1", "https://lab.local:1//evil.example/"),
        ("/", "lab.example", "https://lab.example:80/"),
    ],
)
def test_a_redirect_leads_to_the_same_host_and_port(target: str, host: str, location: str) -> None:
    found = to_https(request(target, host=host))
    assert (found.status, header(found, "Location"), found.close) == (308, location, True)
    assert header(found, "Cache-Control") == "no-store", "TLS can be turned off again"


@pytest.mark.parametrize(("target", "host"), [("/", ""), ("*", "lab.local:1")])
def test_without_a_host_there_is_none(target: str, host: str) -> None:
    found = to_https(request(target, host=host))
    assert (found.status, header(found, "Location")) == (400, None)
