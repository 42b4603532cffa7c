"""Writes HDF5 files that h5py and both of xarray's engines open: dimension scales, units, variable-length
strings."""
import os
import tempfile

import h5py
import numpy as np

STRING = h5py.string_dtype("utf-8")


def to_stored(values):
    """Returns an array of a type that the files may hold: float, integer or object (strings); flags become
    uint8."""
    array = np.asarray(values)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "U":
        return array.astype(object)
    return array


class Group:
    """One HDF5 group with its own dimension scales."""

    def __init__(self, group):
        self.group = group

    def attributes(self, **values):
        for name, value in values.items():
            if isinstance(value, str):
                self.group.attrs.create(name, value, dtype=STRING)
            elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
                self.group.attrs.create(name, np.array(value, dtype=object), shape=(len(value), ),
                                        dtype=STRING)
            else:
                self.group.attrs[name] = to_stored(value)[()]

    def _dataset(self, name, values, long_name, units, attributes):
        array = to_stored(values)
        kind = STRING if array.dtype == object else array.dtype
        dataset = self.group.create_dataset(name, data=array, dtype=kind, track_times=False)
        entry = Group(dataset)
        if units is not None:
            entry.attributes(units=units)
        entry.attributes(long_name=long_name, **attributes)
        return dataset

    def axis(self, name, values, long_name, units="1"):
        """Makes a dimension scale, the coordinate of every variable of this group that has the axis."""
        self._dataset(name, values, long_name, units, {}).make_scale(name)

    def link_axis(self, name, other):
        """Shares the scale `name` of another Group."""
        self.group[name] = other.group[name]

    def variable(self, name, values, axes, long_name, units="1", **attributes):
        """Writes an array over `axes`, names of scales in this group; () for a scalar."""
        dataset = self._dataset(name, values, long_name, units, attributes)
        for index, axis in enumerate(axes):
            dataset.dims[index].attach_scale(self.group[axis])

    def child(self, name):
        return Group(self.group.create_group(name))


class NewFile:
    """A file that appears at `path` whole or not at all: with NewFile(path) as root: ..."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def __enter__(self):
        folder, name = os.path.split(os.path.abspath(self.path))
        handle, self.beside = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
        os.close(handle)
        self.file = h5py.File(self.beside, "w")
        return Group(self.file)

    def __exit__(self, kind, value, trace):
        self.file.close()
        if kind is not None:
            os.unlink(self.beside)
            return
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(self.beside, 0o666 & ~mask)
        with open(self.beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.beside, self.path)
