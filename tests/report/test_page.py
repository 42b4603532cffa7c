"""Tests the page of three files: every section, verdicts and numbers against the files, figures."""
import re
import unittest

import support  # first: it makes the other modules known, or skips
import h5py
import numpy as np
from reporting import numbers
from support import ANSWERS, CLAIMS, GRID, WORDS, make, path, read_all


def setUpModule():
    size = dict(split="confirmation", documents=210, seq_len=32)
    support.write("main.h5", **size)
    support.write("early.h5", checkpoint_step=500, effect_scale=0.3, edges=False, **size)
    support.write("second.h5", seed=2, edges=False, **size)


class WholePage(support.PageTest):
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
        wanted = [
            "Routing report",
            "What was claimed",
            "Known answers",
            "Where routing looks",
            "Does weight predict",
            "Every effect",
            "Taken away, or only",
            "What a read is made of",
            "Every read by itself",
            "Is the gradient",
            "Over training",
            "Run by run",
            "Methods",
        ]
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
        self.assertGreater(
            len({word for _, word in self.page.verdicts} & WORDS), 2, "the files do not try enough words"
        )

    def test_numbers_are_those_of_the_files(self):
        """Exactly in <data value>, to three digits in what is read."""
        cell = self.results["cell"]
        index = {name.decode(): i for i, name in enumerate(cell["cell"])}
        for name, row in self.page.rows(GRID).items():
            of_results, of_analysis = index[name], self.cells.index(name)
            self.shows(row["mass"], [cell["mass"][of_results]])
            self.shows(row["ΔNLL, nats/token"], [self.of_file["cell/delta_nll"][of_analysis]])
            self.shows(
                row["95 % interval"],
                [self.of_file[f"cell/delta_nll_{end}"][of_analysis] for end in ("low", "high")],
            )
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
            self.assertAlmostEqual(
                float(text.replace("−", "-")) / (value or 1), 1 if value else 0, delta=0.03, msg=cell["text"]
            )

    def test_is_about_the_latest_step_of_the_first_run(self):
        self.assertIn("step 2\u2009000", self.page.text)
        steps = [table for caption, (table, *_) in self.page.tables.items() if caption == "Over training"][0]
        self.assertEqual({row[1]["text"] for row in steps[1:]}, {"500", "2\u2009000"})
        runs = [
            table
            for caption, (table, *_) in self.page.tables.items()
            if caption.startswith("ΔNLL, nats/token, of every")
        ][0]
        self.assertEqual(
            [cell["text"] for cell in runs[0]], ["cell", "runs/demo-1", "runs/demo-2", "raises the loss"]
        )

    def test_names_the_costliest_source(self):
        effect = {name: row["ΔNLL, nats/token"]["values"] for name, row in self.page.rows(GRID).items()}
        costliest = max((name for name, values in effect.items() if values), key=lambda name: effect[name])
        self.assertEqual(costliest, "mask/embedding/mlp/early")
        self.assertTrue(
            "the token embedding in the early MLP layers: without it the loss rose by "
            + numbers.signed(effect[costliest][0])
            in self.page.text
        )

    def test_figures_follow_light_and_dark(self):
        panels = self.page.tags.count("svg")
        self.assertGreaterEqual(panels, 16)
        drawn = " ".join(style for style in self.page.styles if "{" not in style)
        self.assertEqual(
            set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#ffffff"},
            set(),
            "colours that do not change with the theme",
        )
        self.assertIn("prefers-color-scheme: dark", self.text)

    def test_writes_a_pdf_per_figure(self):
        pdfs = read_all("whole_figures")
        self.assertEqual(len(pdfs), self.page.tags.count("figure"))
        self.assertEqual({content[:5] for content in pdfs.values()}, {b"%PDF-"})


class Numbers(unittest.TestCase):
    def test_as_many_digits_as_a_reader_needs(self):
        for value, text in (
            (0.0, "0"),
            (2.86276, "+2.86"),
            (-0.0142331, "−0.0142"),
            (9.996e-3, "+0.0100"),
            (0.00034, "+0.000340"),
            (-8.7e-5, "−8.7e−5"),
            (1234.5, "+1234"),
            (float("nan"), "–"),
            (float("-inf"), "−∞"),
        ):
            self.assertEqual(numbers.signed(value), text)
        self.assertEqual(numbers.percent(0.0808), "8.08\u2009%")
        self.assertEqual(numbers.count(14912), "14\u2009912")


if __name__ == "__main__":
    unittest.main()
