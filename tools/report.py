#!/usr/bin/env python3
"""Makes one HTML page of results files of depthroute-eval: figures, tables, verdicts. It needs nothing else.
    python3 tools/report.py results.h5 -o report.html
    python3 tools/report.py seed*/step_*.h5 --analysis analysis.h5 -o report.html --figures
Several files are steps of one run, or runs of one kind; the page is about the latest step of the first
file's run. Without --analysis the statistics of tools/analyze.py are computed on the way. --figures writes
every figure as PDF too, into FOLDER or <report>_figures. Exit status: 0; 2 bad input, one line says what and
nothing is written; 1 anything else.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

try:
    import h5py  # noqa: F401
    import matplotlib  # noqa: F401
    import numpy  # noqa: F401
    import scipy  # noqa: F401
except ImportError as missing:
    sys.exit(f"report.py: {missing} for {sys.executable}; tools/setup.sh installs it for /usr/bin/python3")

from reporting import cli  # noqa: E402

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], __doc__))
