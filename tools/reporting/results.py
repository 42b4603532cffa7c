"""Reads results files of depthroute-eval (eval/SPEC.md §7, schema_version 2) whole into memory."""
import os

import h5py
import numpy as np

SCHEMA_VERSION = 2
REQUIRED = ("/site/n_sources", "/segment/tokens", "/clean/mean_nll", "/known_answer/passed")


class InputError(Exception):
    """Bad input: one line that says what, where and what to do."""


def decode(value):
    """Bytes as text, alone or in a list; everything else as it is."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [decode(one) for one in value.ravel()]
    return value


class File:
    """An HDF5 file in memory: values by path, "cell/mass", and attributes."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        self.arrays, self.scales, self.groups, self.attributes = {}, {}, {}, {}
        try:
            with h5py.File(path, "r") as file:
                self.attributes = {key: decode(value) for key, value in file.attrs.items()}
                self._keep_group("", file)
        except (OSError, RuntimeError, KeyError) as error:
            reason = (
                "no such file"
                if not os.path.exists(path)
                else f"not a readable HDF5 file ({str(error).splitlines()[0]})"
            )
            raise InputError(f"{path}: {reason}; give a file written by depthroute-eval") from None

    def _keep_group(self, path, group):
        """By hand, because a visit by h5py shows an axis that several groups link under one of them only."""
        for name, item in group.items():
            if isinstance(item, h5py.Group):
                self.groups[path + name] = {key: decode(value) for key, value in item.attrs.items()}
                self._keep_group(f"{path}{name}/", item)
            elif path + name != "routing/weights":  # large, and no figure needs single weights
                self.arrays[path + name] = self._read(item)
                if h5py.h5ds.is_scale(item.id):
                    self.scales.setdefault(name, self.arrays[path + name])

    @staticmethod
    def _read(dataset):
        value = dataset[()]
        if h5py.check_string_dtype(dataset.dtype) is None:
            return value
        if not isinstance(value, np.ndarray):
            return decode(value)
        return np.array([decode(one) for one in value.ravel()], dtype=object).reshape(value.shape)

    def __contains__(self, path):
        return path in self.arrays

    def __getitem__(self, path):
        if path not in self.arrays:
            raise InputError(
                f"{self.path}: has no /{path}; write it again with this version of depthroute-eval"
            )
        return self.arrays[path]

    def get(self, path, default=None):
        return self.arrays.get(path, default)

    def attribute(self, name, default=""):
        return self.attributes.get(name, default)

    def names(self, axis):
        """The names on an axis, as ["embedding", "older"]; empty where the file does not have it. Every group
        links its axes."""
        return [str(name) for name in self.scales.get(axis, [])]


class Results(File):
    """One results file, with what several sections ask of it."""

    def __init__(self, path):
        super().__init__(path)
        version = self.attribute("schema_version", None)
        if version is None:
            raise InputError(f"{path}: has no schema_version; give a results file of depthroute-eval")
        if int(version) != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema_version {int(version)}, this program reads {SCHEMA_VERSION}; evaluate again"
            )
        for required in REQUIRED:
            if required[1:] not in self:
                raise InputError(f"{path}: has no {required}; the file is damaged or of another program")

    @property
    def margin(self):
        return float(self.attribute("margin", np.nan))

    @property
    def step(self):
        return int(self.attribute("checkpoint_step", -1))

    @property
    def documents(self):
        return int(self.attribute("documents", len(set(np.atleast_1d(self["segment/document"]).tolist()))))

    @property
    def cells(self):
        return self.names("cell")

    def cell_strings(self, name):
        return [str(word) for word in self.get(f"cell/{name}", [""] * len(self.cells))]

    def cell_values(self, name):
        return np.asarray(self.get(f"cell/{name}", np.full(len(self.cells), np.nan)), dtype=float)

    def under_cells(self, name):
        """ "coefficient" or "weight_mean" under every cell, as (values, path). A group of its own where axes
        and names collide."""
        for path in (f"cell_routing/{name}", f"cell/{name}"):
            if path in self:
                return np.asarray(self[path]), "/" + path
        return None, ""

    def failed_answers(self):
        passed = np.atleast_1d(self["known_answer/passed"])
        return [name for name, flag in zip(self.names("known_answer"), passed) if int(flag) == 0]

    def parameters_changed(self):
        group = self.groups.get("known_answer", {})
        return group.get("parameters_checksum_before") != group.get("parameters_checksum_after")
