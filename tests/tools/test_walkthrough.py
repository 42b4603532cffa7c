"""tools/WALKTHROUGH.md, as a reader would follow it: every block is run, in order, in a folder that looks like a clone.

    test_walkthrough.py FOLDER_OF_PROGRAMS

The last block needs torch and transformers: it is run by the Python that DEPTHROUTE_TRANSFORMERS_PYTHON names, or by this one, and left
out where that has none.
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import packages  # noqa: E402

packages.use_installed()
try:
    import pyarrow
    import pyarrow.parquet
    import tokenizers  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}; tools/setup.sh installs it")
    sys.exit(77)

PROGRAMS = sys.argv.pop(1)


def blocks():
    """[(language, text)] of the document."""
    with open(os.path.join(ROOT, "tools", "WALKTHROUGH.md")) as file:
        return re.findall(r"^```(\w+)\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def write_documents(folder):
    """Two parquet files of 300 documents of invented sentences."""
    generator = random.Random(7)
    words = ["".join(generator.choices("abcdefghijklmnoprstuvw", k=generator.randint(2, 9))) for _ in range(800)]
    os.mkdir(folder)
    for name in ("000.parquet", "001.parquet"):
        texts = [" ".join(generator.choices(words, k=generator.randint(80, 400))) + ".\n" for _ in range(300)]
        pyarrow.parquet.write_table(pyarrow.table({"id": range(300), "text": texts}), os.path.join(folder, name))


class Walkthrough(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="walkthrough-")
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("configs", "tools"):
            os.symlink(os.path.join(ROOT, name), os.path.join(self.folder, name))
        os.makedirs(os.path.join(self.folder, "build", "release"))
        os.symlink(PROGRAMS, os.path.join(self.folder, "build", "release", "bin"))
        write_documents(os.path.join(self.folder, "raw"))
        # `python3` is the one that tools/setup.sh installs for.
        os.mkdir(os.path.join(self.folder, "path"))
        os.symlink(sys.executable, os.path.join(self.folder, "path", "python3"))
        self.environment = {**os.environ, "PATH": os.path.join(self.folder, "path") + ":" + os.environ["PATH"]}

    def run_block(self, *command):
        ended = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        self.assertEqual(ended.returncode, 0, f"{command[-1]}\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    def test_every_block_runs(self):
        found = blocks()
        self.assertEqual([language for language, _ in found], ["sh"] * 4 + ["python"])
        for _, text in found[:-1]:
            self.run_block("bash", "-euo", "pipefail", "-c", text)
        for name in ("training.html", "report.html", "hf/tokenizer.json", "hf/modeling_depthroute.py"):
            self.assertTrue(os.path.exists(os.path.join(self.folder, name)), name)
        python = os.environ.get("DEPTHROUTE_TRANSFORMERS_PYTHON", sys.executable)
        if subprocess.run([python, "-c", "import torch, transformers, h5py"], capture_output=True).returncode != 0:
            print("the block for transformers was left out: it is not installed", file=sys.stderr)
            return
        self.assertIn("largest difference:", self.run_block(python, "-c", found[-1][1]))


if __name__ == "__main__":
    unittest.main()
