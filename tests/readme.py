"""What README and SECURITY take from the code, and the examples. `python -m tests.readme` writes the former anew."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from trio_vrchat import Config
from trio_vrchat.__main__ import group_of, help_texts
from trio_vrchat._config import option_of

README = Path(__file__).parent.parent / "README.md"
_BEGIN, _END = "<!-- settings: written by python -m tests.readme -->\n", "<!-- end of settings -->"
SECURITY = README.with_name("SECURITY.md")
_LIMITS_BEGIN, _LIMITS_END = "<!-- limits: written by python -m tests.readme -->\n", "<!-- end of limits -->"
_LIMITS_OF_THE_STORE = ("keep", "store_limit_bytes")
_OF_THE_PROGRAM = [
    (
        "--workers",
        "TRIO_VRCHAT_WORKERS",
        "1",
        "Processes that serve on the one port, each on a core of its own.",
    ),
    (
        "--log-level",
        "TRIO_VRCHAT_LOG_LEVEL",
        "2",
        "0: start, stop and failures; 1: also connections, logins and error answers; "
        "2: also joins and leaves; 3: everything.",
    ),
    ("--log-json", "TRIO_VRCHAT_LOG_JSON", "false", "One JSON object a line."),
    ("--config", "TRIO_VRCHAT_CONFIG", "", "A TOML file with settings."),
]


def settings_table() -> str:
    """Every setting, its default and what it means, as Markdown."""
    texts = help_texts()
    rows = [
        (
            f"--{option.replace('_', '-')}",
            f"TRIO_VRCHAT_{option.upper()}",
            _default(field.default),
            texts[field.name],
        )
        for field in attrs.fields(Config)
        if (option := option_of(field)) is not None
    ]
    lines = ["| option | environment | default | |", "|---|---|---|---|"]
    lines += [
        f"| `{option}` | `{variable}` | {default} | {text} |"
        for option, variable, default, text in rows + _OF_THE_PROGRAM
    ]
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else f"{value}"


def with_settings(text: str) -> str:
    """The README with its table of settings as the code has it."""
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    return before + _BEGIN + settings_table() + _END + after


def limits_table() -> str:
    """Every setting that is a limit or a deadline, as Markdown."""
    texts = help_texts()
    lines = ["| setting | default | |", "|---|---|---|"]
    for field in attrs.fields(Config):
        option = option_of(field)
        if option is not None and (group_of(option) in ("Limits", "Timeouts") or option in _LIMITS_OF_THE_STORE):
            lines.append(f"| `--{option.replace('_', '-')}` | {_default(field.default)} | {texts[field.name]} |")
    return "\n".join(lines) + "\n"


def with_limits(text: str) -> str:
    """SECURITY.md with its table of limits as the code has it."""
    before, rest = text.split(_LIMITS_BEGIN)
    _, after = rest.split(_LIMITS_END)
    return before + _LIMITS_BEGIN + limits_table() + _LIMITS_END + after


def example(name: str) -> str:
    """The code block that is marked with this name."""
    found = re.search(rf"<!-- run this: {name} -->\n```\w+\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"no example called {name} in the README"
    return found[1]


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text()))
    SECURITY.write_text(with_limits(SECURITY.read_text()))
