"""configs/study/RESULTS.md: its numbers are those of the committed statistics, judged and tabulated again."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CONFIGS = os.path.join(ROOT, "configs", "study")
RESULTS = os.path.join(CONFIGS, "results")
STUDY = os.path.join(ROOT, "tools", "study")


def lines_of(path):
    with open(path) as file:
        return file.read().splitlines()


def run(*command, folder):
    ended = subprocess.run([sys.executable, "-B", *command], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


class Result(unittest.TestCase):

    def test_the_verdicts_follow_from_the_statistics(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "build", "study", "smollm2"))  # statistics name files by the paths they had
            for name, place in (("analysis.h5", "analysis.h5"), ("exploration.h5", "exploration.h5"),
                                ("smollm2.h5", "smollm2/analysis.h5")):
                shutil.copy(os.path.join(RESULTS, name), os.path.join(folder, "build", "study", place))
            run(os.path.join(STUDY, "judge.py"), "build/study", "--judgement", os.path.join(CONFIGS, "judgement.yaml"), "--also",
                "build/study/exploration.h5", "--also", "build/study/smollm2/analysis.h5", "--output", "verdicts.json", folder=folder)
            self.assertEqual(lines_of(os.path.join(folder, "verdicts.json")), lines_of(os.path.join(RESULTS, "verdicts.json")))

    def test_the_tables_follow_from_the_verdicts(self):
        with tempfile.TemporaryDirectory() as folder:
            run(os.path.join(STUDY, "table.py"), os.path.join(RESULTS, "verdicts.json"), "--seconds", os.path.join(RESULTS, "seconds.tsv"),
                "--output", "table.md", folder=folder)
            self.assertEqual(lines_of(os.path.join(folder, "table.md")), lines_of(os.path.join(RESULTS, "table.md")))

    def test_the_page_has_no_row_that_the_tables_lack(self):
        tables = set(lines_of(os.path.join(RESULTS, "table.md")))
        page = lines_of(os.path.join(CONFIGS, "RESULTS.md"))
        numbers = page[page.index("## Claims"):page.index("## What cannot be said")]
        rows = [line for line in numbers if line.startswith("|")]
        self.assertGreater(len(rows), 20)
        self.assertEqual([row for row in rows if row not in tables], [])


if __name__ == "__main__":
    unittest.main()
