"""What `trio_vrchat.testing` is for: hours in seconds, and the same frames each time."""

from __future__ import annotations

import random

import trio
from trio.testing import MockClock

from trio_vrchat import Config, testing
from trio_vrchat.testing import settle


def headset(seed: int, minutes: int) -> list[list[str]]:
    """A seeded hour's script: people come, walk, talk and go; every text that each was sent."""

    async def main() -> list[list[str]]:
        dice = random.Random(seed)
        heard: list[list[str]] = []
        async with testing.open_server(Config(fps=20, start_time=1_700_000_000.25)) as server:
            clients = [await server.login(f"user {number}") for number in range(8)]
            heard = [[] for _ in clients]
            for _ in range(minutes * 6):
                for index, client in enumerate(clients):
                    position = {"x": dice.random(), "y": 1.6, "z": dice.random()}
                    client.send({"room": "lobby", "type": "transform", "data": {"pos": position}})
                    if dice.random() < 0.2:
                        room = dice.choice(["lobby", "den", "attic"])
                        kind = dice.choice(["join", "leave", "msg", "list", "wave"])
                        client.send({"room": room, "type": kind, "data": dice.random()})
                        await settle()
                    heard[index] += client.texts()
                await trio.sleep(dice.choice([0.01, 0.05, 10]))
            await trio.sleep(1)
            for index, client in enumerate(clients):
                heard[index] += client.texts()
        return heard

    return testing.run(main)


def test_two_runs_of_one_script_give_every_client_the_same_frames() -> None:
    first, second = headset(seed=7, minutes=20), headset(seed=7, minutes=20)
    assert all(len(texts) > 100 for texts in first)
    assert first == second
    assert headset(seed=8, minutes=20) != first


async def test_a_client_with_a_small_buffer_holds_up_the_writes_to_it(autojump_clock: MockClock) -> None:
    async with testing.open_server() as server:
        client = await server.dial(buffer_bytes=100)
        client.send_bytes(testing.upgrade_request())
        await settle()
        assert client.unread_bytes == 100
        head = client.take_bytes(30)
        assert len(head) == 30
        assert client.unread_bytes == 70
        await settle()
        assert client.unread_bytes > 70, "the server goes on where there is room"
        head += client.take_bytes()
        await settle()
        head += client.take_bytes()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.endswith(b"\r\n\r\n")


def test_an_hour_of_fifty_headsets() -> None:
    async def main() -> tuple[list[int], float, int]:
        async with testing.open_server(Config(fps=20)) as server:
            clients = [await server.login(f"user {number}") for number in range(50)]
            await trio.sleep(1)
            for client in clients:
                client.texts()
            batches = [0] * len(clients)
            for second in range(3600):
                text = (
                    f'{{"room":"lobby","type":"transform","data":{{"pos":{{"x":{second},"y":1.6,"z":0}},"rot":{{}}}}}}'
                )
                for client in clients:
                    client.send(text)
                await trio.sleep(1)
                for index, client in enumerate(clients):
                    batches[index] += len(client.texts())
            return batches, trio.current_time(), server.statistics.events_in

    batches, seconds, events_in = testing.run(main)
    assert seconds == 3601
    assert events_in == 50 * 3600
    assert batches == [3600] * 50, "nobody missed one"
