"""tools/tokenize_text.py killed at any moment: continued, it leaves the bytes of a run that was left alone, and meanwhile the output is
absent or whole."""
import os
import shutil
import subprocess
import unittest

import tokenize_support as support
from tokenize_support import InFolder, prose

# Small, so that there are many shards and many states to go on from.
OPTIONS = ("--shard-tokens", "3000", "--save-every", "9000", "--val-fraction", "0.2")


def strace(*injections):
    return ("strace", "-o", "/dev/null", "-e", "trace=" + ",".join(injection.split(":")[0] for injection in injections),
            *(word for injection in injections for word in ("-e", "inject=" + injection)))


class Killed(InFolder):

    def setUp(self):
        super().setUp()
        if subprocess.run([*strace("fsync:error=EIO:when=9"), "true"], capture_output=True).returncode != 0:
            self.skipTest("strace cannot be used here")
        self.write_jsonl("a.jsonl.gz", [prose(300 + seed % 7 * 400, seed) for seed in range(60)])
        self.write("b.txt", prose(300_000, 3))
        self.write_parquet("c.parquet", [prose(800, 100 + seed) for seed in range(40)])
        self.inputs = ("a.jsonl.gz", "b.txt", "c.parquet")

    def run_killed(self, injection, *arguments):
        """Its status, after a look at what is there."""
        done = self.run_program(*self.inputs, *OPTIONS, *arguments, before=strace(injection))
        if os.path.exists(self.path("out")):
            self.assertEqual(support.tree(self.path("out")), self.whole)
        return done.returncode

    def test_continued_after_a_kill_at_any_flush_rename_or_write(self):
        self.succeeds(*self.inputs, *OPTIONS)
        self.whole = support.tree(self.path("out"))
        self.assertGreater(len(self.whole), 20)
        killed = 0
        for injection in ("fsync:signal=KILL:when=1", "fsync:signal=KILL:when=20", "fsync:signal=KILL:when=61",
                          "rename:signal=KILL:when=3", "rename:signal=KILL:when=12", "rename:signal=KILL:when=25",
                          "pwrite64:signal=KILL:when=5", "ftruncate:signal=KILL:when=7", "unlink,rmdir,unlinkat:signal=KILL:when=2"):
            with self.subTest(injection):
                shutil.rmtree(self.path("out"), ignore_errors=True)
                killed += self.run_killed(injection) != 0
                self.succeeds(*self.inputs, *OPTIONS)
                self.assertEqual(support.tree(self.path("out")), self.whole)
                self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("out")], ["out"])
        self.assertEqual(killed, 9)

    def test_continued_again_and_again(self):
        self.succeeds(*self.inputs, *OPTIONS)
        self.whole = support.tree(self.path("out"))
        # Where it replaces an earlier set, too: that one stays until the new one is there.
        for runs in range(1, 40):
            if self.run_killed("fsync:signal=KILL:when=17", "--overwrite") == 0:
                break
            refused = self.run_program(*self.inputs, *OPTIONS, "--overwrite", "--shard-tokens", "4000")
            self.assertEqual(refused.returncode, 2)
            self.assertIn("holds an unfinished run with another --shard-tokens (3000, now 4000)", refused.stderr)
        self.assertGreater(runs, 4)
        self.assertEqual(support.tree(self.path("out")), self.whole)

    def test_interrupted_or_without_a_worker_it_can_go_on(self):
        self.succeeds(*self.inputs, *OPTIONS)
        self.whole = support.tree(self.path("out"))
        shutil.rmtree(self.path("out"))
        done = self.run_program(*self.inputs, *OPTIONS, before=strace("fsync:signal=TERM:when=20"))
        self.assertEqual((done.returncode, done.stderr.count("\n")), (3, 1), done.stderr)
        done = self.run_program(*self.inputs, *OPTIONS, before=strace("fsync:error=ENOSPC:when=20"))
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("No space left on device", done.stderr)
        self.succeeds(*self.inputs, *OPTIONS)
        self.assertEqual(support.tree(self.path("out")), self.whole)

    def test_changed_input_is_not_continued(self):
        self.run_program(*self.inputs, *OPTIONS, before=strace("fsync:signal=KILL:when=30"))
        self.write("b.txt", prose(1000, 4))
        done = self.run_program(*self.inputs, *OPTIONS)
        self.assertEqual(done.returncode, 2)
        self.assertIn("holds an unfinished run with another input", done.stderr)
        self.succeeds(*self.inputs, *OPTIONS, "--restart")


if __name__ == "__main__":
    unittest.main()
