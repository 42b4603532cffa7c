"""Figure 2: mass against effect, one point a cell, and the step from the heaviest to the most causal source
of every read."""
import numpy as np
from matplotlib.lines import Line2D

from . import grid, maps, markup, numbers, plot, summary

KEY = "mass-effect"
MARKERS = {"embedding": "o", "older": "s", "recent": "^", "current": "D"}


def figure(subject):
    found = grid.interventions(subject.results)
    if not found:
        return None
    block = grid.Grid(subject.results, found[0])
    mass, effect = block.take(subject.results.cell_values("mass")), block.take(subject.findings.effect)
    if np.isfinite(mass * effect).sum() < 2:
        return None
    pairs = summary.leaders(subject, block)
    apart = sum(heavy != costly for heavy, costly in pairs.values())
    caption = (
        "No read has an effect above the margin."
        if not pairs
        else (
            f"In {apart} of {len(pairs)} reads with an effect above the margin, the source with the largest"
            " weight is not the one whose removal costs most"
        )
        + (" (arrows lead from the first to the second)." if apart else ".")
    )
    sublayers = list(dict.fromkeys(sublayer for sublayer, _ in block.rows))
    panels = [
        plot.Panel(
            draw=lambda place, name=name: draw(place, subject, block, name, mass, effect, pairs),
            width=450,
            height=390,
            label=f"Mass against effect, {name}",
        )
        for name in sublayers
    ]
    return plot.Figure(
        key=KEY,
        title="Does weight predict effect?",
        caption=caption,
        paths=["/cell/mass", "/cell/delta_nll", *subject.findings.paths],
        panels=panels,
        table=associations(subject, block, sublayers) + maps.table(subject, block),
        notes=[
            "If weight predicted effect, points would rise from left to right. Bars are 95 % intervals; the"
            f" grey band is the margin of ±{subject.results.margin:g} nats/token inside which an effect"
            " counts for nothing."
        ],
    )


def draw(figure, subject, block, sublayer, mass, effect, pairs):
    axes = figure.subplots()
    low, high = block.take(subject.findings.low), block.take(subject.findings.high)
    margin = subject.results.margin
    if margin > 0:
        axes.axhspan(-margin, margin, color=plot.COLOURS["band"], linewidth=0, zorder=0)
    axes.axhline(0, color=plot.COLOURS["faint"], linewidth=0.8, zorder=1)
    rows = [row for row, (name, _) in enumerate(block.rows) if name == sublayer]
    for row in rows:
        for column, family in enumerate(block.families):
            if np.isfinite(mass[row, column] * effect[row, column]):
                colour = plot.COLOURS.get(family, plot.COLOURS["ink"])
                axes.plot(
                    [mass[row, column]] * 2,
                    [low[row, column], high[row, column]],
                    color=colour,
                    linewidth=1.2,
                    zorder=2,
                )
                axes.plot(
                    mass[row, column],
                    effect[row, column],
                    MARKERS.get(family, "o"),
                    color=colour,
                    markersize=6.5,
                    zorder=3,
                )
        if row in pairs and pairs[row][0] != pairs[row][1]:
            heavy, costly = pairs[row]
            axes.annotate(
                "",
                (mass[row, costly], effect[row, costly]),
                (mass[row, heavy], effect[row, heavy]),
                zorder=2,
                arrowprops={
                    "arrowstyle": "->",
                    "color": plot.COLOURS["faint"],
                    "linewidth": 1.0,
                    "shrinkA": 5,
                    "shrinkB": 5,
                    "connectionstyle": "arc3,rad=0.12",
                    "linestyle": (0, (4, 3)),
                },
            )
    plot.symlog(axes, "y", margin if margin > 0 else 0.01, np.nanmax(np.abs(effect)))
    lowest = min(-2 * margin, 1.5 * np.nanmin(np.concatenate([effect.ravel(), low.ravel()])))
    axes.set_ylim(lowest, max(2 * margin, 2.2 * np.nanmax(np.concatenate([effect.ravel(), high.ravel()]))))
    axes.set_xlim(-0.04, max(1.0, np.nanmax(mass)) + 0.04)
    label_extremes(axes, block, rows, mass, effect)
    axes.set_title(sublayer)
    axes.set_xlabel("mass (mean weight)")
    axes.set_ylabel("ΔNLL, nats/token")
    axes.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                marker=MARKERS.get(family, "o"),
                label=family,
                color=plot.COLOURS.get(family, plot.COLOURS["ink"]),
            )
            for family in block.families
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncol=4,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def label_extremes(axes, block, rows, mass, effect):
    """Names the two costliest and the heaviest cell of the panel."""
    cells = [
        (row, column)
        for row in rows
        for column in range(len(block.families))
        if np.isfinite(mass[row, column] * effect[row, column])
    ]
    chosen = (
        sorted(cells, key=lambda cell: -effect[cell])[:2] + sorted(cells, key=lambda cell: -mass[cell])[:1]
    )
    taken = []
    for row, column in dict.fromkeys(chosen):
        point = mass[row, column], effect[row, column]
        right = point[0] > 0.55
        x, y = axes.transData.transform(point)
        above = all(abs(y - other_y) > 16 or abs(x - other_x) > 150 for other_x, other_y in taken)
        taken.append((x, y))
        axes.annotate(
            f"{block.families[column]} {block.rows[row][1]}",
            point,
            xytext=(-8 if right else 8, 7 if above else -15),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=11,
        )


def associations(subject, block, sublayers):
    """How well mass and what stands beside it rank effects, and how sure it is that the heaviest source is
    not the most causal."""
    findings, of = subject.findings, f"{block.intervention}/families"
    ranks = [
        [name.replace("_", " "), sublayer, markup.value(rank[0]), markup.interval(*rank[1:])]
        for name in findings.predictors()
        for sublayer in [*sublayers, "all"]
        if (rank := findings.rank(of, sublayer, name))
    ]
    apart = [
        [
            sublayer,
            *(
                markup.value(found[0] if found else np.nan, numbers.plain)
                for found in (findings.dissociation(of, sublayer, band) for band in (*grid.BANDS, "all"))
            ),
        ]
        for sublayer in [*sublayers, "all"]
    ]
    tables = ""
    if ranks:
        tables += markup.table(
            ["predictor", "sublayer", "#Spearman with ΔNLL", "#95 % interval"],
            ranks,
            "Rank correlations over the grid",
        )
        tables += markup.table(
            ["sublayer", *(f"#{band}" for band in (*grid.BANDS, "all"))],
            apart,
            "Probability that the source of the largest mass is not that of the largest effect",
        )
    return tables
