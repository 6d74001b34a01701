"""How a report writes times and names. Names and types of events are what users chose: any text."""

from __future__ import annotations

import math
import unicodedata

# Joins the parts of one emoji; of all that is never seen it alone changes what is.
_JOINER = "\u200d"
_SIGNS_OF_A_NAME = 22
# In a table, where there is no figure.
NONE = "\N{EN DASH}"


def clean(text: str) -> str:
    """The text without what no page or picture may hold, or what would turn what stands beside it around.

    Control and format characters, lone surrogates, what Unicode has not assigned; separators of lines become spaces.
    """
    kept = "".join(
        " " if unicodedata.category(sign) in ("Zl", "Zp") or sign in "\t\n\r" else sign
        for sign in text
        if sign == _JOINER or sign in "\t\n\r" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Cn")
    )
    return kept.strip() or "(nothing that could be shown)"


def width(text: str) -> int:
    """How many columns it takes, where a letter takes one: signs of East Asia and emoji take two."""
    return sum(
        0 if unicodedata.combining(sign) or sign == _JOINER else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


def short(text: str, columns: int = _SIGNS_OF_A_NAME) -> str:
    """The text, clean, in at most so many columns: of a long one the middle is left out, for ends tell names apart."""
    text = clean(text)
    if width(text) <= columns:
        return text
    half = (columns - 1) // 2
    start, end = text, text
    while width(start) > columns - 1 - half:
        start = start[:-1]
    while width(end) > half:
        end = end[1:]
    return f"{start}…{end}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: 0:07, 12:34, 1:02:03; a dash where it is no number."""
    if not math.isfinite(seconds):
        return NONE
    whole = math.floor(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def spoken(seconds: float) -> str:
    """7 s, 12 min 34 s, 1 h 2 min."""
    minutes, left = divmod(math.floor(seconds + 0.5), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def number(value: float, digits: int = 1) -> str:
    """A number of so many digits behind the dot; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def count(amount: int, one: str, many: str = "") -> str:
    """1 person, 2 people."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"
