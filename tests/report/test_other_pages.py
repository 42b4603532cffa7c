"""Tests pages of files that failed, are few, wrapped, or plain; and what is refused."""
import os
import re
import unittest

import support  # first: it makes the other modules known, or skips
import h5py
import numpy as np
from support import SMALL, WORDS, make, path, read_all, run


def setUpModule():
    support.write("failed.h5", answers_pass=False, documents=50, **SMALL)
    support.write("changed.h5", variant="additive", checksum_after="22" * 16, documents=210, seq_len=16)
    support.write("few.h5", documents=50, separated=False, unigram_entropy=2.6, **SMALL)
    support.write("wrapped.h5", wrapped=3.0, checkpoint_step=-1, run="plain", documents=210, **SMALL)
    support.write("explored.h5", claims=[], documents=210, **SMALL)
    support.write("confirmed.h5", split="confirmation", data_seed=2, documents=220, **SMALL)
    support.write("plain.h5", variant="additive", checkpoint_step=-1, run="plain", documents=210, seq_len=16)


class OtherPages(support.PageTest):
    def test_a_failed_answer_stands_on_top_and_silences_verdicts(self):
        for name in ("failed", "changed"):
            with self.subTest(name):
                page, text = make(name, [f"{name}.h5"])
                self.check(page, text)
                self.assertEqual(page.order[0], "box failure")
                self.assertEqual({word for _, word in page.verdicts} & WORDS, set())
                self.assertEqual(
                    re.findall("negligible|inconclusive|undecided|mattered most was", page.text), []
                )

    def test_warnings(self):
        page, text = make("few", ["few.h5"], "--figures")
        self.check(page, text)
        said = " ".join(content for kind, content in page.boxes if "warning" in kind)
        for words in (
            "split 'exploration'",
            "50 documents",
            "Notes of the analysis",
            "mask/embedding/mlp/early",
        ):
            self.assertIn(words, said)
        self.assertIn(
            "predicts worse than token frequencies alone would", page.text[: page.text.index("Variant")]
        )
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
        self.assertAlmostEqual(
            rows["layers.0.mlp"]["by the formula"]["values"][0], np.exp(3) / (np.exp(3) + 1), places=12
        )

    def test_claims_judged_on_other_documents_and_a_wrapped_model_beside_it(self):
        page, text = make("explored", ["explored.h5", "confirmed.h5", "wrapped.h5"])
        self.check(page, text)
        self.assertIn("Judged in confirmed.h5: split 'confirmation', 220 documents.", page.text)
        self.assertTrue(page.rows(support.CLAIMS))
        self.assertIn("Here wrapped.h5, a plain model read under a fixed schedule.", page.text)

    def test_a_plain_model_without_cells(self):
        page, text = make("plain", ["plain.h5"])
        self.check(page, text)
        self.assertEqual(page.tags.count("svg"), 0)
        self.assertIn("A plain model has no routing", page.text)

    def test_without_analysis_computes_it(self):
        done = run("report.py", "plain.h5", "-o", "alone.html")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(os.listdir(support.FOLDER.name).count("alone.html"), 1)


class BadInput(unittest.TestCase):
    def refused(self, *arguments):
        """One line, status 2, nothing written; returns the line."""
        before = sorted(os.listdir(support.FOLDER.name))
        done = run("report.py", *arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"\Areport\.py: [^\n]+\n\Z")
        self.assertEqual(sorted(os.listdir(support.FOLDER.name)), before)
        return done.stderr

    def test_files_that_are_no_results(self):
        with open(path("text.h5"), "w", encoding="utf-8") as file:
            file.write("not HDF5")
        with h5py.File(path("old.h5"), "w") as file:
            file.attrs["schema_version"] = 1
        with h5py.File(path("other.h5"), "w") as file:
            file["x"] = 1
        for name, words in (
            ("none.h5", "no such file"),
            ("text.h5", "not a readable HDF5 file"),
            ("old.h5", "schema_version 1"),
            ("other.h5", "has no schema_version"),
        ):
            with self.subTest(name):
                self.assertIn(
                    f"{name}: ", message := self.refused("plain.h5", name, "-o", "bad.html", "--figures")
                )
                self.assertIn(words, message)

    def test_an_analysis_of_something_else(self):
        make("plain", ["plain.h5"])
        self.assertIn(
            "does not hold few.h5",
            self.refused("few.h5", "--analysis", "plain-analysis.h5", "-o", "bad.html"),
        )
        self.assertIn(
            "not an analysis file", self.refused("few.h5", "--analysis", "few.h5", "-o", "bad.html")
        )

    def test_outputs_that_cannot_be(self):
        os.makedirs(path("folder"), exist_ok=True)
        self.assertIn("make it first", self.refused("plain.h5", "-o", "nowhere/bad.html"))
        self.assertIn("is a folder", self.refused("plain.h5", "-o", "folder"))
        self.assertIn("is an input", self.refused("plain.h5", "-o", "plain.h5"))
        self.assertIn("is a file", self.refused("plain.h5", "-o", "bad.html", "--figures", "plain.h5"))
        self.assertIn("required", self.refused("plain.h5"))


if __name__ == "__main__":
    unittest.main()
