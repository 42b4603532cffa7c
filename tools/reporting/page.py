"""Puts the sections of the report together: one HTML file that needs nothing else."""
from . import (
    against,
    answers,
    coefficients,
    edges,
    forest,
    head,
    maps,
    markup,
    methods,
    plot,
    scatter,
    series,
    summary,
    theme,
    wrapped,
)

OF_ONE_FILE = (
    maps.figure,
    scatter.figure,
    forest.figure,
    against.figure,
    coefficients.figure,
    edges.figure,
    edges.estimate_figure,
)
OF_MANY_FILES = (wrapped.figure_of, series.steps_figure, series.runs_figure)


def figures(subject, everyone):
    """The figures that these files have numbers for, in the order of the page."""
    found = [make(subject) for make in OF_ONE_FILE] + [make(subject, everyone) for make in OF_MANY_FILES]
    return [figure for figure in found if figure is not None]


def figure_html(figure, number):
    panels = "\n".join(
        markup.tag("div", plot.svg(panel, f"{figure.key}{i}")) for i, panel in enumerate(figure.panels)
    )
    notes = "".join(markup.paragraph(note, class_="notes") for note in figure.notes)
    table = markup.details("Table of this figure", figure.table) if figure.table else ""
    body = markup.tag(
        "figure",
        markup.tag("figcaption", markup.text(figure.caption))
        + notes
        + markup.tag("div", panels, class_="panels"),
    )
    return markup.section(
        figure.key, f"Figure {number}. {figure.title}", body + table + head.paths(*figure.paths)
    )


def contents(found):
    names = [
        ("claims", "Claims"),
        ("known-answers", "Known answers"),
        *((figure.key, f"{number}. {figure.title}") for number, figure in enumerate(found, 1)),
        ("methods", "Methods"),
    ]
    items = "".join(
        markup.tag("li", markup.tag("a", markup.text(name), href=f"#{key}")) for key, name in names
    )
    return markup.tag("nav", markup.tag("ul", items), aria_label="Contents")


def build(subject, everyone, found):
    """The page as text; `found` is figures(subject, everyone)."""
    others = (
        ""
        if len(everyone) < 2
        else markup.paragraph(
            (
                f"{len(everyone)} files; the page is about {subject.results.name}, the others appear among the"
                " claims, in the figures over training and run by run, and as wrapped models."
            ),
            class_="notes",
        )
    )
    parts = [
        head.failure(subject),
        head.title(subject),
        markup.tag(
            "div", "".join(markup.paragraph(text) for text in summary.sentences(subject)), class_="summary"
        ),
        others,
        head.facts(subject),
        head.warnings(subject),
        contents(found),
        head.claims(subject, everyone),
        answers.known_answers(subject),
        head.missing({figure.key for figure in found}, subject.results),
        *(figure_html(figure, number) for number, figure in enumerate(found, 1)),
        methods.section(subject, everyone),
    ]
    title = markup.text(
        "Routing report:"
        f" {head.short_path(str(subject.results.attribute('checkpoint'))) or subject.results.name}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f'<style>\n{theme.css()}</style>\n</head>\n<body>\n<main>\n'
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )
