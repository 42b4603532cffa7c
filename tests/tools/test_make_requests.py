"""make_requests.py without the harness: what it refuses, how requests are cut, and that its file is whole. That its requests are the
harness's is for tests/eval/tasks/parity_lm_eval.py, which needs the harness."""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
from task_requests.file import request, write_requests  # noqa: E402


class Files(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def test_a_request_is_what_the_harness_gives_the_model(self):
        numbers = random.Random(1)
        for _ in range(2000):
            length = numbers.randint(1, 9)
            context = [numbers.randint(0, 99) for _ in range(numbers.randint(1, 20))]
            continuation = [numbers.randint(0, 99) for _ in range(numbers.randint(1, length))]
            one = request(context, continuation, length)
            read = (one["context"] + one["continuation"])[:-1]
            self.assertEqual(read, (context + continuation)[-(length + 1):][:-1])  # huggingface.py of lm_eval
            self.assertEqual(one["continuation"], continuation)
            self.assertGreaterEqual(len(one["context"]), 1)
            self.assertEqual(one["cut"] + len(one["context"]), len(context))

    def test_the_header_counts_what_follows_and_nothing_else_is_left(self):
        documents = [{"doc": 0, "requests": [request([1, 2], [3], 4), request([1], [4, 5], 4)]},
                     {"doc": 3, "requests": [request([6], [7], 4)]}]
        path = self.path / "task.jsonl"
        write_requests(path, {"task": "t"}, documents)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual((lines[0]["documents"], lines[0]["requests"], lines[0]["tokens"]), (2, 3, 8))
        self.assertEqual(lines[1:], documents)
        with self.assertRaises(TypeError):
            write_requests(path, {"task": object()}, documents)
        self.assertEqual(os.listdir(self.path), ["task.jsonl"])
        self.assertEqual(json.loads(path.read_text().splitlines()[0])["task"], "t")  # the earlier file is kept

    def refused(self, *arguments):
        (self.path / "lm_eval.py").write_text("raise ImportError('not here')")  # whether it is installed or not
        environment = dict(os.environ, PYTHONPATH=str(self.path))
        done = subprocess.run([sys.executable, TOOLS / "make_requests.py", *map(str, arguments)], text=True,
                              capture_output=True, env=environment)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertFalse((self.path / "out.jsonl").exists())
        return done.stderr

    def test_refusals_are_one_line(self):
        data = self.path / "data.jsonl"
        data.write_text("{}\n")
        good = ["hellaswag", data, "--tokenizer", self.path, "-o", self.path / "out.jsonl"]
        self.assertIn("install the Python package lm_eval, version 0.4", self.refused(*good))
        self.assertIn("nothing.jsonl: is no file", self.refused("x", self.path / "nothing.jsonl", *good[2:]))
        self.assertIn("data.jsonl: is no folder", self.refused("x", data, "--tokenizer", data, *good[4:]))
        self.assertIn("cannot be written there", self.refused(*good[:5], self.path / "no" / "out.jsonl"))
        self.assertIn("--max-length must be at least 1", self.refused(*good, "--max-length", 0))
        self.assertIn("exclude each other", self.refused(*good, "--limit", 1, "--sample", 1))


if __name__ == "__main__":
    unittest.main()
