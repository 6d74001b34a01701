"""`open_client` against the server in memory."""

import ssl
from functools import partial

import pytest
import trio
import trustme

import trio_vrchat
from trio_vrchat import Config, testing


async def next_event(client: trio_vrchat.Client) -> trio_vrchat.Event:
    with trio.fail_after(60):
        return await anext(client)


async def test_two_people_talk_and_see_each_other_move(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        testing.open_server() as server,
        server.open_client("Tibi") as tibi,
        server.open_client("anna") as anna,
    ):
        joined = await next_event(tibi)
        assert isinstance(joined, trio_vrchat.Joined)
        assert (joined.room, joined.user) == ("lobby", "anna")
        assert await tibi.members("lobby") == ("anna", "Tibi")

        await tibi.say("lobby", {"text": "hello"})
        for client in (tibi, anna):
            said = await next_event(client)
            assert isinstance(said, trio_vrchat.Said)
            assert (said.user, said.type, said.data, said.from_history) == ("Tibi", "msg", {"text": "hello"}, False)

        transform = trio_vrchat.Transform(trio_vrchat.Vector(1, 2, 3), more={"quat": [0, 0, 0, 1]})
        await anna.move("lobby", transform)
        for client in (tibi, anna):
            moved = await next_event(client)
            assert isinstance(moved, trio_vrchat.Moved)
            assert (moved.user, moved.transform) == ("anna", transform)

        await anna.leave("lobby")
        left = await next_event(tibi)
        assert isinstance(left, trio_vrchat.Left)
        assert left.user == "anna"


async def test_history_is_marked_as_such(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server, server.open_client("Tibi") as tibi:
        await tibi.say("lobby", "before")
        await testing.settle()
        async with server.open_client("anna") as anna:
            await tibi.say("lobby", "after")
            heard = [await next_event(anna) for _ in range(2)]
            assert [(event.data, event.from_history) for event in heard if isinstance(event, trio_vrchat.Said)] == [
                ("before", True),
                ("after", False),
            ]


async def test_rooms_and_ping(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server, server.open_client("Tibi") as tibi:
        assert await tibi.join("den") == ("Tibi",)
        assert await tibi.rooms() == {"lobby": "", "den": ""}
        assert await tibi.ping() >= testing.START_TIME
        await tibi.leave("den")
        await testing.settle()
        assert await tibi.rooms() == {"lobby": ""}
        assert await tibi.join("den") == ("Tibi",), "a room can be joined again"


async def test_who_does_not_want_transforms_hears_all_else(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        testing.open_server() as server,
        server.open_client("Tibi", transforms=False) as tibi,
        server.open_client("Anna") as anna,
    ):
        heard: list[object] = []

        async def listen() -> None:
            async for event in tibi:
                heard.append(event)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for x in range(3):
                await anna.move("lobby", trio_vrchat.Transform(trio_vrchat.Vector(x)))
                await anna.say("lobby", x)
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
    kinds = [getattr(event, "data", type(event)) for event in heard]
    assert kinds == [trio_vrchat.Joined, 0, 1, 2]


async def test_errors_are_raised_where_they_belong(autojump_clock: trio.testing.MockClock) -> None:
    config = Config(rooms_per_user=2)
    async with testing.open_server(config) as server, server.open_client("Tibi") as tibi:
        with pytest.raises(trio_vrchat.Conflict):
            async with server.open_client("Tibi", "of somebody else"):
                pass
        with pytest.raises(trio_vrchat.Conflict):
            await tibi.join("lobby")
        with pytest.raises(trio_vrchat.BadRequest, match="empty"):
            await tibi.join("")
        await tibi.join("den")
        with pytest.raises(trio_vrchat.TooMuch) as too_much:
            await tibi.join("attic")
        assert too_much.value.detail == {"limit": "rooms_per_user", "value": 2, "room": "attic"}
        with pytest.raises(trio_vrchat.NotInRoom):
            await tibi.say("attic", "hello?")
        with pytest.raises(ValueError, match="use the method"):
            await tibi.say("lobby", "", type="leave")
        assert await tibi.members("lobby") == ("Tibi",), "and none of that ended the connection"


async def test_what_no_call_waits_for_comes_as_an_event(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server, server.open_client("Tibi") as tibi:
        nested: list[object] = []
        for _ in range(70):
            nested = [nested]
        await tibi.say("lobby", nested)
        refused = await next_event(tibi)
        assert isinstance(refused, trio_vrchat.Refused)
        assert isinstance(refused.error, trio_vrchat.InvalidStructure)


async def test_coordinates_are_numbers(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server, server.open_client("Tibi") as tibi:
        with pytest.raises(TypeError, match="here"):
            await tibi.move("lobby", trio_vrchat.Transform(trio_vrchat.Vector("here", 0, 0)))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="JSON"):
            await tibi.move("lobby", trio_vrchat.Transform(trio_vrchat.Vector(float("nan"), 0, 0)))
        await tibi.ping()


async def test_calls_of_several_tasks_all_return(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server(Config(rooms_per_user=2)) as server, server.open_client("Tibi") as tibi:
        await tibi.join("den")
        refused = 0

        async def join() -> None:
            nonlocal refused
            with pytest.raises(trio_vrchat.TooMuch):
                await tibi.join("attic")
            refused += 1

        async def members() -> None:
            assert await tibi.members("den") == ("Tibi",)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(join)
                    nursery.start_soon(members)
                    nursery.start_soon(tibi.ping)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(members)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                await tibi.leave("den")
        assert refused == 3
        assert await tibi.join("den") == ("Tibi",)


async def test_a_cancelled_call_takes_its_answer_along(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        testing.open_server(Config.unlimited()) as server,
        server.open_client("Tibi") as tibi,
        server.open_client("anna") as anna,
    ):
        with trio.move_on_after(0):
            await tibi.ping()
        for _ in range(5):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tibi.members, "lobby")
                    nursery.start_soon(tibi.rooms)
                    # Sent, and not yet answered.
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
            await tibi.leave("lobby")
            await anna.say("lobby", "one more member is here now")
            assert await tibi.join("lobby") == ("anna", "Tibi")
            assert await tibi.ping() > 0
            assert set(await tibi.rooms()) == {"lobby"}


@pytest.mark.parametrize("data", [float("nan"), float("inf"), object(), "\ud800", {1, 2}])
async def test_what_cannot_be_said_is_the_callers_error_and_no_loss(
    autojump_clock: trio.testing.MockClock, data: object
) -> None:
    async with testing.open_server() as server, server.open_client("Tibi") as tibi:
        with pytest.raises((ValueError, TypeError)):
            await tibi.say("lobby", data)
        with pytest.raises((ValueError, TypeError)):
            await tibi.join(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="surrogates"):
            await tibi.join("\ud800")
        assert await tibi.members("lobby") == ("Tibi",)
        assert await tibi.join("den") == ("Tibi",)


async def test_a_stopped_server_is_a_lost_connection_with_its_code(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server, server.open_client("Tibi", reconnect=False) as tibi:
        server.handle.cancel_scope.cancel()
        with pytest.raises(trio_vrchat.ConnectionLost) as lost:
            await next_event(tibi)
        assert repr(lost.value.code) == "1001"
        with pytest.raises(trio_vrchat.ConnectionLost):
            await tibi.say("lobby", "anybody?")
        with pytest.raises(trio_vrchat.ConnectionLost):
            await tibi.ping()


async def test_a_bot_that_never_looks_at_its_events_stays_and_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lines = 4200
    async with testing.open_server(Config.unlimited()) as server, server.open_client("bot") as bot:
        talker = await server.login("talker")
        for number in range(lines):
            talker.send({"room": "lobby", "data": number})
            if number % 50 == 0:
                await testing.settle()
                talker.texts()
        await bot.ping()
        events = [await next_event(bot)]
        assert isinstance(events[0], trio_vrchat.Missed)
        while not isinstance(events[-1], trio_vrchat.Said) or events[-1].data != lines - 1:
            events.append(await next_event(bot))
        assert events[0].count + len(events) - 1 == lines + 1, "every line and the talker's join, seen or counted"


async def test_large_lines_that_nobody_looks_at_are_bounded_in_bytes(autojump_clock: trio.testing.MockClock) -> None:
    lines = 400
    async with testing.open_server(Config.unlimited()) as server, server.open_client("bot") as bot:
        talker = await server.login("talker")
        for _ in range(lines):
            talker.send({"room": "lobby", "data": "x" * 60_000})
            await testing.settle()
            talker.texts()
        await bot.ping()
        missed = await next_event(bot)
        assert isinstance(missed, trio_vrchat.Missed)
        assert lines + 1 - missed.count == pytest.approx(16 * 1024 * 1024 / 60_000, rel=0.01)


async def test_an_exception_of_the_body_comes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async with testing.open_server() as server:
        with pytest.raises(KeyError):
            async with server.open_client("Tibi"):
                raise KeyError("mine")
        await testing.settle()
        assert server.statistics.connections == 0
        assert server.statistics.members == 0


async def test_nobody_there_and_no_websocket_there() -> None:
    async with trio.open_nursery() as nursery:

        async def hang_up(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        listeners = await nursery.start(trio.serve_tcp, hang_up, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(trio_vrchat.CannotConnect, match="404"):
            async with trio_vrchat.open_client(f"ws://localhost:{port}/", "Tibi", "1234"):
                pass
        nursery.cancel_scope.cancel()
    with pytest.raises(trio_vrchat.CannotConnect, match="nobody answers"):
        async with trio_vrchat.open_client(f"ws://127.0.0.1:{port}/", "Tibi", "1234"):
            pass
    with pytest.raises(ValueError, match="ws://host"):
        async with trio_vrchat.open_client("http://127.0.0.1/", "Tibi", "1234"):
            pass


async def test_over_tls_with_a_certificate_that_is_trusted_and_one_that_is_not() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")
        transport = listeners[0].transport_listener
        assert isinstance(transport, trio.SocketListener)
        port = transport.socket.getsockname()[1]
        await nursery.start(partial(trio_vrchat.serve, listeners=listeners))
        url = f"wss://localhost:{port}/"
        async with trio_vrchat.open_client(url, "Tibi", "1234", ssl_context=client_context) as tibi:
            await tibi.say("lobby", "hello")
            assert isinstance(await next_event(tibi), trio_vrchat.Said)
        with pytest.raises(trio_vrchat.CannotConnect, match="certificate"):
            async with trio_vrchat.open_client(url, "Tibi", "1234"):
                pass
        nursery.cancel_scope.cancel()


async def test_over_a_real_socket() -> None:
    async with trio.open_nursery() as nursery:
        handle = await nursery.start(trio_vrchat.serve, Config(host="127.0.0.1", port=0))
        async with trio_vrchat.open_client(handle.urls[0], "Tibi", "1234") as tibi:
            await tibi.say("lobby", "hello")
            said = await next_event(tibi)
            assert isinstance(said, trio_vrchat.Said)
        nursery.cancel_scope.cancel()
