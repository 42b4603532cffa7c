"""Input files as documents, read in pieces: text, JSONL and parquet, compressed or not.

read() yields (text, ends): consecutive parts of documents, and whether a document ends with this part. Equal files give equal
parts, so that a run can skip what an earlier one has done.
"""
import codecs
import glob
import gzip
import json
import os
import re
import stat

import packages

from .errors import InputError

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 256 << 20  # bytes of a line of JSONL: it has to be in memory as a whole
ROWS = 64  # of a parquet file at a time
COMPRESSIONS = (".gz", ".zst")
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}


class Source:
    """One input file, checked but not yet read."""

    def __init__(self, path, form, options):
        self.path, self.options = path, options
        base, ending = os.path.splitext(path)
        self.compression = ending if ending in COMPRESSIONS else ""
        self.form = FORMATS.get(os.path.splitext(base)[1] if self.compression else ending, "text") if form == "auto" else form
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path}: is not a regular file; give files (a pattern may hold * and ?)")
            with open(path, "rb"):
                pass
        except OSError as error:
            raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
        self.size, self.modified_ns = status.st_size, status.st_mtime_ns
        if self.form == "parquet" and self.compression:
            raise InputError(f"{path}: parquet is compressed inside; decompress the file around it")
        if self.form == "parquet":
            check_column(self)

    def state(self):
        return {"path": self.path, "size": self.size, "modified_ns": self.modified_ns}

    def check_unchanged(self):
        try:
            now = os.stat(self.path)
        except OSError:
            now = None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.size, self.modified_ns):
            raise InputError(f"{self.path}: changed while it was read; pass --restart when it is complete")

    def read(self):
        return {"text": read_text, "jsonl": read_jsonl, "parquet": read_parquet}[self.form](self)


def expand(patterns, form, options):
    """The sources that paths and patterns name, in the order given, each pattern's sorted."""
    paths = []
    for pattern in patterns:
        found = [pattern] if os.path.exists(pattern) or not glob.has_magic(pattern) else sorted(glob.glob(pattern))
        if not found:
            raise InputError(f"{pattern}: matches no file")
        paths += found
    return [Source(path, form, options) for path in paths]


def open_bytes(source):
    """The decompressed bytes, as a file with read(n) that returns fewer than n only at the end."""
    if source.compression == ".gz":
        return gzip.open(source.path, "rb")
    if source.compression == ".zst":
        packages.require("pyarrow", "reading .zst files")
        import pyarrow
        return pyarrow.CompressedInputStream(pyarrow.OSFile(source.path), "zstd")
    return open(source.path, "rb")


def chunks(source):
    """The decompressed bytes in pieces of CHUNK_BYTES."""
    try:
        with open_bytes(source) as file:
            held = b""
            while True:
                data = file.read(CHUNK_BYTES - len(held))
                held += data
                if len(held) == CHUNK_BYTES or not data:
                    if held:
                        yield held
                    held = b""
                if not data:
                    return
    except (OSError, EOFError, ValueError) as error:  # what gzip, zlib and pyarrow raise for damaged files
        raise InputError(f"{source.path}: cannot be read to its end: {' '.join(str(error).split())}") from error


def decoded(source):
    decoder = codecs.getincrementaldecoder("utf-8")(source.options.errors)
    before = 0
    for chunk in chunks(source):
        held = len(decoder.getstate()[0])
        yield decode(source, decoder, chunk, before - held)
        before += len(chunk)
    yield decode(source, decoder, b"", before - len(decoder.getstate()[0]), True)


def decode(source, decoder, data, offset, final=False):
    try:
        return decoder.decode(data, final)
    except UnicodeDecodeError as error:
        raise InputError(f"{source.path}: byte {offset + error.start} is not UTF-8; convert the file, or pass --errors replace") from None


def read_text(source):
    if source.options.document_separator is not None:
        yield from read_separated(source, source.options.document_separator)
        return
    for text in decoded(source):
        yield text, False
    yield "", True


def read_separated(source, separator):
    """Documents between lines that read `separator`, which belong to none."""
    line = re.compile("^" + re.escape(separator) + "\r?\n", re.MULTILINE)
    held, at_line_start, begun = "", True, False
    for text in decoded(source):
        data, done = held + text, 0
        if not text:
            continue
        for match in line.finditer(data):
            if match.start() == 0 and not at_line_start:
                continue
            yield data[done:match.start()], True
            done, begun = match.end(), False
        last = max(data.rfind("\n") + 1, done)  # where the last, unfinished line begins
        starts = last > 0 or at_line_start
        if starts and (separator + "\r\n").startswith(data[last:]):
            held, at_line_start = data[last:], True  # it may yet become a separator
        else:
            held, at_line_start, last = "", False, len(data)
        if last > done:
            yield data[done:last], False
            begun = True
    if held.rstrip("\r") == separator:
        held = ""
    if held or begun:
        yield held, True


def read_jsonl(source):
    key = source.options.key
    for number, line in enumerate(lines_of(source), 1):
        if not line.strip():
            continue
        where = f"{source.path}: line {number}"
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else f"not JSON: {error}"
            raise InputError(f"{where}: {reason}; every line must be one JSON object") from None
        if not isinstance(document, dict):
            raise InputError(f"{where}: is not a JSON object; every line must be one")
        if key not in document:
            held = ", ".join(sorted(document)[:8]) or "none"
            raise InputError(f"{where}: has no key {key!r}; name the text's with --key (keys here: {held})")
        text = document[key]
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: {key!r} is not a string; name the text's key with --key")
        yield clean(text or "", where, source.options.errors), True


def lines_of(source):
    """The lines of a file, as bytes."""
    held = []
    for chunk in chunks(source):
        first, *rest = chunk.split(b"\n")
        held.append(first)
        if rest:
            yield b"".join(held)
            yield from rest[:-1]
            held = [rest[-1]]
        if sum(map(len, held)) > LONGEST_LINE:
            raise InputError(f"{source.path}: a line is longer than {LONGEST_LINE >> 20} MiB; is it one JSON object per line?")
    yield b"".join(held)


def clean(text, where, errors):
    """Refuses or replaces halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        if errors == "replace":
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        raise InputError(f"{where}: holds half a surrogate pair, which is no character; pass --errors replace") from None


def parquet_file(source):
    packages.require("pyarrow", "reading parquet files")
    import pyarrow
    import pyarrow.parquet
    try:
        # A buffer, so that a column of a row group is not read as a whole.
        return pyarrow.parquet.ParquetFile(source.path, buffer_size=CHUNK_BYTES, pre_buffer=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{source.path}: is not a parquet file that can be read: {' '.join(str(error).split())}") from error


def check_column(source):
    schema = parquet_file(source).schema_arrow
    import pyarrow.types
    column = source.options.column
    if column not in schema.names:
        raise InputError(f"{source.path}: has no column {column!r}; name the text's with --column "
                         f"(columns here: {', '.join(schema.names[:8])})")
    kind = schema.field(column).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not (pyarrow.types.is_string(value) or pyarrow.types.is_large_string(value)):
        raise InputError(f"{source.path}: column {column!r} holds {kind}, not strings; name the text's with --column")


def read_parquet(source):
    import pyarrow
    file = parquet_file(source)
    row = 0
    try:
        for batch in file.iter_batches(batch_size=ROWS, columns=[source.options.column], use_threads=False):
            for text in batch.column(0).to_pylist():
                yield text or "", True
                row += 1
    except UnicodeDecodeError:
        raise InputError(f"{source.path}: row {row} or soon after it is not UTF-8; convert the file") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{source.path}: cannot be read after row {row}: {' '.join(str(error).split())}") from error
