"""Reads results files of depthroute-eval, schema 2, and checks what the analysis relies on."""
import hashlib
from dataclasses import dataclass, field

import h5py
import numpy as np

SCHEMA_VERSION = 2
TEXTS = ("family", "sublayer", "band", "intervention", "site", "status")
NUMBERS = ("source", "sites_ablated", "sites_duplicate", "distinct", "mass")
SUMS = {
    "delta_nll": "delta_nll_by_segment",
    "kl": "kl_by_segment",
    "abs_delta_nll": "abs_delta_nll_by_segment",
    "flip_rate": "flips_by_segment",
    "hit_change": "hit_change_by_segment"
}
SHARES = ("weight", "norm_share", "projection_share", "cosine", "edge_estimate")


class AnalysisError(Exception):
    """Bad input or options; the message is one line: what, where, what to do."""


@dataclass
class Results:
    """One file. Arrays over segments are sums over the segment's tokens."""
    path: str
    sha256: str
    attributes: dict
    document: np.ndarray  # [segment]
    tokens: np.ndarray  # [segment]
    nll: np.ndarray  # [segment]
    hits: np.ndarray  # [segment]
    names: list = field(default_factory=list)  # [cell]
    cell: dict = field(default_factory=dict)  # name of a variable -> [cell]
    sums: dict = field(default_factory=dict)  # measure -> [cell, segment]; not_run: NaN
    flags: np.ndarray = None  # [cell, site, source], as /plan/sources
    shares: dict = field(default_factory=dict)  # name -> [segment, site, source]; 0 beyond a site's sources
    site: dict = field(
        default_factory=dict)  # n_sources, restart [site]; state, schedule_weight [site, source]
    grids: dict = field(
        default_factory=dict)  # intervention -> indices of cells [family, sublayer, band], -1: none
    known_answers: dict = field(default_factory=dict)  # name -> passed
    checksums: tuple = ("", "")
    claims: list = field(default_factory=list)

    @property
    def measured(self):
        """Which cells have outcomes, [cell]."""
        return np.array([status == "measured" for status in self.cell.get("status", [])], bool)

    def index(self, name):
        """The place of the cell called `name`, or None."""
        return self.names.index(name) if name in self.names else None

    @property
    def recency_bias(self):
        """b of a wrapped model, from the formula's weights: ln(current / other). NaN where it is not one
        value."""
        weight, count = self.site.get("schedule_weight"), self.site.get("n_sources")
        if not self.attributes["wrapped"] or weight is None:
            return np.nan
        routed = np.flatnonzero(count > 1)
        biases = np.log(weight[routed, count[routed] - 1] / weight[routed, 0])
        if len(biases) == 0 or not np.ptp(biases) < 1e-6:  # NaN too
            return np.nan
        return round(float(biases.mean()), 9) + 0.0


class Reader:
    """Reads variables of one open file; what is missing or misshapen is an AnalysisError that names it."""

    def __init__(self, path, file):
        self.path, self.file = path, file

    def fail(self, what):
        raise AnalysisError(f"{self.path}: {what}")

    def array(self, name, shape=None, optional=False):
        if name not in self.file:
            if optional:
                return None
            self.fail(f"/{name} is missing; is this a whole results file of depthroute-eval?")
        dataset = self.file[name]
        values = dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]
        if shape is not None and values.shape != shape:
            self.fail(f"/{name} has shape {values.shape}, not {shape}; measure again")
        return values

    def attribute(self, name):
        if name not in self.file.attrs:
            self.fail(f"root attribute {name} is missing; measure again with this version of depthroute-eval")
        value = self.file.attrs[name]
        return value.item() if isinstance(value, np.generic) else value


def read_results(path):
    """Reads the file at `path`; AnalysisError if that is not possible."""
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
        with h5py.File(path, "r") as file:
            return _read(Reader(path, file), sha256)
    except OSError as error:
        reason = error.strerror if error.errno else "it is damaged or not HDF5"
        raise AnalysisError(
            f"{path}: cannot be read: {reason or error}; name results files of depthroute-eval") from error


def _read(reader, sha256):
    version = reader.file.attrs.get("schema_version")
    if version is None:
        reader.fail("has no schema_version; name results files of depthroute-eval")
    if version != SCHEMA_VERSION:
        reader.fail(f"schema_version is {version}, this program reads {SCHEMA_VERSION};"
                    " measure again with this version")
    names = ("measurement_hash", "claims_hash", "checkpoint", "checkpoint_checksum", "checkpoint_step",
             "variant", "num_layers", "sublayers_per_block", "wrapped", "seed", "split", "device",
             "precision", "sequences", "tokens_evaluated", "unigram_entropy", "separator")
    attributes = {name: reader.attribute(name) for name in names}
    told = "separator" if np.size(attributes["separator"]) else "none"  # what files without the attribute mean
    attributes["documents_from"] = reader.file.attrs.get("documents_from", told)
    for name in ("bootstrap", "alpha", "margin", "statistics_seed"):
        attributes[name] = reader.attribute(name)
    tokens = reader.array("segment/tokens")
    per_segment = (len(tokens), )
    result = Results(reader.path, sha256, attributes, reader.array("segment/document", per_segment),
                     tokens.astype(float), reader.array("clean/nll_by_segment", per_segment),
                     reader.array("clean/hits_by_segment", per_segment))
    if len(tokens) == 0 or tokens.min() < 1:
        reader.fail("/segment/tokens must be above 0 in every segment; measure again")
    if not np.isfinite(result.nll).all():
        reader.fail("/clean/nll_by_segment is not finite: the model's own loss is not a number")
    _read_sites(reader, result)
    _read_cells(reader, result)
    _read_known_answers(reader, result)
    _read_claims(reader, result)
    return result


def _read_sites(reader, result):
    for name in ("n_sources", "restart", "state", "schedule_weight"):
        result.site[name] = reader.array(f"site/{name}", optional=True)
    for name in SHARES:
        values = reader.array(f"routing/{name}_by_segment", optional=True)
        if values is not None:
            result.shares[name] = np.nan_to_num(values.astype(float))


def _read_cells(reader, result):
    names = reader.array("cell/cell", optional=True)
    if names is None or len(names) == 0:
        return
    result.names = list(names)
    if len(set(result.names)) < len(names):
        reader.fail("/cell/cell names a cell twice; measure again")
    for name in TEXTS + NUMBERS:
        result.cell[name] = reader.array(f"cell/{name}", names.shape)
    result.flags = reader.array("plan/sources")
    shape = (len(names), len(result.tokens))
    for name, variable in SUMS.items():
        sums = reader.array(f"cell/{variable}", shape).astype(float)
        bad = result.measured & ~np.isfinite(sums).all(1)
        if bad.any():
            reader.fail(f"/cell/{variable} is not finite for {result.names[int(np.argmax(bad))]};"
                        " leave the cell out or measure again")
        result.sums[name] = sums
    index = reader.array("grid/cell_index", optional=True)
    if index is not None:
        result.grids = dict(zip(reader.array("grid/intervention"), index))


def _read_known_answers(reader, result):
    names = reader.array("known_answer/known_answer")
    result.known_answers = dict(
        zip(names, (int(code) for code in reader.array("known_answer/passed", names.shape))))
    attributes = reader.file["known_answer"].attrs
    result.checksums = tuple(
        str(attributes.get(f"parameters_checksum_{when}", "")) for when in ("before", "after"))


def _read_claims(reader, result):
    names = reader.array("claim/claim", optional=True)
    if names is None:
        return
    columns = {
        name: reader.array(f"claim/{name}", names.shape)
        for name in ("cell", "exceeds", "measure", "margin", "negative")
    }
    unknown = [measure for measure in columns["measure"] if measure not in ("delta_nll", "kl")]
    if unknown:
        reader.fail(f"/claim/measure has '{unknown[0]}'; claims are about delta_nll or kl")
    for row, name in enumerate(names):
        result.claims.append({"name": name, **{key: column[row] for key, column in columns.items()}})
