"""same_results.py A.h5 B.h5: compares groups, datasets, attributes and bits, except those that say when and how a file was made."""
import sys

import h5py
import numpy as np

# Root attributes: when, how and where.
OWN = {"created", "command_line", "history", "config"}
# HDF5's own attributes for dimension scales: addresses in the file.
REFERENCES = {"DIMENSION_LIST", "REFERENCE_LIST"}
different = []


def attributes(item, name):
    left_out = REFERENCES | (OWN if name == "/" else set())
    return {key: np.asarray(value).tolist() for key, value in item.attrs.items() if key not in left_out}


def names_of(file):
    found = []
    file.visit(found.append)
    return sorted(found)


with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2]) as b:
    names = names_of(a)
    if names != names_of(b):
        different.append(f"not the same names: {sorted(set(names) ^ set(names_of(b)))}")
    datasets = 0
    for name in ["/"] + [name for name in names if name in b]:
        of_a, of_b = attributes(a[name], name), attributes(b[name], name)
        for key in sorted(set(of_a) | set(of_b)):
            if str(of_a.get(key)) != str(of_b.get(key)):  # as text, for NaN equals NaN there
                different.append(f"{name}: attribute {key}")
        if not isinstance(a[name], h5py.Dataset):
            continue
        datasets += 1
        x, y = a[name][()], b[name][()]
        if a[name].dtype.kind == "O":
            same = np.array_equal(x, y)
        else:
            same = a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and x.tobytes() == y.tobytes()
        if not same:
            different.append(f"{name}: values")

print("\n".join(different) if different else f"{datasets} datasets equal")
sys.exit(1 if different else 0)
