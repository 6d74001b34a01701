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
    "rooms_per_user": (1, 10_000),
}
REAL: dict[str, tuple[float, float]] = {
    "fps": (0.1, 1000),
    "handshake_timeout_s": (0.1, 3600),
    "login_timeout_s": (0.1, 3600),
    "write_timeout_s": (0.1, 3600),
    "close_timeout_s": (0.0, 3600),
    "drain_timeout_s": (0.0, 3600),
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
    assert {*RANGES, "host", "start_time"} == set(attrs.fields_dict(Config))


def test_the_defaults_are_those_that_the_protocol_and_its_users_know() -> None:
    config = Config()
    assert (config.host, config.port, config.fps, config.history) == (None, 42069, 20.0, 50)
    assert (config.message_limit_bytes, config.rooms_per_user) == (64 * 1024, 32)
    assert config.start_time is None


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


def test_settings_do_not_change() -> None:
    config = Config()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]
    with pytest.raises(ConfigError):
        attrs.evolve(config, port=-1)


def test_settings_are_named() -> None:
    with pytest.raises(TypeError):
        Config("127.0.0.1")  # type: ignore[call-arg]
