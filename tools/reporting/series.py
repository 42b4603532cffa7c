"""Several results files: one run over its steps, and runs (seeds) side by side. Never pooled: every file
keeps its own numbers."""
import re

import numpy as np
from matplotlib.lines import Line2D

from . import grid, markup, numbers, plot

MARKS = "os^DvP"
LINES = ("embedding", "older", "recent", "current")
MOST_LINES, MOST_RUNS_CELLS = 4, 14


def run_of(subject):
    """The run that a checkpoint belongs to: runs/demo of runs/demo/checkpoints/step_00001000."""
    return re.sub(r"/checkpoints/[^/]*/?$", "", str(subject.results.attribute("checkpoint")))


def kind_of(subject):
    """What two files must share to be compared: the shape of the model and the split."""
    return tuple(
        str(subject.results.attribute(name))
        for name in ("variant", "num_layers", "num_blocks", "wrapped", "split")
    )


def over_steps(subject, everyone):
    """The files of the subject's run, a step each, by step."""
    steps = {}
    for other in everyone:
        if (
            kind_of(other) == kind_of(subject)
            and run_of(other) == run_of(subject)
            and other.results.step >= 0
        ):
            steps.setdefault(other.results.step, other)
    return [steps[step] for step in sorted(steps)]


def side_by_side(subject, everyone):
    """The files of other runs of the same kind at the subject's step, the subject first."""
    runs = {run_of(subject): subject}
    for other in everyone:
        if kind_of(other) == kind_of(subject) and other.results.step == subject.results.step:
            runs.setdefault(run_of(other), other)
    return list(runs.values())


def leading_cells(subject, most):
    """Names of the family cells with the largest effects, under the grid's first intervention."""
    found = grid.interventions(subject.results)
    if not found:
        return []
    effect = np.abs(subject.findings.effect)
    cells = [
        cell
        for cell in grid.Grid(subject.results, found[0]).cells.ravel()
        if cell >= 0 and np.isfinite(effect[cell])
    ]
    return [subject.results.cells[cell] for cell in sorted(cells, key=lambda cell: -effect[cell])[:most]]


def of_cell(subject, name, values):
    cells = subject.results.cells
    return values[cells.index(name)] if name in cells else np.nan


def steps_figure(subject, everyone):
    line, names = over_steps(subject, everyone), leading_cells(subject, MOST_LINES)
    if len(line) < 2 or not names:
        return None
    first, last = (of_cell(one, names[0], one.findings.effect) for one in (line[0], line[-1]))
    rows = [
        [
            name,
            numbers.count(one.results.step),
            markup.value(of_cell(one, name, one.results.cell_values("mass")), numbers.plain),
            markup.value(of_cell(one, name, one.findings.effect)),
            markup.interval(of_cell(one, name, one.findings.low), of_cell(one, name, one.findings.high)),
            markup.value(one.results["clean/mean_nll"], numbers.plain),
        ]
        for name in names
        for one in line
    ]
    return plot.Figure(
        key="steps",
        title="Over training",
        caption=(
            f"From step {numbers.count(line[0].results.step)} to {numbers.count(line[-1].results.step)} the"
            f" effect of {names[0]} goes from {numbers.signed(first)} to {numbers.signed(last)} nats/token."
        ),
        paths=["/cell/delta_nll", "/cell/mass", "@checkpoint_step, of each file"],
        panels=[
            plot.Panel(
                draw=lambda place, kind=kind: draw_steps(place, line, names, kind),
                width=450,
                height=380,
                label=f"{kind} over steps",
            )
            for kind in ("effect", "mass")
        ],
        table=markup.table(
            ["cell", "#step", "#mass", "#ΔNLL, nats/token", "#95 % interval", "#clean NLL"],
            rows,
            "Over training",
        ),
    )


def draw_steps(figure, line, names, kind):
    axes = figure.subplots()
    steps, reach = [one.results.step for one in line], 0.0
    for index, name in enumerate(names):
        colour = plot.COLOURS[LINES[index]]
        if kind == "mass":
            axes.plot(
                steps,
                [of_cell(one, name, one.results.cell_values("mass")) for one in line],
                color=colour,
                marker=MARKS[index],
            )
            continue
        effect = [of_cell(one, name, one.findings.effect) for one in line]
        axes.plot(steps, effect, color=colour, marker=MARKS[index], markersize=5.5)
        axes.vlines(
            steps,
            [of_cell(one, name, one.findings.low) for one in line],
            [of_cell(one, name, one.findings.high) for one in line],
            color=colour,
            linewidth=1.2,
        )
        reach = max(reach, np.nanmax(np.abs(effect)))
    axes.set_xticks(steps, [numbers.count(step) for step in steps])
    axes.set_xlabel("training step")
    axes.set_title("Effect" if kind == "effect" else "Mass")
    axes.set_ylabel("ΔNLL, nats/token" if kind == "effect" else "mass (mean weight)")
    if kind == "effect":
        plot.symlog(axes, "y", line[-1].results.margin or 0.01, reach)
        axes.set_ylim(bottom=-(line[-1].results.margin or 0.01))
    else:
        axes.set_ylim(-0.04, 1.04)
    axes.legend(
        handles=[
            Line2D([], [], color=plot.COLOURS[LINES[i]], marker=MARKS[i], label=name)
            for i, name in enumerate(names)
        ],
        loc="upper left",
        bbox_to_anchor=(0, -0.16),
        ncol=1,
    )


def runs_figure(subject, everyone):
    runs, names = side_by_side(subject, everyone), leading_cells(subject, MOST_RUNS_CELLS)
    if len(runs) < 2 or not names:
        return None
    counts = {
        name: sum(
            bool(of_cell(one, name, one.findings.significant)) and of_cell(one, name, one.findings.effect) > 0
            for one in runs
        )
        for name in names
    }
    everywhere = sum(found == len(runs) for found in counts.values())
    rows = [
        [
            name,
            *[markup.value(of_cell(one, name, one.findings.effect)) for one in runs],
            f"{counts[name]} of {len(runs)}",
        ]
        for name in names
    ]
    return plot.Figure(
        key="runs",
        title="Run by run",
        caption=(
            f"{everywhere} of the {len(names)} largest effects raise the loss significantly in all"
            f" {len(runs)} runs."
        ),
        paths=["/cell/delta_nll, of each file"],
        panels=[
            plot.Panel(
                draw=lambda place: draw_runs(place, runs, names),
                width=640,
                height=120 + 26 * len(names),
                label="Effects of every run side by side",
            )
        ],
        table=markup.table(
            ["cell", *[f"#{run_of(one)}" for one in runs], "raises the loss"],
            rows,
            "ΔNLL, nats/token, of every run; runs are counted, never pooled",
        ),
    )


def draw_runs(figure, runs, names):
    axes = figure.subplots()
    spread = np.linspace(-0.25, 0.25, len(runs))
    for i, one in enumerate(runs):
        mark = MARKS[i % len(MARKS)]
        for row, name in enumerate(names):
            effect, low, high = (
                of_cell(one, name, values)
                for values in (one.findings.effect, one.findings.low, one.findings.high)
            )
            axes.plot([low, high], [row + spread[i]] * 2, color=plot.COLOURS["faint"], linewidth=1.2)
            axes.plot(effect, row + spread[i], mark, color=plot.COLOURS["mass"], markersize=5.5)
    axes.axvline(0, color=plot.COLOURS["faint"], linewidth=0.8)
    margin = runs[0].results.margin or 0.01
    axes.axvspan(-margin, margin, color=plot.COLOURS["band"], linewidth=0, zorder=0)
    reach = max(abs(of_cell(one, name, one.findings.effect)) for one in runs for name in names)
    plot.symlog(axes, "x", margin, reach)
    lowest = min(of_cell(one, name, one.findings.low) for one in runs for name in names)
    axes.set_xlim(min(-2 * margin, 1.3 * lowest), max(2 * margin, 1.6 * reach))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("ΔNLL, nats/token")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                marker=MARKS[i % len(MARKS)],
                color=plot.COLOURS["mass"],
                label=run_of(one),
            )
            for i, one in enumerate(runs)
        ],
        loc="upper left",
        bbox_to_anchor=(0, -0.12 if len(names) > 8 else -0.2),
    )
