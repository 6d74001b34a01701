"""The pieces of a page, as HTML.

Whatever a user chose (names, rooms, types of events, notes) goes through `text`: it is escaped, and cannot turn what is
beside it around.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from html import escape

import attrs

from ._canvas import Picture
from ._text import clean

# Rows that are seen at once; the others are there to be opened. Beyond the last limit there is `export`.
_ROWS, MOST_ROWS = 25, 2000
_STYLE = importlib.resources.files("trio_vrchat.report").joinpath("style.css").read_text("utf-8")


@attrs.frozen
class Column:
    """A column of a table: its head, as HTML, and what is in it. One column MUST be the `head` of the rows."""

    html: str
    kind: str = "text"


def head(html: str) -> Column:
    """The column that says whose row it is."""
    return Column(html, "head")


def numbers(*html: str) -> list[Column]:
    """Columns of figures."""
    return [Column(each, "number") for each in html]


def text(chosen: str) -> str:
    """What a user chose, by itself."""
    return f"<bdi>{escape(clean(chosen))}</bdi>"


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> str:
    """A table. Cells are HTML, or numbers; where it is wider than the page, it can be moved, by keys as well."""
    heads = "".join(f'<th scope="col" class="{column.kind}">{column.html}</th>' for column in columns)
    lines = []
    for row in rows:
        cells = (
            f'<th scope="row">{cell}</th>' if column.kind == "head" else f'<td class="{column.kind}">{cell}</td>'
            for column, cell in zip(columns, row, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _framed(caption, f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>")


def long_table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The first rows, and the others behind a line to be opened."""
    yield table(caption, columns, rows[:_ROWS])
    more = rows[_ROWS:MOST_ROWS]
    if more:
        cut = f" of {len(rows) - _ROWS:,}; the command export has all" if len(rows) > MOST_ROWS else ""
        continued = table(f"{caption}, continued", columns, more)
        yield f"<details><summary>{len(more):,} more rows{cut}</summary>{continued}</details>"


def facts(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """A table of two columns: what, and how it is."""
    lines = (f'<tr><th scope="row">{name}</th><td class="text">{html}</td></tr>' for name, html in rows)
    return _framed(caption, f'<tbody class="facts">{"".join(lines)}</tbody>')


def _framed(caption: str, html: str) -> str:
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>{html}</table></div>"
    )


def figure(picture: Picture, caption: str) -> str:
    """A picture, in the page itself."""
    data = base64.b64encode(picture.svg).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escape(picture.alt)}"><figcaption>{caption}</figcaption></figure>'
    )


def document(title: str, lead: str, sections: Sequence[tuple[str, str, Iterable[str]]]) -> str:
    """The whole: each section has a name for links, a title, and its pieces.

    Its own Content Security Policy allows its one style sheet, by hash, and pictures that are in it: nothing else.
    """
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{"".join(pieces)}</section>'
        for name, heading, pieces in sections
    )
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main></body></html>\n"
    )
