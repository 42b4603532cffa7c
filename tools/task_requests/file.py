"""Writes a file of task requests: a header line, then a line per document; whole or not at all."""
import json
import os

KIND, VERSION = "depthroute task requests", 1


class RequestError(Exception):
    """What a user can change; one line, exit status 2."""


def request(context, continuation, max_length):
    """One request, cut to what the harness gives a model of `max_length`: its last max_length + 1 tokens."""
    whole = context + continuation
    kept = whole[-(max_length + 1):]
    return {"context": kept[:len(kept) - len(continuation)], "continuation": continuation,
            "cut": len(whole) - len(kept)}


def write_requests(path, header, documents):
    """`header` lacks the counts, which are taken from `documents`."""
    requests = [one for document in documents for one in document["requests"]]
    tokens = sum(len(one["context"]) + len(one["continuation"]) for one in requests)
    first = {"kind": KIND, "version": VERSION, **header, "documents": len(documents), "requests": len(requests),
             "tokens": tokens}
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            for line in [first, *documents]:
                file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    return first
