"""A GGUF file: its keys with errors that name file and key, its tensors as float32."""
import numpy as np

import gguf


class ImportFailure(Exception):
    """Bad input, in one line."""


class GgufFile:
    def __init__(self, path):
        self.path = path
        try:
            self._reader = gguf.GGUFReader(path)
        except OSError as error:
            raise ImportFailure(f"{path}: cannot be read: {error.strerror or error}") from error
        # The reader trusts sizes: files that lie about them end in whatever its arithmetic meets.
        except (ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError, UnicodeDecodeError) as error:
            text = " ".join(str(error).split())[:200]
            raise ImportFailure(f"{path}: not a whole GGUF file ({text}): download it again") from error
        self.tensors = {}
        for tensor in self._reader.tensors:
            if tensor.name in self.tensors:
                self.fail(f"holds the tensor {tensor.name!r} twice")
            self.tensors[tensor.name] = tensor

    def fail(self, text):
        raise ImportFailure(f"{self.path}: {text}")

    def keys(self):
        return list(self._reader.fields)

    def value(self, key, kinds, default=None):
        """The key's value, of one of the Python types `kinds`; `default` if it is absent, an error if that is None."""
        field = self._reader.fields.get(key)
        if field is None:
            if default is None:
                self.fail(f"the key {key} is missing: not a whole model")
            return default
        try:
            value = field.contents()
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise ImportFailure(f"{self.path}: the key {key} cannot be read: {error}") from error
        if isinstance(value, bool) and bool not in kinds or not isinstance(value, kinds):
            self.fail(f"{key} is {str(value)[:60]!r}: must be of type {kinds[0].__name__}")
        return value

    def count(self, key, default=None):
        value = self.value(key, (int,), default)
        if not 0 <= value < 2**31:
            self.fail(f"{key} is {value}: must be from 0 to 2147483647")
        return value

    def number(self, key, default=None):
        """A float32 of the file as the shortest decimal that means it: 1e-05, not 9.999999747378752e-06."""
        value = self.value(key, (float, int), default)
        if not np.isfinite(value):
            self.fail(f"{key} is {value}: must be a finite number")
        return float(str(np.float32(value)))

    def shape(self, name):
        """As PyTorch says it, [out, in]; GGUF says it the other way round."""
        return tuple(int(size) for size in reversed(self.tensors[name].shape))

    def values(self, name):
        """The tensor as float32, dequantised."""
        tensor = self.tensors[name]
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise ImportFailure(f"{self.path}: tensor {name} is {tensor.tensor_type.name}, which cannot be dequantised: "
                                f"{error}") from error
        values = np.ascontiguousarray(values, np.float32).reshape(self.shape(name))
        if not np.isfinite(values).all():
            self.fail(f"tensor {name} holds a value that is not finite: the file is damaged")
        return values
