"""What the figures of a report are drawn on: matplotlib, as SVG, without a window and without `pyplot`.

Text stays text, so that the reader's own fonts draw whatever names there are; nothing in a name is taken for a formula.
Colours are told apart by the colour-blind, and no colour says anything alone. The paper is white, whatever the page.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ._text import clock, width

# After Okabe and Ito, without those that are too light for a line on white.
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#aa3377", "#7a6200", "#222222")
INK, SOFT, GRID, STRIPE, PALE = "#1c2540", "#4f5a78", "#d9deea", "#f3f5fa", "#c9d4ee"
WIDTH_IN = 9.6
# A row of text, and a letter of it, as wide as they come.
_ROW_IN, _LETTER_IN = 0.21, 0.078
_TICKS_S = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
# No session is so short that its figures have no width.
_LEAST_S = 1e-3
_PIXELS_PER_INCH = 96

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    # The same recording gives the same page.
    "svg.hashsalt": "trio_vrchat",
}


@attrs.frozen
class Picture:
    """An SVG, its size in CSS pixels, and what it says, for whoever does not see it."""

    svg: bytes
    width: int
    height: int
    alt: str


@contextmanager
def drawing(width_in: float, height_in: float) -> Iterator[Figure]:
    """A figure of so many inches, while it is drawn."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        # The reader's fonts have more than those that measure here.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(width_in, height_in))
        FigureCanvasSVG(figure)
        yield figure


def finished(figure: Figure, alt: str) -> Picture:
    """The figure as a picture."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    across, down = figure.get_size_inches()
    return Picture(out.getvalue(), round(across * _PIXELS_PER_INCH), round(down * _PIXELS_PER_INCH), alt)


def rows(figure: Figure, duration: float, labels: Sequence[str], top_in: float = 0.1) -> Axes:
    """Axes with a row for each label, over so many seconds; above them `top_in` inches are left."""
    across, down = figure.get_size_inches()
    left = side_of(labels) / across
    bottom, top = 0.5 / down, 1 - top_in / down
    axes = figure.add_axes((left, bottom, 0.975 - left, top - bottom))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    for row in range(0, len(labels), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=STRIPE, linewidth=0, zorder=0)
    over_time(axes, duration)
    return axes


def rows_height(amount: int) -> float:
    """The inches that a figure of so many rows takes."""
    return 0.6 + _ROW_IN * max(amount, 1)


def over_time(axes: Axes, duration: float) -> None:
    """Let x be time, from 0 to so many seconds."""
    duration = span(duration)
    step = next((tick for tick in _TICKS_S if duration / tick <= 10), duration / 5)
    ticks = np.arange(0, duration + step * 0.01, step)
    axes.set_xlim(0, duration)
    labels = [clock(tick) if step >= 1 else f"{tick:.1f} s" for tick in ticks]
    axes.set_xticks(ticks, labels)
    axes.set_xlabel("time since the start" + (" (min:s)" if step >= 1 and duration < 3600 else ""))
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def side_of(labels: Sequence[str]) -> float:
    """The inches that the longest of these takes beside a figure."""
    return 0.25 + _LETTER_IN * max(map(width, labels), default=0)


def span(duration: float) -> float:
    """How many seconds a figure of a session spans: an empty one, too, has some width."""
    return max(duration, _LEAST_S)


def in_legend(name: str) -> str:
    """The name as a label. (One that begins with an underscore would be left out.)"""
    return f" {name}"
