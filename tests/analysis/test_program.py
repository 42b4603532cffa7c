"""tools/analyze.py as a user runs it: what it writes, what it refuses."""
import os
import shutil
import warnings

import h5py
import numpy as np
import xarray

import support
import synthetic
from support import run_program

FAST = ("--bootstrap", "400", "--rank-draws", "100")
SMALL = dict(grids=("mask", ), more=False)


class Program(support.InFolder):

    def run_on(self, *names, more=FAST, output="analysis.h5", status=0):
        ended = run_program(*(self.path(name) for name in names), "-o", self.path(output), *more)
        self.assertEqual(ended.returncode, status, ended.stderr)
        return ended

    def write(self, name, **options):
        return synthetic.write(self.path(name), **{**SMALL, **options})

    def refused(self, words, *names, more=FAST):
        ended = self.run_on(*names, more=more, status=2)
        self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
        self.assertIn(words, ended.stderr)
        self.assertFalse(os.path.exists(self.path("analysis.h5")))
        self.assertFalse([name for name in os.listdir(self.folder) if name.endswith(".tmp")])

    def test_opens_in_xarray_with_both_engines_and_describes_every_variable(self):
        for seed in (1, 2):
            self.write(f"seed{seed}.h5", seed=seed, grids=("mask", "mean"), more=True)
        self.write("wrapped.h5", wrapped=3.0, split="confirmation")
        self.write("untrained.h5", checkpoint_step=0, effect_scale=0.01)
        self.run_on("seed1.h5", "seed2.h5", "wrapped.h5",
                    more=(*FAST, "--untrained", self.path("untrained.h5")))
        groups = []
        with h5py.File(self.path("analysis.h5")) as file:
            file.visititems(lambda name, item: groups.append(name)
                            if isinstance(item, h5py.Group) else self.check_variable(name, item))
        self.assertTrue(
            {"file_0000/rank", "file_0002/claim", "across", "wrapped", "untrained"} <= set(groups))
        for group in ["/"] + groups:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                opened = [
                    xarray.open_dataset(self.path("analysis.h5"), engine=engine, group=group).load()
                    for engine in ("h5netcdf", "netcdf4")
                ]
            self.assertEqual(set(opened[0].variables), set(opened[1].variables), group)
            for name in opened[0].variables:
                np.testing.assert_array_equal(opened[0][name].values, opened[1][name].values,
                                              err_msg=f"{group} {name}")

    def check_variable(self, name, item):
        self.assertIn("long_name", item.attrs, name)
        kind = item.dtype
        if h5py.check_string_dtype(kind):
            self.assertIsNone(h5py.check_string_dtype(kind).length, name)
        else:
            self.assertIn(kind.kind, "fiu", name)
            self.assertIn("units", item.attrs, name)
        if item.attrs.get("CLASS") != b"DIMENSION_SCALE":
            self.assertTrue(all(len(dimension) == 1 for dimension in item.dims),
                            f"{name} has an axis without a scale")

    def test_the_layout_is_the_documented_one(self):
        with open(os.path.join(support.ROOT, "tools", "analysis", "README.md"), encoding="utf-8") as file:
            document = file.read()
        self.write("one.h5", split="confirmation")
        self.write("two.h5", seed=2, split="confirmation")
        self.run_on("one.h5", "two.h5")
        missing = set()

        def check(path, item):
            name = path.split("/")[-1]
            for suffix in ("_simultaneous_low", "_simultaneous_high", "_low", "_high", "_se"):
                if f"`{name}`" not in document and name.endswith(suffix):
                    name = name[:-len(suffix)]
            names = [name] if isinstance(item, h5py.Dataset) else [*item.attrs]
            missing.update(one for one in names if f"`{one}`" not in document)

        with h5py.File(self.path("analysis.h5")) as file:
            missing.update(name for name in file.attrs if f"`{name}`" not in document)
            file.visititems(check)
        self.assertFalse(missing)

    def test_equal_inputs_give_equal_bytes_and_hashes_follow_the_options(self):
        self.write("one.h5")
        content = []
        for output in ("a.h5", "b.h5"):
            self.run_on("one.h5", output=output)
            with open(self.path(output), "rb") as file:
                content.append(file.read())
        self.assertEqual(content[0], content[1])
        self.run_on("one.h5", output="c.h5", more=(*FAST, "--margin", "0.02"))
        hashes = [h5py.File(self.path(name)).attrs["analysis_hash"] for name in ("a.h5", "c.h5")]
        self.assertNotEqual(*hashes)

    def test_a_plain_model_without_cells(self):
        self.write("plain.h5", variant="additive")
        self.run_on("plain.h5")
        with h5py.File(self.path("analysis.h5")) as file:
            self.assertEqual(list(file["file_0000"]), ["clean"])
            clean = file["file_0000/clean"]
            self.assertTrue(clean["mean_nll_low"][()] < clean["mean_nll"][()] < clean["mean_nll_high"][()])

    def test_warnings(self):
        self.write("few.h5", documents=50)
        self.assertIn("documents: 50;", self.run_on("few.h5").stderr)
        self.write("skewed.h5", skew=2.0)
        self.assertIn("skewness over documents above 6", self.run_on("skewed.h5").stderr)
        self.write("windows.h5", separated=False)
        self.assertIn("no separator", self.run_on("windows.h5").stderr)
        self.write("failed.h5", answers_pass=False)
        self.assertIn("known answers failed: identity", self.run_on("failed.h5").stderr)
        with h5py.File(self.path("analysis.h5")) as file:
            self.assertIn("identity", file.attrs["not_judged"][0])
            self.assertEqual(file["file_0000"].attrs["judged"], 0)
        self.write("good.h5", split="confirmation", skew=0.1)
        self.assertEqual(self.run_on("good.h5", more=("--rank-draws", "100")).stderr, "")

    def test_too_few_documents_for_any_verdict(self):
        for documents in (1, 2, 3):
            self.write("few.h5", documents=documents, split="confirmation")
            self.run_on("few.h5")
            with h5py.File(self.path("analysis.h5")) as file:
                verdicts = {*file["file_0000/cell/verdict"].asstr(), *file["file_0000/claim/verdict"].asstr()}
            self.assertLessEqual(verdicts, {"inconclusive", "not_run", "not_judged"})

    def test_methods_name_the_options_that_were_used(self):
        self.write("one.h5")
        self.run_on("one.h5", more=(*FAST, "--margin", "0.02", "--seed", "77"))
        methods = h5py.File(self.path("analysis.h5")).attrs["methods"]
        for words in ("400 draws", "±0.02", "seed 77", "240 per model", "90 % interval"):
            self.assertIn(words, methods)

    def test_bad_input_is_one_line_and_writes_nothing(self):
        self.write("good.h5")
        self.refused("absent.h5", "good.h5", "absent.h5")
        with open(self.path("text.h5"), "w", encoding="ascii") as file:
            file.write("no HDF5")
        self.refused("text.h5: cannot be read", "text.h5")
        for damage, words in ((lambda file: file.attrs.modify("schema_version", 1), "schema_version is 1"),
                              (lambda file: file.attrs.__delitem__("schema_version"),
                               "no schema_version"), (lambda file: file.attrs.__delitem__("unigram_entropy"),
                                                      "unigram_entropy is missing"),
                              (lambda file: file.__delitem__("segment/tokens"), "/segment/tokens is missing"),
                              (lambda file: file.__delitem__("cell/kl_by_segment"),
                               "/cell/kl_by_segment is missing"),
                              (lambda file: file["cell/kl_by_segment"].__setitem__(
                                  (0, 0), np.nan), "not finite for mask/embedding/attn/early"),
                              (lambda file: file["segment/tokens"].__setitem__(3, 0), "above 0")):
            shutil.copy(self.path("good.h5"), self.path("damaged.h5"))
            with h5py.File(self.path("damaged.h5"), "r+") as file:
                damage(file)
            with self.subTest(words=words):
                self.refused(words, "damaged.h5")
        size = os.path.getsize(self.path("good.h5"))
        shutil.copy(self.path("good.h5"), self.path("cut.h5"))
        os.truncate(self.path("cut.h5"), size // 2)
        self.refused("cut.h5: cannot be read", "cut.h5")
        shutil.copy(self.path("good.h5"), self.path("again.h5"))
        self.refused("same measurement", "good.h5", "again.h5")

    def test_bad_options(self):
        self.write("good.h5")
        for more, words in ((("--alpha", "0.7"), "--alpha"), (("--bootstrap", "10"),
                                                              "--bootstrap"), (("--margin", "0"), "--margin"),
                            (("--contrast", "mask/older/attn/late", "no/such"),
                             "'no/such'"), (("--untrained", self.path("absent.h5")), "absent.h5")):
            with self.subTest(words=words):
                self.refused(words, "good.h5", more=more)
        ended = run_program(self.path("good.h5"), "-o", self.path("no/such/folder.h5"))
        self.assertEqual((ended.returncode, len(ended.stderr.splitlines())), (2, 1))
        before = os.path.getsize(self.path("good.h5"))
        ended = run_program(self.path("good.h5"), "-o", self.path("good.h5"))
        self.assertEqual((ended.returncode, os.path.getsize(self.path("good.h5"))), (2, before))


if __name__ == "__main__":
    support.unittest.main()
