"""The bootstrap against loops over documents and draws, written from the definitions."""
import math
import unittest

import numpy as np

import support  # noqa: F401
from analysis.bootstrap import Draws, Estimates, order_quantile, replicates, studentise


def loop_error(x, n):
    """The linearised standard error of Σx / Σn over documents."""
    theta, count = sum(x) / sum(n), len(x)
    return math.sqrt(count / (count - 1) * sum((a - theta * b)**2 for a, b in zip(x, n))) / sum(n)


class Bootstrap(unittest.TestCase):

    def setUp(self):
        random = np.random.default_rng(11)
        self.tokens = random.integers(3, 90, 17).astype(float)
        self.sums = self.tokens[:, None] * random.lognormal(-3, 1, (17, 4)) + random.normal(0, 1, (17, 4))
        self.draws = Draws(17, 300, 5)

    def test_equals_a_loop_over_draws_and_documents(self):
        estimates = studentise(self.sums, self.tokens, self.draws)
        counts = np.concatenate([chunk for _, chunk in self.draws]).astype(int)
        for column in range(4):
            x = self.sums[:, column]
            theta = x.sum() / self.tokens.sum()
            self.assertAlmostEqual(estimates.value[column], theta, 14)
            self.assertAlmostEqual(estimates.error[column] / loop_error(x, self.tokens), 1, 12)
            for row in range(300):
                drawn = [document for document, times in enumerate(counts[row]) for _ in range(times)]
                its_x, its_n = [x[d] for d in drawn], [self.tokens[d] for d in drawn]
                t = (sum(its_x) / sum(its_n) - theta) / loop_error(its_x, its_n)
                self.assertAlmostEqual(estimates.studentised[row, column] / t, 1, 8)

    def test_replicates_are_ratios_of_the_drawn_documents(self):
        counts = np.concatenate([chunk for _, chunk in self.draws])
        for rows, values in replicates(self.sums, self.tokens, self.draws):
            expected = [[(w * x).sum() / (w * self.tokens).sum() for x in self.sums.T] for w in counts[rows]]
            np.testing.assert_allclose(values, expected, rtol=1e-12)

    def test_draws_repeat_and_take_as_many_documents(self):
        draws = Draws(1000, 5000, 3)
        first, second = ([chunk for _, chunk in draws] for _ in range(2))
        self.assertGreater(len(first), 1)
        np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))
        counts = np.concatenate(first)
        self.assertEqual(counts.shape, (5000, 1000))
        np.testing.assert_array_equal(counts.sum(1), 1000)
        # Every document is taken once on average, with the variance of a multinomial.
        self.assertLess(np.abs(counts.mean(0) - 1).max(), 5 / math.sqrt(5000))
        self.assertAlmostEqual(counts.var(), 1 - 1 / 1000, 2)
        other = np.concatenate([chunk for _, chunk in Draws(1000, 5000, 4)])
        self.assertFalse(np.array_equal(counts, other))

    def test_interval_excludes_zero_exactly_where_p_is_below_alpha(self):
        random = np.random.default_rng(2)
        sums = self.tokens[:, None] * random.normal(0.25, 0.6, (17, 400))
        estimates = studentise(sums, self.tokens, Draws(17, 399, 1))
        for level in (0.9, 0.95):
            low, high = estimates.interval(level)
            significant = estimates.p_values() <= 1 - level + 1e-12
            np.testing.assert_array_equal((low > 0) | (high < 0), significant)
            self.assertTrue(0.05 < significant.mean() < 0.95)

    def test_one_sided_bounds_use_the_tail_of_their_side(self):
        estimates = Estimates(np.array([1.0]), np.array([0.5]),
                              np.arange(1.0, 100.0)[:, None] - 30, np.zeros(1))
        # 99 values −29 … 69: a share .95 of 100 lies at or below the 95th, 65; a share .95 at or above the
        # fifth, −25.
        self.assertEqual(estimates.lower(0.95), 1 - 0.5 * 65)
        self.assertEqual(estimates.upper(0.95), 1 + 0.5 * 25)

    def test_order_quantile(self):
        values = np.arange(1.0, 10000.0)[:, None]  # 9,999
        self.assertEqual(order_quantile(values, 0.95), 9500)
        self.assertEqual(order_quantile(values, 0.99995), np.inf)

    def test_effects_of_zero_and_of_constant_size(self):
        sums = np.column_stack([np.zeros(17), 0.25 * self.tokens])
        estimates = studentise(sums, self.tokens, self.draws)
        np.testing.assert_allclose(estimates.value, [0, 0.25])
        self.assertEqual(estimates.p_values()[0], 1)
        np.testing.assert_array_equal(np.ravel(estimates.interval(0.95))[::2], 0)
        np.testing.assert_array_equal(estimates.few_documents[0], False)

    def test_effects_in_few_documents_are_marked(self):
        tokens = np.full(400, 50.0)
        sums = np.zeros((400, 4))
        for column, documents in enumerate((1, 3, 30, 400)):
            sums[:documents, column] = np.random.default_rng(documents).normal(5, 1, documents)
        estimates = studentise(sums, tokens, Draws(400, 2000, 1))
        np.testing.assert_array_equal(estimates.few_documents, [True, True, False, False])
        # A draw without the only document has no finite t*, and no interval pretends otherwise.
        self.assertTrue(np.isnan(estimates.interval(0.95)[0][0]))

    def test_one_document_has_an_estimate_and_no_interval(self):
        estimates = studentise(np.array([[3.0]]), np.array([6.0]), Draws(1, 100, 1))
        self.assertEqual(estimates.value[0], 0.5)
        for value in (*estimates.interval(0.95), estimates.p_values(), estimates.upper(0.95)):
            self.assertTrue(np.isnan(value[0]))

    def test_scale_does_not_matter(self):
        large, small = (studentise(self.sums * scale, self.tokens, self.draws) for scale in (1.0, 1e-160))
        np.testing.assert_allclose(small.studentised, large.studentised, rtol=1e-9)


if __name__ == "__main__":
    unittest.main()
