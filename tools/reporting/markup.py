"""Writes HTML: escaping, tables in boxes of their own, lists, messages."""
import html

from . import numbers


class Raw(str):
    """Text that is HTML already."""


def text(value):
    """`value` as HTML: Raw stays, everything else is escaped."""
    return str(value) if isinstance(value, Raw) else html.escape(str(value))


def tag(name, content="", **attributes):
    """<name attributes>content</name>; `content` is HTML. class_ and for_ stand for the reserved words."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Raw(f"<{name}{written}>{content}</{name}>")


def paragraph(content, **attributes):
    return tag("p", text(content), **attributes)


def value(number, write=numbers.signed):
    return Raw(numbers.data(number, write))


def interval(low, high, write=numbers.signed):
    return Raw(numbers.interval(low, high, write))


def code(content):
    return tag("code", text(content))


def table(columns, rows, caption=None, kind=None):
    """A table in a box that scrolls sideways. `columns`: a heading each; one that starts with '#' holds
    numbers."""
    numeric = [name.startswith("#") for name in columns]
    head = "".join(
        tag("th", text(name.lstrip("#")), scope="col", class_="number" if is_number else None)
        for name, is_number in zip(columns, numeric)
    )
    body = []
    for row in rows:
        cells = [tag("th", text(row[0]), scope="row")]
        cells += [
            tag("td", text(cell), class_="number" if is_number else "long" if is_long(cell) else None)
            for cell, is_number in zip(row[1:], numeric[1:])
        ]
        body.append(tag("tr", "".join(cells)))
    inner = (tag("caption", text(caption)) if caption else "") + tag("thead", tag("tr", head))
    return tag(
        "div",
        tag("table", inner + tag("tbody", "\n".join(body)), class_=kind),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or f"Table: {columns[0].lstrip('#')}",
    )


def is_long(cell):
    """Whether a cell of a table holds a sentence, which may be broken."""
    return not isinstance(cell, Raw) and len(str(cell)) > 32 and " " in str(cell)


def facts(pairs):
    """A list of names and values."""
    return tag(
        "dl",
        "\n".join(tag("div", tag("dt", text(name)) + tag("dd", text(content))) for name, content in pairs),
    )


def details(summary, content):
    return tag("details", tag("summary", text(summary)) + content)


def message(kind, heading, content):
    """A box; `kind` is failure, warning or note."""
    return tag(
        "div",
        tag("p", tag("strong", text(heading)) + " " + content),
        class_=f"box {kind}",
        role="alert" if kind == "failure" else "note",
    )


def section(key, heading, content):
    return tag("section", tag("h2", text(heading), id=key) + "\n" + content)


def verdict(word):
    """A verdict as a coloured word; nothing for an empty one."""
    return tag("span", text(word.replace("_", " ")), class_=f"verdict {word}") if word else numbers.MISSING
