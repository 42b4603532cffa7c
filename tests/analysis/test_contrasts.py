"""Contrasts and claims."""
import numpy as np

import support
import synthetic
from analysis.bootstrap import Draws
from analysis.cells import Options
from analysis.contrasts import estimate_contrasts, judge_claims
from analysis.documents import Documents
from analysis.results_file import AnalysisError, read_results

OLDER, RECENT, GONE = "mask/older/attn/late", "mask/recent/attn/late", "mask/older/attn/early"


class OfOneFile(support.InFolder):

    def read(self, **options):
        synthetic.write(self.path("results.h5"), edges=False, more=False, **{"grids": ("mask", ), **options})
        results = read_results(self.path("results.h5"))
        documents = Documents(results)
        return results, documents, Draws(len(documents), 1000, 1)


class Contrasts(OfOneFile):

    def test_a_contrast_is_paired(self):
        results, documents, draws = self.read()
        table = estimate_contrasts(results, documents, draws,
                                   Options(bootstrap=1000, contrasts=((OLDER, RECENT), )))
        self.assertEqual((table["cell"][0], table["minus"][0], table["kind"][0]),
                         (OLDER, RECENT, "requested"))
        a, b = (results.sums["delta_nll"][results.index(name)].sum() for name in (OLDER, RECENT))
        self.assertAlmostEqual(table["difference"][0], (a - b) / results.tokens.sum(), 14)
        self.assertEqual(len(set(zip(table["cell"], table["minus"]))), len(table["cell"]))

    def test_equal_cells_do_not_differ_although_each_varies(self):
        numbers = synthetic.Numbers(grids=("mask", ), edges=False, more=False, claims=[])
        delta = numbers.tokens * np.random.default_rng(1).lognormal(0, 1, len(numbers.tokens))
        results, documents, draws = self.read(sums={
            OLDER: {
                "delta_nll": delta
            },
            RECENT: {
                "delta_nll": delta.copy()
            }
        })
        table = estimate_contrasts(results, documents, draws,
                                   Options(bootstrap=1000, contrasts=((OLDER, RECENT), )))
        self.assertEqual(
            (table["difference"][0], table["difference_low"][0], table["difference_high"][0], table["p"][0]),
            (0, 0, 0, 1))

    def test_all_pairs_of_families_at_a_sublayer_and_band(self):
        results, documents, draws = self.read(grids=("mask", "mean"))
        table = estimate_contrasts(results, documents, draws, Options(bootstrap=1000))
        place = {name: name.split("/") for name in results.names}
        expected = {
            frozenset((a, b))
            for a in results.names
            for b in results.names
            if a < b and results.measured[results.index(a)] and results.measured[results.index(b)]
            and place[a][0] == place[b][0] and place[a][2:] == place[b][2:]
        }
        self.assertEqual({frozenset(pair) for pair in zip(table["cell"], table["minus"])}, expected)

    def test_unknown_cells_are_refused_by_name(self):
        results, documents, draws = self.read()
        for pair in ((OLDER, "mask/odler/attn/late"), (GONE, OLDER)):
            with self.assertRaisesRegex(AnalysisError, pair[1] if pair[0] == OLDER else pair[0]):
                estimate_contrasts(results, documents, draws, Options(bootstrap=1000, contrasts=(pair, )))


class Claims(OfOneFile):

    def judge(self, *claims, **options):
        named = [{"name": f"claim {number}", **claim} for number, claim in enumerate(claims)]
        results, documents, draws = self.read(**{"split": "confirmation", "claims": named, **options})
        return judge_claims(results, documents, draws, Options(bootstrap=1000))

    def test_verdicts(self):
        # Masking `older` costs about .06, `recent` about .02.
        table = self.judge({
            "cell": OLDER,
            "exceeds": RECENT,
            "margin": 0.01
        }, {
            "cell": OLDER,
            "exceeds": RECENT,
            "margin": 0.2
        }, {
            "cell": RECENT,
            "exceeds": OLDER
        }, {
            "cell": RECENT,
            "exceeds": OLDER,
            "negative": 1
        }, {
            "cell": OLDER,
            "margin": 0.02
        }, {"cell": "mask/older/mlp/late"}, {
            "cell": OLDER,
            "measure": "kl",
            "margin": 0.001
        })
        self.assertEqual(table["verdict"],
                         ["holds", "fails", "fails", "holds", "holds", "undecided", "holds"])
        self.assertAlmostEqual(table["difference"][2], -table["difference"][3], 15)
        self.assertEqual(set(table["reason"]), {""})

    def test_more_claims_make_each_interval_wider(self):
        claim = {"cell": OLDER, "exceeds": RECENT}
        alone = self.judge(claim)
        among = self.judge(
            claim, *[{
                "cell": f"mask/current/{sublayer}/{band}"
            } for sublayer in ("attn", "mlp") for band in ("early", "mid", "late")])
        self.assertAlmostEqual(among["difference"][0], alone["difference"][0], 14)
        # The largest of seven |t*| reaches further than one by half a standard error or so.
        wider = (alone["difference_low"][0] - among["difference_low"][0]) / alone["difference_se"][0]
        self.assertTrue(0.2 < wider < 1.5, wider)

    def test_claims_about_kl_compare_kl(self):
        results, _, _ = self.read()
        older, recent = (results.sums["kl"][results.index(name)].sum() for name in (OLDER, RECENT))
        table = self.judge({"cell": OLDER, "exceeds": RECENT, "measure": "kl"})
        self.assertAlmostEqual(table["difference"][0], (older - recent) / results.tokens.sum(), 14)

    def test_only_the_confirmation_split_is_judged(self):
        table = self.judge({"cell": OLDER, "exceeds": RECENT}, split="exploration")
        self.assertEqual((table["verdict"], table["reason"]), (["not_judged"], ["split is exploration"]))
        self.assertTrue(np.isfinite(table["difference"][0]))

    def test_claims_about_what_is_not_there(self):
        table = self.judge({"cell": GONE}, {"cell": "mask/odler"}, {"cell": OLDER, "exceeds": GONE})
        self.assertEqual(table["verdict"], ["not_judged"] * 3)
        self.assertEqual(
            table["reason"],
            [f"cell {GONE} was not run", "there is no cell mask/odler", f"cell {GONE} was not run"])

    def test_failed_known_answers_leave_claims_open(self):
        table = self.judge({"cell": OLDER}, answers_pass=False)
        self.assertEqual(table["verdict"], ["not_judged"])
        self.assertIn("identity", table["reason"][0])


if __name__ == "__main__":
    support.unittest.main()
