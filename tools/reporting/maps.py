"""Figure 1: routing mass and the effect of the ablation, side by side over the same grid of cells."""
import numpy as np

from . import grid, heat, markup, numbers, plot

KEY = "maps"


def figure(subject):
    found = grid.interventions(subject.results)
    if not found:
        return None
    block = grid.Grid(subject.results, found[0])
    mass, effect = block.take(subject.results.cell_values("mass")), block.take(subject.findings.effect)
    significant = block.take(subject.findings.significant, missing=False).astype(bool)
    return plot.Figure(
        key=KEY,
        title=f"Where routing looks, and what removing it ({block.intervention}) costs",
        caption=caption(block, mass, effect),
        paths=["/grid/mass", "/grid/delta_nll"],
        panels=panels(subject, block, mass, effect, ~significant),
        table=table(subject, block),
        notes=[
            "Left: the mean weight that the reads of one row give to a family of sources. Right: how much the"
            " loss changes when that family is taken away there. Dots mark effects that are not significant."
            " The current state stands apart: it is what a plain residual stream would read."
        ],
    )


def panels(subject, block, mass, effect, open_):
    threshold = subject.results.margin if subject.results.margin > 0 else 0.01
    largest = float(np.nanmax(np.abs(effect))) if np.isfinite(effect).any() else 1.0
    shared = dict(
        rows=block.row_names(),
        columns=block.families,
        apart_rows=block.apart_rows(),
        apart_columns=block.apart_columns(),
    )
    maps = [
        heat.Map(values=mass, kind="mass", title="Mass", **shared),
        heat.Map(
            values=effect,
            kind="effect",
            title="Effect",
            threshold=threshold,
            largest=max(largest, threshold),
            open_=open_,
            **shared,
        ),
    ]
    height = 110 + 38 * len(block.rows)
    return [
        plot.Panel(
            draw=lambda place, drawn=drawn: heat.draw(place, drawn),
            width=430,
            height=height,
            label=f"{drawn.title} by family, sublayer and band",
        )
        for drawn in maps
    ]


def caption(block, mass, effect):
    """The heaviest and the costliest source, and whether they are the same."""
    if not (np.isfinite(mass).any() and np.isfinite(effect).any()):
        return "No cell of this grid was measured."
    heavy, costly = (np.unravel_index(np.nanargmax(values), values.shape) for values in (mass, effect))
    names = [f"{block.families[place[1]]} in {' '.join(block.rows[place[0]])}" for place in (heavy, costly)]
    if heavy == costly:
        return f"The heaviest read, {names[0]} ({mass[heavy]:.2f}), is also the one whose removal costs most."
    return (
        f"The heaviest read is {names[0]} ({mass[heavy]:.2f}); the one whose removal costs most is"
        f" {names[1]} ({numbers.signed(effect[costly])} nats/token at mass {mass[costly]:.2f})."
    )


def table(subject, block):
    """Mass and effect of every cell; the forest's table has the rest."""
    findings, mass, names = subject.findings, subject.results.cell_values("mass"), subject.results.cells
    rows = [
        [
            names[cell],
            markup.value(mass[cell], numbers.plain),
            markup.value(findings.effect[cell]),
            markup.interval(findings.low[cell], findings.high[cell]),
            markup.verdict(findings.verdicts[cell]),
        ]
        for cell in block.cells.ravel()
        if cell >= 0
    ]
    return markup.table(
        ["cell", "#mass", "#ΔNLL, nats/token", "#95 % interval", "verdict"],
        rows,
        "Mass and effect of every cell",
    )
