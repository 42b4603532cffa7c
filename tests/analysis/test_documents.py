"""Segments become documents, and a cell's sources become numbers beside its effect."""
import numpy as np

import support
import synthetic
from analysis.documents import Documents, contains, newest_coefficients, predictors
from analysis.results_file import read_results


class OfDocuments(support.InFolder):

    def read(self, **options):
        numbers = synthetic.write(self.path("results.h5"), **options)
        results = read_results(self.path("results.h5"))
        return numbers, results, Documents(results)

    def test_a_document_is_the_sum_of_its_segments_wherever_they_lie(self):
        numbers, results, documents = self.read(documents=40)
        self.assertEqual(len(documents), 40)
        self.assertGreater(len(results.tokens), 40)
        kl = documents.sum(results.sums["kl"].T)
        for row, document in enumerate(documents.ids):
            segments = np.flatnonzero(numbers.segment["document"] == document)
            self.assertEqual(documents.tokens[row], sum(numbers.tokens[segments]))
            np.testing.assert_allclose(kl[row], numbers.sums_by["kl"][:, segments].sum(1))

    def test_mass_is_that_of_the_results(self):
        for variant in ("cumulative", "reset", "kimi"):
            with self.subTest(variant=variant):
                _, results, documents = self.read(documents=30, variant=variant, layers=5, blocks=2)
                mass = predictors(results, documents)["mass"].sum(0) / documents.tokens.sum()
                np.testing.assert_allclose(mass, results.cell["mass"], rtol=1e-12)

    def test_coefficients_are_those_of_the_results(self):
        for variant in ("cumulative", "reset", "kimi"):
            with self.subTest(variant=variant):
                numbers, results, documents = self.read(documents=30, variant=variant, layers=5, blocks=2)
                mean = results.shares["weight"].sum(0) / results.tokens.sum()
                found = newest_coefficients(mean, results.site["state"], results.site["restart"])
                stored = synthetic.groups.coefficients(numbers.plan, mean)
                edges = [cell for cell in range(len(results.names)) if results.cell["source"][cell] >= 0]
                by_cell = predictors(results, documents)["coefficient"].sum(0) / documents.tokens.sum()
                for cell in edges:
                    site = numbers.plan.names.index(results.cell["site"][cell])
                    source = results.cell["source"][cell]
                    expected = stored[site][numbers.plan.states[site][source]]
                    self.assertAlmostEqual(found[site, source], expected, 12)
                    if results.measured[cell]:
                        self.assertAlmostEqual(by_cell[cell], expected, 12)

    def test_coefficients_of_several_sources_are_averaged_not_added(self):
        numbers, results, documents = self.read(documents=30, layers=12, blocks=6)
        stored = synthetic.groups.coefficients(numbers.plan, results.shares["weight"].sum(0) / results.tokens.sum())
        cell = results.index("mask/older/mlp/late")
        sites, sources = np.nonzero(results.flags[cell] == 1)
        self.assertGreater(len(sites), len(set(sites)))
        expected = [stored[s][numbers.plan.states[s][j]] for s, j in zip(sites, sources)]
        found = predictors(results, documents)["coefficient"][:, cell].sum() / documents.tokens.sum()
        self.assertAlmostEqual(found, np.mean(expected), 12)

    def test_the_embedding_is_in_every_state_without_restarts(self):
        restart = np.zeros(12, int)
        self.assertTrue(all(contains(state, 0, restart) for state in range(13)))
        restart[4] = 1
        self.assertEqual([contains(state, 0, restart) for state in range(7)], [True] * 5 + [False] * 2)
        self.assertEqual([contains(5, output, restart) for output in range(7)], [False] * 5 + [True, False])

    def test_edge_estimates_are_of_masks_alone(self):
        _, results, documents = self.read(documents=30)
        estimate = predictors(results, documents)["edge_estimate"].sum(0)
        for cell, intervention in enumerate(results.cell["intervention"]):
            self.assertEqual(np.isfinite(estimate[cell]),
                             bool(intervention == "mask" and results.measured[cell]))


if __name__ == "__main__":
    support.unittest.main()
