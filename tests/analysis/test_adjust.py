"""Step-down max-T against its definition, and what must follow from it."""
import unittest

import numpy as np

import support  # noqa: F401
from analysis import adjust
from analysis.bootstrap import Draws, Estimates, studentise


def direct(statistic, studentised):
    """For the k-th largest |t|: the share of draws whose largest |t*| over the hypotheses not yet rejected
    reaches it."""
    order = sorted(range(len(statistic)), key=lambda c: -abs(statistic[c]))
    result, running = [0.0] * len(statistic), 0.0
    for k, cell in enumerate(order):
        reached = sum(max(abs(row[c]) for c in order[k:]) >= abs(statistic[cell]) for row in studentised)
        running = max(running, (1 + reached) / (len(studentised) + 1))
        result[cell] = running
    return result


def some_estimates(cells=12, draws=200, seed=3):
    random = np.random.default_rng(seed)
    tokens = random.integers(5, 60, 40).astype(float)
    effects = np.linspace(0, 0.25, cells)
    shared = random.normal(0, 0.3, (40, 1))
    return studentise(tokens[:, None] * (effects + shared + random.normal(0, 0.3, (40, cells))), tokens,
                      Draws(40, draws, 1))


class StepDown(unittest.TestCase):

    def test_equals_the_definition(self):
        estimates = some_estimates()
        np.testing.assert_allclose(adjust.step_down(estimates),
                                   direct(estimates.statistic, estimates.studentised), rtol=1e-12)

    def test_lies_between_no_adjustment_and_bonferroni(self):
        estimates = some_estimates(draws=4000)
        p, adjusted = estimates.p_values(), adjust.step_down(estimates)
        self.assertTrue((adjusted >= p - 1e-12).all())
        # Bonferroni's bound, with each cell's own distribution: the sum over cells of the chance to reach
        # this |t|.
        reached = np.abs(estimates.studentised)[:, :, None] >= np.abs(estimates.statistic)
        bound = np.maximum.accumulate(np.sort((1 + reached.sum((0, 1))) / 4001))
        self.assertTrue((np.sort(adjusted) <= bound + 1e-12).all())
        self.assertTrue((adjusted > p).any())

    def test_one_cell_needs_no_adjustment(self):
        estimates = some_estimates().take([7])
        self.assertEqual(adjust.step_down(estimates)[0], estimates.p_values()[0])

    def test_a_repeated_cell_costs_nothing(self):
        estimates = some_estimates()
        twice = estimates.take([*range(12), *range(12)])
        np.testing.assert_array_equal(adjust.step_down(twice)[:12], adjust.step_down(estimates))

    def test_cells_on_few_documents_do_not_spoil_the_family(self):
        estimates = some_estimates()
        spoilt = Estimates(np.append(estimates.value, 1.0), np.append(estimates.error, 1.0),
                           np.column_stack([estimates.studentised,
                                            np.full(200, np.inf)]), np.append(estimates.degenerate, 0.4))
        np.testing.assert_array_equal(adjust.step_down(spoilt), np.append(adjust.step_down(estimates),
                                                                          np.nan))

    def test_simultaneous_intervals_contain_the_single_ones_and_agree_with_the_first_step(self):
        estimates = some_estimates(draws=999)
        low, high = adjust.simultaneous(estimates, 0.95)
        alone_low, alone_high = estimates.interval(0.95)
        self.assertTrue(((low <= alone_low) & (high >= alone_high)).all())
        strongest = np.argmax(np.abs(estimates.statistic))
        excludes = low[strongest] > 0 or high[strongest] < 0
        self.assertEqual(excludes, adjust.step_down(estimates)[strongest] <= 0.05)


if __name__ == "__main__":
    unittest.main()
