"""Makes results files, analyses and pages for the tests of tools/report.py; run from a temporary folder."""
import os
import re
import subprocess
import sys
import tempfile
import unittest

try:
    import h5py  # noqa: F401
    import matplotlib  # noqa: F401
    import numpy  # noqa: F401
    import scipy  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TOOLS = os.path.join(TESTS, "..", "tools")
sys.path[:0] = [os.path.join(TESTS, "analysis"), TOOLS]
import synthetic  # noqa: E402
from page_reader import Page  # noqa: E402

GRID = "Cells of the grid"
CLAIMS = "Claims, hashed into the results file before it was measured"
ANSWERS = "Interventions whose outcome is known beforehand"
WORDS = {"effect", "negligible", "inconclusive", "not_run", "holds", "fails", "undecided"}
SMALL = dict(
    grids=("mask",), edges=False, more=False, seq_len=16
)  # options of a file that is analysed quickly
FOLDER = tempfile.TemporaryDirectory()


def path(name):
    return os.path.join(FOLDER.name, name)


def write(name, **options):
    synthetic.write(path(name), **options)


def run(program, *arguments, hash_seed="0"):
    return subprocess.run(
        [sys.executable, os.path.join(TOOLS, program), *arguments],
        capture_output=True,
        text=True,
        cwd=FOLDER.name,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def analyse(name, files):
    """NAME-analysis.h5 of `files`, made once."""
    analysis = f"{name}-analysis.h5"
    if not os.path.exists(path(analysis)):
        done = run("analyze.py", *files, "-o", analysis, "--bootstrap", "300", "--rank-draws", "100")
        assert done.returncode == 0, done.stderr
    return analysis


def make(name, files, *arguments, hash_seed="0"):
    """Analyses `files`, makes the page NAME.html of them and reads it back: (page, text)."""
    analysis = analyse(name, files)
    done = run(
        "report.py", *files, "--analysis", analysis, "-o", f"{name}.html", *arguments, hash_seed=hash_seed
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    with open(path(f"{name}.html"), encoding="utf-8") as file:
        text = file.read()
    return Page(text), text


def read_all(folder):
    """Every file of the folder: {name: bytes}."""
    found = {}
    for name in os.listdir(path(folder)):
        with open(os.path.join(path(folder), name), "rb") as file:
            found[name] = file.read()
    return found


class PageTest(unittest.TestCase):
    """What holds for any page; `check` is called on all that these tests make."""

    def check(self, page, text):
        self.assertEqual(page.problems, [])
        self.assertEqual(len(page.ids), len(set(page.ids)), "an id stands twice")
        self.assertEqual(
            [link for link in page.links if not link.startswith("#")], [], "the page needs other files"
        )
        self.assertEqual({link[1:] for link in page.links} - set(page.ids), set(), "links lead nowhere")
        self.assertEqual(re.findall(r"https?://|@import|<script|<link|url\((?!#)", text), [])
        self.assertNotIn("nan", re.findall(r"[a-z]+", page.text.lower()))
