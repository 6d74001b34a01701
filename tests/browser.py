"""A real browser for the tests of the page: people in it, and what each of them sees.

Waits are on what the page says of itself (`trioVrchat`, see `main.js`), never on time. A browser that draws without a
graphics processor is slow: pages are small, and `?aa=0` leaves the smoothing of edges out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# Screenshots of each test, to be looked at.
ARTIFACTS = Path(__file__).parent.parent / "artifacts"
_NPM = Path(__file__).parent / "npm"
DEADLINE_MS = 60_000
SMALL = (480, 360)
# Draws by the processor, as a machine for tests has no other.
_ARGUMENTS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def chromium() -> str:
    """The path of the machine's own browser; skips where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, driven by Playwright."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install -e '.[test,browser]')")
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packages of `tests/npm` are installed."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_NPM / name, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=120)
    if installed.returncode:
        pytest.skip(f"npm cannot install what the tests of the page need: {installed.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="session")
def emulator(node_modules: Path) -> str:
    """A script that gives a browser a headset, as `device`, before the page has looked for one."""
    script = (node_modules / "iwer" / "build" / "iwer.min.js").read_text()
    # 64 mm between the eyes.
    return f"""{script}
        globalThis.device = new IWER.XRDevice(IWER.metaQuest3);
        device.ipd = 0.064;
        device.stereoEnabled = true;
        device.installRuntime({{forceInstall: true}});"""


@pytest.fixture(scope="session")
def rules(node_modules: Path) -> str:
    """A script that gives a page `axe`, which finds what keeps people with disabilities out."""
    return (node_modules / "axe-core" / "axe.min.js").read_text()


class Person:
    """Somebody with the page open."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        # What a console should not have to say.
        self.troubles: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.troubles.append(f"{error}"))

    def _said(self, kind: str, text: str) -> None:
        # Without a graphics processor each screenshot is told to be slow.
        if kind in ("error", "warning") and "GPU stall due to ReadPixels" not in text:
            self.troubles.append(f"{kind}: {text}")

    def open(self, url: str, room: str = "", query: str = "?aa=0") -> None:
        self.page.goto(f"{url}{query}" + (f"#{room}" if room else ""))

    def come_in(self, url: str, room: str = "", password: str = "") -> Person:
        self.open(url, room)
        self.enter(password)
        self.until("() => trioVrchat.connected && trioVrchat.room !== null")
        return self

    def enter(self, password: str = "") -> None:
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Enter", exact=True).click()

    def until(self, condition: str, argument: Any = None) -> None:
        """Wait until this JavaScript function of one argument is true."""
        self.page.wait_for_function(condition, arg=argument, timeout=DEADLINE_MS)

    def until_with(self, *names: str) -> None:
        """Wait until the room has these members."""
        self.until("(names) => JSON.stringify(trioVrchat.members.toSorted()) === names", _compact(sorted(names)))

    def say(self, text: str) -> None:
        box = self.page.get_by_label("Say something to the room")
        box.fill(text)
        box.press("Enter")

    def until_heard(self, user: str, text: str) -> None:
        """Wait until the log's last line is this, by its text."""
        line = f"{user} {text}"
        self.until("(line) => document.querySelector('#log li:last-child')?.textContent.endsWith(line)", line)

    def pose_of(self, name: str) -> dict[str, Any]:
        pose: dict[str, Any] = self.page.evaluate("(name) => trioVrchat.poseOf(name)", name)
        return pose

    def until_sees(self, name: str, pose: dict[str, Any]) -> None:
        """Wait until that person is drawn at this pose: within a millimetre, and rotations within a thousandth."""
        self.until(
            """([name, wanted]) => {
                const seen = trioVrchat.poseOf(name);
                const near = (a, b) => a.every((part, i) => Math.abs(part - b[i]) < 1e-3);
                const same = (a, b) => (a === null || b === null ? a === b
                    : near(a.pos, b.pos) && (near(a.quat, b.quat) || near(a.quat, b.quat.map((part) => -part))));
                return seen !== null && ['head', 'left', 'right'].every((part) => same(seen[part], wanted[part]));
            }""",
            [name, pose],
        )

    def picture(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=os.fspath(ARTIFACTS / f"{name}.png"), animations="disabled")


class People:
    """Makes people, each with a browser profile of their own, and looks into all consoles at the end."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.everybody: list[Person] = []

    def __call__(self, name: str, size: tuple[int, int] = SMALL, script: str | None = None, **options: Any) -> Person:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(DEADLINE_MS)
        self._contexts.append(context)
        if script is not None:
            context.add_init_script(script)
        person = Person(context.new_page(), name)
        self.everybody.append(person)
        return person

    def tab_beside(self, person: Person) -> Person:
        """The same profile, in another tab."""
        other = Person(person.page.context.new_page(), person.name)
        self.everybody.append(other)
        return other

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def people(browser: Browser) -> Iterator[People]:
    made = People(browser)
    try:
        yield made
    finally:
        made.close()
    troubles = [f"{person.name}: {trouble}" for person in made.everybody for trouble in person.troubles]
    assert not troubles, f"consoles said: {troubles}"


def _compact(value: Any) -> str:
    """As JavaScript writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
