"""Processes that encode, and end with the program however it ends."""
import concurrent.futures
import ctypes
import multiprocessing
import os
import signal

import numpy
import xxhash

from .errors import Failure, InputError

PR_SET_PDEATHSIG = 1
CONTEXT = multiprocessing.get_context("fork")  # the tokenizer's tables are in memory once

state = None  # of a worker: (tokenizer, separator, type of a token)


def follow(parent, worker_state=None):
    """Makes this process end when its parent is killed, and leave Ctrl-C to it."""
    global state
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    state = worker_state


def encode(pieces):
    """((tokens as bytes, documents) of the training side and of the validation side)."""
    tokenizer, separator, kind = state
    end = numpy.array([separator], kind).tobytes()
    sides = ([[], 0], [[], 0])
    for piece, tokens in zip(pieces, tokenizer.encode_batch([piece.text for piece in pieces])):
        tokens = numpy.array(tokens, numpy.uint32)
        if (tokens == separator).any():
            raise InputError(f"the text {tokenizer.loaded.id_to_token(separator)!r} occurs inside a document, but is the separator; name "
                             "another token with --separator")
        side = sides[piece.validation]
        side[0].append(tokens.astype(kind).tobytes())
        if piece.ends:
            side[0].append(end)
            side[1] += 1
    return [(b"".join(parts), documents) for parts, documents in sides]


def checksum(path):
    hasher = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            hasher.update(data)
    return hasher.hexdigest()


class Pool:
    """Does encode() and checksum() in processes of their own."""

    def __init__(self, processes, tokenizer, separator, kind):
        self.executor = concurrent.futures.ProcessPoolExecutor(processes, CONTEXT, follow,
                                                               (os.getpid(), (tokenizer, separator, kind)))
        self.submit(os.getpid).result()  # forks all of them now, before there are threads

    def submit(self, function, *arguments):
        return self.executor.submit(function, *arguments)

    def close(self):
        self.executor.shutdown(cancel_futures=True)


def result(future):
    try:
        return future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise Failure("a process that encodes was killed (is there enough memory?); run again to continue, perhaps with fewer "
                      "--processes") from None


def call(function, *arguments):
    """function(*arguments) in one process with all cores, whose threads and memory are gone afterwards."""
    with concurrent.futures.ProcessPoolExecutor(1, CONTEXT, call_alone, (os.getpid(),)) as executor:
        return result(executor.submit(function, *arguments))


def call_alone(parent):
    follow(parent)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
