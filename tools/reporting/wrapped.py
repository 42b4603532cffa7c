"""A wrapped plain model against the formula of its recency schedule."""
import numpy as np
from matplotlib.lines import Line2D

from . import markup, numbers, plot

KEY = "wrapped"


def figure_of(subject, everyone):
    """The page's own model if it is wrapped, or the first wrapped one beside it."""
    for one in [subject, *everyone]:
        found = figure(one)
        if found is not None:
            if one is not subject:
                found.caption += f" Here {one.results.name}, a plain model read under a fixed schedule."
            return found
    return None


def figure(subject):
    results = subject.results
    formula, mean = results.get("site/schedule_weight"), results.get("routing/mean")
    if formula is None or mean is None or not int(results.attribute("wrapped", 0)):
        return None
    formula, mean = np.asarray(formula), np.asarray(mean)
    known = np.isfinite(formula) & np.isfinite(mean)
    if not known.any():
        return None
    worst = float(
        results.groups["known_answer"].get("wrapper_largest_deviation", np.abs(mean - formula)[known].max())
    )
    last = np.asarray(results["site/n_sources"]) - 1
    return plot.Figure(
        key=KEY,
        title="The wrapped model against its formula",
        caption=(
            f"The measured weights differ from the formula by at most {numbers.plain(worst, 2)} at any"
            " token, "
            + (
                "as they must: they do not depend on content."
                if worst < 1e-4
                else "more than rounding explains."
            )
        ),
        paths=["/routing/mean", "/site/schedule_weight", "/known_answer@wrapper_largest_deviation"],
        panels=[
            plot.Panel(
                draw=lambda place: draw(place, formula, mean, last),
                width=640,
                height=300,
                label="Measured weights and the formula's, by site",
            )
        ],
        table=table(results, formula, mean, last),
    )


def draw(figure, formula, mean, last):
    axes = figure.subplots()
    sites = np.arange(len(last))
    kinds = (("current", last, "current"), ("any other source", np.zeros_like(last), "embedding"))
    for _, source, colour in kinds:
        axes.plot(sites, formula[sites, source], color=plot.COLOURS[colour], linewidth=1.2)
        axes.plot(
            sites, mean[sites, source], "o", color=plot.COLOURS[colour], markerfacecolor="none", markersize=6
        )
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("site, from the first sublayer on")
    axes.set_ylabel("mean weight")
    axes.legend(
        handles=[
            Line2D([], [], color=plot.COLOURS[colour], marker="o", markerfacecolor="none", label=label)
            for label, _, colour in kinds
        ],
        loc="center right",
    )


def table(results, formula, mean, last):
    std = np.asarray(results.get("routing/std", np.full(mean.shape, np.nan)))
    rows = [
        [
            name,
            markup.value(mean[site, last[site]], numbers.plain),
            markup.value(formula[site, last[site]], numbers.plain),
            markup.value(np.nanmax(np.abs(mean[site] - formula[site])), numbers.plain),
            markup.value(np.nanmax(std[site]), numbers.plain),
        ]
        for site, name in enumerate(results.names("site"))
        if np.isfinite(formula[site, last[site]])
    ]
    return markup.table(
        [
            "site",
            "#weight of current",
            "#by the formula",
            "#largest difference",
            "#largest spread over tokens",
        ],
        rows,
        "Measured weights and the formula",
    )
