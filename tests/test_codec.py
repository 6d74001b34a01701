"""What a client's text means, and how answers are written (protocol, chapter 1 and the shapes of chapter 2)."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_vrchat._codec import (
    NESTING_LIMIT,
    ROOM_NAME_LIMIT,
    USER_NAME_LIMIT,
    check_name,
    encode,
    encode_answer,
    encode_entry,
    encode_payload,
    parse,
    read_login,
    read_room_message,
    read_system_request,
    read_transform,
)
from trio_vrchat._errors import ERROR_BY_CODE, BadRequest, InvalidStructure

AXES = ("x", "y", "z")
GROUPS = ("pos", "rot")
COMPLETE = {group: dict.fromkeys(AXES, 1.5) for group in GROUPS}
WRONG_OBJECTS = ["null", "true", "false", "1", "1.5", '"x"', "[]", "[1,2,3]"]
WRONG_STRINGS = ["null", "true", "1", "1.5", "[]", "{}"]
WRONG_NUMBERS = ["null", "true", "false", '"1"', '""', "[]", "[1]", "{}"]


def refusal(read: Callable[[], object]) -> str:
    """The reason that the client is given for a 400."""
    with pytest.raises(BadRequest) as caught:
        read()
    assert set(caught.value.detail) == {"reason"}
    reason = caught.value.detail["reason"]
    assert isinstance(reason, str)
    return reason


def names_key(reason: str, key: str) -> bool:
    return any(f"{before}{key}`" in reason for before in ("`", ".", "$."))


def places(fragment: str) -> list[str]:
    """Messages that hold this piece of JSON somewhere; most of these places the server never reads."""
    return [
        f'{{"system":"ping","options":{{"a":{fragment}}}}}',
        f'{{"room":"lobby","data":{fragment}}}',
        f'{{"room":"lobby","data":{{"a":[1,{{"b":{fragment}}}]}}}}',
        f'{{"room":"lobby","type":"transform","data":{{"pos":{{"x":{fragment}}}}}}}',
        f'{{"room":"lobby","data":"","skipped":{fragment}}}',
        f'{{"skipped":[[{fragment}]],"room":"lobby","data":""}}',
        f'{{"room":"lobby","data":{fragment},"data":""}}',
        f'{{"room":"lobby","data":{{"a":{fragment},"a":""}}}}',
    ]


def nested(depth: int, kinds: str = "[") -> str:
    """A message that is `depth` deep, itself included; `kinds` are the brackets under it, in turn."""
    opened = "".join('{"a":' if kinds[level % len(kinds)] == "{" else "[" for level in range(depth - 1))
    closed = "".join("}" if kinds[level % len(kinds)] == "{" else "]" for level in reversed(range(depth - 1)))
    return f'{{"a":{opened}0{closed}}}'


# --- every message: 406 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "{",
        "}",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        "{'a':1}",
        "{a:1}",
        '{"a":1}x',
        '{"a":1}{}',
        '{"a":1}\x00',
        '\ufeff{"a":1}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":0x1}',
        '{"a":tru}',
        '{"a":"\\x"}',
        '{"a":"\\u12"}',
        '{"a":"b}',
        '{"a":1}//',
        '\u00a0{"a":1}',
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidStructure):
        parse(text)


@pytest.mark.parametrize("text", ["[]", '[{"system":"ping"}]', '"ping"', "1", "1.5", "true", "false", "null"])
def test_what_is_not_an_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidStructure):
        parse(text)


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
        "1e999",
        "-1e999",
        "1E+400",
        "1.8e308",
        "1" * 400,
        "-" + "1" * 400,
        "1" + "0" * 309,
        "9" * 309,
        "1" * 400 + ".5",
        "1" * 60_000,
        "-" + "1" * 60_000,
    ],
    ids=lambda number: number if len(number) < 20 else f"{number[:3]}_{len(number)}_characters",
)
def test_a_number_that_is_not_finite_is_refused_in_every_place(number: str) -> None:
    for text in places(number):
        with pytest.raises(InvalidStructure):
            parse(text)


@pytest.mark.parametrize(
    "number",
    [
        *("1.7976931348623157e308", "-1.7976931348623157e308", "1" + "0" * 308, "-" + "1" * 309, "1e-999"),
        # More digits than any double has, and finite by the exponent, or after the point.
        *("7" * 400 + "e-390", "-" + "7" * 400 + ".5E-390", "0." + "7" * 400, "1." + "7" * 400 + "e+308"),
    ],
    ids=lambda number: number if len(number) < 30 else f"{number[:3]}_{len(number)}_characters",
)
def test_the_largest_and_smallest_finite_numbers_pass_in_every_place(number: str) -> None:
    for text in places(number):
        parse(text)


@pytest.mark.parametrize(
    "string",
    [
        '"\\ud800"',
        '"\\udfff"',
        '"\\udc00\\ud800"',
        '"\\ud83dx"',
        '"\\ud83d\\u0041"',
        '"\\uD83D\\uD83D\\uDE00"',
        '"\ud800"',
        '"a\udfffb"',
    ],
)
def test_a_lone_surrogate_is_refused_in_every_place(string: str) -> None:
    for text in [*places(string), *places(f"{{{string}:1}}"), f"{{{string}:1}}"]:
        with pytest.raises(InvalidStructure):
            parse(text)


@pytest.mark.parametrize("text", ["\ud800{}", "{}\ud800", "\udcff"])
def test_a_lone_surrogate_outside_of_strings_is_refused(text: str) -> None:
    with pytest.raises(InvalidStructure):
        parse(text)


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse('{"a":"\\ud83d\\ude00","\\ud83d\\ude00":1}') == {"a": "😀", "😀": 1}


@pytest.mark.parametrize("kinds", ["[", "{", "[{", "{{["])
def test_nesting_of_64_passes_and_of_65_is_refused(kinds: str) -> None:
    assert NESTING_LIMIT == 64
    parse(nested(64, kinds))
    # Where the decoder's own limit begins depends on the stack, so all depths around it are tried.
    for depth in (65, 66, 100, *range(850, 1010)):
        with pytest.raises(InvalidStructure):
            parse(nested(depth, kinds))


def test_the_deepest_place_may_be_any_and_empty_brackets_count() -> None:
    parse('{"b":[1,[2],{"c":3}],"a":' + "[" * 63 + "]" * 63 + ',"d":{}}')
    with pytest.raises(InvalidStructure):
        parse('{"b":[1,[2],{"c":3}],"a":' + "[" * 64 + "]" * 64 + ',"d":{}}')


def test_many_brackets_that_are_not_deep_pass() -> None:
    parse('{"a":[' + ",".join(["[]", "{}"] * 500) + "]}")
    parse('{"a":[' + ",".join(["[" * 62 + "]" * 62] * 20) + "]}")


def test_brackets_inside_strings_do_not_count() -> None:
    brackets = "[{" * 5000
    assert parse(json.dumps({"a": brackets, brackets: [["b"]]})) == {"a": brackets, brackets: [["b"]]}
    for quoted in (f'"\\"{brackets}"', f'"{brackets}\\""', f'"\\\\","b":"{brackets}\\\\"'):
        parse(f'{{"a":{quoted}}}')
    text = nested(65).replace("0", f'"{brackets}"')
    with pytest.raises(InvalidStructure):
        parse(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_ten_thousand_brackets_are_refused(opening: str, closed: bool) -> None:
    closing = "".join("}" if bracket == "{" else "]" for bracket in reversed(opening) if bracket in "[{")
    piece = opening * 10_000 + "0" + (closing * 10_000 if closed else "")
    for text in [piece, *places(piece)]:
        with pytest.raises(InvalidStructure):
            parse(text)


def test_nesting_in_the_first_of_two_equal_keys_counts() -> None:
    with pytest.raises(InvalidStructure):
        parse('{"a":' + "[" * 100 + "]" * 100 + ',"a":1}')


@pytest.mark.parametrize("character", ["\x00", "\x01", "\t", "\n", "\r", "\x1f"])
def test_a_control_character_in_a_string_is_refused(character: str) -> None:
    for text in places(f'"a{character}b"'):
        with pytest.raises(InvalidStructure):
            parse(text)


def test_escaped_control_characters_in_data_and_the_delete_character_pass() -> None:
    assert parse('{"a":"\\u0000\\n\\t\x7f"}') == {"a": "\x00\n\t\x7f"}


def test_of_two_equal_keys_the_last_counts() -> None:
    assert parse('{"a":1,"a":2}') == {"a": 2}


def test_white_space_around_a_message_is_nothing() -> None:
    assert parse(' \t\r\n{ "a" :\n1 }\r\n') == {"a": 1}


# --- every message: against Python's own json -----------------------------------------------------------------


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, with keys that come twice."""


def refuse_constant(name: str) -> float:
    raise ValueError(name)


def strictly(text: str) -> Pairs:
    """What the protocol's rules for every message allow. Raises ValueError for everything else."""
    try:
        tree = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=Pairs)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(tree, Pairs):
        raise ValueError("not an object")
    walk(tree, 1)
    return tree


def walk(value: object, depth: int) -> None:
    match value:
        case Pairs() | list():
            if depth > 64:
                raise ValueError("too deep")
            for inner in value:
                if isinstance(value, Pairs):
                    walk(inner[0], depth + 1)
                    walk(inner[1], depth + 1)
                else:
                    walk(inner, depth + 1)
        case str():
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise ValueError("a lone surrogate")
        case int() | float():
            try:
                finite = math.isfinite(value)
            except OverflowError:
                finite = False
            if not finite:
                raise ValueError("not finite")


def plain(value: object) -> object:
    match value:
        case Pairs():
            return {key: plain(inner) for key, inner in value}
        case list():
            return [plain(inner) for inner in value]
        case _:
            return value


def agree(text: str) -> None:
    """`parse` and the checker accept the same, and read the same."""
    try:
        expected = plain(strictly(text))
    except ValueError:
        with pytest.raises(InvalidStructure):
            parse(text)
    else:
        # As text, so that 1, 1.0 and true are different.
        assert json.dumps(parse(text)) == json.dumps(expected)


any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates are wanted
hard_numbers = st.sampled_from(
    [
        *("NaN", "-Infinity", "1e999", "-0", "-0.0", "1.10", "1E2", "1e-999"),
        *("9" * 308, "9" * 309, "-" + "7" * 400, "7" * 400 + "e-390", "0." + "7" * 400),
        *("1.7976931348623157e308", "1.7976931348623159e308"),
        *("17976931348623157" + "0" * 292, "17976931348623159" + "0" * 292),
    ]
)
hard_strings = st.sampled_from(
    [
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
        '"\\ude00\\ud83d"',
        '"\ud83d"',
        '"[{[{"',
        '"\\u0000"',
        '"\\""',
        '"a"',
        '""',
        '"\x7f"',
    ]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**320), max_value=10**320),
    st.floats(),
    any_text,
).map(json.dumps)


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = st.one_of(st.just("a"), any_text).map(json.dumps)  # "a" comes twice now and then
    members = draw(st.lists(st.tuples(keys, values), max_size=3))
    return "{" + ",".join(f"{key}:{value}" for key, value in members) + "}"


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda items: f"[{','.join(items)}]")


def deep(value: str, depth: int, brackets: str) -> str:
    for number in range(depth):
        value = f"[{value}]" if brackets[number % len(brackets)] == "[" else f'{{"a":{value}}}'
    return value


values = st.recursive(
    st.one_of(scalars, scalars, hard_numbers, hard_strings),
    lambda inner: st.one_of(
        arrays(inner),
        objects(inner),
        st.builds(deep, inner, st.integers(55, 70), st.sampled_from(["[", "{", "[{"])),
    ),
    max_leaves=8,
)
messages = objects(values)


@settings(deadline=None, max_examples=300)
@given(st.one_of(any_text, st.binary().map(lambda data: data.decode(errors="surrogateescape"))))
def test_any_text_is_a_message_or_refused(text: str) -> None:
    agree(text)


@settings(deadline=None, max_examples=600)
@given(messages)
def test_any_object_is_a_message_exactly_where_every_rule_is_kept(text: str) -> None:
    agree(text)


@settings(deadline=None, max_examples=300)
@given(messages, st.data())
def test_a_damaged_message_is_read_as_json_says(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    patch = data.draw(st.text(st.sampled_from('{}[]:,"\\ \t\n\v\ufeff01.eE+-uNaNtrue'), max_size=3))
    agree(text[:start] + patch + text[end:])


# --- kinds and missing keys: 400 ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", WRONG_STRINGS)
def test_a_system_request_whose_name_is_no_string_is_refused(value: str) -> None:
    assert names_key(refusal(lambda: read_system_request(parse(f'{{"system":{value}}}'))), "system")


@pytest.mark.parametrize("value", WRONG_OBJECTS)
def test_options_that_are_no_object_are_refused(value: str) -> None:
    assert names_key(refusal(lambda: read_system_request(parse(f'{{"system":"login","options":{value}}}'))), "options")


def test_a_system_request_needs_no_options_and_may_have_more_keys() -> None:
    request = read_system_request(parse('{"system":"ping"}'))
    assert (request.system, request.options) == ("ping", {})
    request = read_system_request(parse('{"time":1,"room":7,"system":"x","data":null,"options":{"a":[1,null]}}'))
    assert (request.system, request.options) == ("x", {"a": [1, None]})


@pytest.mark.parametrize("key", ["user", "pass"])
@pytest.mark.parametrize("value", [None, *WRONG_STRINGS])
def test_a_login_without_user_or_password_or_with_one_that_is_no_string_is_refused(key: str, value: str | None) -> None:
    options: dict[str, Any] = {"user": "Tibi", "pass": "1234"}
    if value is None:
        del options[key]
    else:
        options[key] = json.loads(value)
    assert names_key(refusal(lambda: read_login(options)), key)


def test_a_login_is_user_and_password_whatever_stands_beside_them() -> None:
    assert read_login({"user": "Tibi", "pass": "1234", "token": None, "more": [1]}) == {"user": "Tibi", "pass": "1234"}
    assert read_login({"user": "Tibi", "pass": ""}) == {"user": "Tibi", "pass": ""}


def test_a_login_with_a_bad_name_is_refused() -> None:
    for name in ("", "a\nb", "x" * (USER_NAME_LIMIT + 1)):
        assert "user" in refusal(lambda name=name: read_login({"user": name, "pass": ""}))  # type: ignore[misc]
    assert read_login({"user": "x" * USER_NAME_LIMIT, "pass": "\n"})["user"] == "x" * USER_NAME_LIMIT


@pytest.mark.parametrize("key", ["room", "data"])
def test_a_room_message_needs_room_and_data(key: str) -> None:
    message = {"room": "lobby", "type": "msg", "data": "hello"}
    del message[key]
    assert names_key(refusal(lambda: read_room_message(json.dumps(message))), key)


@pytest.mark.parametrize("key", ["room", "type"])
@pytest.mark.parametrize("value", WRONG_STRINGS)
def test_a_room_and_a_type_are_strings(key: str, value: str) -> None:
    message = {"room": "lobby", "type": "msg", "data": "hello", key: json.loads(value)}
    assert names_key(refusal(lambda: read_room_message(json.dumps(message))), key)


def test_a_message_that_is_neither_request_nor_room_message_is_refused() -> None:
    assert names_key(refusal(lambda: read_room_message("{}")), "room")


def test_a_type_that_is_left_out_is_msg() -> None:
    assert read_room_message('{"room":"lobby","data":1}').type == "msg"
    assert read_room_message('{"room":"lobby","data":1,"type":"emote"}').type == "emote"
    assert read_room_message('{"room":"lobby","data":1,"type":""}').type == ""


def test_keys_that_no_rule_names_are_left_alone() -> None:
    message = read_room_message('{"time":"never","user":[],"room":"lobby","data":1,"options":null}')
    assert (message.room, message.type, bytes(message.data)) == ("lobby", "msg", b"1")


@pytest.mark.parametrize(
    "data",
    ["null", "true", "1.10", "1E2", "-0", '"\\u00e9 é \\ud83d\\ude00"', '{ "b": [ 1.0,\t2 ] , "b":1}', "[ ]", '""'],
)
def test_the_data_of_a_room_message_stays_byte_for_byte(data: str) -> None:
    text = f'{{"room":"lobby", "data" :  {data} ,"type":"emote"}}'
    parse(text)
    assert bytes(read_room_message(text).data) == data.encode()


# --- names ----------------------------------------------------------------------------------------------------

# Unicode: Cc, then Cf (soft hyphen, Arabic letter mark, zero width space, direction overrides, word joiner, byte order
# mark, interlinear anchor, tag space).
CONTROL = ["\x00", "\x07", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\x85", "\x9f"]
FORMAT = ["\xad", "\u061c", "\u200b", "\u200d", "\u202e", "\u2060", "\u2066", "\ufeff", "\ufff9", "\U000e0020"]


@pytest.mark.parametrize("character", CONTROL + FORMAT, ids=lambda character: f"U+{ord(character):04X}")
def test_a_name_holds_no_control_or_format_characters(character: str) -> None:
    for name in (character, f"a{character}", f"{character}a", f"a{character}b"):
        assert "room" in refusal(lambda name=name: check_name(name, ROOM_NAME_LIMIT, "room"))  # type: ignore[misc]


# Spaces of many kinds (Zs, Zl, Zp), private use (Co), not assigned (Cn), marks, symbols.
@pytest.mark.parametrize(
    "character",
    [
        *(" ", "\xa0", "\u2003", "\u3000", "\u2028", "\u2029", "\ue000", "\U0010fffd", "\u0378", "\U0001ffff"),
        *("\u0301", "é", "ß", "中", "😀", '"', "\\", "/", "<", "'", "#"),
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_a_name_holds_any_other_character(character: str) -> None:
    for name in (character, f"a{character}", f"{character}a"):
        check_name(name, ROOM_NAME_LIMIT, "room")


@pytest.mark.parametrize(("limit", "what"), [(32, "user"), (64, "room")])
@pytest.mark.parametrize("character", ["x", "é", "中", "😀", "\U0010fffd", "\u0301"])
def test_a_name_has_a_limit_in_characters_whatever_their_bytes(limit: int, what: str, character: str) -> None:
    assert limit == {"user": USER_NAME_LIMIT, "room": ROOM_NAME_LIMIT}[what]
    check_name(character * limit, limit, what)
    reason = refusal(lambda: check_name(character * (limit + 1), limit, what))
    assert what in reason
    assert str(limit) in reason


def test_a_name_is_not_empty() -> None:
    assert "room" in refusal(lambda: check_name("", ROOM_NAME_LIMIT, "room"))
    assert "user" in refusal(lambda: check_name("", USER_NAME_LIMIT, "user"))


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), min_size=1, max_size=ROOM_NAME_LIMIT))
def test_every_name_of_other_characters_is_allowed(name: str) -> None:
    check_name(name, ROOM_NAME_LIMIT, "room")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=5), st.characters(categories=("Cc", "Cf")), st.text(max_size=5))
def test_no_name_with_a_control_or_format_character_is_allowed(before: str, character: str, after: str) -> None:
    with pytest.raises(BadRequest):
        check_name(before + character + after, ROOM_NAME_LIMIT, "room")


# --- transforms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(COMPLETE),
        '{"pos":{"x":1.10,"y":1E2,"z":-0},"rot":{"x":0,"y":1e-3,"z":0.10}}',
        '{ "rot" : {"z":1,"y":2,"x":3} ,\n"pos":\t{"z":1, "y":2, "x":3, "w": null } , "quat":[1.0, 2.50] }',
        '{"t":1.10,"pos":{"x":1,"y":2,"z":3},"hands":{"left":{"pos":{}}},"rot":{"x":1,"y":2,"z":3},"":"\\u00e9é"}',
        '{"\\u0070os":{"\\u0078":1,"y":2,"z":3},"rot":{"x":1,"y":2,"z":3}}',
    ],
)
def test_a_complete_transform_stays_byte_for_byte(text: str) -> None:
    assert read_transform(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("given_", "complete"),
    [
        ({}, {}),
        ({"pos": {"x": 1.5}}, {"pos": {"x": 1.5, "y": 0.0, "z": 0.0}}),
        ({"rot": {"z": 1.5, "y": 2.5}}, {"rot": {"x": 0.0, "y": 2.5, "z": 1.5}}),
        ({"pos": {}, "rot": {}}, {}),
        ({"pos": {"x": 1.5, "y": 2.5, "z": 3.5}}, {"pos": {"x": 1.5, "y": 2.5, "z": 3.5}}),
        ({"pos": {"w": "more"}, "t": 1.5}, {"pos": {"x": 0.0, "y": 0.0, "z": 0.0, "w": "more"}, "t": 1.5}),
    ],
)
def test_a_missing_group_or_coordinate_is_zero(given_: dict[str, Any], complete: dict[str, Any]) -> None:
    zeros = {group: dict.fromkeys(AXES, 0.0) for group in GROUPS}
    assert json.loads(read_transform(json.dumps(given_).encode())) == zeros | complete


def test_what_is_filled_in_is_written_as_a_float_and_what_is_given_is_not_converted() -> None:
    result = read_transform(
        b'{"pos":{"x":1.10,"y":1E2},"rot":{"z":7,"y":-0,"x":1e-400},"t": 1568979503.280 ,"n":10e+0}'
    )
    for piece in (b'"x":1.10', b'"y":1E2', b'"z":0.0', b'"z":7', b'"y":-0', b'"x":1e-400', b"1568979503.280", b"10e+0"):
        assert piece in result


@pytest.mark.parametrize("value", ['{ "a" : [ 1.0 , 2 ] }', '"\\u00e9é\\/"', "[\t]", "null", "12345678901234567890123"])
def test_other_keys_of_an_incomplete_transform_stay_byte_for_byte(value: str) -> None:
    result = read_transform(f'{{"quat":{value},"pos":{{"x":1,"w":{value}}}}}'.encode())
    assert result.count(value.encode()) == 2


@pytest.mark.parametrize("value", WRONG_OBJECTS)
def test_the_data_of_a_transform_is_an_object(value: str) -> None:
    assert "data" in refusal(lambda: read_transform(value.encode()))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", WRONG_OBJECTS)
def test_a_group_of_another_kind_is_refused(group: str, value: str) -> None:
    for text in (f'{{"{group}":{value}}}', json.dumps(COMPLETE | {group: json.loads(value)})):
        assert names_key(refusal(lambda text=text: read_transform(text.encode())), group)  # type: ignore[misc]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("value", WRONG_NUMBERS)
def test_a_coordinate_of_another_kind_is_refused(group: str, axis: str, value: str) -> None:
    complete = COMPLETE | {group: COMPLETE[group] | {axis: json.loads(value)}}
    for text in (f'{{"{group}":{{"{axis}":{value}}}}}', json.dumps(complete)):
        reason = refusal(lambda text=text: read_transform(text.encode()))  # type: ignore[misc]
        assert names_key(reason, axis)
        assert group in reason


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**300), 10**300).map(str),
    st.sampled_from(["1.10", "1E2", "-0", "0.0", "-0.0", "1e-999", "0.1000000000000000055511151231257827"]),
)
space = st.sampled_from(["", "", " ", "\n\t "])
other_values = st.one_of(
    numbers, st.sampled_from(["null", "true", '"é\\u00e9"', '[ 1.10,{"pos" : 1E2} ]', '{"x":null}'])
)
other_keys = st.text(max_size=3).filter(lambda key: key not in GROUPS + AXES)


@st.composite
def written(draw: st.DrawFn, members: dict[str, st.SearchStrategy[str]]) -> str:
    """An object with some of these members and some others, in any order, with any white space."""
    chosen = [(key, draw(value)) for key, value in members.items() if draw(st.integers(0, 3))]
    chosen += draw(st.lists(st.tuples(other_keys, other_values), max_size=2, unique_by=lambda member: member[0]))
    parts = []
    for key, value in draw(st.permutations(chosen)):
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        parts.append(f"{draw(space)}{name}{draw(space)}:{draw(space)}{value}{draw(space)}")
    return "{" + ",".join(parts) + "}"


transforms = written({group: written(dict.fromkeys(AXES, numbers)) for group in GROUPS})


class Digits(str):
    """A number as it is written."""

    __slots__ = ()


def as_written(data: str | bytes) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(data, parse_float=Digits, parse_int=Digits)
    return tree


@settings(deadline=None, max_examples=400)
@given(transforms)
def test_any_transform_comes_out_complete_and_otherwise_as_it_was(text: str) -> None:
    parse(f'{{"room":"lobby","type":"transform","data":{text}}}')
    data = text.encode()
    result = read_transform(data)
    before, after = as_written(data), as_written(result)
    zeros = dict.fromkeys(AXES, Digits("0.0"))
    assert after == before | {group: zeros | before.get(group, {}) for group in GROUPS}
    decoded = json.loads(result)
    for group in GROUPS:
        assert all(math.isfinite(decoded[group][axis]) for axis in AXES)
    if all(group in before and set(AXES) <= set(before[group]) for group in GROUPS):
        assert result == data
    parse(f'{{"data":{result.decode()}}}')


# --- what the server writes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Tibi", 'a"b\\c', "é 中 😀", " "])
@pytest.mark.parametrize("data", ['"hello"', "1.10", '{ "b": [1] }', '""', '"\\u0000é"'])
def test_an_entry_has_the_shape_of_the_protocol_and_its_data_as_given(name: str, data: str) -> None:
    entry = encode_entry(1568979503.28, encode(name), encode("msg"), data.encode())
    assert data.encode() in entry
    assert json.loads(entry) == {"time": 1568979503.28, "user": name, "type": "msg", "data": json.loads(data)}
    assert list(json.loads(entry)) == ["time", "user", "type", "data"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("room", ["lobby", 'a"b\\c', "é 中 😀"])
def test_a_payload_is_always_an_array_of_the_entries_in_order(count: int, room: str) -> None:
    entries = [encode_entry(1.5 + number, b'"Tibi"', b'"msg"', b"%d" % number) for number in range(count)]
    expected = [{"time": 1.5 + number, "user": "Tibi", "type": "msg", "data": number} for number in range(count)]
    for given_ in (entries, iter(entries)):
        message = json.loads(encode_payload(encode(room), given_))
        assert message == {"info": "user", "room": room, "payload": expected}


def test_a_time_is_a_float_even_where_it_is_whole() -> None:
    assert isinstance(json.loads(encode_entry(1800000000.0, b'"a"', b'"msg"', b"1"))["time"], float)
    assert isinstance(json.loads(encode_answer(1800000000.0, 220, "Pong.", {}))["response"]["time"], float)


@pytest.mark.parametrize("code", [200, 202, 212, 220, 399, 400, *sorted(ERROR_BY_CODE), 599])
def test_an_answer_is_system_below_400_and_error_from_there(code: int) -> None:
    answer = encode_answer(1568979503.28, code, "A text.", {"room": "é", "retry_after": 1.5, "rooms": {"lobby": ""}})
    assert json.loads(answer) == {
        "info": "error" if code >= 400 else "system",
        "response": {
            "time": 1568979503.28,
            "code": code,
            "msg": "A text.",
            "detail": {"room": "é", "retry_after": 1.5, "rooms": {"lobby": ""}},
        },
    }


@settings(deadline=None, max_examples=100)
@given(st.text(), st.text(), st.text(), st.floats(0, 1e10))
def test_any_names_make_a_message_that_decodes_to_them(room: str, user: str, kind: str, time: float) -> None:
    message = encode_payload(encode(room), [encode_entry(time, encode(user), encode(kind), encode(kind))])
    assert json.loads(message.decode()) == {
        "info": "user",
        "room": room,
        "payload": [{"time": time, "user": user, "type": kind, "data": kind}],
    }
