"""Token shards of llm.c (data/tokens/token_stream.h), written as tokens arrive and taken up where a killed run left them."""
import os
import struct

HEADER_BYTES = 1024
MAGIC = {2: (20240520, 1), 4: (20240801, 7)}  # by bytes of a token: magic number, version
MOST_TOKENS = 2**31 - 1  # that a header can count
MOST_SHARDS = 100_000


class Shards:
    """One side of the split as files of `shard_tokens` tokens, the last one shorter, called <stem>.<number>.part until finish()."""

    def __init__(self, folder, stem, token_bytes, shard_tokens):
        self.folder, self.stem, self.token_bytes, self.shard_tokens = folder, stem, token_bytes, shard_tokens
        self.tokens = 0
        self.descriptor = None

    def part(self, number):
        return os.path.join(self.folder, f"{self.stem}.{number}.part")

    def seek(self, tokens):
        """Goes on behind the first `tokens`, which are on disk; what follows them there is written again."""
        self.tokens = tokens
        number, inside = divmod(tokens, self.shard_tokens)
        if inside:
            self.open()
            os.ftruncate(self.descriptor, HEADER_BYTES + inside * self.token_bytes)
            os.lseek(self.descriptor, 0, os.SEEK_END)
            number += 1
        while os.path.exists(self.part(number)):
            os.unlink(self.part(number))
            number += 1

    def open(self):
        path = self.part(self.tokens // self.shard_tokens)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def append(self, data):
        """`data`: whole tokens as bytes."""
        data = memoryview(data)
        while data:
            if self.descriptor is None:
                self.open()
                os.ftruncate(self.descriptor, HEADER_BYTES)
                os.lseek(self.descriptor, HEADER_BYTES, os.SEEK_SET)
            room = self.shard_tokens - self.tokens % self.shard_tokens
            piece = data[:room * self.token_bytes]
            data = data[len(piece):]
            self.tokens += len(piece) // self.token_bytes
            while piece:
                piece = piece[os.write(self.descriptor, piece):]
            if self.tokens % self.shard_tokens == 0:
                self.flush()
                os.close(self.descriptor)
                self.descriptor = None

    def flush(self):
        if self.descriptor is not None:
            os.fsync(self.descriptor)

    def names(self):
        """(name, tokens) of the finished files."""
        count = -(-self.tokens // self.shard_tokens)
        digits = max(3, len(str(count - 1)))
        return [(self.stem + (f"_{i:0{digits}}" if count > 1 else "") + ".bin",
                 min(self.shard_tokens, self.tokens - i * self.shard_tokens)) for i in range(count)]

    def finish(self):
        """Writes headers and gives every file its name. Can be repeated after a kill."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        for number, (name, tokens) in enumerate(self.names()):
            if not os.path.exists(self.part(number)):
                continue  # done by a run that was killed here
            descriptor = os.open(self.part(number), os.O_RDWR | os.O_CLOEXEC)
            os.pwrite(descriptor, struct.pack("<3i", *MAGIC[self.token_bytes], tokens), 0)
            os.fsync(descriptor)
            os.close(descriptor)
            os.rename(self.part(number), os.path.join(self.folder, name))
