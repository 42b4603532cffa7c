"""Three sentences for a reader who knows nothing yet: what was measured, what mattered most, whether weight
predicted it."""
import numpy as np

from . import grid, head, numbers

SUBLAYERS = {"attn": "attention", "mlp": "MLP", "final": "final"}


def sentences(subject):
    if not subject.judged:
        return [
            measured(subject),
            "A known answer failed, so these numbers say something about the run, not about the model.",
            "Nothing is concluded about which source mattered, or whether weight predicted effect.",
        ]
    found = grid.interventions(subject.results)
    block = grid.Grid(subject.results, found[0]) if found else None
    return [measured(subject), mattered(subject, block), predicted(subject, block)]


def place_name(family, sublayer, band):
    name = SUBLAYERS.get(sublayer, sublayer)
    read = f"{band} {name} layers" if band in grid.BANDS else f"{name} of {band}"
    return f"{SOURCES.get(family, family)} in the {'final read' if sublayer == 'final' else read}"


SOURCES = {
    "embedding": "the token embedding",
    "older": "older finished blocks",
    "recent": "the most recent finished block",
    "current": "the current state",
}


def measured(subject):
    results = subject.results
    step = (
        f" after {numbers.count(results.step)} training steps"
        if results.step > 0
        else (" before any training" if results.step == 0 else "")
    )
    data = (
        f"{numbers.count(results.documents)} documents"
        f" ({numbers.count(results.attribute('tokens_evaluated', 0))} tokens)"
    )
    variant = str(results.attribute("variant"))
    kind = (
        f"plain model wrapped as {variant}"
        if int(results.attribute("wrapped", 0))
        else "plain model" if variant == "additive" else f"{variant} model"
    )
    model = f"a {results.attribute('num_layers')}-layer {kind}{step}"
    cells = results.cell_strings("status").count("measured")
    if not cells:
        text = f"The next-token loss of {model} was measured on {data}, with no ablation"
    else:
        text = (
            f"{numbers.count(cells)} interventions on the depth routing of {model} were measured on {data},"
            " each against the unchanged model"
        )
    hedges = []
    if str(results.attribute("split", "all")) != "confirmation":
        hedges.append("this is an exploration, not a test of claims made beforehand")
    if results.documents < head.ENOUGH_DOCUMENTS:
        hedges.append("the documents are few, so intervals may be too narrow")
    return text + ("; " + ", and ".join(hedges) if hedges else "") + "."


def mattered(subject, block):
    """The family whose removal costs most, with its interval and what it does not show."""
    if block is None:
        return "No family of sources was taken away here, so this file cannot say which source matters."
    effect, findings = block.take(subject.findings.effect), subject.findings
    if not np.isfinite(effect).any():
        return "No cell of the grid could be measured, so this file cannot say which source matters."
    row, column = np.unravel_index(np.nanargmax(effect), effect.shape)
    cell = block.cells[row, column]
    where = place_name(block.families[column], *block.rows[row])
    change = (
        f"{numbers.signed(effect[row, column])} nats/token [{numbers.signed(findings.low[cell])}, "
        f"{numbers.signed(findings.high[cell])}]"
    )
    if not findings.significant[cell] or effect[row, column] <= 0:
        return (
            "Removing no source raised the loss by more than chance explains; the largest change was"
            f" {change}, for {where}."
        )
    text = f"What mattered most was {where}: without it the loss rose by {change}"
    margin = subject.results.margin
    if effect[row, column] < margin:
        text += f", which is less than the margin of {margin:g} that was set beforehand"
    if findings.beyond[cell]:
        text += (
            "; that breaks the model (it then predicts worse than token frequencies alone would), so the size"
            " of the change does not measure what the source carries"
        )
    return text + "."


# What the words stand for: rank correlations of mass and effect over the cells of one kind of sublayer.
CLOSE, CLOSE_LOW, PART = 0.8, 0.5, 0.3
START = {
    "close": "Routing weight ranked the effects well",
    "part": "Routing weight predicted the effects only in part",
    "open": "Whether routing weight predicts effect stays open",
    "none": "Routing weight did not predict the effects",
}


def strength(value, low, high):
    """How well mass ranks effects: close, part, open (it may or may not), none."""
    if value >= CLOSE and low >= CLOSE_LOW:
        return "close"
    if value >= PART and low > 0:
        return "part"
    return "open" if high >= PART and low <= 0 else "none"


def predicted(subject, block):
    if block is None:
        return "Whether routing weight predicts effect cannot be said without ablations."
    parts, words = [], set()
    for sublayer in dict.fromkeys(name for name, _ in block.rows):
        rank = subject.findings.rank(f"{block.intervention}/families", sublayer)
        if rank is not None:
            value, low, high = rank
            words.add(strength(*rank))
            parts.append(
                f"{numbers.signed(value, 2)} [{numbers.signed(low, 2)}, {numbers.signed(high, 2)}] in "
                f"{SUBLAYERS.get(sublayer, sublayer)}"
            )
    apart, reads = disagreements(subject, block)
    same = (
        f"the heaviest source was not the most causal one in {apart} of {reads} reads with an effect above"
        " the margin"
        if reads
        else "no effect exceeded the margin"
    )
    if not parts:
        return same[0].upper() + same[1:] + "."
    word = words.pop() if len(words) == 1 else "part" if words & {"close", "part"} else "open"
    return f"{START[word]} (rank correlation {', '.join(parts)}), and {same}."


def disagreements(subject, block):
    """Reads whose costliest source exceeds the margin: how many have another heaviest source, and how many
    there are."""
    pairs = leaders(subject, block)
    return sum(heavy != costly for heavy, costly in pairs.values()), len(pairs)


def leaders(subject, block):
    """Per row with two measured cells and a significant effect above the margin: columns of the largest mass
    and effect."""
    mass, effect = block.take(subject.results.cell_values("mass")), block.take(subject.findings.effect)
    significant = block.take(subject.findings.significant, missing=False).astype(bool)
    both = np.isfinite(mass) & np.isfinite(effect)
    pairs = {}
    for row in range(len(block.rows)):
        if both[row].sum() < 2:
            continue
        costly = int(np.argmax(np.where(both[row], effect[row], -np.inf)))
        if significant[row, costly] and effect[row, costly] > subject.results.margin:
            pairs[row] = (int(np.argmax(np.where(both[row], mass[row], -np.inf))), costly)
    return pairs
