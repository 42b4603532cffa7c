"""The model folder: written beside its place, flushed, and renamed when everything is in it."""
import json
import os
import shutil

import numpy as np

from .gguf_file import ImportFailure

SAFETENSORS_NAMES = {"float32": "F32", "bfloat16": "BF16"}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2, ensure_ascii=False)
        out.write("\n")
        flush(out)


def flush(out):
    out.flush()
    os.fsync(out.fileno())


def as_bf16(values):
    """Rounded to the nearest bf16, ties to even, as its 16 bits; the values are finite."""
    bits = values.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return rounded.astype(np.uint16)


def write_safetensors(path, shapes, values_of, dtype):
    """shapes: by tensor name. One tensor at a time is in memory."""
    size = 4 if dtype == "float32" else 2
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(shapes):
        end = offset + size * int(np.prod(shapes[name], dtype=np.int64))
        header[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(shapes):
            values = values_of(name)
            out.write(as_bf16(values).astype("<u2").data if dtype == "bfloat16" else values.astype("<f4", order="C").data)
        flush(out)


class NewFolder:
    """with NewFolder(path) as temporary: the folder `path` is there afterwards, whole, or not at all."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.temporary = f"{self.path}.tmp-{os.getpid()}"
        if os.path.lexists(self.path):
            raise ImportFailure(f"{path}: exists already: remove it, or name another folder")

    def __enter__(self):
        try:
            os.makedirs(self.temporary)
        except OSError as error:
            raise ImportFailure(f"{self.temporary}: cannot be made: {error.strerror}") from error
        return self.temporary

    def __exit__(self, kind, error, trace):
        if kind is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        os.rename(self.temporary, self.path)
        parent = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
