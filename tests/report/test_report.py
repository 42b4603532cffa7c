"""Tests tools/report.py through its command line, on results and analysis files that tests/analysis makes up."""
import os
import re
import subprocess
import sys
import tempfile
import unittest

try:
    import h5py
    import matplotlib  # noqa: F401
    import numpy as np
    import scipy  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TOOLS = os.path.join(TESTS, "..", "tools")
sys.path[:0] = [os.path.join(TESTS, "analysis"), TOOLS]
import synthetic  # noqa: E402
from page_reader import Page  # noqa: E402
from reporting import numbers  # noqa: E402

GRID, CLAIMS, ANSWERS = ("Cells of the grid", "Claims, hashed into the results file before it was measured",
                         "Interventions whose outcome is known beforehand")
WORDS = {"effect", "negligible", "inconclusive", "not_run", "holds", "fails", "undecided"}
FOLDER = None


def path(name):
    return os.path.join(FOLDER.name, name)


def run(program, *arguments, hash_seed="0"):
    return subprocess.run([sys.executable, os.path.join(TOOLS, program), *arguments], capture_output=True, text=True,
                          cwd=FOLDER.name, env={**os.environ, "PYTHONHASHSEED": hash_seed})


def make(name, files, *arguments, hash_seed="0"):
    """Analyses `files`, makes the page NAME.html of them and reads it back."""
    analysis = path(f"{name}-analysis.h5")
    if not os.path.exists(analysis):
        done = run("analyze.py", *files, "-o", analysis, "--bootstrap", "300", "--rank-draws", "100")
        assert done.returncode == 0, done.stderr
    done = run("report.py", *files, "--analysis", analysis, "-o", f"{name}.html", *arguments, hash_seed=hash_seed)
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


def setUpModule():
    global FOLDER
    FOLDER = tempfile.TemporaryDirectory()
    small = dict(documents=210, seq_len=32)
    synthetic.write(path("main.h5"), split="confirmation", **small)
    synthetic.write(path("early.h5"), split="confirmation", checkpoint_step=500, effect_scale=0.3, edges=False, **small)
    synthetic.write(path("second.h5"), split="confirmation", seed=2, edges=False, **small)
    lean = dict(grids=("mask",), edges=False, more=False, seq_len=16)
    synthetic.write(path("failed.h5"), answers_pass=False, documents=50, **lean)
    synthetic.write(path("changed.h5"), variant="additive", checksum_after="22" * 16, documents=210, seq_len=16)
    synthetic.write(path("few.h5"), documents=50, separated=False, unigram_entropy=2.6, **lean)
    synthetic.write(path("wrapped.h5"), wrapped=3.0, checkpoint_step=-1, run="plain", documents=210, **lean)
    synthetic.write(path("plain.h5"), variant="additive", checkpoint_step=-1, run="plain", documents=210, seq_len=16)


def tearDownModule():
    FOLDER.cleanup()


class EveryPage(unittest.TestCase):
    """What holds for any page; `check` is called on all that these tests make."""

    def check(self, page, text):
        self.assertEqual(page.problems, [])
        self.assertEqual(len(page.ids), len(set(page.ids)), "an id stands twice")
        self.assertEqual([link for link in page.links if not link.startswith("#")], [], "the page needs other files")
        self.assertEqual({link[1:] for link in page.links} - set(page.ids), set(), "links lead nowhere")
        self.assertEqual(re.findall(r"https?://|@import|<script|<link|url\((?!#)", text), [])
        self.assertNotIn("nan", re.findall(r"[a-z]+", page.text.lower()))


class WholePage(EveryPage):
    @classmethod
    def setUpClass(cls):
        cls.page, cls.text = make("whole", ["early.h5", "main.h5", "second.h5"], "--figures")
        cls.analysis = h5py.File(path("whole-analysis.h5"), "r")
        cls.results = h5py.File(path("main.h5"), "r")
        cls.of_file = cls.analysis["file_0001"]
        cls.cells = [name.decode() for name in cls.of_file["cell/cell"]]

    @classmethod
    def tearDownClass(cls):
        cls.analysis.close()
        cls.results.close()

    def test_is_whole_and_needs_nothing(self):
        self.check(self.page, self.text)

    def test_has_every_section_in_order(self):
        wanted = ["Routing report", "What was claimed", "Known answers", "Where routing looks", "Does weight predict",
                  "Every effect", "Taken away, or only", "What a read is made of", "Every read by itself", "Is the gradient",
                  "Over training", "Run by run", "Methods"]
        self.assertEqual(len(self.page.headings), len(wanted))
        for heading, words in zip(self.page.headings, wanted):
            self.assertIn(words, heading)

    def test_verdicts_are_those_of_the_analysis(self):
        verdicts = dict(zip(self.cells, (word.decode() for word in self.of_file["cell/verdict"])))
        rows = self.page.tables[GRID][0][1:]
        self.assertEqual(len(rows), 24)
        for row in rows:
            self.assertEqual([row[6]["verdicts"]], [[verdicts[row[0]["text"]]]], row[0]["text"])
        claims = self.page.rows(CLAIMS)
        for name, word in zip(self.of_file["claim/claim"], self.of_file["claim/verdict"]):
            row = next(row for first, row in claims.items() if first.startswith(name.decode()))
            self.assertEqual(row["verdict"]["verdicts"], [word.decode()])
        self.assertGreater(len({word for _, word in self.page.verdicts} & WORDS), 2, "the files do not try enough words")

    def test_numbers_are_those_of_the_files(self):
        """Exactly in <data value>, to three digits in what is read."""
        cell = self.results["cell"]
        index = {name.decode(): i for i, name in enumerate(cell["cell"])}
        for name, row in self.page.rows(GRID).items():
            of_results, of_analysis = index[name], self.cells.index(name)
            self.shows(row["mass"], [cell["mass"][of_results]])
            self.shows(row["ΔNLL, nats/token"], [self.of_file["cell/delta_nll"][of_analysis]])
            self.shows(row["95 % interval"], [self.of_file[f"cell/delta_nll_{end}"][of_analysis] for end in ("low", "high")])
            self.shows(row["KL, nats/token"], [cell["kl"][of_results]])
        for i, name in enumerate(self.results["known_answer/known_answer"]):
            row = self.page.rows(ANSWERS)[name.decode()]
            self.shows(row["largest change, nats"], [self.results["known_answer/largest_change"][i]])

    def shows(self, cell, values):
        values = [value for value in map(float, values) if not np.isnan(value)]
        self.assertEqual(cell["values"], values)
        read = re.findall(r"[+−]?[\d.]+(?:e[−\d]+)?", cell["text"])
        self.assertEqual(len(read), len(values), cell["text"])
        for value, text in zip(values, read):
            self.assertAlmostEqual(float(text.replace("−", "-")) / (value or 1), 1 if value else 0, delta=0.03, msg=cell["text"])

    def test_is_about_the_latest_step_of_the_first_run(self):
        self.assertIn("step 2\u2009000", self.page.text)
        steps = [table for caption, (table, *_) in self.page.tables.items() if caption == "Over training"][0]
        self.assertEqual({row[1]["text"] for row in steps[1:]}, {"500", "2\u2009000"})
        runs = [table for caption, (table, *_) in self.page.tables.items() if caption.startswith("ΔNLL, nats/token, of every")][0]
        self.assertEqual([cell["text"] for cell in runs[0]], ["cell", "runs/demo-1", "runs/demo-2", "raises the loss"])

    def test_names_the_costliest_source(self):
        effect = {name: row["ΔNLL, nats/token"]["values"] for name, row in self.page.rows(GRID).items()}
        costliest = max((name for name, values in effect.items() if values), key=lambda name: effect[name])
        self.assertEqual(costliest, "mask/embedding/mlp/early")
        self.assertTrue("the token embedding in the early MLP layers: without it the loss rose by "
                        + numbers.signed(effect[costliest][0]) in self.page.text)

    def test_figures_follow_light_and_dark(self):
        panels = self.page.tags.count("svg")
        self.assertGreaterEqual(panels, 16)
        drawn = " ".join(style for style in self.page.styles if "{" not in style)
        self.assertEqual(set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#ffffff"}, set(), "colours that do not change with the theme")
        self.assertIn("prefers-color-scheme: dark", self.text)

    def test_writes_a_pdf_per_figure(self):
        pdfs = read_all("whole_figures")
        self.assertEqual(len(pdfs), self.page.tags.count("figure"))
        self.assertEqual({content[:5] for content in pdfs.values()}, {b"%PDF-"})


class OtherPages(EveryPage):
    def test_a_failed_answer_stands_on_top_and_silences_verdicts(self):
        for name in ("failed", "changed"):
            with self.subTest(name):
                page, text = make(name, [f"{name}.h5"])
                self.check(page, text)
                self.assertEqual(page.order[0], "box failure")
                self.assertEqual({word for _, word in page.verdicts} & WORDS, set())
                self.assertEqual(re.findall("negligible|inconclusive|undecided|mattered most was", page.text), [])

    def test_warnings(self):
        page, text = make("few", ["few.h5"], "--figures")
        self.check(page, text)
        said = " ".join(content for kind, content in page.boxes if "warning" in kind)
        for words in ("split 'exploration'", "50 documents", "separator", "mask/embedding/mlp/early"):
            self.assertIn(words, said)
        self.assertIn("predicts worse than token frequencies alone would", page.text[:page.text.index("Variant")])
        self.assertIn("grids: edges: all", page.text)
        self.equal_again(text)

    def equal_again(self, text):
        """Equal input gives equal bytes, whatever the order in which Python's sets come out."""
        pdfs = read_all("few_figures")
        _, again = make("few", ["few.h5"], "--figures", hash_seed="7")
        self.assertTrue(text == again, "the page differs")
        self.assertTrue(pdfs and pdfs == read_all("few_figures"), "the PDFs differ")

    def test_a_wrapped_model_stands_beside_its_formula(self):
        page, text = make("wrapped", ["wrapped.h5"])
        self.check(page, text)
        rows = page.rows("Measured weights and the formula")
        self.assertAlmostEqual(rows["layers.0.mlp"]["by the formula"]["values"][0], np.exp(3) / (np.exp(3) + 1), places=12)

    def test_a_plain_model_without_cells(self):
        page, text = make("plain", ["plain.h5"])
        self.check(page, text)
        self.assertEqual(page.tags.count("svg"), 0)
        self.assertIn("A plain model has no routing", page.text)

    def test_without_analysis_computes_it(self):
        done = run("report.py", "plain.h5", "-o", "alone.html")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(os.listdir(FOLDER.name).count("alone.html"), 1)


class BadInput(unittest.TestCase):
    def refused(self, *arguments):
        """One line, status 2, nothing written; returns the line."""
        before = sorted(os.listdir(FOLDER.name))
        done = run("report.py", *arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"\Areport\.py: [^\n]+\n\Z")
        self.assertEqual(sorted(os.listdir(FOLDER.name)), before)
        return done.stderr

    def test_files_that_are_no_results(self):
        with open(path("text.h5"), "w", encoding="utf-8") as file:
            file.write("not HDF5")
        with h5py.File(path("old.h5"), "w") as file:
            file.attrs["schema_version"] = 1
        with h5py.File(path("other.h5"), "w") as file:
            file["x"] = 1
        for name, words in (("none.h5", "no such file"), ("text.h5", "not a readable HDF5 file"), ("old.h5", "schema_version 1"),
                            ("other.h5", "has no schema_version")):
            with self.subTest(name):
                self.assertIn(f"{name}: ", message := self.refused("plain.h5", name, "-o", "bad.html", "--figures"))
                self.assertIn(words, message)

    def test_an_analysis_of_something_else(self):
        make("plain", ["plain.h5"])
        self.assertIn("does not hold few.h5", self.refused("few.h5", "--analysis", "plain-analysis.h5", "-o", "bad.html"))
        self.assertIn("not an analysis file", self.refused("few.h5", "--analysis", "few.h5", "-o", "bad.html"))

    def test_outputs_that_cannot_be(self):
        os.makedirs(path("folder"), exist_ok=True)
        self.assertIn("make it first", self.refused("plain.h5", "-o", "nowhere/bad.html"))
        self.assertIn("is a folder", self.refused("plain.h5", "-o", "folder"))
        self.assertIn("is an input", self.refused("plain.h5", "-o", "plain.h5"))
        self.assertIn("is a file", self.refused("plain.h5", "-o", "bad.html", "--figures", "plain.h5"))
        self.assertIn("required", self.refused("plain.h5"))


class Numbers(unittest.TestCase):
    def test_as_many_digits_as_a_reader_needs(self):
        for value, text in ((0.0, "0"), (2.86276, "+2.86"), (-0.0142331, "−0.0142"), (9.996e-3, "+0.0100"), (0.00034, "+0.000340"),
                            (-8.7e-5, "−8.7e−5"), (1234.5, "+1234"), (float("nan"), "–"), (float("-inf"), "−∞")):
            self.assertEqual(numbers.signed(value), text)
        self.assertEqual(numbers.percent(0.0808), "8.08\u2009%")
        self.assertEqual(numbers.count(14912), "14\u2009912")


if __name__ == "__main__":
    unittest.main()
