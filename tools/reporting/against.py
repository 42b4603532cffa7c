"""The same cells under another intervention: a source taken away (mask) against a source with other contents
(mean, resample)."""
import numpy as np
from matplotlib.lines import Line2D

from . import grid, markup, numbers, plot

KEY = "against"
WHAT = {"mean": "its mean over the calibration split", "resample": "that of other documents"}


def figure(subject):
    found = grid.interventions(subject.results)
    others = [name for name in found if name in WHAT]
    if "mask" not in found or not others:
        return None
    mask, panels, pairs = grid.Grid(subject.results, "mask"), [], []
    for name in others:
        block = grid.Grid(subject.results, name)
        lines = shared_cells(mask, block, subject.findings.effect)
        if lines:
            pairs += [(name, *line) for line in lines]
            panels.append(
                plot.Panel(
                    draw=lambda place, name=name, lines=lines: draw(place, subject, name, lines),
                    width=430,
                    height=390,
                    label=f"mask against {name}",
                )
            )
    if not panels:
        return None
    return plot.Figure(
        key=KEY,
        title="Taken away, or only its content replaced",
        caption=caption(subject, pairs),
        paths=["/cell/delta_nll", "/cell/delta_nll_donor_std"],
        panels=panels,
        table=table(subject, pairs),
        notes=[
            "Each point is one family at one place: across, the cost of masking it (the weights of the others"
            " grow); up, the cost of keeping the read but replacing the content by "
            + " or ".join(f"{WHAT[name]} ({name})" for name in others)
            + ". On the dashed line both cost the same."
        ],
    )


def shared_cells(mask, block, effect):
    """(family, sublayer, band, cell under mask, cell under the other) where both are measured."""
    lines = []
    for row, where in enumerate(mask.rows):
        for column, family in enumerate(mask.families):
            if where in block.rows and family in block.families:
                pair = (
                    mask.cells[row, column],
                    block.cells[block.rows.index(where), block.families.index(family)],
                )
                if min(pair) >= 0 and np.isfinite(effect[list(pair)]).all():
                    lines.append((family, *where, *map(int, pair)))
    return lines


def caption(subject, pairs):
    findings = subject.findings
    agree = sum(bool(findings.significant[a]) == bool(findings.significant[b]) for *_, a, b in pairs)
    only = [
        f"{family} in {sublayer} {band} ({name})"
        for name, family, sublayer, band, a, b in pairs
        if findings.significant[b] and not findings.significant[a]
    ]
    return f"Both ways of intervening agree on significance in {agree} of {len(pairs)} pairs" + (
        "; only the replaced content matters at"
        f" {', '.join(only[:3])}{' and others' if len(only) > 3 else ''}."
        if only
        else "."
    )


def draw(figure, subject, name, lines):
    axes = figure.subplots()
    findings = subject.findings
    margin = subject.results.margin if subject.results.margin > 0 else 0.01
    values = np.array([[findings.effect[a], findings.effect[b]] for *_, a, b in lines])
    for family, sublayer, band, a, b in lines:
        colour = plot.COLOURS.get(family, plot.COLOURS["ink"])
        axes.plot([findings.low[a], findings.high[a]], [findings.effect[b]] * 2, color=colour, linewidth=1)
        axes.plot([findings.effect[a]] * 2, [findings.low[b], findings.high[b]], color=colour, linewidth=1)
        axes.plot(
            findings.effect[a],
            findings.effect[b],
            "s" if sublayer == "mlp" else "o",
            color=colour,
            markersize=6.5,
        )
    reach = 1.3 * np.abs(values).max()
    ends = np.array([min(values.min(), 0) * 1.3, reach])
    line = np.concatenate([-np.geomspace(reach, margin / 10, 40), np.geomspace(margin / 10, reach, 40)])
    axes.plot(line, line, color=plot.COLOURS["faint"], linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    for which in "xy":
        plot.symlog(axes, which, margin, reach)
        getattr(axes, f"set_{which}lim")(min(ends[0], -margin), reach)
    axes.set_title(f"mask against {name}")
    axes.set_xlabel("ΔNLL under mask, nats/token")
    axes.set_ylabel(f"ΔNLL under {name}, nats/token")
    families = grid.ordered([line[0] for line in lines], grid.FAMILIES)
    axes.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                label=family,
                color=plot.COLOURS.get(family, plot.COLOURS["ink"]),
            )
            for family in families
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncol=4,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def table(subject, pairs):
    findings, donors = subject.findings, subject.results.cell_values("delta_nll_donor_std")
    rows = [
        [
            f"{family} {sublayer} {band}",
            name,
            markup.value(findings.effect[a]),
            markup.interval(findings.low[a], findings.high[a]),
            markup.verdict(findings.verdicts[a]),
            markup.value(findings.effect[b]),
            markup.interval(findings.low[b], findings.high[b]),
            markup.value(donors[b], numbers.plain),
            markup.verdict(findings.verdicts[b]),
        ]
        for name, family, sublayer, band, a, b in pairs
    ]
    return markup.table(
        [
            "source",
            "other",
            "#ΔNLL, mask",
            "#interval",
            "verdict",
            "#ΔNLL, other",
            "#interval",
            "#spread of donors",
            "verdict",
        ],
        rows,
        "Mask and replaced contents, nats/token",
    )
