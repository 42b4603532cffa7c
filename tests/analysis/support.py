"""What the tests of tools/analysis share: paths, a temporary folder, the program."""
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.path.insert(0, HERE)


class InFolder(unittest.TestCase):
    """A test case with a folder of its own, self.folder."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="depthroute_analysis_")
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def path(self, name):
        return os.path.join(self.folder, name)


def run_program(*arguments):
    """Runs tools/analyze.py as a user does."""
    command = [sys.executable, "-B", os.path.join(ROOT, "tools", "analyze.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={
        **os.environ, "OPENBLAS_NUM_THREADS": "1"
    }, check=False)
