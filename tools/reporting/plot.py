"""Draws figures with matplotlib: one SVG per panel for the page, all panels in one PDF. The colours below are
those of light paper; in the page they become CSS variables (theme.py), so that one SVG serves light and
dark."""
import html
import io
import math
import re
from dataclasses import dataclass, field
from typing import Callable, List

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402  (the backend comes first)

from . import numbers  # noqa: E402

# Every colour is one CSS variable. Hues are told apart in all common kinds of colour blindness (Okabe and
# Ito's, adjusted).
COLOURS = {
    "ink": "#1b1f24",
    "faint": "#6e7681",
    "rule": "#d0d7de",
    "band": "#e3e8ee",
    "mass": "#3b5bdb",
    "plus": "#e8710a",
    "minus": "#1c7fb8",
    "embedding": "#b35900",
    "older": "#7b4fa3",
    "recent": "#0b7a75",
    "current": "#5b6570",
}
FAMILIES = ("embedding", "older", "recent", "current")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "depthroute",
    "pdf.fonttype": 42,
    "font.size": 12,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": COLOURS["faint"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["faint"],
    "ytick.color": COLOURS["faint"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "figure.facecolor": "none",
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "hatch.color": COLOURS["faint"],
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "savefig.transparent": True,
    "lines.linewidth": 1.4,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
}


@dataclass
class Panel:
    """`draw` fills a matplotlib figure or subfigure of `width` x `height` CSS pixels."""

    draw: Callable
    width: int = 440
    height: int = 320
    label: str = ""


@dataclass
class Figure:
    """A figure of the report: its panels, a sentence that says what to see, where its numbers are, and its
    table (HTML)."""

    key: str
    title: str
    caption: str
    paths: List[str]
    panels: List[Panel]
    table: str = ""
    columns: int = 2  # panels side by side in the PDF
    notes: List[str] = field(default_factory=list)


def make(width, height):
    return pyplot.figure(figsize=(width / 72, height / 72), layout="constrained")


def svg(panel, key):
    """The panel as an <svg> element for HTML: no prolog, no metadata, CSS variables for colours, ids of its
    own."""
    with matplotlib.rc_context(STYLE):
        figure = make(panel.width, panel.height)
        panel.draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = (
        re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
        .replace("xlink:href=", "href=")
        .replace(' version="1.1"', "")
    )
    text = re.sub(
        (
            r'<svg height="[^"]*" viewBox="([^"]*)" width="[^"]*">|<svg width="[^"]*" height="[^"]*"'
            r' viewBox="([^"]*)">'
        ),
        lambda match: (
            f'<svg viewBox="{match[1] or match[2]}" width="{panel.width}" role="img" '
            f'aria-label="{html.escape(panel.label)}">'
        ),
        text,
        count=1,
    )
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(
        r"font: (?:(\w+) )?([\d.]+)px [^;\"]*",
        lambda match: f"font: {match[1] + ' ' if match[1] else ''}{match[2]}px var(--font)",
        text,
    )
    return text.strip()


def write_pdf(figure, path):
    """All panels of the figure on one page, `columns` side by side; equal figures give equal bytes."""
    rows = [figure.panels[i : i + figure.columns] for i in range(0, len(figure.panels), figure.columns)]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(len(rows[0]))]
    heights = [max(panel.height for panel in row) for row in rows]
    with matplotlib.rc_context(STYLE):
        page = make(sum(widths), sum(heights))
        grid = page.subfigures(
            len(rows), len(widths), width_ratios=widths, height_ratios=heights, squeeze=False
        )
        for row, places in zip(rows, grid):
            for panel, place in zip(row, places):
                panel.draw(place)
        page.savefig(path, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
        pyplot.close(page)


def symlog(axis, which, threshold, largest):
    """Makes the scale linear within +-threshold and logarithmic beyond, one tick a decade; leaves it linear
    if little lies beyond."""
    if not largest > 4 * threshold > 0:
        return
    getattr(axis, f"set_{which}scale")("symlog", linthresh=threshold, linscale=0.7)
    first, last = math.ceil(math.log10(threshold) - 1e-9), math.floor(math.log10(largest) + 0.3)
    decades = [10.0**exponent for exponent in range(first, last + 1)]
    ticks = [-tick for tick in reversed(decades)] + [0.0] + decades
    scale = getattr(axis, f"{which}axis")
    scale.set_ticks(ticks, labels=[numbers.signed(tick, 1) for tick in ticks])
    scale.set_minor_locator(ticker.NullLocator())
