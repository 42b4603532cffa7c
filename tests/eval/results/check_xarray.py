"""Opens every group of a results file with both of xarray's engines, and runs the example of README.md on it. Status 1 with
what is broken."""
import contextlib
import io
import re
import sys

import h5py
import numpy as np
import xarray as xr

results, readme = sys.argv[1:3]
with h5py.File(results) as file:
    groups = [name for name in file if isinstance(file[name], h5py.Group)]
for engine in ("netcdf4", "h5netcdf"):
    for group in groups:
        xr.open_dataset(results, group=group, engine=engine).load()
    grid = xr.open_dataset(results, group="grid", engine=engine)
    cell = xr.open_dataset(results, group="cell", engine=engine)
    assert list(grid["band"].values) == ["early", "mid", "late"], grid["band"].values
    assert list(grid["sublayer"].values) == ["attn", "mlp"], grid["sublayer"].values
    one = grid.sel(intervention="mask", family="current", sublayer="mlp", band="late")
    same = cell.sel(cell="mask/current/mlp/late")
    for name in ("delta_nll", "delta_nll_low", "kl", "flip_rate", "mass"):
        assert np.isclose(float(one[name]), float(same[name])), (name, one[name], same[name])
    assert cell["delta_nll"].coords["family"].dims == ("cell",), cell["delta_nll"].coords
    assert cell["delta_nll_low"].attrs["level"] == 0.95 and "bootstrap" in cell["delta_nll_low"].attrs["method"]
    weights = xr.open_dataset(results, group="routing", engine=engine)["weights"]
    mean = xr.open_dataset(results, group="routing", engine=engine)["mean"]
    assert np.allclose(weights.mean(("sequence", "token")), mean, atol=1e-4, equal_nan=True), "weights decode wrongly"

with open(readme, encoding="utf-8") as file:
    examples = re.findall(r"```python\n(.*?)```", file.read(), flags=re.DOTALL)
examples = [text for text in examples if "xarray" in text]
assert len(examples) == 1, f"README.md has {len(examples)} examples with xarray"
code, count = re.subn(r'"[^"\n]*results\.h5"', repr(results), examples[0])
assert count == 1, "the example names its results file once"
with contextlib.redirect_stdout(io.StringIO()) as out:
    exec(compile(code, "README.md", "exec"), {})  # pylint: disable=exec-used
assert "delta_nll" in out.getvalue(), out.getvalue()
