"""Every single (site, source) read: maps of mass and effect per sublayer, and how well a first-order estimate
predicts the effect."""
import numpy as np
from scipy import stats

from . import heat, markup, numbers, plot

KEY, ESTIMATE_KEY = "edges", "edge-estimates"


class Edges:
    """Cells that mask one source at one site: arrays by edge."""

    def __init__(self, subject):
        results = subject.results
        sites, sources = results.cell_strings("site"), results.cell_values("source")
        kinds, names = results.cell_strings("intervention"), results.names("site")
        self.cells = np.array(
            [
                cell
                for cell in range(len(sites))
                if sites[cell] in names and sources[cell] >= 0 and kinds[cell] == "mask"
            ],
            dtype=int,
        )
        self.sites = np.array([names.index(sites[cell]) for cell in self.cells], dtype=int)
        self.sources = sources[self.cells].astype(int) if len(self.cells) else np.zeros(0, dtype=int)
        self.effect = subject.findings.effect[self.cells]
        self.mass = results.cell_values("mass")[self.cells]
        self.significant = np.asarray(subject.findings.significant)[self.cells]


def figure(subject):
    edges, results = Edges(subject), subject.results
    if not len(edges.cells) or not np.isfinite(edges.effect).any():
        return None
    sublayers, panels = [str(name) for name in results["site/sublayer"]], []
    for sublayer in dict.fromkeys(sublayers[site] for site in edges.sites):
        take = np.array([sublayers[site] == sublayer for site in edges.sites])
        panels += [panel(subject, edges, take, sublayer, kind) for kind in ("mass", "effect")]
    best = int(np.nanargmax(edges.effect))
    return plot.Figure(
        key=KEY,
        title="Every read by itself",
        panels=panels,
        table=table(subject, edges),
        caption=(
            f"Of {len(edges.cells)} edges {int(edges.significant.sum())} have a significant effect; the"
            f" costliest is source {edges.sources[best]} at"
            f" {results.names('site')[edges.sites[best]]} ({numbers.signed(edges.effect[best])} nats/token)."
            + ranked(subject, "mass", " Mass ranks their effects with Spearman {}.")
        ),
        paths=["/cell/mass", "/cell/delta_nll", "/cell/site", "/cell/source"],
        notes=[
            "Rows are sites, columns the sources by position: 0 is the embedding, then finished blocks; the"
            " current state, the last source of each site, stands apart. Dots: not significant."
        ],
    )


def ranked(subject, predictor, sentence):
    """The sentence with the rank correlation over all edges and its interval; empty where the analysis has
    none."""
    rank = subject.findings.rank("mask/edges", "all", predictor)
    if rank is None:
        return ""
    value, low, high = (numbers.signed(one, 2) for one in rank)
    return sentence.format(f"{value} [{low}, {high}]")


def panel(subject, edges, take, sublayer, kind):
    names, last = subject.results.names("site"), np.asarray(subject.results["site/n_sources"]) - 1
    rows = sorted(set(edges.sites[take]))
    width = (
        max(
            (
                int(source)
                for site, source in zip(edges.sites[take], edges.sources[take])
                if source < last[site]
            ),
            default=-1,
        )
        + 1
    )
    values, open_ = np.full((len(rows), width + 1), np.nan), np.zeros((len(rows), width + 1), dtype=bool)
    for edge in np.flatnonzero(take):
        site, source = edges.sites[edge], edges.sources[edge]
        place = rows.index(site), width if source == last[site] else source
        values[place] = getattr(edges, kind)[edge]
        open_[place] = kind == "effect" and not edges.significant[edge]
    margin = subject.results.margin if subject.results.margin > 0 else 0.01
    drawn = heat.Map(
        values=values,
        rows=[names[site] for site in rows],
        columns=[str(i) for i in range(width)] + ["current"],
        kind=kind,
        title=f"{sublayer}: {kind}",
        threshold=margin,
        largest=max(float(np.nanmax(np.abs(edges.effect))), margin),
        open_=open_,
        apart_columns=[width] if width else [],
        write_values=width < 6,
    )
    return plot.Panel(
        draw=lambda place: heat.draw(place, drawn),
        width=430,
        height=110 + (30 if len(rows) < 9 else 20) * len(rows),
        label=f"Edges of {sublayer}: {kind}",
    )


def table(subject, edges):
    names, cells, findings = subject.results.names("site"), subject.results.cells, subject.findings
    rows = [
        [
            cells[cell],
            names[edges.sites[i]],
            int(edges.sources[i]),
            markup.value(edges.mass[i], numbers.plain),
            markup.value(edges.effect[i]),
            markup.interval(findings.low[cell], findings.high[cell]),
            markup.verdict(findings.verdicts[cell]),
        ]
        for i, cell in enumerate(edges.cells)
    ]
    return markup.table(
        ["cell", "site", "#source", "#mass", "#ΔNLL, nats/token", "#95 % interval", "verdict"], rows, "Edges"
    )


def estimate_figure(subject):
    results, edges = subject.results, Edges(subject)
    if "routing/edge_estimate_by_segment" not in results or len(edges.cells) < 3:
        return None
    sums, tokens = np.asarray(results["routing/edge_estimate_by_segment"]), np.asarray(
        results["segment/tokens"], dtype=float
    )
    estimate = (sums.sum(axis=0) / tokens.sum())[edges.sites, edges.sources]
    known = np.isfinite(estimate) & np.isfinite(edges.effect)
    if known.sum() < 3:
        return None
    rank = ranked(subject, "edge_estimate", "{}") or numbers.signed(
        stats.spearmanr(estimate[known], edges.effect[known])[0], 2
    )
    worst = sorted(np.flatnonzero(known), key=lambda i: -abs(estimate[i] - edges.effect[i]))
    names = results.names("site")
    rows = [
        [
            f"{names[edges.sites[i]]} source {edges.sources[i]}",
            markup.value(estimate[i]),
            markup.value(edges.effect[i]),
            markup.value(edges.effect[i] - estimate[i]),
        ]
        for i in worst
    ]
    first = worst[0]
    return plot.Figure(
        key=ESTIMATE_KEY,
        title="Is the gradient enough?",
        caption=(
            f"The first-order estimate ranks the edges with Spearman {rank} against the measured effects; its"
            f" worst miss is source {edges.sources[first]} at {names[edges.sites[first]]}:"
            f" {numbers.signed(estimate[first])} estimated, {numbers.signed(edges.effect[first])} measured."
        ),
        paths=["/routing/edge_estimate_by_segment", "/cell/delta_nll"],
        panels=[
            plot.Panel(
                draw=lambda place: draw_estimate(place, subject, estimate[known], edges.effect[known]),
                width=440,
                height=360,
                label="Estimated against measured effects of edges",
            )
        ],
        table=markup.table(
            ["edge, worst first", "#estimate, nats/token", "#measured", "#miss"],
            rows,
            "First-order estimates",
        ),
        notes=[
            "On the dashed line the estimate is right. Estimates are exploratory: they see slopes, not what"
            " happens once a source is gone."
        ],
    )


def draw_estimate(figure, subject, estimate, effect):
    axes = figure.subplots()
    margin = subject.results.margin if subject.results.margin > 0 else 0.01
    reach = 1.3 * max(np.abs(estimate).max(), np.abs(effect).max())
    low = 1.3 * min(estimate.min(), effect.min(), -margin)
    line = np.concatenate([-np.geomspace(reach, margin / 10, 40), np.geomspace(margin / 10, reach, 40)])
    axes.plot(line, line, color=plot.COLOURS["faint"], linestyle=(0, (4, 3)), linewidth=1)
    axes.plot(estimate, effect, "o", color=plot.COLOURS["mass"], markersize=5.5, alpha=0.8)
    for which in "xy":
        plot.symlog(axes, which, margin, reach)
        getattr(axes, f"set_{which}lim")(low, reach)
    axes.set_xlabel("first-order estimate, nats/token")
    axes.set_ylabel("measured ΔNLL, nats/token")
