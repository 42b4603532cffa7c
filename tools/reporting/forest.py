"""Figure 3: every family cell with its interval and its verdict."""
import numpy as np

from . import grid, markup, numbers, plot

KEY = "forest"


def figure(subject):
    found = grid.interventions(subject.results)
    if not found:
        return None
    block = grid.Grid(subject.results, found[0])
    measured = block.take(subject.findings.effect)
    if not np.isfinite(measured).any():
        return None
    sublayers = list(dict.fromkeys(name for name, _ in block.rows))
    reach = np.nanmax(
        np.abs(np.stack([block.take(subject.findings.low), block.take(subject.findings.high), measured]))
    )
    panels = []
    for sublayer in sublayers:
        lines = [
            (row, column)
            for row, (name, _) in enumerate(block.rows)
            if name == sublayer
            for column in range(len(block.families))
            if block.cells[row, column] >= 0
        ]
        panels.append(
            plot.Panel(
                draw=lambda place, name=sublayer, lines=lines: draw(
                    place, subject, block, name, lines, reach
                ),
                width=460,
                height=110 + 22 * len(lines),
                label=f"Effects with intervals, {sublayer}",
            )
        )
    meaning = (
        " An effect has an adjusted p-value below the level; small means that it lies inside the margin all"
        " the same. Negligible: loss and predictions both stay inside the margin. Everything else is"
        " inconclusive."
        if any(subject.findings.verdicts)
        else ""
    )
    return plot.Figure(
        key=KEY,
        title="Every effect with its interval",
        caption=caption(subject, block),
        paths=["/cell/delta_nll", *subject.findings.paths],
        panels=panels,
        table=table(subject, block),
        notes=[
            "Points right of zero: the loss grows when the source is taken away. Grey band: the margin."
            + meaning
        ],
    )


def caption(subject, block):
    words = [subject.findings.verdicts[cell] for cell in block.cells[block.cells >= 0]]
    if not any(words):
        low, high = block.take(subject.findings.low), block.take(subject.findings.high)
        return f"In {int(((low > 0) | (high < 0)).sum())} of {len(words)} cells the interval leaves out zero."
    small = subject.findings.column("small")
    small = sum(
        subject.findings.verdicts[cell] == "effect" and small[cell] == 1
        for cell in block.cells[block.cells >= 0]
    )
    names = {
        "effect": "with an effect" + (f" ({small} of them inside the margin)" if small else ""),
        "negligible": "negligible",
        "inconclusive": "inconclusive",
        "not_run": "not run",
        "not_judged": "not judged",
    }
    return (
        f"Of {len(words)} cells:"
        f" {', '.join(f'{words.count(word)} {name}' for word, name in names.items() if word in words)}."
    )


def draw(figure, subject, block, sublayer, lines, reach):
    axes = figure.subplots()
    findings, margin = subject.findings, subject.results.margin
    if margin > 0:
        axes.axvspan(-margin, margin, color=plot.COLOURS["band"], linewidth=0, zorder=0)
    axes.axvline(0, color=plot.COLOURS["faint"], linewidth=0.8, zorder=1)
    labels, places, before, place = [], [], None, -1.0
    small = findings.column("small")
    for row, column in lines:
        band, family = block.rows[row][1], block.families[column]
        place += 1.0 if band == before else 1.6
        before = band
        places.append(place)
        labels.append(f"{band} {family}")
        cell = block.cells[row, column]
        word = findings.verdicts[cell]
        colour = plot.COLOURS.get(family, plot.COLOURS["ink"])
        if np.isfinite(findings.effect[cell]):
            filled = colour if findings.significant[cell] else "none"
            axes.plot([findings.low[cell], findings.high[cell]], [place] * 2, color=colour, zorder=2)
            axes.plot(
                findings.effect[cell],
                place,
                "o",
                markersize=6.5,
                color=colour,
                markerfacecolor=filled,
                zorder=3,
            )
        if not word:
            word = (
                numbers.signed(findings.effect[cell], 2) if np.isfinite(findings.effect[cell]) else "not_run"
            )
        shown = word.replace("_", " ") + (", small" if small[cell] == 1 and word == "effect" else "")
        axes.text(
            1.02,
            place,
            shown,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=11,
            fontweight="bold" if word == "effect" else "normal",
            color=plot.COLOURS["ink" if word != "not_run" else "faint"],
        )
    plot.symlog(axes, "x", margin if margin > 0 else 0.01, reach)
    lowest = np.nanmin(
        np.concatenate([block.take(findings.low).ravel(), block.take(findings.effect).ravel()])
    )
    axes.set_xlim(min(-2 * margin, 1.3 * lowest), max(2 * margin, 1.6 * reach))
    axes.set_yticks(places, labels)
    axes.set_ylim(places[-1] + 0.8, places[0] - 0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_title(sublayer)
    axes.set_xlabel("ΔNLL, nats/token")


def table(subject, block):
    """Every number of the grid's cells, for figures 1 to 3."""
    results, findings = subject.results, subject.findings
    mass, flips, kl = (results.cell_values(name) for name in ("mass", "flip_rate", "kl"))
    p, bound, detectable = (
        findings.column(name) for name in ("p_adjusted", "equiv_bound", "minimal_detectable_effect_adjusted")
    )
    rows = []
    for (sublayer, band), line in zip(block.rows, block.cells):
        for family, cell in zip(block.families, line):
            if cell >= 0:
                rows.append(
                    [
                        results.cells[cell],
                        family,
                        f"{sublayer} {band}",
                        markup.value(mass[cell], numbers.plain),
                        markup.value(findings.effect[cell]),
                        markup.interval(findings.low[cell], findings.high[cell]),
                        markup.verdict(findings.verdicts[cell]),
                        findings.remarks(cell),
                        markup.value(p[cell], numbers.plain),
                        markup.value(bound[cell], numbers.plain),
                        markup.value(detectable[cell], numbers.plain),
                        markup.value(kl[cell], numbers.plain),
                        markup.value(flips[cell], numbers.percent),
                    ]
                )
    return markup.table(
        [
            "cell",
            "family",
            "where",
            "#mass",
            "#ΔNLL, nats/token",
            "#95 % interval",
            "verdict",
            "remarks",
            "#p, adjusted",
            "#smallest margin that holds",
            "#smallest effect seen with 80 % power",
            "#KL, nats/token",
            "#top-1 changed",
        ],
        rows,
        "Cells of the grid",
    )
