"""When two names are one user's, and when one of them passes for the other.

- A name's *key* is what compares: the name after NFKC, case folding, and NFKC again, without what is never seen
  (Unicode's NFKC_Casefold). One key is one user: "Tibi", "TIBI" and "Tibi" in fullwidth letters are the same.
- A name's *skeleton* is what an eye makes of it (UTS #39, chapter 4): each character is replaced by the plainest that
  looks like it. Two names with one skeleton and different keys are look-alikes, unless both are written in one single
  script. "Tibi" and one that begins with a Cyrillic letter are; so are a name all in Cyrillic and its Latin double.
  "BiII" and "Bill", or "rn" and "m", are not: people do have names that are alike in their own script, and see it.

Nothing here is cached or unbounded: a name has at most 32 characters, of which NFKC makes at most 18 each, and case
folding 3.
"""

from __future__ import annotations

import unicodedata

# Characters that are never seen, of those that a name may hold (Unicode's Default_Ignorable_Code_Point without the
# categories Cc and Cf, which no name may hold): joiners and fillers, and the selectors of a variant.
_UNSEEN = dict.fromkeys(
    (
        0x034F,
        *range(0x115F, 0x1161),
        *range(0x17B4, 0x17B6),
        *range(0x180B, 0x180E),
        0x180F,
        0x2065,
        0x3164,
        *range(0xFE00, 0xFE10),
        0xFFA0,
        *range(0xFFF0, 0xFFF9),
        *range(0xE0100, 0xE01F0),
    )
)

# Letters, and under each the one that it looks like, after Unicode's confusables.txt. It holds the scripts that the
# fonts of a headset or a browser draw: those of antiquity are boxes there. What NFKC unites (fullwidth, mathematical
# and circled letters) and pairs within one script need no entry. The libraries that carry the whole of the data were
# looked at and left: they need a megabyte or more, load it all at the import, and see no Cyrillic beside Greek.
# ruff: noqa: RUF001  (letters that look like others are what this is about)
# fmt: off
_LOOK_ALIKES = (
    # Cyrillic
    ("АВСЕНІӀЈКМОРЅТХУҮԌԜѴЬаԁеҽгһіӏјосрԛѕѵԝѡхуүЗб",
     "ABCEHIlJKMOPSTXYYGWVbadeerhiljocpqsvwwxyy36"),
    # Greek
    ("ΑΒΕϜΖΗΙͿΚΜΝΟΡΤΥΧϺαγιϳνορσυ",
     "ABEFZHIJKMNOPTYXMayijvopou"),
    # Greek beside Cyrillic, of those that no Latin letter looks like
    ("ΓΛΠΦΨεκπτφψ",
     "ГЛПФѰєкптфѱ"),
    # Armenian
    ("ՍՏՕագզհոռսցօք",
     "USOwqqhnnugof"),
    # Georgian
    ("ყჿ",
     "yo"),
    # Coptic
    ("ⲤⲎⲒⲔⲘⲚⲞⲢⲦⲨⲬⳐⲥⲟⲣ",
     "CHIKMNOPTYXLcop"),
    # Cherokee
    ("ᎠᎡᎢᎥᎩᎪᎫᎬᎳᎻᎽᏀᏂᏃᏔᏎᏏᏒᏕᏚᏞᏟᏢᏧᏦᏴᏳᏙᎷꭵꮁꮃꮓꮩꮪꮯ",
     "DRTiYAJEWHYGhZW4bRSSLCPdKBGVMirwzvsc"),
    # Lisu
    ("ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ",
     "BPdDTGKJCZFMNLSRVHWXYAEIOU"),
    # Canadian syllabics
    ("ᐯᑌᑭᑯᑲᒍᒪᖇᖯᖴᗅᗞᗪᗰᗷᕁᕼᕽ",
     "VUPdbJLRbFADDMBxHx"),
    # Tifinagh
    ("ⴸⴹⵏⵔⵕⵝ",
     "VEIOQX"),
)
# fmt: on


def _prototypes() -> dict[int, str]:
    # An eye takes these for each other in many a font, and the one that a user holds may be shown in either case.
    latin = {upper: upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    latin |= {"I": "l", "i": "l", "1": "l", "|": "l", "0": "o", "M": "rn", "m": "rn"}
    others = {
        letter: latin.get(double, double)
        for letters, doubles in _LOOK_ALIKES
        for letter, double in zip(letters, doubles, strict=True)
    }
    return str.maketrans(latin | others)


_PROTOTYPES = _prototypes()


def name_key(name: str) -> str:
    """What makes a user of a name: two names with one key are the same user's.

    The key of a key is itself. It is empty where nothing of the name is ever seen.
    """
    folded = unicodedata.normalize("NFKC", name.translate(_UNSEEN)).casefold()
    return unicodedata.normalize("NFKC", folded)


def skeleton(name: str) -> str:
    """What an eye makes of the name, for comparison only: nobody reads it."""
    return unicodedata.normalize("NFKD", name).translate(_UNSEEN).translate(_PROTOTYPES)


def are_look_alikes(one: str, other: str) -> bool:
    """Whether one name passes for the other: they look the same, are two users', and not all of one script."""
    return (
        skeleton(one) == skeleton(other)
        and name_key(one) != name_key(other)
        and len(_scripts(one) | _scripts(other)) > 1
    )


def _scripts(name: str) -> set[str]:
    """The scripts of its letters. Digits, marks and signs belong to all.

    Python has no table of scripts; a letter's name begins with its script's, and Unicode promises never to change it.
    """
    return {
        unicodedata.name(character, "").partition(" ")[0]
        for character in unicodedata.normalize("NFKC", name)
        if unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo")
    }
