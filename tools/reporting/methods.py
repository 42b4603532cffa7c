"""How the numbers came about, in words, from the attributes of the files."""
from . import grid, head, markup


def section(subject, everyone):
    results, findings = subject.results, subject.findings
    attribute = results.attribute
    chosen = f"sequences of {attribute('seq_len')} tokens chosen '{attribute('choose', '?')}'"
    if attribute("choose", "") == "requests":
        chosen = f"all requests, of up to {attribute('seq_len')} tokens, split"
    text = [
        f"Data: split '{attribute('split', 'all')}' of {', '.join(head.listed(attribute('data')))}, {chosen}"
        f" with seed {attribute('seed', '?')}. Every intervention sees the same tokens, batches and kernels as"
        " the clean run."
    ]
    if results.cells:
        kinds = grid.ordered(
            results.cell_strings("intervention"), ("mask", "only", "mean", "resample", "freeze")
        )
        text.append(
            f"Interventions: {', '.join(kinds)}. mask takes sources out of a read's softmax and renormalises"
            " the rest; mean and resample replace what a source holds (by its calibration mean, by that of"
            " other documents) and keep the read; freeze fixes the weights at their calibration means."
            " Families, by position among a read's sources: the last is current, the first embedding, the"
            " last but one recent, the others older. Bands are thirds of the depth."
        )
        text.append(
            "Effect: ΔNLL, the change of the mean negative log-likelihood of the next token; KL is from the"
            " clean to the changed prediction. Mass: the mean weight of the cell's sources over the sites"
            " that it changes."
        )
    words = findings.analysis.attribute("methods") if findings.analysis is not None and subject.judged else ""
    paragraphs = [
        markup.paragraph(part) for part in text + [line for line in str(words).split("\n") if line.strip()]
    ]
    return markup.section("methods", "Methods", "".join(paragraphs) + sources(subject, everyone))


def sources(subject, everyone):
    """The files of this page and how to make them again."""
    rows = [
        [
            one.results.name,
            one.results.attribute("checkpoint"),
            one.results.attribute("split", "all"),
            markup.code(str(one.results.attribute("measurement_hash"))),
            markup.code(str(one.results.attribute("command_line"))),
        ]
        for one in everyone
    ]
    table = markup.table(
        ["file", "checkpoint", "split", "hash of the measurement", "command"], rows, "Files of this report"
    )
    config = str(subject.results.attribute("config"))
    return table + (
        markup.details("Configuration of the measurement", markup.tag("pre", markup.code(config)))
        if config
        else ""
    )
