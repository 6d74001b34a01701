"""Every row of the protocol's tables, from outside, on the server in memory.

`NOW` is the server's start; times move only where a test sleeps.
"""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat.testing import MemoryServer, RawClient, settle

NOW = testing.START_TIME
LOGIN = {"system": "login", "options": {"user": "Tibi", "pass": "1234"}}


async def ask(client: RawClient, message: dict[str, Any] | str | bytes) -> list[dict[str, Any]]:
    """Everything the server says to this message."""
    client.texts()
    client.send(message)
    await settle()
    return client.messages()


async def answer(client: RawClient, message: dict[str, Any] | str | bytes) -> tuple[int, dict[str, Any]]:
    """Code and detail of the one system message that answers this message."""
    messages = await ask(client, message)
    assert len(messages) == 1, messages
    response = messages[0]["response"]
    assert messages[0]["info"] == ("system" if response["code"] < 400 else "error")
    assert response["time"] >= NOW
    assert response["msg"] == TEXTS[response["code"]]
    assert set(response) == {"time", "code", "msg", "detail"}
    return response["code"], response["detail"]


TEXTS = {
    200: "Ok.",
    202: "Access granted.",
    212: "Listing information.",
    220: "Pong.",
    400: "Bad request.",
    401: "User unauthorized.",
    403: "Access denied.",
    406: "Data object has invalid structure.",
    409: "Request conflicts current status.",
    413: "Too much.",
    500: "Internal server error.",
    501: "Command not recognized.",
}


def entry(user: str, kind: str, data: Any = "", time: float | None = None) -> dict[str, Any]:
    return {"user": user, "type": kind, "data": data} | ({} if time is None else {"time": time})


def without_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if key != "time"} for each in entries]


# System requests


async def test_ping_is_answered_before_and_after_login(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        assert await ask(client, {"system": "ping"}) == [
            {"info": "system", "response": {"time": NOW, "code": 220, "msg": "Pong.", "detail": {}}}
        ]
        await ask(client, LOGIN)
        assert await answer(client, {"system": "ping"}) == (220, {})
        assert await answer(client, {"system": "ping", "options": {"any": 1}, "room": 5, "data": []}) == (220, {})


@pytest.mark.parametrize("echo", [7, -0.25, 1568979503.283, "once", None, False, [1, {"a": "ä"}], {"t": 1.5}])
async def test_ping_returns_what_it_was_given(autojump_clock: MockClock, echo: object) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        assert await answer(client, {"system": "ping", "options": {"echo": echo}}) == (220, {"echo": echo})


async def test_login_grants_access_and_leads_into_the_lobby(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        granted, joined = await ask(client, LOGIN)
        assert granted == {
            "info": "system",
            "response": {"time": NOW, "code": 202, "msg": "Access granted.", "detail": {}},
        }
        assert joined == {"info": "user", "room": "lobby", "payload": [entry("Tibi", "join", "", NOW)]}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "user"),
        ({"user": "Tibi"}, "pass"),
        ({"pass": "1234"}, "user"),
        ({"user": 5, "pass": "1234"}, "user"),
        ({"user": "Tibi", "pass": 1234}, "pass"),
        ({"user": None, "pass": "1234"}, "user"),
        ({"user": "", "pass": "1234"}, "user"),
        ({"user": "x" * 33, "pass": "1234"}, "user"),
        ({"user": "a\nb", "pass": "1234"}, "user"),
        ({"user": "a\u202eb", "pass": "1234"}, "user"),
        ([], "options"),
        ("Tibi", "options"),
        (None, "options"),
    ],
)
async def test_a_login_of_the_wrong_shape_is_400_and_can_be_repeated(
    autojump_clock: MockClock, options: Any, named: str
) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        code, detail = await answer(client, {"system": "login", "options": options})
        assert code == 400
        assert named in detail["reason"]
        assert len(await ask(client, LOGIN)) == 2


async def test_a_name_may_be_32_characters_long(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        name = "😀" * 32
        messages = await ask(client, {"system": "login", "options": {"user": name, "pass": ""}})
        assert messages[1]["payload"][0]["user"] == name


async def test_login_conflicts(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        assert await answer(tibi, LOGIN) == (409, {}), "already logged in"
        code, _ = await answer(tibi, {"system": "login", "options": {}})
        assert code == 400, "the check of the shape comes before"
        other = await server.connect()
        login = {"system": "login", "options": {"user": "Tibi", "pass": "of somebody else"}}
        assert await answer(other, login) == (409, {}), "the name is taken"
        tibi.close()
        await settle()
        assert len(await ask(other, login)) == 2, "the name is free again"


async def test_rooms_lists_the_open_ones_with_their_titles(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        assert await answer(client, {"system": "rooms"}) == (212, {"lobby": ""})
        await ask(client, {"room": "den", "type": "join", "data": ""})
        assert await answer(client, {"system": "rooms"}) == (212, {"lobby": "", "den": ""})
        await ask(client, {"room": "den", "type": "leave", "data": ""})
        await ask(client, {"room": "lobby", "type": "leave", "data": ""})
        assert await answer(client, {"system": "rooms"}) == (212, {"lobby": ""}), "the lobby is always open"


async def test_another_name_is_501(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        assert await answer(client, {"system": "nonsense"}) == (501, {})
        assert await answer(client, {"system": ""}) == (501, {})
        assert await answer(client, {"system": "Ping"}) == (501, {})


BEFORE_LOGIN = [
    ({"system": "rooms"}, {}),
    ({"system": "nonsense"}, {}),
    ({"system": "nonsense", "room": "lobby"}, {}),
    ({"system": 5}, {}),
    ({"system": None}, {}),
    ({"system": []}, {}),
    ({}, {}),
    ({"room": 5}, {}),
    *(
        ({"room": "lobby", "type": kind, "data": ""}, {"room": "lobby"})
        for kind in ("join", "leave", "list", "msg", "transform", "emote")
    ),
    ({"room": "lobby"}, {"room": "lobby"}),
]


@pytest.mark.parametrize(("message", "detail"), BEFORE_LOGIN)
async def test_before_login_all_else_is_403(
    autojump_clock: MockClock, message: dict[str, Any], detail: dict[str, Any]
) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        assert await answer(client, message) == (403, detail)


# Checks and their order


BROKEN = [
    b'{"system": "ping"}',
    "",
    "nonsense",
    "[]",
    '"ping"',
    "5",
    "null",
    '{"system": "ping"',
    '{"system": "ping"} x',
    '{"system": "ping", "x": NaN}',
    '{"system": "ping", "x": Infinity}',
    '{"system": "ping", "x": -1e999}',
    '{"system": "ping", "x": 1' + "0" * 400 + "}",
    '{"system": "ping", "x": 1' + "0" * 60_000 + "}",
    '{"room": "lobby", "data": {"deep": [1e999]}}',
    '{"room": "lobby", "data": "\\ud800"}',
    '{"room": "lobby", "data": {"\\udc00": 1}}',
    '{"room": "lobby", "data": "\\udc00\\ud800"}',
    '{"system": "ping", "x": ' + "[" * 64 + "]" * 64 + "}",
    '{"system": "ping", "x": ' + '{"x":' * 64 + "1" + "}" * 64 + "}",
    "[" * 10_000,
    '{"x":' * 10_000,
    '{"system": "ping", "x": ' + "[" * 10_000 + "]" * 10_000 + "}",
]


@pytest.mark.parametrize("message", BROKEN, ids=lambda message: repr(message[:40]))
async def test_a_broken_message_is_406_before_any_other_check(autojump_clock: MockClock, message: str | bytes) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        assert await answer(client, message) == (406, {}), "before the login"
        await ask(client, LOGIN)
        assert await answer(client, message) == (406, {}), "and after it"
        assert await answer(client, {"system": "ping"}) == (220, {}), "and the connection goes on"


async def test_64_deep_is_allowed(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        text = '{"system": "ping", "x": ' + "[" * 63 + "]" * 63 + "}"
        assert await answer(client, text) == (220, {})


@pytest.mark.parametrize(
    ("message", "named", "room"),
    [
        ({"system": 5}, "system", None),
        ({"system": None}, "system", None),
        ({"system": "ping", "options": 5}, "options", None),
        ({"system": "nonsense", "options": 5}, "options", None),
        ({}, "room", None),
        ({"data": "hello"}, "room", None),
        ({"room": 5, "data": "hello"}, "room", None),
        ({"room": None, "data": "hello"}, "room", None),
        ({"room": "lobby"}, "data", "lobby"),
        ({"room": "lobby", "type": "join"}, "data", "lobby"),
        ({"room": "nowhere", "type": "msg"}, "data", "nowhere"),
        ({"room": "lobby", "data": "", "type": 5}, "type", "lobby"),
        ({"room": "lobby", "data": "", "type": None}, "type", "lobby"),
        ({"room": "", "data": ""}, "room", ""),
        ({"room": "x" * 65, "type": "join", "data": ""}, "room", "x" * 65),
        ({"room": "a\x00b", "type": "join", "data": ""}, "room", "a\x00b"),
        ({"room": "a\u200bb", "type": "list", "data": ""}, "room", "a\u200bb"),
        ({"room": "lobby", "type": "transform", "data": ""}, "data", "lobby"),
        ({"room": "lobby", "type": "transform", "data": {"pos": 5}}, "pos", "lobby"),
        ({"room": "lobby", "type": "transform", "data": {"rot": {"y": "1"}}}, "rot.y", "lobby"),
        ({"room": "lobby", "type": "transform", "data": {"rot": {"y": True}}}, "rot.y", "lobby"),
        ({"room": "nowhere", "type": "transform", "data": []}, "data", "nowhere"),
    ],
)
async def test_a_message_of_the_wrong_shape_is_400_and_says_what(
    autojump_clock: MockClock, message: dict[str, Any], named: str, room: str | None
) -> None:
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        code, detail = await answer(client, message)
        assert code == 400
        assert named in detail.pop("reason")
        assert detail == ({} if room is None else {"room": room})


# Room messages


@pytest.mark.parametrize("kind", ["leave", "list", "msg", "transform", "emote", ""])
async def test_outside_of_a_room_all_but_join_is_401(autojump_clock: MockClock, kind: str) -> None:
    async with testing.open_server() as server:
        inside = await server.login("Anna")
        await ask(inside, {"room": "den", "type": "join", "data": ""})
        client = await server.login("Tibi")
        for room in ("den", "nowhere", "Lobby", "lobby "):
            code, detail = await answer(client, {"room": room, "type": kind, "data": {}})
            assert (code, detail) == (401, {"room": room})
        assert inside.entries("den") == []


async def test_join_opens_a_room_and_shows_the_newcomer(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        opened = await ask(tibi, {"room": "den", "type": "join", "data": "whatever"})
        assert [message["room"] for message in opened] == ["den"]
        assert without_time(opened[0]["payload"]) == [entry("Tibi", "join")]
        await trio.sleep(1)
        welcome = await ask(anna, {"room": "den", "type": "join", "data": ""})
        assert len(welcome) == 1
        assert without_time(welcome[0]["payload"]) == [entry("anna", "join"), entry("Tibi", "join")]
        times = {each["user"]: each["time"] for each in welcome[0]["payload"]}
        assert times["anna"] - times["Tibi"] == pytest.approx(1, abs=1e-3), "each with the time of that join"
        assert without_time(tibi.entries("den")) == [entry("anna", "join")]


async def test_joining_twice_is_409(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.login("Tibi")
        assert await answer(client, {"room": "lobby", "type": "join", "data": ""}) == (409, {"room": "lobby"})


async def test_the_33rd_room_is_413(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(events_at_once=0)) as server:
        client = await server.login("Tibi")
        for number in range(31):
            await ask(client, {"room": f"room {number}", "type": "join", "data": ""})
        code, detail = await answer(client, {"room": "one more", "type": "join", "data": ""})
        assert (code, detail) == (413, {"limit": "rooms_per_user", "value": 32, "room": "one more"})
        assert server.statistics.rooms == 32
        await ask(client, {"room": "lobby", "type": "leave", "data": ""})
        assert len(await ask(client, {"room": "one more", "type": "join", "data": ""})) == 1


async def test_leave_is_seen_by_the_others_and_ends_everything_for_the_leaver(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        tibi.texts()
        assert await ask(anna, {"room": "lobby", "type": "leave", "data": ""}) == []
        assert without_time(tibi.entries("lobby")) == [entry("anna", "leave")]
        await ask(tibi, {"room": "lobby", "data": "is she gone?"})
        await ask(tibi, {"room": "lobby", "type": "transform", "data": {}})
        await trio.sleep(1)
        assert anna.messages() == []
        assert await answer(anna, {"room": "lobby", "data": "hello"}) == (401, {"room": "lobby"})


async def test_the_last_to_leave_closes_the_room_and_stays_connected(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        await ask(tibi, {"room": "den", "type": "join", "data": ""})
        await ask(tibi, {"room": "den", "data": "a secret"})
        assert await ask(tibi, {"room": "den", "type": "leave", "data": ""}) == []
        assert await answer(tibi, {"system": "rooms"}) == (212, {"lobby": ""})
        reopened = await ask(tibi, {"room": "den", "type": "join", "data": ""})
        assert without_time(reopened[0]["payload"]) == [entry("Tibi", "join")]
        assert len(reopened) == 1, "a room that is opened again has no history"


async def test_the_lobby_keeps_its_history_when_the_last_leaves(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        await ask(tibi, {"room": "lobby", "data": "a note"})
        tibi.close()
        await settle()
        anna = await server.login("anna")
        assert [each["data"] for each in anna.entries("lobby")] == ["", "a note"]


async def test_list_shows_everybody_as_on_joining(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        for user in ("bea", "Anna", "Čapek", "abel"):
            client = await server.login(user)
        joined = client.entries("lobby")
        await trio.sleep(5)
        listed = await ask(client, {"room": "lobby", "type": "list", "data": ""})
        assert [message["payload"] for message in listed] == [joined]
        assert [each["user"] for each in joined] == ["abel", "Anna", "bea", "Čapek"]


async def test_msg_goes_to_everybody_at_once_and_into_the_history(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        anna.texts()
        message: dict[str, Any]
        for message in (
            {"room": "lobby", "data": "without a type"},
            {"room": "lobby", "type": "msg", "data": {"any": ["thing", None, 1.5]}, "time": 1.0},
        ):
            own = await ask(tibi, message)
            assert own == anna.messages(), "the same for the sender"
            assert own[0]["payload"] == [entry("Tibi", "msg", message["data"], own[0]["payload"][0]["time"])]
            assert own[0]["payload"][0]["time"] >= NOW, "a client's time is ignored"
        newcomer = await server.login("new")
        assert [each["data"] for each in newcomer.entries("lobby")[3:]] == [
            "without a type",
            {"any": ["thing", None, 1.5]},
        ]


@pytest.mark.parametrize("kind", ["emote", "button", "", "JOIN", "\u0000", "😀"])
async def test_an_applications_own_type_is_treated_as_msg(autojump_clock: MockClock, kind: str) -> None:
    async with testing.open_server() as server:
        tibi, anna = await server.login("Tibi"), await server.login("anna")
        anna.texts()
        data = '{"n": 1.10, "big": 12345678901234567890123, "e": 1E2}'
        tibi.send(f'{{"room": "lobby", "type": {json.dumps(kind)}, "data": {data}}}')
        await settle()
        received = anna.texts()
        assert f'"data":{data}' in received[0], "untouched"
        assert json.loads(received[0])["payload"][0]["type"] == kind
        newcomer = await server.login("new")
        assert newcomer.entries("lobby")[-1]["type"] == kind


async def test_history_is_the_last_events_oldest_first(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(history=3)) as server:
        tibi = await server.login("Tibi")
        for number in range(5):
            await ask(tibi, {"room": "lobby", "data": number})
            await ask(tibi, {"room": "lobby", "type": "transform", "data": {}})
        anna = await server.login("anna")
        _granted, joins, history, transforms = anna.messages()
        assert [each["user"] for each in joins["payload"]] == ["anna", "Tibi"]
        assert [each["data"] for each in history["payload"]] == [2, 3, 4]
        assert [each["type"] for each in transforms["payload"]] == ["transform"]


async def test_history_is_50_unless_set_otherwise(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi = await server.login("Tibi")
        for number in range(60):
            tibi.send({"room": "lobby", "data": number})
        await settle()
        anna = await server.login("anna")
        assert [each["data"] for each in anna.messages()[2]["payload"]] == list(range(10, 60))


async def test_without_history_and_transforms_the_welcome_is_one_message(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(history=0)) as server:
        tibi = await server.login("Tibi")
        await ask(tibi, {"room": "lobby", "data": "hello"})
        anna = await server.login("anna")
        assert len(anna.messages()) == 2


# Transforms

HERE = {"pos": {"x": 1.0, "y": 1.6, "z": -2.0}, "rot": {"x": 0.1, "y": 0.2, "z": 0.3}}
ORIGIN = {"pos": {"x": 0.0, "y": 0.0, "z": 0.0}, "rot": {"x": 0.0, "y": 0.0, "z": 0.0}}


def move(client: RawClient, data: dict[str, Any]) -> None:
    client.send({"room": "lobby", "type": "transform", "data": data})


async def two_in_the_lobby(server: MemoryServer) -> tuple[RawClient, RawClient]:
    tibi, anna = await server.login("Tibi"), await server.login("anna")
    await settle()
    tibi.texts()
    anna.texts()
    return tibi, anna


async def test_a_batch_has_the_latest_of_each_who_moved_and_goes_to_all(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=10)) as server:
        tibi, anna = await two_in_the_lobby(server)
        silent = await server.login("silent")
        await trio.sleep(1)
        for client in (tibi, anna, silent):
            client.texts()
        move(anna, ORIGIN)
        await trio.sleep(0.03)
        move(tibi, HERE)
        move(anna, HERE)
        await settle()
        assert tibi.messages() == [], "not before the frame is due"
        await trio.sleep(0.1)
        batch = tibi.messages()
        assert len(batch) == 1
        assert batch == anna.messages() == silent.messages(), "all members share one message"
        assert without_time(batch[0]["payload"]) == [
            entry("Tibi", "transform", HERE),
            entry("anna", "transform", HERE),
        ]
        received = {each["user"]: each["time"] for each in batch[0]["payload"]}
        assert received["anna"] == pytest.approx(NOW + 1.03, abs=1e-4), "the time at which the server received it"
        await trio.sleep(10)
        assert tibi.messages() == [], "a room in which nobody moves sends nothing"


async def test_batches_go_out_at_most_fps_times_a_second(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=20)) as server:
        tibi, anna = await two_in_the_lobby(server)
        arrivals = []
        for _ in range(900):
            move(tibi, HERE)
            await trio.sleep(1 / 90)
            arrivals += [trio.current_time()] * len(anna.messages())
        assert 199 <= len(arrivals) <= 200
        assert server.statistics.batches == pytest.approx(200, abs=1)


@pytest.mark.parametrize(
    ("sent", "relayed"),
    [
        ("{}", ORIGIN),
        ('{"pos": {}}', ORIGIN),
        ('{"pos": {"y": 1.6}}', ORIGIN | {"pos": {"x": 0.0, "y": 1.6, "z": 0.0}}),
        ('{"rot": {"x": 1, "y": 2, "z": 3}, "t": 5.5}', ORIGIN | {"rot": {"x": 1, "y": 2, "z": 3}, "t": 5.5}),
    ],
)
async def test_what_a_transform_leaves_out_is_zero(
    autojump_clock: MockClock, sent: str, relayed: dict[str, Any]
) -> None:
    async with testing.open_server() as server:
        tibi, anna = await two_in_the_lobby(server)
        tibi.send(f'{{"room": "lobby", "type": "transform", "data": {sent}}}')
        await trio.sleep(1)
        assert anna.entries("lobby")[0]["data"] == relayed


async def test_other_keys_of_a_transform_are_relayed_untouched(autojump_clock: MockClock) -> None:
    hands = '{"left": {"pos": {"x": 0.10, "y": 1E0, "z": -0}, "rot": {}}, "right": null}'
    data = f'{{"pos": {{"x": 1.50, "y": 2, "z": 3, "w": 4}}, "rot": {{"x": 0, "y": 0, "z": 0}}, "hands": {hands}}}'
    async with testing.open_server() as server:
        tibi, anna = await two_in_the_lobby(server)
        tibi.send(f'{{"room": "lobby", "type": "transform", "data": {data}}}')
        await trio.sleep(1)
        assert f'"data":{data}' in anna.texts()[0]


async def test_a_newcomer_is_shown_where_everybody_is(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi, anna = await two_in_the_lobby(server)
        move(tibi, ORIGIN)
        move(anna, HERE)
        await trio.sleep(1)
        move(tibi, HERE)
        await settle()
        newcomer = await server.login("new")
        shown = newcomer.messages()[-1]["payload"]
        assert without_time(shown) == [entry("Tibi", "transform", HERE), entry("anna", "transform", HERE)]
        anna.send({"room": "lobby", "type": "leave", "data": ""})
        await settle()
        another = await server.login("another")
        assert [each["user"] for each in another.messages()[-1]["payload"]] == ["Tibi"], "who left is not shown"


async def test_who_missed_a_batch_is_given_everything_next(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(fps=10, write_timeout_s=60)) as server:
        tibi, anna = await two_in_the_lobby(server)
        slow = await server.login("slow")
        tibi.texts()
        slow.texts()
        move(anna, HERE)
        await trio.sleep(0.2)
        assert len(tibi.messages()) == 1
        slow.texts()
        # More than a pipe holds: the server's writes to the one who does not read wait.
        for _ in range(3):
            assert len(await ask(tibi, {"room": "lobby", "data": "x" * 30_000})) == 1
        move(tibi, HERE)
        await trio.sleep(0.2)
        move(tibi, ORIGIN)
        await trio.sleep(5)
        assert len(tibi.messages()) == 2
        heard = slow.entries("lobby")
        await trio.sleep(0.2)
        heard += slow.entries("lobby")
        assert [each["type"] for each in heard] == ["msg"] * 3 + ["transform"] * 2
        assert without_time(heard[3:]) == [entry("Tibi", "transform", ORIGIN), entry("anna", "transform", HERE)]
        await trio.sleep(5)
        assert slow.messages() == [], "and then nothing more, since nobody moves"


# Order


async def test_times_of_a_rooms_events_increase_while_the_clock_stands_still(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited()) as server:
        tibi, anna = await two_in_the_lobby(server)
        for number in range(100):
            (tibi if number % 2 else anna).send({"room": "lobby", "data": number})
            await settle()
        other = await server.login("other")
        other.close()
        await settle()
        heard = tibi.entries("lobby")
        assert len(heard) == 102
        times = [each["time"] for each in heard]
        assert times == sorted(set(times))
        assert heard == anna.entries("lobby"), "one order, the same for every member"


async def test_what_is_ready_at_one_moment_is_one_message(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi, anna = await two_in_the_lobby(server)
        crowd = [await server.login(f"user {number}") for number in range(10)]
        anna.texts()
        for number, client in enumerate(crowd):
            client.send({"room": "lobby", "data": number})
        await settle()
        messages = anna.messages()
        assert len(messages) == 1
        assert sorted(each["data"] for each in messages[0]["payload"]) == list(range(10))
        assert tibi.messages()[-1:] == messages


async def test_who_come_together_see_each_other_once(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        crowd = [await server.login(f"user {number}") for number in range(100)]
        tibi.texts()
        for client in crowd:
            client.texts()
            client.send({"room": "den", "type": "join", "data": ""})
        tibi.send({"room": "den", "type": "join", "data": ""})
        await settle()
        listed = [client.messages() for client in crowd]
        users = sorted(each["user"] for each in listed[0][0]["payload"])
        assert len(users) == 101
        for messages in listed:
            seen = [each["user"] for message in messages for each in message["payload"]]
            assert sorted(seen) == users, "everybody sees everybody's join once"


# The server ends a connection


async def test_no_login_in_time_is_4001(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        for _ in range(9):
            await trio.sleep(1)
            assert await answer(client, {"system": "ping"}) == (220, {})
        await trio.sleep(2)
        client.texts()
        assert client.close_code == 4001
        await trio.sleep(3)
        assert client.ended
        assert server.statistics.connections == 0


async def test_a_login_stops_that_clock(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(keepalive_interval_s=3600)) as server:
        client = await server.login("Tibi")
        await trio.sleep(3600)
        client.texts()
        assert client.close_code is None
        assert not client.ended


async def test_a_stop_is_1001(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        clients = [await server.login("Tibi"), await server.connect()]
        server.handle.cancel_scope.cancel()
        await settle()
        for client in clients:
            client.texts()
            assert client.close_code == 1001
            client.close()


async def test_who_is_too_slow_is_4008_and_the_others_do_not_notice(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(write_timeout_s=60)) as server:
        tibi, anna = await two_in_the_lobby(server)
        slow = await server.login("slow")
        said = 0
        heard: list[dict[str, Any]] = []
        while server.statistics.members == 3:
            tibi.send({"room": "lobby", "data": "x" * 10_000})
            said += 1
            await settle()
            heard = tibi.entries("lobby")
            anna.texts()
            assert said < 500
        assert said * 10_000 > 1024 * 1024
        assert slow.unread_bytes <= 64 * 1024
        await trio.sleep(4)
        assert server.statistics.connections == 2
        assert without_time(heard + tibi.entries("lobby"))[-1] == entry("slow", "leave")


async def test_a_slow_client_that_reads_again_is_told_4008(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(outbox_limit_frames=8, write_timeout_s=60)) as server:
        tibi, anna = await two_in_the_lobby(server)
        slow = await server.login("slow")
        for _ in range(12):
            await ask(tibi, {"room": "lobby", "data": "x" * 30_000})
            anna.texts()
        for _ in range(12):
            slow.texts()
            await settle()
        assert slow.close_code == 4008
