"""The page of a report: HTML that needs nothing else, says who met whom, and takes no name for anything but text."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import trio

from trio_vrchat import Config, recording, report, testing
from trio_vrchat.__main__ import _main

from .browser import ARTIFACTS, People, browser, node_modules, people, rules
from .test_recorder import the_file
from .test_report import Line, event, move, write

__all__ = ["browser", "node_modules", "people", "rules"]

NO_MATPLOTLIB = "matplotlib is not installed (pip install -e '.[test,report]')"
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=//evil.example>',
    "$x^2$ $\\frac",
    "_hidden",
    "&amp;",
    "\u202eback",
    "山" * 32,
]
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Reads a page, and fails where its tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(path: Path, lines: Iterable[Line], **manifest: str) -> str:
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    from .test_report import MANIFEST

    with recording.open(write(path, lines, MANIFEST | manifest)) as opened:
        return report.page(report.reduce(opened))


def pictures(page: Reader) -> list[ElementTree.Element]:
    found = []
    for image in page.all("img"):
        kind, data = (image["src"] or "").split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        found.append(ElementTree.fromstring(base64.b64decode(data)))
    return found


def crowd(names: Iterable[str], seconds: int = 40) -> Iterator[Line]:
    """They come one after another, walk around each other, and say something."""
    names = list(names)
    for number, name in enumerate(names):
        yield event(number / 10, name)
    for step in range(seconds * 2):
        for number, name in enumerate(names):
            angle = step / 9 + number * 2
            yield move(2 + step / 2, name, math.cos(angle) * (1 + number), math.sin(angle) * 3)
    for name in names:
        yield event(seconds + 3, name, "msg")
        yield event(seconds + 3, name, "<type>\x00")
        yield "round_trips", {"time": seconds + 4, "user": name, "round_trip_s": 0.025}
        yield "clocks", {"time": seconds + 4, "user": name, "offset_s": 1.5, "bound_s": 0.25}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recorded.mcap"


def test_it_says_who_met_whom_and_when(file: Path) -> None:
    lines = [event(0, name) for name in ("Tibi", "Anna", "Mara")]
    lines += [move(0, "Tibi", 0), move(0, "Anna", 5), move(0, "Mara", 50), move(65, "Anna", 1), move(95, "Anna", 5)]
    page = Reader(page_of(file, [*lines, event(120, "Tibi", "msg"), event(120, "Mara", "leave")]))
    assert ["1", "Anna", "Tibi", "lobby", "0:30", "1:05", "1:35", "1", "0:30", "1.00", "–"] in page.rows  # noqa: RUF001
    assert ["Tibi", "1", "Anna (0:30)"] in page.rows
    assert ["Mara", "0", "nobody"] in page.rows
    text = "".join(page.texts)
    assert "3 people in 1 room, for 2 min 0 s. 1 pair of people met." in text
    assert "condition = mirror" in text
    assert ["Mara", "0:00", "2:00", "2:00", "1"] in page.rows


def test_who_met_in_two_rooms_is_one_pair(file: Path) -> None:
    lines = [event(0, name, room=room) for name in ("Tibi", "Anna") for room in ("lobby", "den")]
    lines += [move(0, name, 0, room=room) for name in ("Tibi", "Anna") for room in ("lobby", "den")]
    page = Reader(page_of(file, [*lines, event(30, "Tibi", "msg")]))
    assert "1 pair of people met." in "".join(page.texts)
    assert sorted(row[1:4] for row in page.rows if row[:1] in (["1"], ["2"])) == [
        ["Anna", "Tibi", "den"],
        ["Anna", "Tibi", "lobby"],
    ]
    assert ["Tibi", "1", "Anna (1:00)"] not in page.rows, "of two people there is nothing more to say"


def test_it_needs_nothing_but_itself(file: Path) -> None:
    html = page_of(file, crowd(EVIL))
    page = Reader(html)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form", "svg", "base"} == set()
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml;base64,")), tag
    for picture in pictures(page):
        for element in picture.iter():
            assert not element.tag.endswith(("script", "foreignObject"))
            references = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(value.startswith(("#", "data:image/png")) for value in references)
    # Its own policy allows its style sheet, and no other.
    (policy,) = [each["content"] or "" for each in page.all("meta") if "http-equiv" in each]
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_are_text(file: Path) -> None:
    page = Reader(page_of(file, crowd(EVIL)))
    shown = [name for name in EVIL if not name.startswith("\u202e")]
    for name in [*shown, "back"]:
        assert any(name in text for text in page.texts), name
    assert "\u202e" not in "".join(page.texts)
    drawn = {text.strip() for picture in pictures(page) for text in picture.itertext()}
    assert {"$x^2$ $\\frac", "_hidden", "&amp;", "<type>"} <= drawn
    few = pictures(Reader(page_of(file, crowd(["_hidden", "$a$"]))))
    (legend,) = [texts for picture in few if "x (metres)" in (texts := {text.strip() for text in picture.itertext()})]
    assert {"_hidden", "$a$"} <= legend


def test_who_does_not_see_it_is_told_the_same(file: Path) -> None:
    page = Reader(page_of(file, crowd(["Tibi", "Anna", "Mara"])))
    assert all(len(image["alt"] or "") > 20 for image in page.all("img"))
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert {each.get("scope") for each in page.all("th")} == {"row", "col"}
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(link["href"] or "").removeprefix("#") for link in page.all("a")} == targets


def test_the_same_recording_gives_the_same_page(file: Path) -> None:
    assert page_of(file, crowd(["Tibi", "Anna"])) == page_of(file, crowd(["Tibi", "Anna"]))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "Nobody was in any room."),
        ([event(0, "Tibi")], "Nobody moved: there are no transforms."),
        ([event(0, "Tibi"), move(0, "Tibi", 0)], "No two people moved in one room at the same time."),
        ([event(0, "Tibi", "msg")], "Nobody is known to have been in it."),
        ([*crowd(["Tibi"])], "Nobody met anybody."),
        (
            [event(0, "A"), event(0, "B"), move(1, "A", 0), move(1, "B", 9), event(9, "A", "leave")],
            "Nobody met anybody.",
        ),
        ([("round_trips", {"time": 1e9, "user": "Tibi", "round_trip_s": 1})], "Nobody was in any room."),
    ],
)
def test_of_little_there_is_a_page(file: Path, lines: list[Line], says: str) -> None:
    assert says in "".join(Reader(page_of(file, lines)).texts)


def test_what_a_manifest_holds_is_not_believed(file: Path) -> None:
    page = Reader(page_of(file, [], notes='["<b>"]', server="<i>\x07", started="yesterday", pseudonyms="true"))
    texts = "".join(page.texts)
    assert "<i>" in texts
    assert "pseudonyms" in texts


def test_what_is_missing_is_said(file: Path) -> None:
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    write(file, crowd(["Tibi"]))
    file.write_bytes(file.read_bytes()[:-200])
    with recording.open(file) as opened:
        html = report.page(report.reduce(opened))
    assert html.count("recorded.mcap has lost its end") == 2
    assert os.fspath(file.parent) not in html


# The command


def test_the_command_writes_a_page(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    write(file, crowd(["Tibi", "Anna"]))
    other = file.with_name("other page.html")
    for arguments, out in (([], file.with_suffix(".html")), (["-o", os.fspath(other)], other)):
        assert _main(["report", os.fspath(file), *arguments]) == 0
        printed = capfd.readouterr()
        assert (printed.out, printed.err) == ("", f"{out}: 2 people, 170 messages\n")
        assert Reader(out.read_text()).all("img")
    file.write_bytes(file.read_bytes()[:-300])
    assert _main(["report", os.fspath(file)]) == 0
    assert "warning: recorded.mcap has lost its end" in capfd.readouterr().err


def test_what_cannot_be_is_one_line(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    before = write(file, [event(0, "Tibi")]).read_bytes()
    foreign = file.with_name("foreign")
    foreign.write_text("x")
    broken = write(file.with_name("broken.mcap"), [("clocks", {"time": 0})])
    for arguments, says in (
        ([foreign], "is no recording"),
        ([file.with_name("nowhere")], "cannot read"),
        ([broken], "is none of version 1"),
        ([file, "-o", file], "is the recording itself"),
        ([file, "-o", file.parent], "Is a directory"),
        ([file, "-o", file.with_name("no folder") / "page.html"], "No such file"),
        ([], "is missing"),
    ):
        assert _main(["report", *map(str, arguments)]) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert says in printed.err
        assert len(printed.err.splitlines()) == 1
    assert file.read_bytes() == before
    assert not [*file.parent.glob("**/*.html")], "no page is left of what was none"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_one_line(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    assert _main(["report", os.fspath(write(file, [])), "-o", "/dev/full"]) == 2
    assert capfd.readouterr().err == "trio-vrchat: error: cannot write /dev/full: No space left on device\n"


def test_without_matplotlib_it_says_what_to_install(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert _main(["report", os.fspath(write(file, []))]) == 2
    assert "pip install 'trio-vrchat[report]'" in capfd.readouterr().err
    assert not file.with_suffix(".html").exists()


# In a browser


# Who comes from where, and where they are then: from second to second, and with whom they stand there.
COUPLES = {"Tibi": 0, "Anna": 0, "Mara": 1, "Jonas": 1, "Zoe": 2, "Oskar": 2}
EXCHANGED = {"Tibi": 0, "Mara": 0, "Anna": 1, "Zoe": 1, "Jonas": 2, "Oskar": 2}
PLACES = ((-3.0, 1.5), (0.5, -3.0), (3.0, 1.5))
VISIT_S, SENT_HZ = 120, 10


def middle_of(name: str, second: float) -> tuple[float, float]:
    """Where the group is to which somebody belongs at that time."""
    if second < 55:
        return PLACES[COUPLES[name]]
    return PLACES[EXCHANGED[name]] if second < 95 else (0.0, 0.0)


def place_of(name: str, second: float) -> tuple[float, float]:
    """Where somebody is: on the way to their group, or in it, swaying."""
    number = list(COUPLES).index(name)
    here = 4.5 * math.cos(number), 4.5 * math.sin(number)
    for begin in (0.0, 55.0, 95.0):
        if second < begin:
            break
        x, z = middle_of(name, begin)
        around = number * math.tau / 6 + (0.0 if begin else 0.4)
        aim = x + 0.55 * math.cos(around), z + 0.55 * math.sin(around)
        share = min(1.0, (second - begin) * 1.2 / max(0.1, math.dist(here, aim)))
        here = here[0] + (aim[0] - here[0]) * share, here[1] + (aim[1] - here[1]) * share
    return here[0] + 0.02 * math.sin(second + number), here[1] + 0.02 * math.cos(0.7 * second)


async def record_a_visit(folder: Path) -> Path:
    """Six people, through the server in memory: three couples, then three others, then all of them in the middle."""
    config = Config.unlimited(record=os.fspath(folder), note=("condition=mirror", "group=3"))
    async with testing.open_server(config) as server:
        clients = {}
        for name in COUPLES:
            clients[name] = await server.login(name)
            await trio.sleep(0.5)
        for tick in range(VISIT_S * SENT_HZ):
            second = tick / SENT_HZ
            for number, (name, client) in enumerate(clients.items()):
                x, z = place_of(name, second)
                later = place_of(name, second + 0.3)
                # Who walks looks ahead, who stands at the others.
                to_x, to_z = later if math.dist(later, (x, z)) > 0.1 else middle_of(name, second)
                yaw = math.atan2(x - to_x, z - to_z)
                data = {"pos": {"x": x, "y": 1.6, "z": z}, "rot": {"x": -0.1, "y": yaw, "z": 0}}
                client.send({"room": "lobby", "type": "transform", "data": data})
                if tick % 120 == 20 * number + 7:
                    client.send({"room": "lobby", "type": "emote" if number == 2 else "msg", "data": "hello"})
            await trio.sleep(1 / SENT_HZ)
            for client in clients.values():
                client.texts()
    return the_file(folder)


FOUND = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .flatMap(({id, nodes}) => nodes.map((node) => [id, node.html.slice(0, 200), node.failureSummary]))"""


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> tuple[report.Session, Path]:
    """The recorded visit, and the page of it."""
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    folder = tmp_path_factory.mktemp("visit")
    with recording.open(testing.run(record_a_visit, folder)) as opened:
        session = report.reduce(opened)
    path = folder / "report.html"
    path.write_text(report.page(session))
    return session, path


def test_a_visit_is_told_as_it_was(visit: tuple[report.Session, Path]) -> None:
    session, path = visit
    together = {(pair.one, pair.other) for pair in session.pairs if pair.together_s > 30}
    couples = {("Anna", "Tibi"), ("Jonas", "Mara"), ("Oskar", "Zoe")}
    assert together == couples | {("Mara", "Tibi"), ("Anna", "Zoe"), ("Jonas", "Oskar")}
    assert len([pair for pair in session.pairs if pair.met]) == 15, "in the end, all met"
    assert len(Reader(path.read_text()).all("img")) == 13


@pytest.mark.parametrize(
    ("size", "scheme"), [((1100, 800), "light"), ((1100, 800), "dark"), ((412, 800), "light")], ids=str
)
def test_in_a_browser(
    visit: tuple[report.Session, Path], people: People, rules: str, size: tuple[int, int], scheme: Any
) -> None:
    """The console is silent (nothing that its own policy refuses), by axe nobody is kept out, nothing is cut off."""
    reader = people("reader", size, color_scheme=scheme)
    reader.page.goto(visit[1].as_uri())
    drawn = "() => [...document.images].every((one) => one.complete && one.naturalWidth > 0)"
    assert reader.page.evaluate(drawn)
    assert reader.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    reader.page.evaluate(rules)
    assert reader.page.evaluate(FOUND) == []
    assert reader.page.get_by_role("heading", name="Who met whom").is_visible()
    ARTIFACTS.mkdir(exist_ok=True)
    picture = ARTIFACTS / f"report, {size[0]} wide, {scheme}.png"
    reader.page.screenshot(path=os.fspath(picture), full_page=True)


def test_the_picture_of_the_readme(visit: tuple[report.Session, Path], people: People) -> None:
    """`docs/report.png` is a copy of `artifacts/report.png`, made here: who met whom, as a table and over time."""
    reader = people("reader", (1000, 800))
    reader.page.goto(visit[1].as_uri())
    top, bottom = reader.page.evaluate(
        """() => [document.querySelector('#met'), document.querySelector('#met ~ figure')]
            .map((one) => one.getBoundingClientRect()).map(({top, bottom}, i) => scrollY + (i ? bottom : top))"""
    )
    ARTIFACTS.mkdir(exist_ok=True)
    clip = {"x": 0, "y": top, "width": 1000, "height": bottom - top + 16}
    reader.page.screenshot(path=os.fspath(ARTIFACTS / "report.png"), full_page=True, clip=clip)  # type: ignore[arg-type]
