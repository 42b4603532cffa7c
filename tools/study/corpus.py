#!/usr/bin/python3
"""English prose with documents from three Debian packages, as JSON lines {"id": ..., "text": ...}, sorted by id:

  anarchism             An Anarchist FAQ: a document per section of a page (GFDL or GPL)
  linux-doc-*           the Linux kernel's documentation in English: a document per file (GPL-2)
  python3.*-doc         Python's documentation: a document per file (PSF licence)

    tools/study/corpus.py --output corpus.jsonl [--rehearsal] [--root /]

A tenth of the documents, chosen by their names, is for rehearsals of the study and never in it. Keeps paragraphs, list items and headings; drops what is no prose: code, tables, directives, links' addresses. Says what it kept.
"""

import argparse
import glob
import gzip
import hashlib
import html.parser
import json
import os
import re
import sys

SHORTEST = 400  # characters: shorter documents are stubs and tables of contents


class PageText(html.parser.HTMLParser):
    """Blocks of text of an HTML page, in order; headings are marked, because a document begins there."""

    BLOCKS = {"p", "li", "blockquote", "h1", "h2", "h3", "h4", "dd", "dt", "div", "td"}
    SKIPPED = {"script", "style", "head", "pre", "code"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.blocks, self.words, self.skipping, self.heading = [], [], 0, False

    def flush(self):
        text = " ".join("".join(self.words).split())
        if text:
            self.blocks.append((self.heading, text))
        self.words, self.heading = [], False

    def handle_starttag(self, tag, attrs):
        if tag in self.SKIPPED:
            self.skipping += 1
        elif tag in self.BLOCKS:
            self.flush()
            self.heading = tag in ("h1", "h2")
        elif tag == "br":
            self.words.append(" ")

    def handle_endtag(self, tag):
        if tag in self.SKIPPED:
            self.skipping = max(0, self.skipping - 1)
        elif tag in self.BLOCKS:
            self.flush()

    def handle_data(self, data):
        if not self.skipping:
            self.words.append(data)


def is_prose(text):
    """Whether a block reads as sentences rather than as code, a table or a list of names."""
    words = re.findall(r"[A-Za-z][A-Za-z'-]*", text)
    letters = sum(c.isalpha() or c == " " for c in text)
    return len(words) >= 6 and letters >= 0.85 * len(text) and any(word in {"the", "a", "is", "to", "of", "and"} for word in words)


def page_documents(name, text):
    """An HTML page cut at its headings of the first two levels."""
    page = PageText()
    page.feed(text)
    page.close()
    page.flush()
    section, number = [], 0
    for heading, block in page.blocks + [(True, "")]:
        if heading and section:
            yield f"{name}#{number:02d}", "\n\n".join(section)
            section, number = [], number + 1
        if heading and block:
            section = [block]
        elif is_prose(block):
            section.append(block)


def plain_markup(text):
    """reStructuredText's inline markup taken off: roles, links, literals, emphasis."""
    text = re.sub(r":[\w:+.-]+:`~?!?([^`<]+?)(?:\s*<[^`>]*>)?`", r"\1", text)
    text = re.sub(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}", r"\1", text)
    text = re.sub(r"``([^`]+)``|`([^`]+)`_{0,2}", lambda match: match.group(1) or match.group(2), text)
    return re.sub(r"\*{1,2}(\S[^*]*?)\*{1,2}", r"\1", text)


def rst_document(text):
    """The headings, paragraphs and list items of a reStructuredText file."""
    kept, directive = [], False
    for block in re.split(r"\n[ \t]*\n", text.expandtabs(8)):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        indented = lines[0].startswith("   ")
        if directive and indented:
            continue
        # A directive takes what is indented below it, a paragraph that ends in "::" a literal block.
        directive = lines[0].startswith("..") or block.rstrip().endswith("::")
        if lines[0].startswith("..") or lines[0].startswith(":"):
            continue
        underlined = len(lines) >= 2 and re.fullmatch(r"([^\w\s])\1{2,}\s*", lines[-1])
        lines = [line.strip() for line in lines if not re.fullmatch(r"\s*([^\w\s])\1{2,}\s*", line)]
        block = plain_markup(" ".join(lines)).replace("::", ":")
        if underlined and len(lines) == 1 or is_prose(block):
            kept.append(block)
    return "\n\n".join(kept)


def read_text(path):
    opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        return file.read().decode("utf-8", errors="replace")


def is_for_rehearsals(name):
    return hashlib.sha256(name.encode()).digest()[0] < 26


def documents(root):
    doc = os.path.join(root, "usr/share/doc")
    for path in glob.glob(f"{doc}/anarchism/html/*.html"):
        yield from page_documents("anarchism/" + os.path.basename(path), read_text(path))
    for path in glob.glob(f"{doc}/linux-doc-*/Documentation/**/*.rst.gz", recursive=True):
        name = path[len(doc) + 1:]
        if "/translations/" not in name:
            yield re.sub(r"^linux-doc-[^/]*/Documentation", "linux", name), rst_document(read_text(path))
    for path in glob.glob(f"{doc}/python3.*/html/_sources/**/*.rst.txt", recursive=True):
        name = path[len(doc) + 1:]
        if "/whatsnew/changelog" not in name:
            yield re.sub(r"^python[^/]*/html/_sources", "python", name), rst_document(read_text(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="JSON lines, one document each")
    parser.add_argument("--rehearsal", action="store_true", help="the documents that the study leaves out, instead of its own")
    parser.add_argument("--root", default="/", help="where the packages are installed")
    arguments = parser.parse_args()

    seen, kept = {}, []
    for name, text in sorted(documents(arguments.root)):
        digest = hashlib.sha256(text.encode()).digest()
        if is_for_rehearsals(name) != arguments.rehearsal:
            continue
        if len(text) >= SHORTEST and digest not in seen:  # the same page under two names is one document
            seen[digest] = name
            kept.append((name, text))
    sources = {}
    for name, text in kept:
        count, size = sources.get(name.split("/")[0], (0, 0))
        sources[name.split("/")[0]] = (count + 1, size + len(text.encode()))
    missing = [name for name in ("anarchism", "linux", "python") if name not in sources]
    if missing:
        print(f"corpus.py: {arguments.root}: no documents of {', '.join(missing)}: install the packages anarchism, linux-doc and "
              "python3-doc with their recommended packages (tools/study.sh does)", file=sys.stderr)
        sys.exit(2)
    temporary = f"{arguments.output}.tmp-{os.getpid()}"
    checksum = hashlib.sha256()
    with open(temporary, "wb") as file:
        for name, text in kept:
            line = (json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n").encode()
            checksum.update(line)
            file.write(line)
    os.replace(temporary, arguments.output)
    for source, (count, size) in sorted(sources.items()):
        print(f"{source:10} {count:6} documents  {size / 1e6:7.2f} MB")
    print(f"{arguments.output}: {len(kept)} documents, sha256 {checksum.hexdigest()}")


if __name__ == "__main__":
    main()
