"""Reads a results file with h5py and checks the rules of its layout (eval/SPEC.md §6). Prints what is broken; status 1."""
import sys

import h5py
import numpy as np

broken = []


def check(condition, text):
    if not condition:
        broken.append(text)


def check_variable(name, variable):
    for attribute in ("units", "long_name"):
        check(isinstance(variable.attrs.get(attribute), str), f"{name}: no {attribute}")
    is_text = h5py.check_string_dtype(variable.dtype)
    check(variable.dtype.kind in "fiu" or (is_text and is_text.encoding == "utf-8" and is_text.length is None),
          f"{name}: type {variable.dtype}")
    if is_text is None and variable.shape:
        check(variable.fletcher32, f"{name}: no checksum")
    if h5py.h5ds.is_scale(variable.id):
        return
    for axis in range(variable.ndim):
        scales = list(variable.dims[axis].values())
        check(len(scales) == 1, f"{name}: axis {axis} has {len(scales)} scales")
        if scales:
            check(scales[0].shape == (variable.shape[axis],), f"{name}: scale of axis {axis} has another length")
            label = scales[0].name.rsplit("/", 1)[1]
            check(label in variable.parent, f"{name}: scale {label} is not in its group")
    variable[()]  # every byte, checksums included


with h5py.File(sys.argv[1]) as file:
    names = []
    file.visititems(lambda name, item: names.append(name))
    for name in names:
        if isinstance(file[name], h5py.Dataset):
            check_variable(name, file[name])
    for name in ("schema_version", "created", "program_version", "git_commit", "command_line", "config", "config_hash",
                 "checkpoint", "checkpoint_checksum", "data", "data_checksums", "tokens_evaluated", "seed", "device",
                 "precision", "Conventions"):
        check(name in file.attrs, f"no root attribute {name}")

    count = file["site/n_sources"][()]
    mean = file["routing/mean"][()]
    check(np.allclose(np.nansum(mean, axis=1), 1, atol=1e-6), "mean weights do not sum to 1")
    check(all(np.isnan(row[n:]).all() and not np.isnan(row[:n]).any() for row, n in zip(mean, count)),
          "NaN is not exactly where a site has no such source")
    weights = file["routing/weights"]
    check(weights.dtype == np.uint16, "weights are not uint16")
    stored = weights[()] * weights.attrs["scale_factor"]
    check(np.allclose(stored.mean(axis=(1, 2)), np.nan_to_num(mean), atol=1e-5), "weights disagree with their mean")
    check(file["site/duplicate_of"].shape == mean.shape, "duplicate_of has another shape")
    check(np.isclose(file["clean/nll"][()].mean(dtype=np.float64), file["clean/mean_nll"][()]), "mean_nll is not the mean")

print("\n".join(broken))
sys.exit(1 if broken else 0)
