#!/usr/bin/env python3
"""Statistics over results files of depthroute-eval: analyze.py results.h5 [more.h5 ...] -o analysis.h5.

Intervals, adjusted p-values, equivalence, verdicts, contrasts, claims, rank correlations; analysis/README.md
has the output."""
import os
import sys

# Equal files whatever the number of cores; one core is enough. Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
try:
    from analysis.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"analyze.py: Python has no module '{error.name}'; tools/setup.sh installs numpy, scipy and h5py"
             " for /usr/bin/python3")

if __name__ == "__main__":
    sys.exit(main())
