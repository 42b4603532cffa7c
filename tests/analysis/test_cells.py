"""Verdicts on made-up cells whose answer is known, and files that deserve none."""
import numpy as np
from scipy import stats

import support
import synthetic
from analysis.bootstrap import Draws
from analysis.cells import Options, judge_cells, verdicts, why_not_judged
from analysis.documents import Documents
from analysis.results_file import read_results

OPTIONS = Options(bootstrap=1000)


def planted(numbers, cell, mean, spread, kl):
    """Sums by segment: `mean` nats per token, documents differ by `spread`."""
    random = np.random.default_rng(8)
    _, place = np.unique(numbers.segment["document"], return_inverse=True)
    delta = numbers.tokens * (mean + random.normal(0, spread, place.max() + 1)[place])
    return {cell: {"delta_nll": delta, "kl": numbers.tokens * kl}}


class OfCells(support.InFolder):

    def judge(self, sums=None, options=OPTIONS, **more):
        synthetic.write(self.path("results.h5"), sums=sums, grids=("mask", ), edges=False, more=False, **more)
        results = read_results(self.path("results.h5"))
        documents = Documents(results)
        table, delta = judge_cells(results, documents, Draws(len(documents), options.bootstrap, 1), options)
        return results, table, delta

    def of_planted(self, mean, spread, kl, **more):
        name = "mask/older/attn/late"
        layout = synthetic.Numbers(grids=("mask", ), edges=False, more=False, claims=[])
        results, table, _ = self.judge(planted(layout, name, mean, spread, kl), **more)
        place = results.index(name)
        return {key: values[place] for key, values in table.items()}

    def test_verdicts(self):
        for mean, spread, kl, verdict, small, cancelling in ((0.05, 0.02, 0.03, "effect", 0,
                                                              0), (-0.05, 0.02, 0.03, "effect", 0,
                                                                   0), (0.004, 0.002, 0.002, "effect", 1, 0),
                                                             (0.0, 0.01, 0.002, "negligible", 0,
                                                              0), (0.0, 0.01, 0.5, "inconclusive", 0, 1),
                                                             (0.0, 0.5, 0.002, "inconclusive", 0, 0)):
            with self.subTest(mean=mean, spread=spread, kl=kl):
                found = self.of_planted(mean, spread, kl)
                self.assertEqual((found["verdict"], found["small"], found["cancelling"]),
                                 (verdict, small, cancelling))

    def test_equiv_bound_is_the_margin_that_decides(self):
        bound = self.of_planted(0.002, 0.05, 0.001)["equiv_bound"]
        self.assertTrue(0.002 < bound < 0.05)
        for factor, equivalent in ((1.001, 1), (0.999, 0)):
            found = self.of_planted(0.002, 0.05, 0.001, options=Options(bootstrap=1000,
                                                                        margin=factor * bound))
            self.assertEqual(found["delta_nll_equivalent"] and found["kl_equivalent"], equivalent)

    def test_estimates_are_ratios_of_sums_and_out_of_distribution_follows(self):
        results, table, _ = self.judge(unigram_entropy=3.0)
        total = results.tokens.sum()
        np.testing.assert_allclose(table["delta_nll"], results.sums["delta_nll"].sum(1) / total)
        np.testing.assert_allclose(table["flip_rate"], results.sums["flip_rate"].sum(1) / total)
        nll = (results.nll.sum() + results.sums["delta_nll"].sum(1)) / total
        np.testing.assert_array_equal(table["out_of_distribution"], nll > 3.0)
        self.assertTrue(0 < sum(table["out_of_distribution"]) < len(nll))

    def test_cells_that_did_not_run_have_no_numbers(self):
        results, table, _ = self.judge()
        self.assertTrue(0 < results.measured.sum() < len(results.names))
        for cell in np.flatnonzero(~results.measured):
            self.assertEqual(table["verdict"][cell], "not_run")
            for name in ("delta_nll", "kl_high", "p", "p_adjusted", "equiv_bound",
                         "minimal_detectable_effect"):
                self.assertTrue(np.isnan(table[name][cell]), name)
            self.assertFalse(table["delta_nll_equivalent"][cell] or table["few_documents"][cell])

    def test_minimal_detectable_effect_is_found_with_80_percent_power(self):
        """For normal outcomes: an effect as large as the bound is significant in about 80 % of repeats."""
        found = self.of_planted(0.0, 0.1, 0.0)
        error, documents = found["delta_nll_se"], 240
        self.assertAlmostEqual(found["minimal_detectable_effect"] / error,
                               stats.t.ppf(0.975, documents - 1) + stats.t.ppf(0.8, documents - 1), 0)
        self.assertGreater(found["minimal_detectable_effect_adjusted"], found["minimal_detectable_effect"])

    def test_no_verdicts_where_known_answers_failed(self):
        for options, words in (({
                "answers_pass": False
        }, "identity"), ({
                "checksum_after": "22" * 16
        }, "checksums")):
            results, table, _ = self.judge(**options)
            self.assertIn(words, why_not_judged(results))
            self.assertEqual(set(table["verdict"]), {"not_run", "not_judged"})

    def test_an_effect_needs_the_adjusted_p_below_alpha(self):
        self.assertEqual(
            verdicts(["measured"] * 3 + ["not_run"], np.array([0.049, 0.05, np.nan, np.nan]),
                     [True, False, True, False], True, 0.05),
            ["effect", "inconclusive", "negligible", "not_run"])

    def test_top_1_hits_are_lost_where_the_answer_is(self):
        results, table, _ = self.judge()
        cell = results.index("mask/embedding/mlp/early")
        self.assertLess(table["hit_change"][cell], -0.05)
        self.assertLess(table["hit_change_high"][cell], 0)


if __name__ == "__main__":
    support.unittest.main()
