"""Reads a page of the report back: whether its tags balance, its links, sections, tables and verdicts."""
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """`tables` by caption: rows of cells, a cell being {text, values, verdicts}; `problems` lists tags that
    do not balance."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.problems, self.ids, self.links, self.tags, self.styles = [], [], [], [], []
        self.tables, self.headings, self.boxes, self.verdicts, self.order, self.text = {}, [], [], [], [], ""
        self._stack, self._row, self._cell, self._caption, self._rows = [], None, None, "", []
        self.feed(text)
        self.close()
        self.problems += [f"not closed: {name}" for name, _ in self._stack]

    def _inside(self, name, class_=None):
        return any(
            tag == name and (class_ is None or class_ in attributes.get("class", "").split())
            for tag, attributes in self._stack
        )

    def handle_starttag(self, tag, attributes, closed=False):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [
            attributes[name]
            for name in ("href", "src", "xlink:href", "data", "action")
            if attributes.get(name) and tag != "data"
        ]
        self.styles.append(attributes.get("style") or "")
        if tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._cell = {"text": "", "values": [], "verdicts": []}
        elif tag == "data":
            self._cell and self._cell["values"].append(float(attributes["value"]))
        elif tag in ("h1", "h2"):
            self.headings.append("")
            self.order.append(tag)
        elif tag == "div" and "box" in (attributes.get("class") or "").split():
            self.boxes.append([attributes["class"], ""])
            self.order.append(attributes["class"])
        elif tag == "span" and "verdict" in (attributes.get("class") or "").split():
            self.verdicts.append((self._caption, attributes["class"].split()[1]))
            self._cell and self._cell["verdicts"].append(attributes["class"].split()[1])
        if tag not in VOID and not closed:
            self._stack.append((tag, attributes))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes, closed=True)

    def handle_endtag(self, tag):
        if not self._stack or self._stack[-1][0] != tag:
            self.problems.append(
                f"line {self.getpos()[0]}: </{tag}> closes {self._stack[-1][0] if self._stack else 'nothing'}"
            )
            return
        self._stack.pop()
        if tag in ("td", "th"):
            self._row.append(self._cell)
            self._cell = None
        elif tag == "tr":
            self._rows.append(self._row)
        elif tag == "table":
            self.tables.setdefault(self._caption, []).append(self._rows)

    def handle_data(self, data):
        if self._inside("style"):
            self.styles.append(data)
            return
        if not self._inside("svg"):
            self.text += data
        if self._cell is not None:
            self._cell["text"] += data
        elif self._inside("caption"):
            self._caption += data
        if self._inside("h1") or self._inside("h2"):
            self.headings[-1] += data
        if self._inside("div", "box"):
            self.boxes[-1][1] += data

    def rows(self, caption):
        """The body of the one table of that caption: {first cell's text: cells by heading}."""
        (table,) = self.tables[caption]
        names = [cell["text"] for cell in table[0]]
        return {row[0]["text"]: dict(zip(names, row)) for row in table[1:]}
