"""Names: which are one user's, and which pass for another's."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_vrchat import _names
from trio_vrchat._names import are_look_alikes, name_key, skeleton

NAMES = st.text(min_size=1, max_size=32)
# What Hypothesis seldom hits by itself: pairs of letters that look alike, so that two drawn names often do.
CONFUSING = st.text(
    st.sampled_from("TibiIl1|oO0rnm" + "".join(letters + doubles for letters, doubles in _names._LOOK_ALIKES)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    "other",
    [
        "TIBI",
        "\uff34\uff49\uff42\uff49",  # fullwidth
        "\U0001d413\U0001d422\U0001d41b\U0001d422",  # mathematical bold
        "Tibi\ufe0f",  # a selector of variants, which is not seen
        "Ti\u034fbi",  # a joiner of graphemes
        "\u3164Tibi",  # a filler
    ],
)
def test_one_user(other: str) -> None:
    assert name_key(other) == name_key("Tibi") == "tibi"
    assert not are_look_alikes(other, "Tibi")


def test_case_folds_as_unicode_does() -> None:
    assert name_key("Stra\u00dfe") == name_key("STRASSE")
    assert name_key("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2") == name_key(
        "\u03a3\u0399\u0301\u03a3\u03a5\u03a6\u039f\u03a3"
    )


def test_what_is_not_seen_keeps_no_mark_from_its_letter() -> None:
    assert name_key("Re\u034f\u0301ka") == name_key("R\u00e9ka")


def test_two_users() -> None:
    assert name_key("Tibi") != name_key("Tibor")
    assert name_key("\u0422ibi") != name_key("Tibi")


def test_a_name_of_which_nothing_is_seen_has_no_key() -> None:
    assert name_key("\u3164\ufe0f") == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tibi", "\u0422ibi"),  # Cyrillic T
        ("tibi", "\u0422ibi"),  # as the one who holds the name may write it
        ("Tibi", "\u03a4ibi"),  # Greek
        ("Tibi", "\u13a2ibi"),  # Cherokee
        ("Tibi", "\ua4d4ibi"),  # Lisu
        ("\u0422ibi", "\u03a4ibi"),  # two that pass for the same
        ("oca", "\u043e\u0441\u0430"),  # all in Cyrillic
        ("Bill", "Bi\u0406\u04cf"),
        ("Ibis", "\u0406bis"),
        ("\u00efsa", "\u0457sa"),  # with a mark, composed
        ("admin", "adrni\u0578"),  # rn, and one Armenian letter
        ("\u0393\u041e\u0424", "\u0393\u039f\u03a6"),  # no Latin in it
        ("\uff34ibi", "\u0422ibi"),  # fullwidth is what it is made of
    ],
)
def test_look_alikes(one: str, other: str) -> None:
    assert are_look_alikes(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tibi", "Tibi"),
        ("Tibi", "tibi"),
        ("Bill", "BiII"),
        ("modern", "modem"),
        ("O", "0"),
        ("\u041e\u043b\u044f", "\u041el\u044f2"),
        ("\u043e\u0441\u0430", "\u043e\u0441\u0410"),
        ("Tibi", "Tibor"),
        ("\u65e5\u672c", "\u65e5\u6728"),
        ("Ti\u0301bi", "\u0422ibi"),  # an accent is seen
    ],
)
def test_no_look_alikes(one: str, other: str) -> None:
    assert not are_look_alikes(one, other)


def test_every_character_has_one_key_and_one_skeleton() -> None:
    for number in range(0x110000):
        character = chr(number)
        if unicodedata.category(character) in ("Cn", "Co", "Cs"):
            continue  # unassigned, private, half a pair: nothing is done to them, and they are most
        assert name_key(name_key(character)) == name_key(character), hex(number)
        assert unicodedata.is_normalized("NFKC", name_key(character)), hex(number)
        assert skeleton(skeleton(character)) == skeleton(character), hex(number)


def test_the_table_has_letters_of_one_script_a_line_and_none_twice() -> None:
    letters = [letter for letters, _ in _names._LOOK_ALIKES for letter in letters]
    assert len(letters) == len(set(letters))
    for line, doubles in _names._LOOK_ALIKES:
        [script] = {unicodedata.name(letter).split()[0] for letter in line}
        assert script not in {unicodedata.name(double).split()[0] for double in doubles}
        assert all(unicodedata.normalize("NFKD", letter) == letter for letter in line)


@given(NAMES)
def test_the_key_of_a_key_is_itself(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)
    assert unicodedata.is_normalized("NFKC", name_key(name))
    assert skeleton(skeleton(name)) == skeleton(name)


@given(NAMES)
def test_a_name_is_one_with_its_other_cases(name: str) -> None:
    assert name_key(name.casefold()) == name_key(name)
    assert not are_look_alikes(name, name.casefold())


@given(CONFUSING, CONFUSING)
def test_looking_alike_goes_both_ways(one: str, other: str) -> None:
    assert are_look_alikes(one, other) == are_look_alikes(other, one)
    assert not are_look_alikes(one, one)


@given(NAMES)
def test_bounded_by_the_length_of_the_name(name: str) -> None:
    assert len(name_key(name)) <= 18 * 3 * len(name)
