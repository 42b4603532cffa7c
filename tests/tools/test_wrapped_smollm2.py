"""tools/wrapped_smollm2.sh on two sequences: a pretrained model imported, evaluated plain and wrapped, and tools/smollm2/check.py satisfied.

    test_wrapped_smollm2.py BIN_FOLDER

Minutes of work on 135 million weights: only with DEPTHROUTE_SMOLLM2=all, and where tools/smollm2/fetch.sh has fetched the model.
"""
import os
import subprocess
import sys
import tempfile

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
if os.environ.get("DEPTHROUTE_SMOLLM2") != "all":
    print("skipped: set DEPTHROUTE_SMOLLM2=all to run it")
    sys.exit(77)
if subprocess.run([f"{TOOLS}/smollm2/fetch.sh", "--offline"], stdout=subprocess.DEVNULL, check=False).returncode != 0:
    print("skipped: the model is not here")
    sys.exit(77)

with tempfile.TemporaryDirectory() as folder:
    out = os.path.join(folder, "smollm2")
    done = subprocess.run([f"{TOOLS}/wrapped_smollm2.sh", "--bin", os.path.abspath(sys.argv[1]), "--folder", out, "--sequences", "2"],
                          capture_output=True, text=True, check=False)
    print(done.stdout[-4000:], done.stderr[-2000:])
    assert done.returncode == 0, done.returncode
    assert done.stdout.count("holds   ") == 4, "check.py has four lines"
    for name in ("fixed.h5", "plain.h5", "wrapped-30.h5", "wrapped-3.h5", "analysis.h5", "report.html"):
        assert os.path.getsize(os.path.join(out, name)) > 0, name
