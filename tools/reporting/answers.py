"""The known answers of a results file, and that of untrained weights."""
import numpy as np

from . import markup, numbers
from .head import paths


def known_answers(subject):
    results = subject.results
    passed = np.atleast_1d(results["known_answer/passed"])
    words = ("failed", "passed", "not_judged")
    columns = {
        name: np.atleast_1d(results.get(f"known_answer/{name}", np.full(len(passed), np.nan)))
        for name in ("limit", "delta_nll", "kl", "flip_rate", "largest_change")
    }
    expected = np.atleast_1d(results.get("known_answer/expectation", [""] * len(passed)))
    rows = [
        [
            name,
            expected[i],
            markup.value(columns["delta_nll"][i]),
            markup.value(columns["kl"][i], numbers.plain),
            markup.value(columns["flip_rate"][i], numbers.percent),
            markup.value(columns["largest_change"][i], numbers.plain),
            markup.value(columns["limit"][i], numbers.plain),
            markup.verdict(words[int(passed[i])]),
        ]
        for i, name in enumerate(results.names("known_answer"))
    ]
    table = markup.table(
        [
            "known answer",
            "expected",
            "#ΔNLL, nats/token",
            "#KL, nats/token",
            "#top-1 changed",
            "#largest change, nats",
            "#limit, nats",
            "outcome",
        ],
        rows,
        "Interventions whose outcome is known beforehand",
    )
    same = (
        "The parameters' checksum is the same before and after."
        if not results.parameters_changed()
        else "The parameters changed."
    )
    return markup.section(
        "known-answers",
        "Known answers",
        markup.paragraph(same) + table + untrained(subject) + paths("/known_answer"),
    )


def untrained(subject):
    """Whether the effects vanish on untrained weights, where the analysis was given such a file."""
    analysis = subject.findings.analysis
    if analysis is None or "untrained/passed" not in analysis:
        return ""
    files = sorted(name for name in analysis.groups if name.startswith("file_") and "/" not in name)
    place = files.index(subject.findings.group)
    about, word = (
        analysis.groups["untrained"],
        "passed" if int(analysis["untrained/passed"][place]) else "failed",
    )
    return markup.tag(
        "p",
        (
            "Untrained weights: the largest effect is"
            f" {markup.value(analysis['untrained/ratio'][place], numbers.plain)} of the trained model's, at"
            f" most {numbers.given(about['limit'])} is allowed: {markup.verdict(word)}."
        ),
    )
