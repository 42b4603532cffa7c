"""Puts the sections of the report together: one HTML file that needs nothing else."""
from . import (against, coefficients, edges, forest, maps, markup, plot, scatter, theme)

FIGURES = (maps.figure, scatter.figure, forest.figure, against.figure, coefficients.figure, edges.figure, edges.estimate_figure)


def figure_html(figure, number):
    panels = "\n".join(markup.tag("div", plot.svg(panel, f"{figure.key}{i}")) for i, panel in enumerate(figure.panels))
    notes = "".join(markup.paragraph(note, class_="notes") for note in figure.notes)
    paths = markup.tag("p", "Numbers: " + ", ".join(markup.code(path) for path in figure.paths), class_="paths")
    table = markup.details("Table of this figure", figure.table) if figure.table else ""
    body = markup.tag("figure", markup.tag("figcaption", markup.text(figure.caption)) + notes
                      + markup.tag("div", panels, class_="panels"))
    return markup.section(figure.key, f"Figure {number}. {figure.title}", body + table + paths)


def build(subject):
    found = [figure for make in FIGURES if (figure := make(subject))]
    body = "\n".join(figure_html(figure, number) for number, figure in enumerate(found, 1))
    title = "Routing report"
    head = (f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>\n{theme.css()}</style>")
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n', found
