"""Draws maps of cells: colour as an amount of one hue over the paper, so that a map reads the same on light
and dark."""
import math
from dataclasses import dataclass, field
from typing import List

import numpy as np
from matplotlib.patches import Rectangle

from . import numbers
from .plot import COLOURS

GAP = 0.35  # of a cell, before a row or column that stands apart


@dataclass
class Map:
    """values [row, column]; `open_` [row, column] marks what is not significant; `apart_*` are rows and
    columns with a gap before."""

    values: np.ndarray
    rows: List[str]
    columns: List[str]
    kind: str  # mass | effect
    title: str
    threshold: float = 0.01  # effects: where the colour scale turns from linear to logarithmic
    largest: float = 1.0  # effects: full colour
    open_: np.ndarray = None
    apart_rows: List[int] = field(default_factory=list)
    apart_columns: List[int] = field(default_factory=list)
    write_values: bool = True


def strength(value, drawn):
    """How much colour a value gets, 0 to 1."""
    if drawn.kind == "mass":
        return min(max(value, 0.0), 1.0)
    if not drawn.largest > 0:
        return 0.0
    return min(math.log1p(abs(value) / drawn.threshold) / math.log1p(drawn.largest / drawn.threshold), 1.0)


def hue(value, drawn):
    return COLOURS["mass" if drawn.kind == "mass" else "plus" if value >= 0 else "minus"]


def positions(count, apart):
    places, offset = [], 0.0
    for index in range(count):
        offset += GAP if index in apart else 0.0
        places.append(index + offset)
    return places


def draw(figure, drawn):
    height = figure.bbox.height / figure.dpi * 72
    axes, key = figure.subplots(2, 1, gridspec_kw={"height_ratios": [height - 100, 13]})
    x, y = positions(len(drawn.columns), drawn.apart_columns), positions(len(drawn.rows), drawn.apart_rows)
    for row, top in enumerate(y):
        for column, left in enumerate(x):
            value = drawn.values[row, column]
            square = (left - 0.48, top - 0.47)
            if not math.isfinite(value):
                continue
            axes.add_patch(
                Rectangle(
                    square,
                    0.96,
                    0.94,
                    facecolor=hue(value, drawn),
                    alpha=0.04 + 0.86 * strength(value, drawn),
                    linewidth=0,
                )
            )
            if drawn.open_ is not None and drawn.open_[row, column]:
                axes.add_patch(
                    Rectangle(
                        square,
                        0.96,
                        0.94,
                        facecolor="none",
                        edgecolor=COLOURS["faint"],
                        hatch="..",
                        linewidth=0,
                        alpha=0.45,
                    )
                )
            if drawn.write_values:
                text = f"{value:.2f}" if drawn.kind == "mass" else numbers.signed(value, 2)
                axes.text(left, top, text, ha="center", va="center", fontsize=11)
    axes.set_xlim(-0.55, x[-1] + 0.55)
    axes.set_ylim(y[-1] + 0.55, -0.55)
    axes.set_xticks(x, drawn.columns)
    axes.set_yticks(y, drawn.rows)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(drawn.title, pad=10)
    draw_key(key, drawn)


def middle_mark(drawn):
    """A power of ten near the middle of one side of the scale; half the largest value where there is none."""
    powers = [10.0**power for power in range(-8, 5)]
    near = min(powers, key=lambda power: abs(strength(power, drawn) - 0.5))
    return near if 0.3 < strength(near, drawn) < 0.8 else drawn.largest / 2


def draw_key(axes, drawn):
    """The colour scale, with the values that its marks stand for."""
    if drawn.kind == "mass":
        marks = [0.0, 0.25, 0.5, 0.75, 1.0]
        values = np.linspace(0, 1, 11)
        place = {mark: mark for mark in marks}
        labels = [f"{mark:g}" for mark in marks]
    else:
        middle = middle_mark(drawn)
        marks = [-drawn.largest, -middle, 0.0, middle, drawn.largest]
        reach = math.log1p(drawn.largest / drawn.threshold)
        values = [
            math.copysign(drawn.threshold * math.expm1(abs(part) * reach), part)
            for part in np.linspace(-1, 1, 15)
        ]
        place = {mark: math.copysign(strength(mark, drawn), mark) for mark in marks}
        labels = [numbers.signed(mark, 1 if abs(mark) == middle else 2) for mark in marks]
    edges = np.linspace(0 if drawn.kind == "mass" else -1, 1, len(values) + 1)
    for value, left, right in zip(values, edges, edges[1:]):
        axes.add_patch(
            Rectangle(
                (left + 0.04 * (right - left), 0),
                0.92 * (right - left),
                1,
                facecolor=hue(value, drawn),
                alpha=0.04 + 0.86 * strength(value, drawn),
                linewidth=0,
            )
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([place[mark] for mark in marks], labels)
    axes.tick_params(length=2, labelsize=10)
    axes.set_xlabel("mean weight" if drawn.kind == "mass" else "change of the loss, nats/token", fontsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
