"""Runs tools/tokenize_text.py as a user does, and reads back what it leaves without any of its code."""
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
sys.path.insert(0, TOOLS)
import packages  # noqa: E402

packages.use_installed()
try:
    import numpy
    import pyarrow
    import pyarrow.parquet
    import tokenizers
    import xxhash
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

PROGRAM = os.path.join(TOOLS, "tokenize_text.py")
END = "<|endoftext|>"
WORDS = ("the routing of a block reads every state it finds; why? because 3,141 of them changed. naïve café 東京 🙂 don't I'll "
         "... --- x=1; \t{}").split(" ")
GAPS = (" ", " ", " ", "  ", "\n", "\n\n", "\n   ", ".\n", "\t", "\r\n", " \n \n")


def prose(characters, seed):
    """Words with every kind of gap between them."""
    choose = random.Random(seed)
    parts, size = [], 0
    while size < characters:
        parts += [choose.choice(WORDS), choose.choice(GAPS)]
        size += len(parts[-2]) + len(parts[-1])
    return "".join(parts)


def small_tokenizer(path, vocab_size=600, special=END):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, special_tokens=[special] if special else [],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([prose(20_000, 0)], trainer)
    tokenizer.save(path)
    return tokenizer


def read_shard(path):
    with open(path, "rb") as file:
        magic, version, count = struct.unpack("<3i", file.read(12))
        assert file.read(1012) == bytes(1012)
        data = file.read()
    kind = {(20240520, 1): "<u2", (20240801, 7): "<u4"}[magic, version]
    tokens = numpy.frombuffer(data, kind)
    assert len(tokens) == count
    return tokens.tolist()


def tree(folder):
    """Every file below a folder with its bytes."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(where, name), "rb") as file:
                found[os.path.relpath(os.path.join(where, name), folder)] = file.read()
    return found


class InFolder(unittest.TestCase):

    def setUp(self):
        holder = tempfile.TemporaryDirectory(prefix="depthroute_tokenize_")
        self.addCleanup(holder.cleanup)
        self.folder = holder.name
        self.tokenizer = small_tokenizer(self.path("tokenizer.json"))

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def write_jsonl(self, name, documents, key="text"):
        data = "".join(json.dumps({"id": i, key: text}) + "\n" for i, text in enumerate(documents)).encode()
        if name.endswith(".gz"):
            data = gzip.compress(data)
        if name.endswith(".zst"):
            # Two frames, as tools that append write them.
            middle = len(data) // 2
            data = b"".join(pyarrow.compress(part, "zstd", asbytes=True) for part in (data[:middle], data[middle:]))
        return self.write(name, data)

    def write_parquet(self, name, documents, column="text", rows=7):
        pyarrow.parquet.write_table(pyarrow.table({"id": range(len(documents)), column: documents}), self.path(name), row_group_size=rows)
        return self.path(name)

    def run_program(self, *arguments, before=(), output="out", tokenizer=True, environment=None):
        command = [*before, sys.executable, "-B", PROGRAM, *map(str, arguments), "--output", self.path(output), "--processes", "2"]
        if tokenizer:
            command += ["--tokenizer", self.path("tokenizer.json")]
        # Reading its output to the end also waits for every process it has started.
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env={**os.environ, **(environment or {})})

    def succeeds(self, *arguments, **options):
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def manifest(self, output="out", name="train"):
        with open(self.path(output, f"{name}.shards.json"), encoding="utf-8") as file:
            return json.load(file)

    def tokens(self, output="out", validation=False):
        """Of one side, all shards in the order the manifest lists them; checks what it says of them."""
        manifest, all_tokens = self.manifest(output), []
        for entry in manifest["files"]:
            with open(self.path(output, entry["path"]), "rb") as file:
                self.assertEqual(entry["checksum"], xxhash.xxh3_128_hexdigest(file.read()))
            tokens = read_shard(self.path(output, entry["path"]))
            self.assertEqual(entry["tokens"], len(tokens))
            if entry["path"].startswith("val") == validation:
                all_tokens += tokens
        return all_tokens

    def encode(self, text):
        """What the tokenizer alone makes of a whole document."""
        self.tokenizer.encode_special_tokens = True
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def expected(self, documents):
        end = self.tokenizer.token_to_id(END)
        return [token for text in documents for token in self.encode(text) + [end]]
