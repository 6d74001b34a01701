"""The page in a real browser: people see each other, talk, enter VR, and come back after a restart."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.accounts import account, add_accounts
from tests.browser import ARTIFACTS, DEADLINE_MS, People, Person, browser, emulator, node_modules, people, rules
from tests.program import LOCAL, LOOPBACK, Program, started

__all__ = ["browser", "emulator", "node_modules", "people", "rules"]

PHONE = (390, 844)
# Is somebody drawn at least so far from there?
IS_AWAY = """([name, [x, , z], metres]) => {
    const { pos } = trioVrchat.poseOf(name).head;
    return Math.hypot(pos[0] - x, pos[2] - z) > metres;
}"""


@pytest.fixture
def server() -> Iterator[str]:
    """The page's address."""
    with started(*LOCAL) as program:
        yield page_of(program)


def page_of(program: Program) -> str:
    return program.url().replace("ws://", "http://")


def test_two_see_each_other_walk(server: str, people: People) -> None:
    tibi, anna = people("Tibi").come_in(server), people("Anna", PHONE, has_touch=True).come_in(server)
    for person in (tibi, anna):
        person.until_with("Anna", "Tibi")
    start = tibi.pose_of("Tibi")["head"]["pos"]
    tibi.page.get_by_role("img").focus()
    tibi.page.keyboard.down("KeyW")
    anna.until(IS_AWAY, ["Tibi", start, 1.0])
    tibi.page.keyboard.up("KeyW")
    anna.until_sees("Tibi", tibi.pose_of("Tibi"))
    # The other one walks with a thumb.
    start = anna.pose_of("Anna")["head"]["pos"]
    finger = Finger(anna)
    finger.touch("touchStart", 90, 420)
    finger.touch("touchMove", 90, 360)
    tibi.until(IS_AWAY, ["Anna", start, 1.0])
    finger.touch("touchEnd")
    tibi.until_sees("Anna", anna.pose_of("Anna"))
    # Sky, floor, shadows, three shapes, labels.
    assert tibi.page.evaluate("trioVrchat.stats.drawCalls") <= 7
    tibi.picture("walking")
    anna.picture("walking-phone")


class Finger:
    """On a person's screen."""

    def __init__(self, person: Person) -> None:
        self._browser = person.page.context.new_cdp_session(person.page)

    def touch(self, kind: str, *place: int) -> None:
        points = [{"x": place[0], "y": place[1]}] if place else []
        self._browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_they_talk(server: str, people: People) -> None:
    tibi, anna = people("Tibi").come_in(server), people("Anna").come_in(server)
    tibi.say("hello <b>Anna</b> & <img src=x onerror=alert(1)>")
    anna.until_heard("Tibi", "hello <b>Anna</b> & <img src=x onerror=alert(1)>")
    anna.say("hello \ud83d\udc4b yourself")
    tibi.until_heard("Anna", "hello \N{WAVING HAND SIGN} yourself")
    anna.page.get_by_role("button", name="Wave").click()
    tibi.until_heard("Anna", "waves \N{WAVING HAND SIGN}")
    for person in (tibi, anna):
        assert person.page.locator("#log img, #log .what *").count() == 0, "what was said is text"
    # Who comes later is shown what was said.
    bea = people("Bea").come_in(server)
    bea.until_heard("Anna", "waves \N{WAVING HAND SIGN}")
    assert bea.page.locator("#log li").count() == 3
    tibi.picture("talking")


def test_in_vr(server: str, people: People, emulator: str) -> None:
    tibi, anna = people("Tibi", script=emulator).come_in(server), people("Anna").come_in(server)
    tibi.until_with("Anna", "Tibi")
    before = tibi.pose_of("Tibi")["head"]["pos"]
    tibi.page.get_by_role("button", name="Enter VR").click()
    tibi.until("() => trioVrchat.stats.eyes.length === 2 && trioVrchat.poseOf('Tibi').left !== null")
    one, other = tibi.page.evaluate("trioVrchat.stats.eyes")
    assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 == pytest.approx(0.064, abs=1e-6)
    head = tibi.pose_of("Tibi")["head"]["pos"]
    assert [head[0], head[2]] == pytest.approx([before[0], before[2]], abs=1e-3), "nobody moves by entering VR"

    at_rest = tibi.pose_of("Tibi")
    tibi.page.evaluate("""() => {
        device.position.set(0.3, 1.25, -0.2);
        device.quaternion.set(0, 0.6, 0, 0.8);
        device.controllers.left.position.set(-0.4, 1.4, -0.5);
        device.controllers.right.position.set(0.2, 1.1, -0.6);
        device.controllers.right.quaternion.set(0.6, 0, 0, 0.8);
    }""")
    tibi.until("(before) => Math.abs(trioVrchat.poseOf('Tibi').head.pos[1] - before) > 0.2", at_rest["head"]["pos"][1])
    tibi.until("(before) => trioVrchat.poseOf('Tibi').right.pos[1] !== before", at_rest["right"]["pos"][1])
    pose = tibi.pose_of("Tibi")
    assert pose["head"]["pos"][1] == pytest.approx(1.25, abs=1e-3)
    # As far from each other in the room as on the headset's floor.
    apart = [a - b for a, b in zip(pose["left"]["pos"], pose["right"]["pos"], strict=True)]
    assert sum(part**2 for part in apart) ** 0.5 == pytest.approx((0.6**2 + 0.3**2 + 0.1**2) ** 0.5, abs=0.05)
    anna.until_sees("Tibi", pose)

    # The ring: hold the trigger, move up, let go.
    tibi.page.evaluate("device.quaternion.set(0, 0, 0, 1)")
    tibi.page.evaluate("device.controllers.right.updateButtonValue('trigger', 1)")
    frames(tibi, 3)
    tibi.page.evaluate("device.controllers.right.position.set(0.2, 1.25, -0.6)")
    frames(tibi, 3)
    tibi.picture("vr")
    tibi.page.evaluate("device.controllers.right.updateButtonValue('trigger', 0)")
    anna.until_heard("Tibi", "waves \N{WAVING HAND SIGN}")

    # The stick walks.
    start = tibi.pose_of("Tibi")["head"]["pos"]
    tibi.page.evaluate("device.controllers.left.updateAxes('thumbstick', 0, -1)")
    anna.until(IS_AWAY, ["Tibi", start, 0.5])
    tibi.page.evaluate("device.controllers.left.updateAxes('thumbstick', 0, 0)")
    frames(tibi, 2)
    anna.until_sees("Tibi", tibi.pose_of("Tibi"))
    anna.picture("vr-seen-by-another")
    tibi.page.evaluate("device.activeSession?.end()")
    tibi.until("() => trioVrchat.stats.eyes.length === 1 && trioVrchat.connected")
    assert tibi.pose_of("Tibi")["left"] is None


def frames(person: Person, number: int) -> None:
    """Let the page draw so many frames."""
    person.page.evaluate(
        """(number) => new Promise((done) => {
            const next = () => (number-- > 0 ? requestAnimationFrame(next) : done());
            next();
        })""",
        number,
    )


def test_the_server_is_restarted_under_them(people: People) -> None:
    with started(*LOCAL) as program:
        url = page_of(program)
        tibi, anna = people("Tibi").come_in(url, "den"), people("Anna").come_in(url, "den")
        tibi.until_with("Anna", "Tibi")
        program.process.terminate()
        program.process.wait()
    for person in (tibi, anna):
        person.page.get_by_text("The connection is lost").wait_for()
        person.until("() => !trioVrchat.connected")
    tibi.picture("lost")
    port = url.rstrip("/").rpartition(":")[2]
    with started("--host", LOOPBACK, "--port", port):
        for person in (tibi, anna):
            person.until_with("Anna", "Tibi")
            person.until("() => trioVrchat.connected && trioVrchat.room === 'den'")
            person.page.get_by_text("The connection is lost").wait_for(state="hidden")
        anna.say("we are back")
        tibi.until_heard("Anna", "we are back")
        for person in (tibi, anna):
            # The browser itself says so of each try that found nobody, or a server that was about to go.
            person.troubles = [
                text for text in person.troubles if not text.startswith("error: WebSocket connection to")
            ]
        for person in (tibi, anna):
            person.page.close()


def test_one_of_them_by_https(people: People, tmp_path: Path, emulator: str) -> None:
    with started(*LOCAL, "--tls", "auto", variables={"XDG_DATA_HOME": str(tmp_path)}) as program:
        secure = program.url("wss").replace("wss://", "https://")
        plain = secure.replace("https://", "http://")
        tibi = people("Tibi").come_in(plain)
        anna = people("Anna").come_in(plain.replace(LOOPBACK, "localhost"))
        bea = people("Bea", script=emulator, ignore_https_errors=True).come_in(secure)
        assert bea.page.evaluate("isSecureContext && location.protocol") == "https:"
        for person in (tibi, anna, bea):
            person.until_with("Anna", "Bea", "Tibi")
        bea.say("in confidence")
        tibi.until_heard("Bea", "in confidence")
        bea.page.get_by_role("button", name="Enter VR").wait_for()
        bea.picture("https")
        for person in people.everybody:
            person.page.close()


def test_rooms_are_addresses(server: str, people: People) -> None:
    tibi, anna = people("Tibi").come_in(server), people("Anna").come_in(server, "the%20d%C3%A9n")
    anna.until("() => trioVrchat.room === 'the dén'")
    tibi.until_with("Tibi")
    tibi.page.get_by_role("button", name="lobby").click()
    tibi.page.get_by_role("link", name="the dén").click()
    tibi.until_with("Anna", "Tibi")
    tibi.picture("rooms")
    tibi.page.go_back()
    tibi.until("() => trioVrchat.room === 'lobby' && trioVrchat.members.length === 1")
    anna.until_with("Anna")
    tibi.page.get_by_label("Name of a room").fill("x" * 100)
    tibi.page.get_by_role("button", name="Go", exact=True).click()
    tibi.until("() => trioVrchat.room === 'x'.repeat(64)")


def test_the_same_user_in_another_tab(server: str, people: People) -> None:
    tibi = people("Tibi").come_in(server)
    again = people.tab_beside(tibi).come_in(server)
    tibi.page.get_by_text("You came in again somewhere else").wait_for()
    tibi.picture("elsewhere")
    again.until_with("Tibi")
    tibi.page.get_by_role("button", name="Come back here").click()
    again.page.get_by_text("You came in again somewhere else").wait_for()
    tibi.until("() => trioVrchat.connected")


def test_a_name_that_is_taken_and_one_that_cannot_be(server: str, people: People) -> None:
    people("Tibi").come_in(server, password="secret")
    other = people("Tibi")
    other.open(server)
    other.enter("guess")
    other.page.get_by_role("alert").filter(has_text="Somebody else has this name").wait_for()
    other.picture("taken")
    other.name = "Ti\u200dbi"
    other.enter()
    other.page.get_by_role("alert").filter(has_text="This name cannot be used").wait_for()
    other.name = "Anna"
    other.enter()
    other.until("() => trioVrchat.connected")


def test_nobody_is_left_behind(server: str, people: People) -> None:
    tibi, anna = people("Tibi").come_in(server), people("Anna").come_in(server)
    tibi.until_with("Anna", "Tibi")
    anna.page.goto("about:blank")
    tibi.until_with("Tibi")
    anna.come_in(server)
    tibi.until_with("Anna", "Tibi")
    anna.page.get_by_role("button", name="Leave").click()
    tibi.until_with("Tibi")
    anna.page.get_by_role("button", name="Enter", exact=True).wait_for()


def test_a_stranger_who_sends_nonsense(server: str, people: People) -> None:
    tibi = people("Tibi").come_in(server)
    name = "<i>\u4e16" * 6
    with connect(server.replace("http", "ws", 1)) as socket:

        def send(**message: Any) -> None:
            socket.send(json.dumps(message))

        send(system="login", options={"user": name, "pass": "x"})
        transforms: list[Any] = [
            {"pos": {"x": 1e300}},
            {"quat": {"x": 1e300, "w": 1}},
            {"hands": {"left": {"pos": {"y": -1e308}}, "right": 5}, "t": "x"},
        ]
        for data in transforms:
            send(room="lobby", type="transform", data=data)
        events: list[tuple[str, Any]] = [
            ("emote", {"a": [1]}),
            ("emote", "constructor"),
            ("msg", {"a": {}}),
            ("msg", None),
            ("", ""),
            ("msg", "y" * 900),
        ]
        for kind, data in events:
            send(room="lobby", type=kind, data=data)
        tibi.until("() => document.querySelector('#log li:last-child')?.textContent.endsWith('y'.repeat(900))")
        tibi.until("(name) => [1e4, 0].includes(Math.abs(trioVrchat.poseOf(name)?.head.pos[0]))", name)
        frames(tibi, 3)
        tibi.page.get_by_role("button", name="lobby").click()
        tibi.page.locator("#people").get_by_text(name).wait_for()
        assert tibi.page.locator("#log i, #people li span *").count() == 0
        tibi.picture("nonsense")
    tibi.until_with("Tibi")


def test_by_keyboard_alone(server: str, people: People) -> None:
    tibi, anna = people("Tibi"), people("Anna").come_in(server)
    tibi.open(server)
    keyboard = tibi.page.keyboard
    # The field for the name has the focus.
    keyboard.type("Tibi")
    keyboard.press("Enter")
    tibi.until("() => trioVrchat.connected && trioVrchat.room !== null")
    keyboard.press("Enter")
    keyboard.type("wasd 1 by keyboard")
    keyboard.press("Enter")
    anna.until_heard("Tibi", "wasd 1 by keyboard")
    assert tibi.page.evaluate("document.activeElement.id") == "text"
    keyboard.press("Escape")
    assert tibi.page.evaluate("document.activeElement.id") == "view"
    keyboard.press("1")
    # (An empty log is not there.)
    for person in (anna, tibi):
        person.until_heard("Tibi", "waves \N{WAVING HAND SIGN}")
    seen = set()
    for _ in range(20):
        keyboard.press("Tab")
        seen.add(tibi.page.evaluate("document.activeElement.id"))
    assert {"open-side", "vr", "go", "text", "log"} <= seen


@pytest.mark.parametrize("size", [PHONE, (844, 390), (320, 568), (1280, 720)])
def test_it_fits_and_is_labelled(server: str, people: People, size: tuple[int, int]) -> None:
    tibi = people("Tibi", size)
    tibi.open(server)
    tibi.page.get_by_label("Your name").wait_for()
    tibi.picture(f"door-{size[0]}")
    tibi.come_in(server)
    tibi.page.get_by_role("button", name="lobby").click()
    tibi.picture(f"room-{size[0]}")
    page = tibi.page
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
    )
    assert page.evaluate("document.documentElement.lang") == "en"
    unnamed = """() => [...document.querySelectorAll('button, input, a, canvas')]
        .filter((one) => !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()))
        .map((one) => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
    outside = """() => [...document.querySelectorAll('#bar button, #say :is(input, button), #side, #log')]
        .filter((one) => {
            const { left, top, right, bottom } = one.getBoundingClientRect();
            return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight;
        })
        .map((one) => one.id)"""
    assert page.evaluate(outside) == []


# What axe finds.
VIOLATIONS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .flatMap(({id, nodes}) => nodes.map((node) => [id, node.html, node.failureSummary]))"""


@pytest.mark.parametrize("size", [PHONE, (1280, 720)])
def test_nobody_is_kept_out(server: str, people: People, rules: str, size: tuple[int, int]) -> None:
    """By axe: contrast, labels, landmarks, focus. Contrast is judged where a background is plain, not on the view."""
    # (What fades in is judged when it is there.)
    tibi = people("Tibi", size, reduced_motion="reduce")
    tibi.open(server)
    tibi.page.evaluate(rules)
    assert tibi.page.evaluate(VIOLATIONS) == []
    tibi.enter()
    tibi.until("() => trioVrchat.connected && trioVrchat.room !== null")
    tibi.say("hello")
    tibi.until_heard("Tibi", "hello")
    tibi.page.get_by_role("button", name="lobby").click()
    tibi.page.get_by_role("link", name="lobby").wait_for()
    assert tibi.page.evaluate(VIOLATIONS) == []
    tibi.page.get_by_role("button", name="VR?").click()
    tibi.page.locator("#trouble:not(:empty)").wait_for()
    assert tibi.page.evaluate(VIOLATIONS) == []


def test_why_there_is_no_vr(server: str, people: People) -> None:
    tibi = people("Tibi", script="Object.defineProperty(navigator, 'xr', {value: undefined});").come_in(server)
    tibi.page.get_by_role("button", name="VR?").click()
    tibi.page.get_by_role("alert").filter(has_text="This browser has no WebXR").wait_for()
    insecure = """Object.defineProperty(navigator, 'xr', {value: undefined});
        Object.defineProperty(globalThis, 'isSecureContext', {value: false});"""
    anna = people("Anna", script=insecure).come_in(server)
    anna.page.get_by_role("button", name="VR?").click()
    address = server.replace("http://", "https://")
    anna.page.get_by_role("alert").filter(has_text=address).wait_for(timeout=DEADLINE_MS)


# Names, where they stand as seen by who looks (right, forward, eyes), how far they turn to their left, and whether
# their hands are tracked.
CAST = [
    ("Mara", (-0.28, 2.3, 1.55), 0.35, True),
    ("Jonas", (0.62, 2.9, 1.7), 0.1, True),
    ("Zoe", (1.5, 2.35, 1.5), -0.5, True),
    ("Oskar", (1.8, 5.6, 1.66), -0.2, False),
    ("Aisha", (0.05, 5.0, 1.58), 0.1, False),
]
LINES = [
    ("Mara", "See my hands?"),
    ("Jonas", "Yes, and where you look"),
    ("Zoe", "Come over here, all of you!"),
]


def test_the_picture_of_the_readme(server: str, people: People) -> None:
    """`docs/page.png` is a copy of `artifacts/page.png`, made here."""
    tibi = people("Tibi", (1280, 720))
    tibi.open(server, query="")
    tibi.enter()
    tibi.until("() => trioVrchat.connected && trioVrchat.room !== null")
    x, _, z = tibi.pose_of("Tibi")["head"]["pos"]
    # Everybody who comes in looks to the middle.
    away = math.hypot(x, z)
    ahead, right = (-x / away, -z / away), (z / away, -x / away)
    heading = math.atan2(x, z)

    def place(to_right: float, forward: float, up: float) -> dict[str, float]:
        return {
            "x": x + right[0] * to_right + ahead[0] * forward,
            "y": up,
            "z": z + right[1] * to_right + ahead[1] * forward,
        }

    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(connect(server.replace("http", "ws", 1))) for name, *_ in CAST}

        def send(name: str, message: dict[str, Any]) -> None:
            sockets[name].send(json.dumps(message))

        for name, (to_right, forward, eyes), to_the_left, tracked in CAST:
            send(name, {"system": "login", "options": {"user": name, "pass": "x"}})
            turn = {"x": -0.05, "y": heading + math.pi + to_the_left, "z": 0}
            data: dict[str, Any] = {"pos": place(to_right, forward, eyes), "rot": turn}
            if tracked:
                data["hands"] = {
                    side: {
                        "pos": place(to_right + off, forward - 0.34, eyes - drop),
                        "rot": {"x": lift, "y": turn["y"], "z": 0},
                    }
                    for side, off, drop, lift in (("left", 0.24, 0.42, 0.5), ("right", -0.2, 0.26, 0.9))
                }
            send(name, {"room": "lobby", "type": "transform", "data": data})
        tibi.until_with("Tibi", *sockets)
        for name, line in LINES:
            send(name, {"room": "lobby", "data": line})
            tibi.until_heard(name, line)
        send("Aisha", {"room": "lobby", "type": "emote", "data": "wave"})
        tibi.until_heard("Aisha", "waves \N{WAVING HAND SIGN}")
        # All that is written takes a few frames to be painted, and comes in softly.
        frames(tibi, 4)
        tibi.picture("page")
        made = (ARTIFACTS / "page.png").read_bytes()
        kept = (ARTIFACTS.parent / "docs" / "page.png").read_bytes()
        # Width and height, which are all that is the same on every machine.
        assert made[16:24] == kept[16:24]


def test_an_admin_records_and_sees_it_again(people: People, tmp_path: Path, rules: str) -> None:
    store = str(tmp_path / "store.db")
    add_accounts(store, account("Ada", "1234", "admin"), account("Tibi", "1234"))
    options = ("--auth", "accounts", "--store", store, "--recordings", str(tmp_path / "study"))
    with started(*LOCAL, *options) as program:
        url = page_of(program)
        ada = people("Ada", reduced_motion="reduce").come_in(url, password="1234")
        tibi = people("Tibi").come_in(url, password="1234")
        ada.until_with("Ada", "Tibi")
        tibi.page.locator("#open-side").click()
        assert tibi.page.get_by_role("heading", name="Recordings").is_hidden()
        tibi.page.locator("#open-side").click()
        ada.page.evaluate(rules)
        ada.page.locator("#open-side").click()
        ada.page.get_by_role("button", name="Record", exact=True).click()
        ada.page.get_by_role("button", name="Stop recording").wait_for()
        assert ada.page.evaluate(VIOLATIONS) == []
        start = tibi.pose_of("Tibi")["head"]["pos"]
        tibi.page.get_by_role("img").focus()
        tibi.page.keyboard.down("KeyW")
        ada.until(IS_AWAY, ["Tibi", start, 1.5])
        tibi.page.keyboard.up("KeyW")
        ada.until_sees("Tibi", tibi.pose_of("Tibi"))
        end = tibi.pose_of("Tibi")
        tibi.say("that was me")
        ada.until_heard("Tibi", "that was me")
        ada.page.get_by_role("button", name="Stop recording").click()
        ada.page.get_by_role("button", name="Record", exact=True).wait_for()
        tibi.page.get_by_role("button", name="Leave").click()
        ada.until_with("Ada")

        ada.page.locator("#recorded button").click()
        player = ada.page.get_by_role("region", name="A recording")
        player.wait_for()
        ada.page.get_by_role("button", name="Pause").click()
        slider = ada.page.get_by_role("slider", name="Moment")
        # He is seen walking, and where he stood when it began.
        slider.fill("0")
        ada.until(IS_AWAY, ["Tibi", end["head"]["pos"], 1.4])
        ada.page.get_by_role("button", name="Play").click()
        ada.page.get_by_role("button", name="Play").wait_for()
        ada.until_sees("Tibi", end)
        ada.page.set_viewport_size({"width": 1280, "height": 720})
        ada.picture("recording")
        assert ada.page.evaluate(VIOLATIONS) == []
        ada.page.set_viewport_size({"width": 390, "height": 844})
        ada.picture("recording-phone")
        assert ada.page.evaluate(VIOLATIONS) == []
        slider.fill("0")
        ada.until(IS_AWAY, ["Tibi", end["head"]["pos"], 1.4])
        ada.page.get_by_role("button", name="Close").click()
        player.wait_for(state="hidden")
        ada.until("() => trioVrchat.poseOf('Tibi') === null")
        tibi.come_in(url, password="1234")
        ada.until("() => trioVrchat.poseOf('Tibi') !== null")
        for person in (tibi, ada):
            person.page.close()
