"""The command line of tools/report.py: reads, analyses if told nothing else, writes whole files or none."""
import argparse
import os
import sys
import tempfile

from . import page, plot, series
from .findings import Analysis, Subject
from .results import InputError, Results


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; report.py --help shows the usage")


def parse(arguments, description):
    parser = Parser(
        prog="report.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", metavar="results.h5")
    parser.add_argument(
        "--analysis", metavar="analysis.h5", help="made by tools/analyze.py from the same files"
    )
    parser.add_argument("-o", "--output", required=True, metavar="report.html")
    parser.add_argument(
        "--figures", nargs="?", const="", metavar="FOLDER", help="also write every figure as PDF"
    )
    options = parser.parse_args(arguments)
    if options.figures == "":
        options.figures = os.path.splitext(options.output)[0] + "_figures"
    return options


def check_output(options):
    """Refuses what could not be written in the end, or would overwrite an input."""
    folder = os.path.dirname(os.path.abspath(options.output))
    if not os.path.isdir(folder):
        raise InputError(f"{options.output}: there is no folder {folder}; make it first")
    if os.path.isdir(options.output):
        raise InputError(
            f"{options.output}: is a folder; name a file, as {os.path.join(options.output, 'report.html')}"
        )
    for path in [*options.results, *([options.analysis] if options.analysis else [])]:
        if os.path.exists(options.output) and os.path.exists(path) and os.path.samefile(path, options.output):
            raise InputError(f"{options.output}: is an input too; name another output")
    if options.figures and os.path.exists(options.figures) and not os.path.isdir(options.figures):
        raise InputError(f"{options.figures}: is a file; name a folder for the figures")


def analyse(paths):
    """The statistics of tools/analyze.py for these files, computed now."""
    from analysis import cli as analyze

    with tempfile.TemporaryDirectory(prefix="depthroute-report-") as folder:
        path = os.path.join(folder, "analysis.h5")
        try:
            analyze.analyse(analyze.parse([*paths, "-o", path]))
        except analyze.AnalysisError as error:
            raise InputError(str(error)) from None
        return Analysis(path)


def whole_subject(subjects):
    """The file that the page is about: the latest step of the first file's run."""
    line = series.over_steps(subjects[0], subjects)
    return line[-1] if line else subjects[0]


def replace(path, write):
    """Writes beside `path`, then renames: the file is there whole or not at all."""
    folder, name = os.path.split(os.path.abspath(path))
    handle, beside = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        write(beside)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def write_text(path, text):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def run(options):
    check_output(options)
    results = [Results(path) for path in options.results]
    analysis = Analysis(options.analysis) if options.analysis else analyse(options.results)
    subjects = [Subject(one, analysis) for one in results]
    subject = whole_subject(subjects)
    figures = page.figures(subject, subjects)
    text = page.build(subject, subjects, figures)
    if options.figures:
        os.makedirs(options.figures, exist_ok=True)
        for figure in figures:
            replace(
                os.path.join(options.figures, f"{figure.key}.pdf"), lambda path: plot.write_pdf(figure, path)
            )
    replace(options.output, lambda path: write_text(path, text))
    print(
        f"{options.output}: {len(figures)} figures"
        + (f", as PDF in {options.figures}" if options.figures else "")
    )


def main(arguments, description):
    try:
        run(parse(arguments, description))
    except InputError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"report.py: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    return 0
