"""Panels of curves, as a page or a picture."""
import html
import io

import matplotlib
from matplotlib import pyplot
from reporting import plot, theme

from .metrics import FAMILIES

QUANTITIES = (("loss", "Training loss", "nats per token"), ("val_loss", "Validation loss", "nats per token"),
              ("lr", "Learning rate", ""), ("grad_norm", "Gradient norm", ""), ("tokens_per_s", "Throughput", "tokens per second"))
HUES = ("mass", "plus", "recent", "older", "minus", "embedding", "current")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
WIDTH, HEIGHT = 470, 300
MOST_NAMED = 12  # runs in a legend


class Panel:
    """One pair of axes: `lines` are (label, style, (steps, values)). `named`: with a legend."""

    def __init__(self, title, unit, lines, named):
        self.title, self.unit, self.lines, self.named = title, unit, lines, named

    def draw(self, figure):
        axes = figure.subplots()
        axes.set_title(self.title)
        axes.set_xlabel("step")
        axes.set_ylabel(self.unit)
        axes.grid(True, axis="y")
        for label, style, (steps, values) in self.lines:
            # A single value, or one between gaps, has no line to be seen by.
            axes.plot(steps, values, label=label, marker="o", markersize=2.5 if len(steps) < 60 else 0.8, linewidth=1.2, **style)
        if self.named:
            handles, names = axes.get_legend_handles_labels()
            axes.legend(handles[:MOST_NAMED], names[:MOST_NAMED], loc="best", fontsize=9)

    def as_svg(self, key):
        return plot.svg(plot.Panel(self.draw, WIDTH, HEIGHT, f"{self.title} by step"), key)


def style_of(index):
    return {"color": plot.COLOURS[HUES[index % len(HUES)]], "linestyle": DASHES[index // len(HUES) % len(DASHES)]}


def over_runs(runs, name):
    """A line per run that has logged `name`; a run keeps its colour in all panels."""
    lines = [(run.label, style_of(i), run.series(name)) for i, run in enumerate(runs)]
    return [line for line in lines if len(line[2][0]) > 0]


def panels(runs):
    found = [Panel(title, unit, over_runs(runs, name), len(runs) > 1) for name, title, unit in QUANTITIES]
    if len(runs) == 1:
        lines = [(family, {"color": plot.COLOURS[family]}, runs[0].series(family)) for family in FAMILIES]
        found.append(Panel("Routing mass", "share, all sites", [line for line in lines if len(line[2][0]) > 0], True))
    else:
        found += [Panel(f"Routing mass on {family}", "share, all sites", over_runs(runs, family), True) for family in FAMILIES]
    return [panel for panel in found if panel.lines]


def number(value):
    return f"{value:.4g}" if value == value else "–"


def row(run):
    _, validation = run.series("val_loss")
    best = min((value for value in validation if value == value), default=float("nan"))
    cells = (str(run.lines[-1]["step"]), number(run.last("loss")), number(run.last("val_loss")), number(best),
             number(run.last("skipped")))
    name = f"<th scope=row>{html.escape(run.label)} <code>{html.escape(run.path)}</code></th>"
    return f"<tr>{name}" + "".join(f"<td class=number>{cell}</td>" for cell in cells) + "</tr>"


def page(runs):
    heads = "".join(f"<th scope=col{' class=number' if i else ''}>{head}</th>" for i, head in enumerate(
        ("run", "last step", "loss", "validation loss", "best validation loss", "steps skipped")))
    figures = "\n".join(f"<div>{panel.as_svg(f'p{i}')}</div>" for i, panel in enumerate(panels(runs)))
    title = "Training of " + (html.escape(runs[0].label) if len(runs) == 1 else f"{len(runs)} runs")
    return ("<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, "
            f"initial-scale=1\">\n<title>{title}</title>\n<style>\n{theme.css()}\n</style></head>\n<body><main>\n<h1>{title}</h1>\n"
            f"<div class=scroll tabindex=0><table><thead><tr>{heads}</tr></thead>\n<tbody>{''.join(map(row, runs))}</tbody></table></div>\n"
            f"<figure><div class=panels>\n{figures}\n</div></figure>\n</main></body></html>\n")


def picture(runs):
    """All panels as one PNG, two side by side."""
    shown = panels(runs)
    rows = -(-len(shown) // 2)
    with matplotlib.rc_context(plot.STYLE):
        figure = plot.make(2 * WIDTH, rows * HEIGHT)
        for panel, place in zip(shown, figure.subfigures(rows, 2, squeeze=False).ravel()):
            panel.draw(place)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=144, transparent=False, facecolor="white", metadata={"Software": None})
        pyplot.close(figure)
    return data.getvalue()
