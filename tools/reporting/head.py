"""The top of the page: what was measured, whether it can be trusted, what was claimed, the known answers."""
import numpy as np

from . import markup, numbers

ENOUGH_DOCUMENTS = 200
MEASURES = {"delta_nll": "ΔNLL", "kl": "KL"}


def title(subject):
    results = subject.results
    path = str(results.attribute("checkpoint")).rstrip("/")
    step = f", step {numbers.count(results.step)}" if results.step >= 0 else ""
    heading = markup.tag("h1", markup.text(f"Routing report: {short_path(path) or results.name}"))
    wrapped = ", wrapped around a plain model" if int(results.attribute("wrapped", 0)) else ""
    return heading + markup.paragraph(
        (
            f"{results.attribute('variant')}{wrapped}{step}; measured on "
            f"{', '.join(listed(results.attribute('data')))}"
        ),
        class_="subtitle",
    )


def short_path(path):
    """The run's name and the step's of a checkpoint's path."""
    parts = [part for part in path.split("/") if part not in ("", ".", "checkpoints", "runs")]
    return " ".join(parts[-2:])


def listed(value):
    return [str(word) for word in np.atleast_1d(value)] if not isinstance(value, str) else [value]


def facts(subject):
    results = subject.results
    attribute = results.attribute
    nats = lambda number: numbers.plain(number, 4)
    ends = (results.get(f"clean/mean_nll_{end}", np.nan) for end in ("low", "high"))
    clean = markup.Raw(
        f"{markup.value(results['clean/mean_nll'], nats)} nats/token {markup.interval(*ends, nats)}"
    )
    pairs = [
        ("Model", short_path(str(attribute("checkpoint"))) or numbers.MISSING),
        (
            "Variant",
            f"{attribute('variant')}, {attribute('num_layers')} layers, {attribute('num_blocks')} blocks",
        ),
        ("Step", numbers.count(results.step) if results.step >= 0 else "unknown"),
        ("Split", f"{attribute('split', 'all')}, chosen {attribute('choose', '?')}"),
        ("Documents", numbers.count(results.documents)),
        (
            "Sequences",
            f"{numbers.count(attribute('sequences', 0))} of {numbers.count(attribute('seq_len', 0))} tokens",
        ),
        ("Tokens that count", numbers.count(attribute("tokens_evaluated", 0))),
        ("Clean loss", clean),
        ("Top-1 accuracy", markup.value(results.get("clean/accuracy", np.nan), numbers.percent)),
        (
            "Entropy of single tokens",
            markup.Raw(f"{markup.value(attribute('unigram_entropy', np.nan), nats)} nats"),
        ),
        ("Cells", numbers.count(len(results.cells))),
        ("Device, precision", f"{device(attribute('device'))}, {attribute('precision')}"),
    ]
    hashes = ", ".join(
        f"{of} {markup.code(numbers.short_hash(attribute(name)))}"
        for of, name in (
            ("model", "checkpoint_checksum"),
            ("measurement", "measurement_hash"),
            ("analysis", "analysis_hash"),
            ("claims", "claims_hash"),
        )
        if attribute(name)
    )
    made = markup.text(
        f"Measured {attribute('created')} by depthroute-eval {attribute('program_version')}, commit "
        f"{numbers.short_hash(attribute('git_commit'))}."
    )
    return markup.facts(pairs) + markup.tag("p", f"{made} Hashes: {hashes}.", class_="subtitle")


def device(value):
    words = sorted(set(listed(value)))
    return ", ".join(words)


def failure(subject):
    """The box on top where a known answer failed; empty otherwise."""
    failed, changed = subject.results.failed_answers(), subject.results.parameters_changed()
    if not failed and not changed:
        return ""
    what = [f"known answers failed: {', '.join(failed)}"] if failed else []
    what += ["the parameters changed during the evaluation"] if changed else []
    return markup.message(
        "failure",
        "Do not use these numbers.",
        markup.text(
            f"In {subject.results.name} {' and '.join(what)}. No verdict is given on this page; find the"
            " cause and evaluate again."
        ),
    )


def warnings(subject):
    results, boxes = subject.results, []
    if results.documents < ENOUGH_DOCUMENTS:
        boxes.append(
            (
                "Few documents.",
                f"{results.documents} documents; below {ENOUGH_DOCUMENTS} intervals may be too narrow.",
            )
        )
    if str(results.attribute("split", "all")) != "confirmation":
        boxes.append(
            (
                "Exploratory.",
                (
                    f"The data are the split '{results.attribute('split', 'all')}'. What was found here was"
                    " not held to claims written down before; that takes a run with data.split:"
                    " confirmation."
                ),
            )
        )
    beyond = [name for name, flag in zip(results.cells, subject.findings.beyond) if flag]
    if beyond:
        shown = ", ".join(beyond[:4]) + (f" and {len(beyond) - 4} more" if len(beyond) > 4 else "")
        boxes.append(
            (
                "Out of distribution.",
                (
                    f"Under {shown} the model predicts worse than token frequencies alone would. Such a cell"
                    " shows that the model breaks, not what the source carries."
                ),
            )
        )
    notes = [text[0].upper() + text[1:] + "." for text in subject.findings.warnings]
    if notes:
        boxes.append(("Notes of the analysis.", " ".join(notes)))
    return "\n".join(markup.message("warning", heading, markup.text(content)) for heading, content in boxes)


def of_same_model(subject, everyone):
    """The page's file, then those of the same weights measured on other documents."""
    key = lambda one: [one.results.attribute(name, None) for name in ("checkpoint_checksum", "wrapped")]
    return [subject] + [one for one in everyone if one is not subject and key(one) == key(subject)]


def claims(subject, everyone=()):
    """What was claimed and what held; a line where nothing was. Claims are judged on documents of their own, so
    they may be in another file than the one the page is about."""
    same = of_same_model(subject, everyone)
    with_claims = [one for one in same if one.findings.claims] or same[:1]
    judging = next(
        (one for one in with_claims if any(claim.verdict != "not_judged" for claim in one.findings.claims)),
        with_claims[0],
    )
    if judging is not subject:
        subject = judging
        note = markup.paragraph(
            f"Judged in {subject.results.name}: split {subject.results.attribute('split')!r},"
            f" {subject.results.documents} documents.",
            class_="notes",
        )
    else:
        note = ""
    found = subject.findings.claims
    heading = "What was claimed and what held"
    if not found:
        names = subject.results.names("claim")
        why = (
            f"{len(names)} claims are written down; none is judged here."
            if names
            else "No claim was written down before measuring (key claims)."
        )
        return markup.section("claims", heading, markup.paragraph(why))
    rows = [
        [
            markup.Raw(markup.text(claim.name) + "<br>" + markup.code(claim.contrast)),
            MEASURES.get(claim.measure, claim.measure),
            markup.value(claim.margin, numbers.given),
            markup.value(claim.estimate),
            markup.interval(claim.low, claim.high),
            markup.verdict(claim.verdict),
            claim.runs if claim.verdict != "not_judged" else claim.reason,
        ]
        for claim in found
    ]
    table = markup.table(
        ["claim", "measure", "#margin", "#estimate, nats/token", "#95 % interval", "verdict", "holds in"],
        rows,
        "Claims, hashed into the results file before it was measured",
    )
    return markup.section("claims", heading, note + table + paths(*subject.findings.claim_paths))


def paths(*names):
    return (
        markup.tag("p", "Numbers: " + ", ".join(markup.code(name) for name in names), class_="paths")
        if names
        else ""
    )


def missing(found, results):
    """A line for what a reader would expect and this file does not have, with the key that measures it."""
    lines = []
    if "maps" not in found:
        lines.append(
            "No family cells were measured, so there are no maps of mass and effect (key grids)."
            if str(results.attribute("variant")) != "additive" or int(results.attribute("wrapped", 0))
            else (
                "A plain model has no routing, so there are no maps of mass and effect (model.wrap gives it"
                " one)."
            )
        )
    elif "against" not in found:
        lines.append(
            "Contents were not replaced, only taken away (grids: interventions: [mask, mean, resample])."
        )
    if "maps" in found and "edges" not in found:
        lines.append("Single reads were not measured (grids: edges: all).")
    elif "edges" in found and "edge-estimates" not in found:
        lines.append("First-order estimates of the edges were not made (routing.edge_estimates: true).")
    return "".join(markup.paragraph(line, class_="notes") for line in lines)
