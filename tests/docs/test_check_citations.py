"""tools/check_citations.py on small trees: what resolves passes, and every kind of broken citation is reported by line."""
import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "check_citations.py")
SPECIFICATION = "# Specification\n\n## 1. Depth routing\n\nSee §2.\n\n## 2. Model\n"


class CheckCitations(unittest.TestCase):
    def check(self, files):
        """Status and lines of the script on a tree of `files` beside a specification with two sections."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"train/model/SPEC.md": SPECIFICATION, **files}.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            run = subprocess.run([sys.executable, "-B", SCRIPT, root], capture_output=True, text=True)
        return run.returncode, run.stderr.splitlines()

    def accepts(self, files):
        self.assertEqual(self.check(files), (0, []))

    def refuses(self, files, *parts):
        status, lines = self.check(files)
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1, lines)
        for part in parts:
            self.assertIn(part, lines[0])

    def test_accepts_what_resolves(self):
        self.accepts({
            "kernels/ops.h": "// The read of a site (train/model/SPEC.md §1, §2).\n",
            "train/README.md": "Formulas: `model/SPEC.md` §2 and [here](model/SPEC.md#1-depth-routing).\n",
            "README.md": "Start at `train/README.md`; it prints `build/x.h5` and [links](train/README.md).\n",
        })

    def test_refuses_a_document_without_a_path(self):
        self.refuses({"a.h": "// first\n// Depth routing (SPEC, first part)\n"}, "a.h:2", "'SPEC' names no file")
        self.refuses({"a.h": "// (DESIGN)\n"}, "a.h:1", "'DESIGN' names no file")

    def test_refuses_a_document_that_does_not_exist(self):
        self.refuses({"a.cu": "// eval/SPEC.md\n"}, "a.cu:1", "'eval/SPEC.md' names no file")

    def test_refuses_a_section_that_does_not_exist(self):
        self.refuses({"a.py": "# train/model/SPEC.md §1, §3\n"}, "a.py:1", "train/model/SPEC.md has no section 3")
        self.refuses({"train/model/SPEC.md": SPECIFICATION + "See §7.\n"}, "SPEC.md:8", "has no section 7")

    def test_refuses_a_section_of_no_document(self):
        self.refuses({"a.h": "// train/model/SPEC.md\n// §1\n"}, "a.h:2", "'§1' of which document")

    def test_refuses_links_that_lead_nowhere(self):
        self.refuses({"notes.md": "[there](missing.md)\n"}, "notes.md:1", "'missing.md' leads nowhere")
        self.refuses({"notes.md": "# A\n\n[there](#b)\n"}, "notes.md:3", "no heading for '#b'")
        self.accepts({"notes.md": "# A, b\n\n[there](#a-b) [out](https://example.org/missing.md)\n"})

    def test_refuses_files_a_readme_names_and_nobody_has(self):
        self.refuses({"train/README.md": "Start at `model/step.cpp`.\n"}, "train/README.md:1", "'model/step.cpp'")
        self.refuses({"README.md": "Start at `train/step.cpp`.\n"}, "README.md:1", "'train/step.cpp'")
        self.refuses({"train/README.md": "`gone.cpp` trains.\n"}, "train/README.md:1", "'gone.cpp'")

    def test_usage(self):
        run = subprocess.run([sys.executable, "-B", SCRIPT, "/missing"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 2)
        self.assertIn("Usage", run.stderr)


if __name__ == "__main__":
    unittest.main()
