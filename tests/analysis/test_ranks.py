"""Rank correlations against scipy's, dissociation and edge estimates on constructed cases."""
import numpy as np
from scipy import stats

import support
import synthetic
from analysis.associations import BANDS, PREDICTORS, SUBLAYERS, Associations
from analysis.bootstrap import Draws
from analysis.cells import Options
from analysis.documents import Documents
from analysis.ranks import correlate, dissociated, kendall_rows, rank_rows, spearman_rows
from analysis.results_file import read_results

OPTIONS = Options(bootstrap=400, rank_draws=200)


class Rows(support.unittest.TestCase):

    def setUp(self):
        random = np.random.default_rng(4)
        self.x, self.y = random.normal(size=(2, 60, 11))
        self.x[20:40] = self.x[20:40].round()  # ties
        self.y[30:] = (2 * self.y[30:]).round()
        self.y[50:] += 2 * self.x[50:]

    def test_equal_scipy_on_every_row_with_and_without_ties(self):
        np.testing.assert_array_equal(rank_rows(self.y), stats.rankdata(self.y, axis=1))
        np.testing.assert_allclose(spearman_rows(self.x, self.y),
                                   [stats.spearmanr(a, b)[0] for a, b in zip(self.x, self.y)], atol=1e-14)
        np.testing.assert_allclose(kendall_rows(self.x, self.y),
                                   [stats.kendalltau(a, b)[0] for a, b in zip(self.x, self.y)], atol=1e-14)

    def test_constant_rows_have_no_correlation(self):
        constant = np.ones((3, 11))
        self.assertTrue(
            np.isnan([*spearman_rows(constant, self.y[:3]), *kendall_rows(constant, self.y[:3])]).all())
        found = correlate(constant[0], self.y[0], constant, self.y[:3], 0.95)
        self.assertTrue(np.isnan(np.ravel(list(found.values()))).all())

    def test_intervals_are_quantiles_over_draws_of_both_sides(self):
        found = correlate(self.x[0], self.y[0], self.x, self.y, 0.9)
        rows = [stats.kendalltau(a, b)[0] for a, b in zip(self.x, self.y)]
        np.testing.assert_allclose(found["kendall"][1:], np.quantile(rows, [0.05, 0.95]))

    def test_dissociated(self):
        mass = np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
        effect = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
        np.testing.assert_array_equal(dissociated(mass, effect), [True, False, False])


class OfFiles(support.InFolder):

    def measure(self, numbers=None, **options):
        synthetic.write(self.path("results.h5"), **{"grids": ("mask", ), "more": False, **options})
        results = read_results(self.path("results.h5"))
        documents = Documents(results)
        return results, Associations(results, documents, Draws(len(documents), OPTIONS.bootstrap, 1), OPTIONS)

    def test_the_planted_dissociation_is_found(self):
        """In middle MLPs `embedding` has most of the mass and `recent` all of the effect."""
        _, found = self.measure()
        at = (list(found.grids).index("mask/families"), SUBLAYERS.index("mlp"), BANDS.index("mid"))
        table = found.dissociation
        self.assertEqual(table["probability"][at], 1)
        self.assertEqual((table["heaviest"][at], table["most_causal"][at]),
                         ("mask/embedding/mlp/mid", "mask/recent/mlp/mid"))
        self.assertGreater(table["heaviest_mass"][at], 0.6)
        self.assertTrue(
            0.01 < table["difference_low"][at] < table["difference"][at] < table["difference_high"][at] < 0.06
        )

    def test_no_dissociation_where_effects_follow_mass(self):
        results, _ = self.measure()
        weight = results.shares["weight"].sum(0) / results.tokens.sum()
        _, found = self.measure(edge_effects=weight, skew=0.01)
        row = list(found.grids).index("mask/edges")
        self.assertLess(found.dissociation["probability"][row,
                                                          SUBLAYERS.index("attn"),
                                                          BANDS.index("all")], 0.1)
        rho = found.rank["spearman"][row, :2, PREDICTORS.index("mass")]
        self.assertGreater(rho.min(), 0.95)
        self.assertTrue((found.rank["spearman_low"][row, :2, 0] <= rho).all())

    def test_point_estimates_are_scipys_over_the_grid(self):
        results, found = self.measure()
        row = list(found.grids).index("mask/families")
        cells = [cell for cell in found.grids["mask/families"] if results.cell["sublayer"][cell] == "attn"]
        self.assertEqual(found.rank["cells"][row, 0], len(cells))
        effect = results.sums["delta_nll"][cells].sum(1) / results.tokens.sum()
        rho = stats.spearmanr(results.cell["mass"][cells], effect)[0]
        self.assertAlmostEqual(found.rank["spearman"][row, 0, PREDICTORS.index("mass")], rho, 12)
        self.assertEqual(list(found.rank["draws"]), [400, 200])

    def test_edge_estimates_rank_edges_and_the_worst_misses_come_first(self):
        results, found = self.measure()
        miss = found.edge_miss
        exact = [
            results.sums["delta_nll"][results.index(name)].sum() / results.tokens.sum()
            for name in miss["miss"]
        ]
        np.testing.assert_allclose(miss["delta_nll"], exact)
        self.assertTrue((np.diff(np.abs(miss["difference"])) <= 0).all())
        # The estimate saturates: the largest effect is the worst miss.
        self.assertEqual(
            miss["miss"][0],
            max(
                results.names,
                key=lambda name: np.nan_to_num(results.sums["delta_nll"][results.index(name)].sum())
                if "layers" in name else -1))
        self.assertGreater(
            found.rank["spearman"][1, SUBLAYERS.index("all"),
                                   PREDICTORS.index("edge_estimate")], 0.5)

    def test_files_without_grids_or_estimates(self):
        _, found = self.measure(grids=(), edges=False, more=True, claims=[])
        self.assertIsNone(found.rank)
        self.assertIsNone(found.edge_miss)
        _, found = self.measure(estimates=False)
        self.assertIsNone(found.edge_miss)
        self.assertTrue(np.isnan(found.rank["kendall"][:, :, PREDICTORS.index("edge_estimate")]).all())


if __name__ == "__main__":
    support.unittest.main()
