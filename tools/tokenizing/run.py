"""One run: documents to pieces, pieces to tokens in other processes, tokens to shards in the order of the text."""
import collections
import contextlib
import json
import os

import numpy

from . import files, tokenizer, workers
from .documents import Documents
from .errors import InputError
from .shards import MOST_SHARDS, Shards

BATCH = 1 << 19  # characters that a process gets at once
AHEAD = 2  # batches in work or waiting, per process

KIND, VERSION = "depthroute token shards", 1
SIDES = ("train", "val")


class State:
    """How far a run is: how many pieces of which source are done, and what they made."""

    def __init__(self, values=None):
        self.source = self.pieces = self.empty = 0  # sources done, pieces of the next; empty documents of the sources done
        self.documents, self.tokens = [0, 0], [0, 0]  # by side
        self.complete = False  # every token is in its shard
        vars(self).update(values or {})


class Batch:
    """Pieces for one call, and how far the run is when they are done."""

    def __init__(self, path, pieces, source, number, empty):
        self.path, self.pieces, self.source, self.number, self.empty = path, pieces, source, number, empty
        self.size = sum(len(piece.text) for piece in pieces)


def batches(sources, options, loaded, state, begun):
    """The batches behind `state`. begun(i) is called before source i is read."""
    most = min(BATCH, options.save_every)
    for index in range(state.source, len(sources)):
        source, pieces, size = sources[index], [], 0
        begun(index)
        documents = Documents(source, options.val_fraction)
        skipped = state.pieces if index == state.source else 0
        for number, piece in enumerate(documents.pieces(loaded), 1):
            if number <= skipped:
                continue
            pieces.append(piece)
            size += len(piece.text)
            if size >= most:
                yield Batch(source.path, pieces, index, number, 0)
                pieces, size = [], 0
        source.check_unchanged()
        yield Batch(source.path, pieces, index + 1, 0, documents.empty)


class Run:
    def __init__(self, options, sources, work, progress):
        self.options, self.sources, self.work, self.progress = options, sources, work, progress
        self.loaded = tokenizer.provide(options, sources, work.set, files.write_whole)
        self.separator = self.loaded.end_of_text() if options.separator is None else self.loaded.token(options.separator)
        self.token_bytes = 2 if self.loaded.vocab_size <= 65536 else 4
        self.shards = [Shards(work.set, stem, self.token_bytes, options.shard_tokens) for stem in (options.name, "val")]
        self.state = State(files.read_json(work.state_file) if os.path.exists(work.state_file) else None)
        self.checksums = {}  # of sources, by index: futures

    def make(self):
        """Fills the folder of the set, but for publishing it, and returns the manifest."""
        pool = workers.Pool(self.options.processes, self.loaded, self.separator, {2: numpy.uint16, 4: numpy.uint32}[self.token_bytes])
        with contextlib.closing(pool):
            if not self.state.complete:
                self.encode(pool)
                self.state.complete = True
                self.save()
            for shards, tokens in zip(self.shards, self.state.tokens):
                shards.tokens = tokens
                shards.finish()
            manifest = self.manifest(pool)
        files.write_whole(os.path.join(self.work.set, self.work.manifest_name), json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return manifest

    def encode(self, pool):
        for shards, tokens in zip(self.shards, self.state.tokens):
            shards.seek(tokens)
        waiting = collections.deque()
        for batch in batches(self.sources, self.options, self.loaded, self.state, lambda i: self.checksum(pool, i)):
            waiting.append((batch, pool.submit(workers.encode, batch.pieces)))
            batch.pieces = None
            if len(waiting) > AHEAD * self.options.processes:
                self.take(*waiting.popleft())
        while waiting:
            self.take(*waiting.popleft())
        if not any(self.state.tokens):
            raise InputError(f"{self.sources[0].path}: no text in it" + (", nor in the others" if len(self.sources) > 1 else "") +
                             "; there is nothing to tokenise")
        if not self.state.tokens[0]:
            raise InputError(f"--val-fraction {self.options.val_fraction}: every document ({self.state.documents[1]}) fell to validation; "
                             "give more text or pass 0")

    unsaved = 0  # characters

    def take(self, batch, future):
        """Writes what a batch became."""
        try:
            sides = workers.result(future)
        except InputError as error:
            raise InputError(f"{batch.path}: {error}") from None
        state = self.state
        for i, (data, documents) in enumerate(sides):
            self.shards[i].append(data)
            state.tokens[i] += len(data) // self.token_bytes
            state.documents[i] += documents
        state.source, state.pieces, state.empty = batch.source, batch.number, state.empty + batch.empty
        if state.tokens[0] > MOST_SHARDS * self.options.shard_tokens:
            raise InputError(f"--shard-tokens {self.options.shard_tokens}: makes more than {MOST_SHARDS} shards; raise it")
        self.unsaved += batch.size
        if self.unsaved >= self.options.save_every:
            self.save()
        self.progress(state)

    def save(self):
        for shards in self.shards:
            shards.flush()
        files.write_whole(self.work.state_file, json.dumps(vars(self.state)) + "\n")
        self.unsaved = 0

    def checksum(self, pool, index):
        if index not in self.checksums:
            self.checksums[index] = pool.submit(workers.checksum, self.sources[index].path)
        return self.checksums[index]

    def manifest(self, pool):
        """What NAME.shards.json says (tools/README.md)."""
        listed = [(name, tokens) for shards in self.shards for name, tokens in shards.names()]
        sums = [pool.submit(workers.checksum, os.path.join(self.work.set, name)) for name, _ in listed]
        sources = [{"path": source.path, "size": source.size, "checksum": workers.result(self.checksum(pool, i))}
                   for i, source in enumerate(self.sources)]
        for source in self.sources:
            source.check_unchanged()
        return {
            "kind": KIND, "version": VERSION, "name": self.options.name, "vocab_size": self.loaded.vocab_size,
            "token_bytes": self.token_bytes,
            "tokenizer": {"name": self.loaded.name, "path": tokenizer.NAME, "checksum": self.loaded.checksum},
            "separator": self.separator, "documents": sum(self.state.documents), "tokens": sum(self.state.tokens),
            "val_fraction": self.options.val_fraction, "sources": sources,
            "files": [{"path": name, "tokens": tokens, "checksum": workers.result(checksum)}
                      for (name, tokens), checksum in zip(listed, sums)]
        }
