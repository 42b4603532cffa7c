"""Many files: counted, never pooled."""
import h5py
import numpy as np

import support
import synthetic
from support import run_program

FAST = ("--bootstrap", "400", "--rank-draws", "100")
OLDER, NULL, GONE = "mask/older/attn/late", "mask/older/mlp/late", "mask/older/attn/early"


class Across(support.InFolder):

    def analyse(self, files, *more):
        """files: {name: options of the synthetic file}. Returns the open analysis."""
        for name, options in files.items():
            synthetic.write(self.path(name), **{
                "grids": ("mask", ),
                "edges": False,
                "more": False,
                **options
            })
        names = [self.path(name) for name in files if name != "untrained.h5"]
        ended = run_program(*names, "-o", self.path("analysis.h5"), *FAST, *more)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.errors = ended.stderr
        file = h5py.File(self.path("analysis.h5"))
        self.addCleanup(file.close)
        return file

    def row(self, group, cell):
        return list(group["cell"].asstr()).index(cell)

    def test_k_of_n_models(self):
        files = {f"seed{seed}.h5": {"seed": seed, "split": "confirmation"} for seed in (1, 2, 3)}
        files["seed2.h5"]["effect_scale"] = -1.0
        files["seed3.h5"].update(answers_pass=False, effect_scale=-1.0)
        across = self.analyse(files)["across"]
        self.assertEqual(list(across["models"]), [3])
        older, gone = self.row(across, OLDER), self.row(across, GONE)
        of = {
            name: across[name][0]
            for name in ("effect", "negligible", "inconclusive", "not_judged", "not_run", "positive",
                         "negative", "agree")
        }
        self.assertEqual([of[name][older] for name in of], [2, 0, 0, 1, 0, 1, 2, 2])
        self.assertEqual([of[name][gone] for name in of], [0, 0, 0, 0, 3, 0, 0, 0])
        claim = list(across["claim"].asstr()).index("older-late-attn")
        self.assertEqual([across[name][0, claim] for name in ("holds", "fails", "undecided")], [1, 1, 0])
        for file in range(3):
            value = across.parent[f"file_000{file}/cell/delta_nll"][older]
            self.assertEqual(across["delta_nll"][file, older], value)

    def test_steps_of_a_run_are_a_series_and_other_models_are_not_mixed_in(self):
        across = self.analyse({
            "late.h5": {
                "checkpoint_step": 4000
            },
            "early.h5": {
                "checkpoint_step": 1000,
                "effect_scale": 0.3
            },
            "other.h5": {
                "seed": 2,
                "checkpoint_step": 4000
            },
            "reset.h5": {
                "variant": "reset",
                "checkpoint_step": 4000
            },
            "b3.h5": {
                "wrapped": 3.0,
                "checkpoint_step": 4000
            },
            "b30.h5": {
                "wrapped": 30.0,
                "checkpoint_step": 4000
            },
            "confirmation.h5": {
                "split": "confirmation",
                "checkpoint_step": 4000
            }
        })["across"]
        series, setting = list(across["series"]), list(across["setting_of"])
        self.assertEqual(series, [0, 0, 0, 1, 2, 3, 4])
        self.assertEqual(setting[0], setting[2])
        self.assertEqual(len(set(setting)), 6)
        models = dict(zip(setting, (across["models"][index] for index in setting)))
        self.assertEqual([models[index] for index in setting], [2, 1, 2, 1, 1, 1, 1])
        self.assertEqual(across["setting_step"][setting[1]], 1000)
        older = self.row(across, OLDER)
        self.assertLess(across["delta_nll"][1, older], across["delta_nll"][0, older])
        np.testing.assert_array_equal(across["wrap_recency_bias"][...][setting[4:6]], [3, 30])

    def test_a_model_measured_twice_counts_once(self):
        across = self.analyse({"a.h5": {}, "more_documents.h5": {"documents": 260}})["across"]
        self.assertEqual((list(across["counted"]), list(across["models"])), ([1, 0], [1]))
        self.assertIn("not counted", self.errors)

    def test_cells_and_claims_of_some_files_only(self):
        across = self.analyse({
            "a.h5": {
                "split": "confirmation"
            },
            "b.h5": {
                "grids": ("mask", "mean"),
                "claims": [],
                "seed": 2
            }
        })["across"]
        mean = self.row(across, "mean/older/attn/late")
        self.assertEqual(across["verdict"][0, mean], -1)
        self.assertTrue(np.isnan(across["delta_nll"][0, mean]) and np.isfinite(across["delta_nll"][1, mean]))
        self.assertEqual(set(across["claim_verdict"][1]), {-1})

    def test_wrapped_models_beside_the_formula(self):
        wrapped = self.analyse({
            "b30.h5": {
                "wrapped": 30.0
            },
            "b3.h5": {
                "wrapped": 3.0
            },
            "trained.h5": {}
        })["wrapped"]
        np.testing.assert_array_equal(wrapped["recency_bias"], [3, 30])
        self.assertEqual(list(wrapped["file"].asstr()), ["file_0001", "file_0000"])
        self.assertLess(max(wrapped["largest_deviation"]), 1e-12)
        np.testing.assert_allclose(wrapped["mass"], wrapped["schedule_mass"], atol=1e-12)
        # current/attn/late: sites with 3 or 4 sources; e^b / (e^b + n − 1).
        current = self.row(wrapped, "mask/current/attn/late")
        e = np.exp(3.0)
        self.assertAlmostEqual(wrapped["schedule_mass"][0, current], e / (e + 3), 12)

    def test_untrained_weights_are_a_known_answer(self):
        files = {"trained.h5": {}, "untrained.h5": {"checkpoint_step": 0, "effect_scale": 1e-3}}
        untrained = self.analyse(files, "--untrained", self.path("untrained.h5"))["untrained"]
        self.assertEqual(list(untrained["passed"]), [1])
        self.assertAlmostEqual(untrained["ratio"][0],
                               untrained.attrs["largest"] / untrained["largest_trained"][0], 12)
        self.assertLess(untrained["ratio"][0], 0.01)
        files["untrained.h5"]["effect_scale"] = 0.5
        untrained = self.analyse(files, "--untrained", self.path("untrained.h5"))["untrained"]
        self.assertEqual(list(untrained["passed"]), [0])
        self.assertEqual(untrained.attrs["cell"], "mask/embedding/mlp/early")


if __name__ == "__main__":
    support.unittest.main()
