"""Reads a results file with h5py and checks the rules of its layout (eval/SPEC.md §7). Prints what is broken; status 1."""
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
    for name in ("schema_version", "measurement_hash", "analysis_hash", "claims_hash", "checkpoint_step", "variant",
                 "num_layers", "num_blocks", "split", "choose", "documents", "unigram_entropy", "created", "program_version", "git_commit", "command_line", "config", "config_hash",
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
    raw = weights[()]
    stored = np.where(raw == weights.attrs["_FillValue"][0], np.nan, raw * weights.attrs["scale_factor"])
    with np.errstate(invalid="ignore"):
        average = np.nanmean(np.where(np.isnan(mean)[:, None, None, :], 0, stored), axis=(1, 2))
    check(np.allclose(average, np.nan_to_num(mean), atol=1e-5), "weights disagree with their mean")
    check((np.isnan(stored).all(axis=(1, 2)) == np.isnan(mean)).all(), "weights are not missing where there is no source")
    sums = file["routing/weight_by_segment"][()].sum(axis=0)
    check(np.allclose(sums / file.attrs["tokens_evaluated"], mean, equal_nan=True), "weights by segment disagree")
    for share in ("norm_share", "projection_share"):
        check(np.allclose(np.nansum(file[f"routing/{share}"][()], axis=1), 1, atol=1e-5), f"{share} does not sum to 1")
    last = file["routing/cosine"][()][np.arange(len(count)), count - 1]
    check(np.allclose(last, 1, atol=1e-5), "the current state has another direction than itself")
    tokens = file["segment/tokens"][()].sum()
    check(tokens == file.attrs["tokens_evaluated"], "segments do not add up to the tokens evaluated")
    clean = file["clean/nll_by_segment"][()].sum() / tokens
    check(np.isclose(clean, file["clean/mean_nll"][()]), "nll by segment disagrees with its mean")
    measured = file["cell/status_code"][()] == 1
    by_segment = file["cell/delta_nll_by_segment"][()].sum(axis=1) / tokens
    check(np.allclose(by_segment[measured], file["cell/delta_nll"][()][measured]), "delta_nll disagrees with its segments")
    weight = file["cell_routing/weight_mean"][()][measured]
    check(np.allclose(np.nansum(weight, axis=2), 1, atol=1e-6), "weights under a cell do not sum to 1")
    check("coordinates" in file["cell/delta_nll"].attrs, "cells have no coordinates")
    check(file["site/duplicate_of"].shape == mean.shape, "duplicate_of has another shape")
    check(np.isclose(np.nanmean(file["clean/nll"][()], dtype=np.float64), file["clean/mean_nll"][()]), "mean_nll is not the mean")

print("\n".join(broken))
sys.exit(1 if broken else 0)
