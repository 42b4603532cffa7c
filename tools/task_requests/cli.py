"""The command line of make_requests.py."""
import argparse
import os
import random
import sys
import tempfile

from .file import RequestError, write_requests

PROGRAM = "make_requests.py"


def parse(arguments):
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Requests of a benchmark task, tokenised as the"
                                     " EleutherAI harness does, for depthroute-eval.")
    parser.add_argument("task", help="a task of the harness (lambada_openai, hellaswag, wikitext, ...) or its YAML file")
    parser.add_argument("data", help="the documents to evaluate, one JSON object per line, as the task reads them")
    parser.add_argument("--tokenizer", required=True, metavar="FOLDER", help="the model's folder, with its tokenizer")
    parser.add_argument("--max-length", type=int, help="tokens that the model reads at most (default: the harness's,"
                        " max_position_embeddings of config.json)")
    parser.add_argument("--prefix-token", type=int, help="token in front of a text without context (default: the"
                        " harness's, the tokenizer's bos or eos)")
    parser.add_argument("--limit", type=int, help="the first so many documents, as the harness's --limit")
    parser.add_argument("--sample", type=int, help="so many documents, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="of that choice")
    parser.add_argument("-o", "--output", required=True, help="the file to write")
    return parser.parse_args(arguments)


def check(parsed):
    if not os.path.isfile(parsed.data):
        raise RequestError(f"{parsed.data}: is no file; no data are downloaded")
    if not os.path.isdir(parsed.tokenizer):
        raise RequestError(f"{parsed.tokenizer}: is no folder")
    if os.path.isdir(parsed.output) or not os.path.isdir(os.path.dirname(os.path.abspath(parsed.output))):
        raise RequestError(f"{parsed.output}: cannot be written there; name a file in a folder that exists")
    for name in ("max_length", "limit", "sample"):
        if getattr(parsed, name) is not None and getattr(parsed, name) < 1:
            raise RequestError(f"--{name.replace('_', '-')} must be at least 1")
    if parsed.limit and parsed.sample:
        raise RequestError("--limit and --sample exclude each other")


def load_harness(cache):
    """The module that needs lm_eval, told to stay offline and to leave nothing behind."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_CACHE=cache,
                      TOKENIZERS_PARALLELISM="false", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
    try:
        from . import harness
    except ImportError as error:
        raise RequestError(f"needs the EleutherAI harness ({error}): install the Python package lm_eval, version 0.4,"
                           f" with its extra 'hf', for {sys.executable}") from error
    if not harness.lm_eval.__version__.startswith("0.4"):
        raise RequestError(f"knows version 0.4 of lm_eval, and {harness.lm_eval.__version__} is installed")
    return harness


def tokenizer_hash(folder):
    """XXH3-128 of tokenizer.json, as depthroute-eval computes it; "" without such a file."""
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        return ""
    import xxhash  # comes with datasets, which lm_eval needs
    with open(path, "rb") as file:
        return xxhash.xxh3_128_hexdigest(file.read())


def make(parsed, cache):
    check(parsed)
    harness = load_harness(cache)
    tokens = harness.Tokens(parsed.tokenizer, parsed.max_length, parsed.prefix_token)
    task = harness.load_task(parsed.task, os.path.abspath(parsed.data))
    numbers = None
    if parsed.sample:
        there = len(task.eval_docs)
        if parsed.sample > there:
            raise RequestError(f"--sample is {parsed.sample}, but {parsed.data} holds {there} documents")
        numbers = set(random.Random(parsed.seed).sample(range(there), parsed.sample))
    documents = harness.documents(task, tokens, parsed.limit, numbers)
    header = {"task": task.config.task, "output_type": task.OUTPUT_TYPE, "harness": harness.version(),
              "tokenizer": tokenizer_hash(parsed.tokenizer), "max_length": tokens.max_length}
    first = write_requests(parsed.output, header, documents)
    if others := harness.other_metrics(task):
        print(f"{PROGRAM}: depthroute-eval computes no {', '.join(others)}", file=sys.stderr)
    cut = sum(one["cut"] > 0 for document in documents for one in document["requests"])
    print(f"{parsed.output}: {first['documents']} documents, {first['requests']} requests, {first['tokens']} tokens"
          f" ({cut} requests cut to {tokens.max_length})")


def main(arguments=None):
    parsed = parse(arguments)
    try:
        with tempfile.TemporaryDirectory() as cache:
            make(parsed, cache)
    except RequestError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0
