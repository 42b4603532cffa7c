"""What a read is made of, before and under an intervention: the coefficient of every sublayer's output in
it."""
import numpy as np
from matplotlib.lines import Line2D

from . import grid, markup, numbers, plot

KEY = "coefficients"
MOST = 4


def figure(subject):
    results = subject.results
    under, path = results.under_cells("coefficient")
    if under is None or "routing/coefficient" not in results:
        return None
    before = np.asarray(results["routing/coefficient"])
    chosen = [
        (cell, site)
        for cell in choose(subject)
        if (site := changed_site(results, before, under, cell)) is not None
    ]
    if not chosen:
        return None
    panels = [
        plot.Panel(
            draw=lambda place, cell=cell, site=site: draw(place, results, before, under, cell, site),
            width=440,
            height=300,
            label=f"Coefficients at {results.names('site')[site]} under {results.cells[cell]}",
        )
        for cell, site in chosen
    ]
    return plot.Figure(
        key=KEY,
        title="What a read is made of",
        caption=caption(results, before, under, chosen),
        paths=["/routing/coefficient", path],
        panels=panels,
        table=table(results, before, under, chosen),
        notes=[
            "The coefficient of an output is the sum of the weights of all sources that contain it. Masking"
            " moves weight, so it can raise outputs that were hardly read before: such a cell shows the cost"
            " of both changes together. Each panel shows the site of its cell where the coefficients change"
            " most."
        ],
    )


def choose(subject):
    """The embedding where its removal costs most, then the cells of the grid with the largest effects."""
    results, effect = subject.results, np.abs(subject.findings.effect)
    families, found = results.cell_strings("family"), grid.interventions(results)
    cells = grid.Grid(results, found[0]).cells.ravel() if found else np.arange(len(effect))
    largest = sorted(
        (int(cell) for cell in cells if cell >= 0 and np.isfinite(effect[cell])),
        key=lambda cell: -effect[cell],
    )
    first = [cell for cell in largest if families[cell] == "embedding"][:1]
    return list(dict.fromkeys(first + largest))[:MOST]


def changed_site(results, before, under, cell):
    """The site, among those the cell touches, with the largest change of any coefficient; none if nothing
    changes."""
    change = np.abs(under[cell] - before)
    change[~np.isfinite(change)] = 0
    if "plan/sources" in results:
        touched = (np.asarray(results["plan/sources"])[cell] == 1).any(axis=1)
        change[~touched] = 0
    site = int(change.max(axis=1).argmax())
    return site if change[site].max() > 0 else None


def shown(before, under, cell, site):
    return np.flatnonzero(np.isfinite(before[site]) & np.isfinite(under[cell, site]))


def caption(results, before, under, chosen):
    cell, site = chosen[0]
    outputs = shown(before, under, cell, site)
    output = outputs[np.argmax(np.abs(under[cell, site, outputs] - before[site, outputs]))]
    return (
        f"Under {results.cells[cell]}, at {results.names('site')[site]}, the coefficient of"
        f" {results.names('output')[output]} goes from {numbers.plain(before[site, output])} to"
        f" {numbers.plain(under[cell, site, output])}."
    )


def draw(figure, results, before, under, cell, site):
    axes = figure.subplots()
    outputs = shown(before, under, cell, site)
    place = np.arange(len(outputs))
    old, new = before[site, outputs], under[cell, site, outputs]
    axes.vlines(place, np.minimum(old, new), np.maximum(old, new), color=plot.COLOURS["faint"], linewidth=1)
    axes.plot(place, old, "o", color=plot.COLOURS["ink"], markerfacecolor="none", markersize=6.5)
    axes.plot(place, new, "o", color=plot.COLOURS["plus"], markersize=5)
    every = max(1, int(np.ceil(len(outputs) / 14)))
    names = [results.names("output")[output].replace("layers.", "") for output in outputs]
    axes.set_xticks(place[::every], names[::every], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylim(min(0, np.min(old), np.min(new)) - 0.04, max(1, np.max(old), np.max(new)) + 0.04)
    axes.set_xlim(-0.6, len(outputs) - 0.4)
    axes.set_title(f"{results.cells[cell]}\nat {results.names('site')[site]}", fontsize=12, pad=22)
    axes.set_ylabel("coefficient")
    axes.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                color=plot.COLOURS["ink"],
                markerfacecolor="none",
                label="clean",
            ),
            Line2D([], [], linestyle="", marker="o", color=plot.COLOURS["plus"], label="under the cell"),
        ],
        handletextpad=0.1,
        columnspacing=1.0,
        ncol=2,
        loc="lower right",
        bbox_to_anchor=(1, 1),
    )


def table(results, before, under, chosen):
    rows = []
    for cell, site in chosen:
        for output in shown(before, under, cell, site):
            old, new = before[site, output], under[cell, site, output]
            rows.append(
                [
                    results.cells[cell],
                    results.names("site")[site],
                    results.names("output")[output],
                    markup.value(old, numbers.plain),
                    markup.value(new, numbers.plain),
                    markup.value(new - old),
                ]
            )
    return markup.table(
        ["cell", "site", "output", "#clean", "#under the cell", "#change"],
        rows,
        "Coefficients of outputs in the read",
    )
