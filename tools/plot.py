#!/usr/bin/env python3
"""Draws the metrics of training runs over each other: loss, validation loss, learning rate, gradient norm, throughput and routing mass
per source family, by step.
    python3 tools/plot.py runs/a/metrics.jsonl runs/b/metrics.jsonl -o curves.html
    python3 tools/plot.py runs/demo -o curves.png
A folder stands for the metrics.jsonl in it. The page needs nothing else; .png is one picture. A line that a living run is just writing is
left out; where a file goes back in steps, as a resumed run's may, what comes later counts. Lines are interrupted where a loss was not
finite and where steps are missing. Exit status: 0; 2 bad input, one line says what and nothing is written; 1 anything else.
"""
import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

try:
    from plotting import curves, metrics
except ImportError as missing:
    sys.exit(f"plot.py: {missing} for {sys.executable}; tools/setup.sh installs it for /usr/bin/python3")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise metrics.InputError(f"{message}; plot.py --help shows the usage")


def parse(arguments):
    parser = Parser(prog="plot.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="+", metavar="metrics.jsonl", help="of a run, or the run's folder")
    parser.add_argument("-o", "--output", required=True, metavar="curves.html|curves.png")
    options = parser.parse_args(arguments)
    if not options.output.endswith((".html", ".png")):
        raise metrics.InputError(f"{options.output}: name the page .html or the picture .png")
    return options


def write(path, content):
    """Whole or not at all."""
    handle, unfinished = tempfile.mkstemp(prefix=os.path.basename(path) + ".tmp-", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0o022)
        os.umask(mask)
        os.chmod(unfinished, 0o666 & ~mask)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def main(arguments):
    try:
        options = parse(arguments)
        runs = metrics.read_all(options.metrics)
        write(options.output, curves.page(runs).encode() if options.output.endswith(".html") else curves.picture(runs))
        return 0
    except metrics.InputError as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"plot.py: {options.output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
