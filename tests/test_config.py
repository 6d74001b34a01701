"""The settings: each one's range, and what a wrong one is answered with."""

import math
import re
from typing import Any

import attrs
import pytest

from trio_vrchat._config import Config
from trio_vrchat._errors import ConfigError, VrchatError

WHOLE: dict[str, tuple[int, int]] = {
    "port": (0, 65535),
    "history": (0, 10_000),
    "history_limit_bytes": (0, 1 << 30),
    "message_limit_bytes": (1024, 1 << 24),
    "outbox_limit_frames": (4, 1 << 20),
    "outbox_limit_bytes": (1024, 1 << 30),
    "keep_events": (1, 10_000_000),
    "store_limit_bytes": (1 << 20, 1 << 50),
    "connections_limit": (0, 10_000_000),
    "connections_per_address": (0, 10_000_000),
    "new_connections_per_minute": (0, 10_000_000),
    "events_at_once": (0, 1_000_000),
    "bytes_per_s": (0, 1 << 40),
    "rooms_per_user": (0, 10_000_000),
    "members_per_room": (0, 10_000_000),
    "rooms_limit": (0, 10_000_000),
    "login_failures_per_account": (0, 1_000_000),
    "login_failures_per_address": (0, 1_000_000),
}
REAL: dict[str, tuple[float, float]] = {
    "fps": (0.1, 1000),
    "handshake_timeout_s": (0.1, 3600),
    "login_timeout_s": (0.1, 3600),
    "write_timeout_s": (0.1, 3600),
    "close_timeout_s": (0.0, 3600),
    "events_per_s": (0.01, 1_000_000),
    "keepalive_interval_s": (0.1, 3600),
    "keepalive_timeout_s": (0.1, 3600),
    "resume_grace_s": (0.0, 3600),
    "drain_s": (0.0, 3600),
}
RANGES: dict[str, tuple[float, float]] = {**WHOLE, **REAL}
NO_NUMBERS = [math.nan, math.inf, -math.inf, True, False, "20", "", b"20", None, [20], 20j]


def refusal(setting: str, value: object) -> str:
    wrong: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigError) as caught:
        Config(**wrong)
    assert isinstance(caught.value, VrchatError)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{setting} ")
    assert repr(value) in text
    return text


def accepted(setting: str, value: object) -> object:
    right: dict[str, Any] = {setting: value}
    return getattr(Config(**right), setting)


def numbers_in(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e[+-]\d+)?", text)]


def test_every_setting_is_tested_here() -> None:
    texts = {
        "host",
        "auth",
        "store",
        "tls_cert",
        "tls_key",
        "allow_origins",
        "exempt_networks",
        "metrics_networks",
        "record",
        "recordings",
        "note",
        "pseudonyms",
        "trust_proxy",
        "tls",
        "backplane",
    }
    assert {*RANGES, *texts, "page", "start_time", "seed"} == set(attrs.fields_dict(Config))


def test_the_defaults_are_those_that_the_protocol_and_its_users_know() -> None:
    config = Config()
    assert (config.host, config.port, config.fps, config.history) == (None, 42069, 20.0, 50)
    assert (config.message_limit_bytes, config.rooms_per_user) == (64 * 1024, 32)
    assert config.start_time is None


def test_a_backplane_is_a_url_and_an_error_does_not_quote_it() -> None:
    assert accepted("backplane", "redis://:hunter2@127.0.0.1:6379/1") == "redis://:hunter2@127.0.0.1:6379/1"
    assert "hunter2" not in repr(Config(backplane="redis://:hunter2@127.0.0.1"))
    for wrong in ("127.0.0.1:6379", "http://:hunter2@127.0.0.1", 6379, ""):
        with pytest.raises(ConfigError, match=r"^backplane must be redis://") as caught:
            accepted("backplane", wrong)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("setting", RANGES)
def test_the_ends_of_a_range_are_in_it(setting: str) -> None:
    for value in RANGES[setting]:
        assert accepted(setting, value) == value


@pytest.mark.parametrize("setting", RANGES)
def test_the_default_is_in_its_range(setting: str) -> None:
    low, high = RANGES[setting]
    assert low <= getattr(Config(), setting) <= high


@pytest.mark.parametrize("setting", WHOLE)
def test_a_whole_number_just_out_of_its_range_is_refused(setting: str) -> None:
    low, high = WHOLE[setting]
    for value in (low - 1, high + 1, -(10**30), 10**30):
        refusal(setting, value)


@pytest.mark.parametrize("setting", REAL)
def test_a_number_just_out_of_its_range_is_refused(setting: str) -> None:
    low, high = REAL[setting]
    for value in (math.nextafter(low, -math.inf), math.nextafter(high, math.inf), -1, -1e300, 1e300, 10**400):
        refusal(setting, value)


@pytest.mark.parametrize("setting", RANGES)
def test_the_refusal_says_the_exact_range(setting: str) -> None:
    low, high = RANGES[setting]
    assert numbers_in(refusal(setting, "x")) == [low, high]


@pytest.mark.parametrize("setting", RANGES)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_finite_number_is_refused(setting: str, value: object) -> None:
    assert "number" in refusal(setting, value)


@pytest.mark.parametrize("setting", WHOLE)
def test_a_fraction_is_no_whole_number(setting: str) -> None:
    low, high = WHOLE[setting]
    for value in (low + 0.5, float(high)):
        assert "whole" in refusal(setting, value)


@pytest.mark.parametrize("setting", REAL)
def test_a_whole_number_will_do_where_a_fraction_is_allowed(setting: str) -> None:
    assert accepted(setting, 3) == 3
    assert accepted(setting, 2.5) == 2.5


@pytest.mark.parametrize("value", [None, "127.0.0.1", "::1", "localhost"])
def test_a_host_is_a_name_or_left_out(value: str | None) -> None:
    assert accepted("host", value) == value


@pytest.mark.parametrize("value", ["", b"127.0.0.1", 127, True, ["::1"], math.nan], ids=repr)
def test_any_other_host_is_refused(value: object) -> None:
    refusal("host", value)


@pytest.mark.parametrize("value", [None, 0, 0.0, 1568979503.28, 1_800_000_000])
def test_a_start_time_is_seconds_since_the_epoch_or_left_out(value: float | None) -> None:
    assert accepted("start_time", value) == value


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, -math.inf, True, False, "0", [0], 0j], ids=repr)
def test_any_other_start_time_is_refused(value: object) -> None:
    refusal("start_time", value)


@pytest.mark.parametrize("value", [None, 0, -1, 1 << 70])
def test_a_seed_is_a_whole_number_or_left_out(value: int | None) -> None:
    assert accepted("seed", value) == value


@pytest.mark.parametrize("value", [0.5, "1", True, b"1"], ids=repr)
def test_any_other_seed_is_refused(value: object) -> None:
    refusal("seed", value)


def test_a_policy_is_one_that_there_is() -> None:
    assert accepted("auth", "open") == "open"
    for value in ("Open", "", None, "none", 1):
        assert "open or accounts" in refusal("auth", value)


@pytest.mark.parametrize("setting", ["store", "tls_cert", "tls_key", "record", "pseudonyms"])
def test_a_path_is_text(setting: str) -> None:
    for value in ("", 1, b"file", True):
        refusal(setting, value)


def test_a_certificate_and_its_key_need_each_other() -> None:
    for alone, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        one: dict[str, Any] = {alone: "file"}
        with pytest.raises(ConfigError, match=f"{alone} is given without {missing}"):
            Config(**one)
    assert Config(tls_cert="a", tls_key="b").tls_key == "b"


def test_tls_is_auto_or_left_out_and_takes_no_files() -> None:
    assert (Config().tls, accepted("tls", "auto")) == (None, "auto")
    for value in ("Auto", "", True, "on"):
        assert "auto" in refusal("tls", value)
    with pytest.raises(ConfigError, match="tls is auto, so tls_cert and tls_key must be left out"):
        Config(tls="auto", tls_cert="a", tls_key="b")


def test_notes_are_keys_and_values() -> None:
    assert Config().notes == {}
    assert Config(note=("a=b", "c=d=e", "f=")).notes == {"a": "b", "c": "d=e", "f": ""}
    assert accepted("note", "a=b,c=d") == ("a=b", "c=d")
    for wrong in ("a", "=b", ""):
        with pytest.raises(ConfigError, match="note must be KEY=VALUE"):
            Config(note=(wrong or 5,))


def test_networks_are_networks() -> None:
    assert Config().exempt_networks == ("127.0.0.0/8", "::1/128")
    assert accepted("exempt_networks", "10.0.0.0/8, fe80::/10") == ("10.0.0.0/8", "fe80::/10")
    assert accepted("exempt_networks", ["192.0.2.7"]) == ("192.0.2.7",)
    assert accepted("exempt_networks", "") == ()
    for value in ("10.0.0.0/33", "10.0.0.1/8", "lab", "::/129"):
        assert value in refusal("exempt_networks", value)
    for wrong in (7, [7], None):
        with pytest.raises(ConfigError, match="exempt_networks must be"):
            Config(exempt_networks=wrong)


def test_no_proxy_is_trusted_unless_it_is_named() -> None:
    assert Config().trust_proxy == ()
    assert accepted("trust_proxy", "10.0.0.0/8, fd00::/8") == ("10.0.0.0/8", "fd00::/8")
    assert "lab" in refusal("trust_proxy", "lab")


def test_metrics_are_read_from_networks_or_from_nowhere() -> None:
    assert Config().metrics_networks == ("127.0.0.0/8", "::1/128")
    assert accepted("metrics_networks", "10.0.0.0/8, fd00::/8") == ("10.0.0.0/8", "fd00::/8")
    assert accepted("metrics_networks", "") == ()
    assert "lab" in refusal("metrics_networks", "lab")


def test_origins_are_origins() -> None:
    origins = ("https://example.org", "http://[::1]:8080", "null", "*")
    assert accepted("allow_origins", ", ".join(origins)) == origins
    assert accepted("allow_origins", ()) == ()
    for value in ("example.org", "https://", "https://example.org/", "https://example.org/page", "https://a b", "//a"):
        assert value in refusal("allow_origins", value)
    for wrong in (7, [None]):
        with pytest.raises(ConfigError, match="allow_origins must be"):
            Config(allow_origins=wrong)


def test_a_page_is_or_is_not() -> None:
    assert Config().page is True
    for wrong in (0, 1, "yes", None):
        assert "true or false" in refusal("page", wrong)


def test_what_is_unlimited() -> None:
    config = Config.unlimited(fps=30, rooms_per_user=3)
    assert (config.fps, config.rooms_per_user) == (30, 3)
    assert config.events_at_once == config.bytes_per_s == config.connections_limit == config.members_per_room == 0
    assert config.message_limit_bytes == Config().message_limit_bytes


def test_settings_do_not_change() -> None:
    config = Config()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    with pytest.raises(ConfigError):
        attrs.evolve(config, port=-1)


def test_settings_are_named() -> None:
    with pytest.raises(TypeError):
        Config("127.0.0.1")  # type: ignore[call-arg]
