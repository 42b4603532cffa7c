"""metrics.jsonl as columns over steps."""
import json
import math
import os

import numpy as np

FILE = "metrics.jsonl"
GAP = 4  # as many times the usual distance of two logged steps is a gap
SCALARS = ("loss", "val_loss", "lr", "grad_norm", "tokens_per_s", "skipped")
FAMILIES = ("embedding", "older", "recent", "current")


class InputError(Exception):
    """Bad input: exit status 2."""


class Run:
    """One run: series(name) of what its lines hold."""

    def __init__(self, path, label, lines):
        self.path, self.label, self.lines = path, label, lines

    def series(self, name):
        """(steps, values) where `name`, a key or family, is logged; NaN between the sides of a gap and where the value was not finite."""
        found = [(line["step"], line[name]) for line in self.lines if name in line]
        steps = np.array([step for step, _ in found], dtype=float)
        values = np.array([value for _, value in found], dtype=float)
        if len(steps) > 2:
            distances = np.diff(steps)
            behind = np.flatnonzero(distances > GAP * np.median(distances)) + 1
            steps = np.insert(steps, behind, (steps[behind - 1] + steps[behind]) / 2)
            values = np.insert(values, behind, np.nan)
        return steps, values

    def last(self, name):
        return next((line[name] for line in reversed(self.lines) if name in line), math.nan)


def number(value, where, key):
    """null is what a number that is not finite was written as."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where}: {key!r} is not a number; is this a {FILE} of depthroute-train?")
    return float(value)


def flatten(line, where):
    """What is drawn of one line; routing mass by family, over all sites."""
    if not isinstance(line, dict):
        raise InputError(f"{where}: is not a JSON object; is this a {FILE} of depthroute-train?")
    step = line.get("step")
    if isinstance(step, bool) or not isinstance(step, int):
        raise InputError(f"{where}: has no whole number 'step'; is this a {FILE} of depthroute-train?")
    flat = {"step": step, **{key: number(line[key], where, key) for key in SCALARS if key in line}}
    mass = line.get("routing_mass")
    if isinstance(mass, dict):
        flat.update((family, number(mass[family], where, family)) for family in FAMILIES if family in mass)
    return flat


def read(path):
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            texts = file.read().split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; is it a {FILE} of depthroute-train?") from None
    unfinished = texts.pop()  # "" unless the last line has no end yet
    lines = []
    for number_of_line, text in enumerate(texts, 1):
        where = f"{path}: line {number_of_line}"
        try:
            line = flatten(json.loads(text), where)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is not JSON ({error}); remove the line, or restore the file") from None
        drop_earlier_attempt(lines, line)
        lines.append(line)
    if not lines:
        raise InputError(f"{path}: holds no " + ("complete " if unfinished else "") + "line yet; wait for the run's first")
    return lines


def drop_earlier_attempt(lines, line):
    """Drops lines of steps that `line` shows to be done again: later ones, and its own if they hold the same keys."""
    while lines and lines[-1]["step"] > line["step"]:
        lines.pop()
    same = [i for i in range(max(0, len(lines) - 2), len(lines))
            if lines[i]["step"] == line["step"] and len(lines[i].keys() & line.keys()) > 1]
    if same:
        del lines[same[0]:]


def labels(paths):
    """The shortest ends of the runs' folders that tell them apart."""
    folders = [os.path.dirname(os.path.abspath(path)) if os.path.basename(path) == FILE else os.path.abspath(path) for path in paths]
    parts = [folder.split(os.sep) for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = [os.sep.join(part[-depth:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{end} ({i})" for i, end in enumerate(ends, 1)]  # one file given twice


def read_all(given):
    paths = [os.path.join(path, FILE) if os.path.isdir(path) else path for path in given]
    return [Run(path, label, read(path)) for path, label in zip(paths, labels(paths))]
