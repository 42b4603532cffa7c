"""What the intervals and p-values promise, on made-up evaluations: documents of unequal lengths over windows,
outcomes per segment.

Repeats share draws where they share documents' lengths, which changes no probability. Bounds leave room for
the error of the simulation itself; the seeds are fixed."""
import unittest

import numpy as np

import support  # noqa: F401
import synthetic_numbers
from analysis import adjust
from analysis.bootstrap import Draws, studentise
from analysis.cells import Options, equivalence
from analysis.documents import Documents


class Layout:
    """Stands for the Results of an evaluation of `documents` documents, as far as Documents reads it."""

    def __init__(self, documents, seed):
        segment = synthetic_numbers.layout(documents, 64, seed)
        self.document, self.tokens = segment["document"], segment["tokens"].astype(float)


def outcomes(documents, layout, columns, mean, kind, random, shared=0.3):
    """Sums by document of `columns` outcomes: a document's effect is drawn once, tokens add noise by
    segment."""
    own, common = random.normal(size=(len(documents), columns)), random.normal(size=(len(documents), 1))
    z = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    skew = {"normal": None, "lognormal 0.5": 0.5, "lognormal 0.7": 0.7}[kind]
    effect = z if skew is None else np.exp(skew * z - skew**2 / 2) - 1
    _, place = np.unique(layout.document, return_inverse=True)
    noise = np.sqrt(layout.tokens)[:, None] * random.normal(0, 0.5, (len(place), columns))
    return documents.sum(layout.tokens[:, None] * (mean + effect[place]) + noise)


KINDS = ("normal", "lognormal 0.5", "lognormal 0.7")


class Simulation(unittest.TestCase):

    def check_coverage(self, count):
        """2,000 intervals for each kind of outcome. A rate of .95 has a standard error of .005."""
        random = np.random.default_rng(count)
        for kind in KINDS:
            covered = []
            for lengths in range(10):
                layout = Layout(count, lengths)
                documents = Documents(layout)
                sums = outcomes(documents, layout, 200, 1.0, kind, random, shared=0.0)
                low, high = studentise(sums, documents.tokens, Draws(count, 1000, lengths)).interval(0.95)
                covered.append((low <= 1) & (1 <= high))
            with self.subTest(kind=kind):
                self.assertGreaterEqual(np.mean(covered), 0.92)
                self.assertLessEqual(np.mean(covered), 0.97)

    def test_coverage_at_200_documents(self):
        self.check_coverage(200)

    def test_coverage_at_500_documents(self):
        self.check_coverage(500)

    def test_familywise_false_positives(self):
        """1,000 families of 24 cells without effects for each kind, at 200 documents. A rate of .05 has a
        standard error of .007."""
        random = np.random.default_rng(7)
        for kind in KINDS:
            found = []
            for lengths in range(20):
                layout = Layout(200, lengths)
                documents = Documents(layout)
                families = [outcomes(documents, layout, 24, 0.0, kind, random) for _ in range(50)]
                estimates = studentise(np.hstack(families), documents.tokens, Draws(200, 999, lengths))
                found += [(adjust.step_down(estimates.take(slice(first, first + 24))) <= 0.05).any()
                          for first in range(0, 1200, 24)]
            with self.subTest(kind=kind):
                self.assertLessEqual(np.mean(found), 0.06)
                self.assertGreaterEqual(np.mean(found), 0.02)

    def test_false_equivalence_at_the_margin(self):
        """An effect just as large as the margin passes for equivalent in about 5 % of cases."""
        random = np.random.default_rng(9)
        for kind in KINDS:
            passed = []
            for lengths in range(10):
                layout = Layout(300, lengths)
                documents = Documents(layout)
                sums = outcomes(documents, layout, 200, 0.5, kind, random, shared=0.0)
                estimates = studentise(sums, documents.tokens, Draws(300, 1000, lengths))
                outcome = equivalence(estimates, estimates, Options(margin=0.5))
                passed.append(outcome["delta_nll_equivalent"])
            with self.subTest(kind=kind):
                self.assertLessEqual(np.mean(passed), 0.08)
                self.assertGreaterEqual(np.mean(passed), 0.035)


if __name__ == "__main__":
    unittest.main()
