"""tools/study: which text is kept, what verdicts follow from claims, and that the table is computed again independently."""
import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
STUDY = os.path.join(HERE, "..", "..", "tools", "study")
sys.path[:0] = [STUDY, os.path.join(HERE, "..", "analysis")]
import corpus  # noqa: E402
import judge  # noqa: E402
import synthetic  # noqa: E402

JUDGEMENT = {
    "variants": ["cumulative"], "seeds": [1, 2],
    "motifs": [{"name": "older"}],
    "dissociation": {"sublayers": ["attn"], "grid": "mask/families", "share": 0.95},
    "no_role": {"mass": 0.1, "cells": ["embedding/mlp/mid"], "interventions": ["mask", "mean"]},
}


def model(claim="holds", differ=1.0, mass=0.3, role="negligible", bound=0.001):
    ways = {"verdict": role, "equiv_bound": bound}
    return {"file": "x.h5", "margin": 0.01, "claims": {"older/a/mask": {"verdict": claim}, "older/a/resample": {"verdict": "holds"}},
            "dissociation": {("mask/families", "attn"): {"probability": differ}},
            "cells": {"mask/embedding/mlp/mid": {"mass": mass, "verdict": "effect"},
                      "mask/embedding/mlp/mid/distinct": ways, "mean/embedding/mlp/mid": {**ways, "verdict": "negligible"}}}


def judged(first, second, step_0="fails"):
    untrained = model(claim=step_0)
    untrained["claims"]["older/a/resample"] = {"verdict": "fails"}
    models = {("cumulative-1", "claims"): first, ("cumulative-2", "claims"): second,
              ("cumulative-1", "step-0"): untrained, ("cumulative-2", "step-0"): model(claim="fails")}
    models["cumulative-2", "step-0"]["claims"]["older/a/resample"] = {"verdict": "undecided"}
    return judge.judge(models, JUDGEMENT)["cumulative"]


class Verdicts(unittest.TestCase):

    def test_a_motif_holds_only_in_every_seed_and_not_at_step_0(self):
        motif = lambda *models, **options: judged(*models, **options)["motifs"]["older"]["verdict"]
        self.assertEqual(motif(model(), model()), "holds")
        self.assertEqual(motif(model(), model(claim="undecided")), "undecided")
        self.assertEqual(motif(model(), model(claim="not_judged")), "undecided")
        self.assertEqual(motif(model(claim="fails"), model()), "undecided")
        self.assertEqual(motif(model(claim="fails"), model(claim="fails")), "fails")
        self.assertEqual(motif(model(), model(), step_0="holds"), "fails")

    def test_what_differs_is_said(self):
        one = judged(model(), model(claim="undecided"))["motifs"]["older"]
        self.assertEqual(one["because"], "older/a/mask: holds, undecided")
        self.assertEqual(one["k_of_n"], {"older/a/mask": [1, 2], "older/a/resample": [2, 2]})

    def test_mass_is_not_effect_needs_every_seed(self):
        differ = lambda a, b: judged(model(differ=a), model(differ=b))["dissociation"]["attn"]["verdict"]
        self.assertEqual([differ(0.95, 1.0), differ(0.94, 1.0), differ(0.05, 0.0), differ(float("nan"), 1.0)],
                         ["holds", "undecided", "fails", "undecided"])

    def test_no_role_needs_mass_and_every_intervention_in_every_seed(self):
        no_role = lambda **second: judged(model(), model(**second))["no_role"]["embedding/mlp/mid"]["verdict"]
        self.assertEqual([no_role(), no_role(mass=0.09), no_role(role="inconclusive")], ["holds", "undecided", "undecided"])
        inside = lambda **second: judged(model(), model(**second))["no_role"]["embedding/mlp/mid"]["equivalent"]
        self.assertEqual([inside(role="effect"), inside(bound=0.011), inside(mass=0.09)], [[2, 2], [1, 2], [1, 2]])

    def test_a_missing_seed_or_claim_is_named(self):
        with self.assertRaisesRegex(judge.InputError, "no claims.h5 of cumulative, seeds 1, 2"):
            judge.judge({}, JUDGEMENT)
        unmeasured = model()
        del unmeasured["claims"]["older/a/mask"]
        models = {(f"cumulative-{seed}", arm): model() for seed in (1, 2) for arm in ("claims", "step-0")}
        models["cumulative-2", "step-0"] = unmeasured
        with self.assertRaisesRegex(judge.InputError, "x.h5: has not all claims of older"):
            judge.judge(models, JUDGEMENT)


class Table(unittest.TestCase):
    """On made-up results files, through the programs."""

    def run_tool(self, *command, status=0):
        ended = subprocess.run([sys.executable, "-B", *command], capture_output=True, text=True)
        self.assertEqual(ended.returncode, status, ended.stdout + ended.stderr)
        return ended.stdout

    def test_is_computed_again_to_rounding_and_a_wrong_number_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            claims = [dict(name="older/over-recent/mask", cell="mask/older/attn/late", exceeds="mask/recent/attn/late", margin=0.005),
                      dict(name="older/kl/mask", cell="mask/older/attn/late", measure="kl", margin=0.0)]
            for run, arm, options in (("cumulative-1", "claims", {}), ("cumulative-1", "step-0", dict(checkpoint_step=0, effect_scale=0.01)),
                                      ("additive-1", "wrapped-3", dict(wrapped=3.0)),
                                      ("additive-1", "wrapped-30", dict(wrapped=30.0, effect_scale=0.0))):
                os.makedirs(os.path.join(folder, run), exist_ok=True)
                files.append(os.path.join(folder, run, arm + ".h5"))
                synthetic.write(files[-1], seed=len(files), grids=("mask", "mean"), more=False, split="confirmation", claims=claims,
                                **options)
            judgement = copy.deepcopy(JUDGEMENT)
            judgement["seeds"] = [1, 2]
            judgement["no_role"]["cells"] = []
            with open(os.path.join(folder, "judgement.yaml"), "w") as file:
                json.dump(judgement, file)  # which is YAML, too
            programs = os.path.join(STUDY, "..")
            self.run_tool(os.path.join(programs, "analyze.py"), *files, "-o", os.path.join(folder, "analysis.h5"),
                          "--bootstrap", "300", "--rank-draws", "100")
            along, pretrained = [], os.path.join(folder, "smollm2", "wrapped-3.h5")
            os.makedirs(os.path.dirname(pretrained))
            synthetic.write(pretrained, seed=9, grids=("mask",), more=False, wrapped=3.0)
            for step in (0, 10):
                along.append(os.path.join(folder, "cumulative-1", f"grid-{step}.h5"))
                synthetic.write(along[-1], seed=5 + step, grids=("mask",), more=False, checkpoint_step=step)
            also = os.path.join(folder, "exploration.h5")
            self.run_tool(os.path.join(programs, "analyze.py"), *along, pretrained, "-o", also, "--bootstrap", "300", "--rank-draws", "100")
            verdicts = os.path.join(folder, "verdicts.json")
            out = self.run_tool(os.path.join(STUDY, "judge.py"), folder, "--judgement", os.path.join(folder, "judgement.yaml"),
                                "--seeds", "1", "--also", also, "--output", verdicts)
            self.assertIn("older", out)
            self.run_tool(os.path.join(STUDY, "recompute.py"), verdicts)
            with open(os.path.join(folder, "seconds.tsv"), "w") as file:
                file.write("train kimi\t90\ntrain kimi\t30\n")
            self.run_tool(os.path.join(STUDY, "table.py"), verdicts, "--seconds", file.name, "--output", os.path.join(folder, "t.md"))
            with open(os.path.join(folder, "t.md")) as file:
                table = file.read()
            self.assertIn("| train kimi | 2.0 |", table)
            self.assertIn("| `mask` of | step 0 | step 10 |", table)
            self.assertIn("### SmolLM2", table)
            drawn = []
            for name in ("a.svg", "b.svg"):
                self.run_tool(os.path.join(STUDY, "figure.py"), verdicts, "--output", os.path.join(folder, name))
                with open(os.path.join(folder, name)) as svg:
                    drawn.append(svg.read())
            self.assertEqual(*drawn)
            with open(verdicts) as file:
                result = json.load(file)
            claim = result["models"]["cumulative-1/claims"]["claims"]["older/over-recent/mask"]
            self.assertIn(f"{claim['difference']:+.3f} [".replace("-", "−"), table)

            for change in (dict(difference_low=claim["difference_low"] + 1e-6), dict(difference_low=float("nan")),
                           dict(verdict="undecided")):
                before = dict(claim)
                claim.update(change)
                with open(verdicts, "w") as file:
                    json.dump(result, file)
                self.run_tool(os.path.join(STUDY, "recompute.py"), verdicts, status=1)
                claim.update(before)


class Corpus(unittest.TestCase):

    def test_prose_stays_and_code_tables_and_markup_go(self):
        text = corpus.rst_document("""Sorting
*******

:Author: Somebody

It is easy to sort a list with the :func:`sorted` function, see `the guide <http://x.org/a>`_::

    sorted([5, 2])

Then the *second* paragraph goes on and is kept.

.. note::
   This is in a directive and is dropped with it.

   And so is the second part of it.

=====  =====
a      b
=====  =====
""")
        self.assertEqual(text, "Sorting\n\nIt is easy to sort a list with the sorted function, see the guide:\n\n"
                         "Then the second paragraph goes on and is kept.")

    def test_a_page_is_cut_at_its_headings(self):
        page = """<html><head><title>no</title></head><body><h1>One</h1><p>This is the first of the paragraphs.</p>
<pre>code = 1</pre><h2>Two</h2><p>And this is <i>the</i> second of the paragraphs.</p></body></html>"""
        self.assertEqual(list(corpus.page_documents("p", page)),
                         [("p#00", "One\n\nThis is the first of the paragraphs."),
                          ("p#01", "Two\n\nAnd this is the second of the paragraphs.")])

    def test_a_tenth_of_the_documents_is_for_rehearsals(self):
        share = sum(corpus.is_for_rehearsals(f"linux/{i}.rst.gz") for i in range(2000)) / 2000
        self.assertTrue(0.08 < share < 0.12, share)

    def test_missing_packages_are_named(self):
        with tempfile.TemporaryDirectory() as root:
            ended = subprocess.run([sys.executable, "-B", os.path.join(STUDY, "corpus.py"), "--root", root, "--output",
                                    os.path.join(root, "c.jsonl")], capture_output=True, text=True)
            self.assertEqual(ended.returncode, 2)
            self.assertIn("no documents of anarchism, linux, python", ended.stderr)
            self.assertEqual(os.listdir(root), [])


if __name__ == "__main__":
    unittest.main()
