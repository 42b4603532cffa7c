"""tools/plot.py through its command line: the page is one file that shows every run's curves, and bad input is named."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

try:
    import matplotlib  # noqa: F401
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
sys.path.insert(0, TOOLS)
from plotting import metrics  # noqa: E402

MASS = {"embedding": 0.4, "older": 0.3, "recent": 0.2, "current": 0.1, "attn": {"embedding": 0.5}}


def lines(steps, loss=2.0, routed=True):
    for step in steps:
        yield {"step": step, "loss": loss + 1 / step, "grad_norm": 1.0, "lr": 0.001, "tokens": step, "skipped": 0, "tokens_per_s": 100.0}
        if step % 50 == 0:
            yield {"step": step, "val_loss": loss, "val_tokens": 9, **({"routing_mass": MASS} if routed else {})}


class Plot(unittest.TestCase):

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="depthroute_plot_")
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content, end="\n"):
        os.makedirs(self.path(name), exist_ok=True)
        text = content if isinstance(content, str) else "".join(json.dumps(line) + "\n" for line in content)
        with open(self.path(name, "metrics.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        return os.path.join(name, "metrics.jsonl")

    def run_program(self, *arguments):
        return subprocess.run([sys.executable, "-B", os.path.join(TOOLS, "plot.py"), *arguments], capture_output=True, text=True,
                              cwd=self.folder, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})

    def page(self, *arguments):
        done = self.run_program(*arguments, "-o", "page.html")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(self.path("page.html"), encoding="utf-8") as file:
            return file.read()

    def test_a_page_of_several_runs(self):
        first = self.write("runs/a<b", lines(range(10, 210, 10)))
        self.write("runs/plain", lines(range(10, 110, 10), 3.0, routed=False))
        page = self.page(first, "runs/plain")
        self.assertEqual(page.count("<svg"), 9)
        for text in ("Training loss", "Validation loss", "Learning rate", "Gradient norm", "Throughput", "Routing mass on older",
                     "Training of 2 runs", "a&lt;b", "plain"):
            self.assertIn(text, page)
        self.assertNotIn("a<b", page)
        self.assertEqual(re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import', page), [])  # one file
        # Every panel of a quantity that both have has two curves, in the runs' colours.
        loss = page[page.index("<svg"):page.index("</svg>")]
        self.assertIn("var(--mass)", loss)
        self.assertIn("var(--plus)", loss)
        self.assertEqual(self.page(first, "runs/plain"), page)  # equal runs give equal bytes

    def test_a_picture_of_one_run(self):
        self.write("run", lines(range(10, 210, 10)))
        done = self.run_program("run", "-o", "curves.png")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(self.path("curves.png"), "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")
        self.assertEqual(sorted(os.listdir(self.folder)), ["curves.png", "run"])

    def test_gaps_resumes_and_losses_that_are_not_finite(self):
        earlier = list(lines(range(10, 110, 10)))
        later = list(lines(range(60, 130, 10), 7.0)) + list(lines(range(1000, 1030, 10), 8.0))
        bad = {**later[2], "loss": None}
        later[2] = bad
        path = self.path(self.write("run", earlier + later))
        with open(path, "a", encoding="utf-8") as file:
            file.write('{"step": 1030, "lo')  # a living run's
        run = metrics.read_all([path])[0]
        steps, loss = run.series("loss")
        self.assertEqual(steps[np.isfinite(loss)].tolist(), [10, 20, 30, 40, 50, 60, 70, 90, 100, 110, 120, 1000, 1010, 1020])
        self.assertEqual(steps[np.isnan(loss)].tolist(), [bad["step"], 560])
        self.assertAlmostEqual(loss[steps == 60][0], 7.0 + 1 / 60)  # what the resumed run says
        self.assertEqual(run.series("val_loss")[0].tolist()[:2], [50, 100])
        self.page("run")

    def test_bad_input_is_named_and_nothing_is_written(self):
        good = "".join(json.dumps(line) + "\n" for line in lines([10, 20]))
        self.write("good", good)
        for name, content, part in (("words", good + "step 30\n" + good, "line 3: is not JSON"),
                                    ("list", good + "[1]\n", "line 3: is not a JSON object"),
                                    ("stepless", '{"loss": 1}\n', "line 1: has no whole number 'step'"),
                                    ("text", '{"step": 1, "loss": "x"}\n', "line 1: 'loss' is not a number"),
                                    ("empty", "", "holds no line yet"),
                                    ("begun", '{"step": 1', "holds no complete line yet")):
            path = self.write(name, content)
            done = self.run_program("good", path, "-o", "page.html")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            self.assertIn(f"{path}", done.stderr)
            self.assertIn(part, done.stderr)
        for arguments, part in ((("missing.jsonl", "-o", "page.html"), "missing.jsonl: cannot be read"),
                                (("missing", "-o", "page.html"), "missing: cannot be read"),
                                (("good", "-o", "page.pdf"), "name the page .html or the picture .png"),
                                (("good",), "required")):
            done = self.run_program(*arguments)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            self.assertIn(part, done.stderr)
        self.assertFalse(os.path.exists(self.path("page.html")))
        done = self.run_program("good", "-o", "nowhere/page.html")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)


if __name__ == "__main__":
    unittest.main()
