"""A user outlives a connection: takeover and resume, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat._frames import CLOSE
from trio_vrchat._store import Store
from trio_vrchat.testing import MemoryServer, RawClient, settle

# In these tests the limits of rates are in nobody's way.
FREE = Config.unlimited()


async def ask(client: RawClient, message: dict[str, Any]) -> list[dict[str, Any]]:
    client.send(message)
    await settle()
    return client.messages()


def said(room: str, data: Any) -> dict[str, Any]:
    return {"room": room, "data": data}


def join(room: str) -> dict[str, Any]:
    return {"room": room, "type": "join", "data": ""}


def users(message: dict[str, Any]) -> list[str]:
    return [entry["user"] for entry in message["payload"]]


def kinds(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Room and type of each message; its code where it is an answer."""
    return [
        (message["room"], message["payload"][0]["type"])
        if message["info"] == "user"
        else (message["info"], str(message["response"]["code"]))
        for message in messages
    ]


class Resumable:
    """A raw client that can resume: it keeps its token, and what it has seen."""

    def __init__(self, server: MemoryServer, client: RawClient) -> None:
        self.server = server
        self.client = client
        self.token = ""
        self.seen: dict[str, float] = {}

    @classmethod
    async def login(cls, server: MemoryServer, user: str) -> Resumable:
        found = cls(server, await server.login(user, resume=True))
        found.take()
        return found

    def take(self) -> list[dict[str, Any]]:
        messages = self.client.messages()
        for message in messages:
            if message["info"] == "user":
                times = [entry["time"] for entry in message["payload"] if entry["type"] != "transform"]
                self.seen[message["room"]] = max([self.seen.get(message["room"], 0.0), *times])
            else:
                self.token = message["response"]["detail"].get("session", self.token)
        return messages

    async def resume(self) -> list[dict[str, Any]]:
        self.client = await self.server.connect()
        self.client.send({"system": "resume", "options": {"session": self.token, "seen": self.seen}})
        await settle()
        return self.take()


HANG_UPS: dict[str, Callable[[RawClient], object]] = {
    "its stream is broken": RawClient.reset,
    "its stream ends without a close frame": RawClient.end,
}


# Takeover


async def test_a_takeover_shows_the_newcomer_everything_and_the_others_nothing(autojump_clock: MockClock) -> None:
    async with testing.open_server(FREE) as server:
        old = await server.login("Tibi")
        anna = await server.login("anna")
        for client in (old, anna):
            await ask(client, join("den"))
        await ask(old, said("den", "one"))
        await ask(anna, {"room": "den", "type": "transform", "data": {"pos": {"x": 1}}})
        await trio.sleep(1)
        old.texts()
        anna.texts()
        new = await server.login("Tibi")
        messages = new.messages()
        assert kinds(messages) == [
            ("system", "202"),
            ("lobby", "join"),
            ("den", "join"),
            ("den", "msg"),
            ("den", "transform"),
        ]
        assert messages[0]["response"]["detail"] == {}
        assert users(messages[2]) == ["anna", "Tibi"]
        old.texts()
        assert old.close_code == 4009
        assert anna.messages() == [], "neither leave nor join"
        await ask(new, said("den", "two"))
        assert [entry["data"] for entry in anna.entries("den")] == ["two"]
        assert server.statistics.members == 4
        assert (server.statistics.takeovers, server.statistics.sessions) == (1, 2)
        old.end()
        await trio.sleep(60)
        assert anna.messages() == []


async def test_the_join_keeps_its_time(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        first = (await server.login("Tibi")).entries("lobby")
        await trio.sleep(5)
        assert (await server.login("Tibi")).entries("lobby") == first


async def test_a_takeover_joins_the_lobby_again_if_it_was_left(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        old = await server.login("Tibi")
        await ask(old, {"room": "lobby", "type": "leave", "data": ""})
        assert kinds((await server.login("Tibi")).messages()) == [("system", "202"), ("lobby", "join")]


async def test_with_open_names_the_first_password_guards_the_name_while_it_is_held(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        old = await server.login("Tibi", "first")
        for user in ("TIBI", "\uff34\uff49\uff42\uff49"):
            other = await server.login(user, "second")
            assert kinds(other.messages()) == [("error", "409")]
        assert old.close_code is None
        new = await server.login("tibi", "first")
        assert users(new.messages()[1]) == ["Tibi"], "one user, as the others know it"
        new.close()
        await trio.sleep(60)
        assert kinds((await server.login("Tibi", "second")).messages()) == [("system", "202"), ("lobby", "join")]


async def test_a_look_alike_of_a_name_in_use_is_409(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        look_alike = "\u0422ibi"  # with a Cyrillic letter
        assert kinds((await server.login(look_alike)).messages()) == [("error", "409")]
        tibi.close()
        await settle()
        assert kinds((await server.login(look_alike)).messages())[0] == ("system", "202")


async def test_what_the_old_connection_still_says_has_no_effect(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        old = await server.login("Tibi")
        new = await server.connect()
        new.send({"system": "login", "options": {"user": "Tibi", "pass": "secret"}})
        for _ in range(12):
            old.send(said("lobby", "late"))
            await trio.lowlevel.checkpoint()
        old.send({"room": "lobby", "type": "leave", "data": ""})
        await settle()
        await trio.sleep(10)
        assert server.statistics.members == 1
        heard = [entry["data"] for entry in new.entries("lobby") if entry["type"] == "msg"]
        assert heard == ["late"] * len(heard)
        assert old.close_code is None, "nobody has read it"
        old.texts()
        assert old.close_code == 4009


@pytest.mark.parametrize("passes", range(14))
async def test_a_takeover_while_the_old_one_joins_and_leaves(autojump_clock: MockClock, passes: int) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        await ask(anna, join("den"))
        await ask(anna, join("hall"))
        old = await server.login("Tibi")
        await ask(old, join("hall"))
        anna.messages()
        old.send(join("den"))
        old.send({"room": "hall", "type": "leave", "data": ""})
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        new = await server.login("Tibi")
        await settle()
        inside = {message["room"] for message in new.messages() if message["info"] == "user"}
        members = {"den": {"anna"}, "hall": {"anna", "Tibi"}}
        for message in anna.messages():
            for entry in message["payload"]:
                room = message["room"]
                if room == "lobby":
                    continue
                if entry["type"] == "join":
                    assert entry["user"] not in members[room], "nobody joins twice"
                    members[room].add(entry["user"])
                else:
                    assert entry["user"] in members[room]
                    members[room].discard(entry["user"])
        assert {room for room, found in members.items() if "Tibi" in found} == inside - {"lobby"}


# Resume


async def test_a_login_that_asks_for_it_can_resume(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config(resume_grace_s=12)) as server:
        client = await server.login("Tibi", resume=True)
        detail = client.messages()[0]["response"]["detail"]
        assert set(detail) == {"session", "grace_s", "user"}
        assert (detail["grace_s"], detail["user"]) == (12, "Tibi")
        assert len(detail["session"]) >= 43, "256 bits"


@pytest.mark.parametrize("how", HANG_UPS)
async def test_resume_gives_what_was_missed_and_nothing_twice(autojump_clock: MockClock, how: str) -> None:
    async with testing.open_server(FREE) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        for client in (tibi.client, anna):
            client.send(join("den"))
            await settle()
        await ask(anna, said("den", "seen"))
        tibi.take()
        anna.messages()
        HANG_UPS[how](tibi.client)
        await settle()
        await trio.sleep(20)
        bea = await server.login("bea")
        await ask(bea, join("den"))
        heard = anna.messages()
        for number in range(3):
            await ask(anna, said("den", number))
        await ask(anna, {"room": "den", "type": "transform", "data": {"pos": {"x": 1}}})
        await trio.sleep(1)
        anna.messages()
        assert [(message["room"], users(message)) for message in heard] == [("lobby", ["bea"]), ("den", ["bea"])]
        token = tibi.token
        messages = await tibi.resume()
        assert kinds(messages) == [
            ("system", "202"),
            ("lobby", "join"),
            ("den", "join"),
            ("den", "msg"),
            ("den", "transform"),
        ]
        detail = messages[0]["response"]["detail"]
        assert detail == {
            "session": tibi.token,
            "grace_s": 30.0,
            "user": "Tibi",
            "complete": {"lobby": True, "den": True},
        }
        assert tibi.token != token, "each use gives a new one"
        assert users(messages[2]) == ["anna", "bea", "Tibi"]
        assert [entry["data"] for entry in messages[3]["payload"]] == [0, 1, 2]
        await ask(tibi.client, said("den", "back"))
        assert [entry["data"] for entry in anna.entries("den")] == ["back"]
        for _ in range(6):
            await trio.sleep(10)
            bea.texts()  # and answer their pings
            tibi.take()
            assert anna.messages() == []
        assert server.statistics.sessions == 3


async def test_who_does_not_resume_leaves_after_the_grace(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        anna.messages()
        tibi.client.reset()
        await trio.sleep(29)
        assert anna.messages() == []
        assert kinds((await server.login("Tibi", "of somebody else")).messages()) == [("error", "409")], "still held"
        await trio.sleep(1.5)
        assert [entry["type"] for entry in anna.entries("lobby")] == ["leave"]
        assert kinds(await tibi.resume()) == [("error", "403")]
        assert kinds((await server.login("Tibi", "of somebody else")).messages())[0] == ("system", "202")


async def test_who_did_not_ask_for_it_leaves_at_once(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await server.login("Tibi")
        tibi.reset()
        await settle()
        assert server.statistics.sessions == 0


@pytest.mark.parametrize("how", ["close frame", "broken frame", "too large a message"])
async def test_who_closes_or_breaks_the_framing_leaves_at_once(autojump_clock: MockClock, how: str) -> None:
    async with testing.open_server() as server:
        tibi = await Resumable.login(server, "Tibi")
        match how:
            case "close frame":
                tibi.client.close(1001)
            case "broken frame":
                tibi.client.send_bytes(b"\xff\xff")
            case _:
                tibi.client.send("x" * 70_000)
        await settle()
        assert server.statistics.sessions == 0
        assert kinds(await tibi.resume()) == [("error", "403")]


async def test_who_was_too_slow_may_resume(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(outbox_limit_frames=4)) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        number = 0
        while server.statistics.connections == 2:
            anna.send(said("lobby", [number, "x" * 30_000]))
            anna.texts()
            number += 1
            await trio.sleep(0.1)
        before = [entry["data"][0] for message in tibi.take() for entry in message["payload"]]
        assert tibi.client.close_code in (None, 4008)
        after = await tibi.resume()
        for _ in range(10):
            await settle()
            after += tibi.take()
        [missed] = [message for message, kind in zip(after, kinds(after), strict=True) if kind == ("lobby", "msg")]
        complete = after[0]["response"]["detail"]["complete"]["lobby"]
        numbers = [entry["data"][0] for entry in missed["payload"]]
        assert numbers == list(range(numbers[0], number))
        assert complete == (numbers[0] == (before[-1] + 1 if before else 0))


async def test_complete_is_false_where_the_history_does_not_reach_back(autojump_clock: MockClock) -> None:
    async with testing.open_server(Config.unlimited(history=3)) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        await ask(tibi.client, join("den"))
        tibi.take()
        tibi.client.reset()
        await settle()
        for number in range(3):
            await ask(anna, said("lobby", number))
        messages = await tibi.resume()
        assert messages[0]["response"]["detail"]["complete"] == {"lobby": True, "den": True}
        tibi.client.reset()
        await settle()
        for number in range(3, 7):
            await ask(anna, said("lobby", number))
        messages = await tibi.resume()
        assert messages[0]["response"]["detail"]["complete"] == {"lobby": False, "den": True}
        assert [entry["data"] for entry in messages[2]["payload"]] == [4, 5, 6]


async def test_a_resume_replaces_a_socket_that_is_believed_alive(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await Resumable.login(server, "Tibi")
        old = tibi.client
        assert kinds(await tibi.resume()) == [("system", "202"), ("lobby", "join")]
        old.texts()
        assert old.close_code == 4009
        assert server.statistics.members == 1


async def test_a_token_is_good_for_one_use_and_ends_with_the_session(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await Resumable.login(server, "Tibi")
        used = tibi.token
        await tibi.resume()
        current, tibi.token = tibi.token, used
        assert kinds(await tibi.resume()) == [("error", "403")]
        # A login that does not ask for it makes the session one that cannot resume.
        await server.login("Tibi")
        tibi.token = current
        assert kinds(await tibi.resume()) == [("error", "403")]


async def test_what_is_wrong_with_a_resume(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.connect()
        broken: tuple[dict[str, Any], ...] = (
            {},
            {"session": 5},
            {"session": "x", "seen": []},
            {"session": "x", "seen": {"den": "y"}},
        )
        for options in broken:
            [message] = await ask(client, {"system": "resume", "options": options})
            assert message["response"]["code"] == 400, options
        [message] = await ask(client, {"system": "resume", "options": {"session": "x"}})
        assert message["response"]["code"] == 403
        tibi = await Resumable.login(server, "Tibi")
        [message] = await ask(tibi.client, {"system": "resume", "options": {"session": tibi.token}})
        assert message["response"]["code"] == 409
        for wrong in (1, "yes"):
            options = {"user": "a", "pass": "", "resume": wrong}
            [message] = await ask(client, {"system": "login", "options": options})
            assert message["response"]["code"] == 400


async def test_a_room_that_the_client_says_nothing_about_is_shown_whole(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        await ask(anna, said("lobby", "before"))
        tibi = await Resumable.login(server, "Tibi")
        await ask(anna, said("lobby", "after"))
        tibi.take()
        tibi.client.reset()
        tibi.seen = {"elsewhere": 1e9}
        messages = await tibi.resume()
        assert messages[0]["response"]["detail"]["complete"] == {"lobby": True}
        assert [entry["data"] for entry in messages[2]["payload"]] == ["before", "after"]


async def test_while_somebody_is_lost_the_frame_clock_sleeps(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        tibi.client.reset()
        await settle()
        anna.send({"room": "lobby", "type": "transform", "data": {}})
        await trio.sleep(1.02)  # (between two frames)
        batches = server.statistics.batches
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 5, "the next is a ping"
        await trio.sleep(5)
        assert server.statistics.batches == batches == 1
        assert [entry["user"] for entry in (await tibi.resume())[2]["payload"]] == ["anna"]


async def test_large_histories_do_not_overflow_who_comes_back(autojump_clock: MockClock) -> None:
    async with testing.open_server(FREE) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        rooms = [f"room {number}" for number in range(12)]
        for room in rooms:
            for client in (anna, tibi.client):
                await ask(client, join(room))
            for number in range(4):
                await ask(anna, said(room, [number, "x" * 60_000]))
                tibi.take()
        tibi.client.reset()
        await settle()
        tibi.client = await server.connect()
        tibi.client.send({"system": "resume", "options": {"session": tibi.token}})
        shown: list[str] = []
        for _ in range(400):
            await settle()
            shown += [m["room"] for m in tibi.take() if m["info"] == "user" and m["payload"][0]["type"] == "msg"]
        assert tibi.client.close_code is None
        assert shown == rooms


async def test_the_server_stops_while_somebody_is_lost(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        tibi = await Resumable.login(server, "Tibi")
        tibi.client.reset()
        await settle()
        started = trio.current_time()
        server.handle.cancel_scope.cancel()
        await settle()
        assert trio.current_time() == started, "nobody is waited for who cannot come back"
        assert server.statistics.members == server.statistics.sessions == 0


async def test_a_close_frame_in_answer_to_a_takeover_ends_nothing_else(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        old = await server.login("Tibi")
        new = await server.login("Tibi")
        old.send_frame(CLOSE, (4009).to_bytes(2, "big"))
        await settle()
        assert old.ended
        assert kinds(await ask(new, said("lobby", "here")))[-1] == ("lobby", "msg")


class HeldRoom:
    """A store that commits when it is told to, so that the room's task waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[Callable[[bool], object]] = []
        monkeypatch.setattr(Store, "append", lambda _store, _room, _entries, done: self.waiting.append(done))

    async def go_on(self) -> None:
        while self.waiting:
            self.waiting.pop()(True)
            await settle()


async def test_two_resumes_that_wait_for_one_turn_of_a_room(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config.unlimited(store=str(tmp_path / "a.db"))) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        tibi.client.send(said("lobby", "one"))
        await settle()
        tibi.take()
        held = HeldRoom(monkeypatch)
        await ask(anna, said("lobby", "two"))
        for _ in range(2):
            tibi.client.reset()
            await settle()
            [answer] = await tibi.resume()
            assert answer["response"]["detail"]["complete"] == {"lobby": True}
        await held.go_on()
        heard = [entry["data"] for message in tibi.take() for entry in message["payload"] if entry["type"] == "msg"]
        assert heard == ["two"], "nothing twice"


async def test_a_takeover_after_a_resume_that_got_no_further_is_shown_everything(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with testing.open_server(Config.unlimited(store=str(tmp_path / "a.db"))) as server:
        anna = await server.login("anna")
        tibi = await Resumable.login(server, "Tibi")
        tibi.client.send(said("lobby", "one"))
        await settle()
        tibi.take()
        held = HeldRoom(monkeypatch)
        await ask(anna, said("lobby", "two"))
        tibi.client.reset()
        await settle()
        await tibi.resume()
        tibi.client.reset()
        await settle()
        new = await server.login("Tibi")
        await held.go_on()
        assert [entry["data"] for entry in new.entries("lobby") if entry["type"] == "msg"] == ["one", "two"]


async def test_of_two_connections_the_newer_wins_whoever_is_slower_to_pass(autojump_clock: MockClock) -> None:
    decisions: list[trio.Event] = []

    async def slow_hook(_user: str, _password: str, _peer: str) -> bool:
        decisions.append(trio.Event())
        await decisions[-1].wait()
        return True

    async with testing.open_server(authenticate=slow_hook) as server:
        clients = []
        for _ in range(2):
            client = await server.connect()
            client.send({"system": "login", "options": {"user": "Tibi", "pass": ""}})
            await settle()
            clients.append(client)
        old, new = clients
        for decision in reversed(decisions):
            decision.set()
            await settle()
        assert kinds(new.messages())[0] == ("system", "202")
        assert new.close_code is None
        assert kinds(old.messages()) == []
        assert old.close_code == 4009
        assert kinds(await ask(new, said("lobby", "here"))) == [("lobby", "msg")]


async def test_logins_that_are_refused_win_no_time(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        await server.login("Tibi")
        client = await server.connect()
        for seconds in (8, 1.9):
            await trio.sleep(seconds)
            client.send({"system": "login", "options": {"user": "Tibi", "pass": "wrong"}})
            await settle()
            assert kinds(client.messages()) == [("error", "409")]
        await trio.sleep(0.2)
        client.texts()
        assert client.close_code == 4001
