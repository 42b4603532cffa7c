#!/usr/bin/env python3
"""Fails on a citation that leads nowhere, one line each:
  SPEC, DESIGN   every mention names a file that exists; a section after it (train/model/SPEC.md §3) is a heading
                 `## 3.` of that file; § stands nowhere else but in a specification, for its own sections
  Markdown       every relative link and its #anchor exist
  Markdown       every source file named in `backticks` exists, from the root or from the document's folder (not in CHANGELOG.md,
                 which names what was)
Usage: check_citations.py [ROOT]     ROOT is the repository of this script unless given. Exit status: 0, 1 broken, 2 usage.
"""
import os
import re
import subprocess
import sys

TEXT = (".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".sbatch", ".md", ".txt", ".cmake", ".yaml", ".yml", ".cff", ".env")
SOURCE = "h|cpp|cu|cuh|py|sh|sbatch|md|yaml|yml|cmake|env|cff"
DOCUMENT = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)*)\b(SPEC|DESIGN)\b(\.md)?")
SECTIONS = re.compile(r"(?:`|\))?((?:(?:,| and|,? or)? ?§ ?\d+)+)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(rf"(?:[\w.-]+/)*[\w-][\w.-]*\.(?:{SOURCE})")
EXTERNAL = ("cudnn.h", "mpi.h", "nccl.h")  # headers of other projects that READMEs mention
# What quotes bad citations on purpose: this script and its test.
EXEMPT = ("tools/check_citations.py", "tests/docs/test_check_citations.py")


def list_files(root):
    if os.path.exists(os.path.join(root, ".git")):
        output = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                                check=True, capture_output=True, text=True).stdout
        names = [name for name in output.split("\0") if name]
    else:
        names = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, files in os.walk(root) for name in files]
    return sorted(name for name in names if os.path.isfile(os.path.join(root, name)))


def anchors(text):
    """The anchors a forge makes of a Markdown file's headings."""
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


class Check:
    def __init__(self, root):
        self.root, self.files, self.broken = root, list_files(root), []
        self.names = {os.path.basename(name) for name in self.files}
        self.texts = {}

    def text(self, name):
        if name not in self.texts:
            with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as file:
                self.texts[name] = file.read()
        return self.texts[name]

    def report(self, name, line, what):
        self.broken.append(f"{name}:{line}: {what}")

    def find(self, cited, citing):
        """The file that `cited` means in `citing`: from the root, or from the folder of `citing`."""
        for path in (cited, os.path.normpath(os.path.join(os.path.dirname(citing), cited))):
            if path in self.files:
                return path
        return None

    def sections(self, document):
        return set(re.findall(r"^## (\d+)\.", self.text(document), re.M))

    def check_citations(self, name):
        own = os.path.basename(name) == "SPEC.md"
        for number, line in enumerate(self.text(name).splitlines(), 1):
            rest = line
            for match in DOCUMENT.finditer(line):
                folder, word, ending = match.groups()
                document = self.find(f"{folder}{word}.md", name) if ending else None
                if document is None:
                    self.report(name, number, f"'{match.group()}' names no file: cite as in 'train/model/SPEC.md §1'")
                after = SECTIONS.match(line, match.end())
                if not after:
                    continue
                rest = rest.replace(after.group(1), "", 1)
                for section in re.findall(r"\d+", after.group(1)) if document else ():
                    if section not in self.sections(document):
                        self.report(name, number, f"{document} has no section {section}")
            for section in re.findall(r"§ ?(\w*)", rest):
                if not own:
                    self.report(name, number, f"'§{section}' of which document? Name it before, on the same line")
                elif section not in self.sections(name):
                    self.report(name, number, f"{name} has no section {section}")

    def check_links(self, name):
        for number, line in enumerate(self.text(name).splitlines(), 1):
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                linked = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
                if not os.path.exists(os.path.join(self.root, linked)):
                    self.report(name, number, f"the link to '{target}' leads nowhere")
                elif anchor and linked.endswith(".md") and anchor not in anchors(self.text(linked)):
                    self.report(name, number, f"{linked} has no heading for '#{anchor}'")

    def check_named_files(self, name):
        rooms = {path.split("/")[0] for path in self.files if "/" in path}
        folder = os.path.dirname(name)
        rooms |= {os.path.relpath(path, folder or ".").split("/")[0] for path in self.files
                  if path.startswith(folder + "/") and "/" in os.path.relpath(path, folder)}
        for number, line in enumerate(self.text(name).splitlines(), 1):
            for code in re.findall(r"`([^`]+)`", line):
                for word in code.split():
                    if not NAMED_FILE.fullmatch(word):
                        continue
                    if "/" in word:
                        missing = word.split("/")[0] in rooms and self.find(word, name) is None
                    else:
                        missing = (word.endswith((".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".sbatch"))
                                   and word not in self.names and word not in EXTERNAL)
                    if missing:
                        self.report(name, number, f"there is no file '{word}'")

    def run(self):
        for name in self.files:
            base = os.path.basename(name)
            if name in EXEMPT or not (name.endswith(TEXT) or base in ("run", "Dockerfile")):
                continue
            self.check_citations(name)
            if name.endswith(".md"):
                self.check_links(name)
            if name.endswith(".md") and base != "CHANGELOG.md":
                self.check_named_files(name)
        return self.broken


def main(arguments):
    if len(arguments) > 1 or (arguments and not os.path.isdir(arguments[0])):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    root = arguments[0] if arguments else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    broken = Check(root).run()
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
