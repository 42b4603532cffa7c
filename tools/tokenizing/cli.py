"""The command line of tools/tokenize_text.py."""
import argparse
import os
import re
import signal
import sys

import tokenizers
import xxhash

from . import files, sources, tokenizer
from .errors import Failure, InputError, Interrupted
from .run import Run
from .shards import MOST_TOKENS

PROGRAM = "tokenize_text.py"
LONGEST_NAME = 200  # bytes


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see --help")


def parse(arguments, description):
    parser = Parser(prog=PROGRAM, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("input", nargs="+", help="files; * and ? are expanded")
    add("--output", required=True, metavar="FOLDER", help="where the set appears")
    add("--tokenizer", metavar="WHICH", help="a tokenizer.json, a folder that holds one, or qwen")
    add("--train-bpe", type=int, metavar="N", help="train a byte-level BPE of N tokens on the input instead")
    add("--format", choices=("auto", "text", "jsonl", "parquet"), default="auto", help="what the files are (default: by their names)")
    add("--key", default="text", help="of the text in a line of JSONL (default: text)")
    add("--column", default="text", help="of the text in parquet (default: text)")
    add("--document-separator", metavar="LINE", help="the line between documents of a text file (default: a file is one)")
    add("--errors", choices=("strict", "replace"), default="strict", help="what is not UTF-8 is refused, or becomes U+FFFD")
    add("--separator", metavar="TOKEN", help="the token after each document, as text or number (default: the tokenizer's end of text)")
    add("--name", default="train", help="training shards are NAME.bin, or NAME_000.bin ... (default: train)")
    add("--shard-tokens", type=int, default=100_000_000, metavar="N", help="most tokens in a shard (default: 100000000)")
    add("--val-fraction", type=float, default=0.01, metavar="P",
        help="share of the documents, chosen by their text, that goes to val.bin (0 to 0.5; default: 0.01)")
    add("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="that encode (default: one per core)")
    add("--save-every", type=int, default=1 << 24, metavar="N", help="characters of text that a killed run does again, at most "
        "(default: 16777216)")
    add("--overwrite", action="store_true", help="replace the set in the folder")
    add("--restart", action="store_true", help="forget what an unfinished run left")
    options = parser.parse_args(arguments)
    check(options)
    return options


def check(options):
    if (options.tokenizer is None) == (options.train_bpe is None):
        raise InputError("give one of --tokenizer and --train-bpe")
    if options.train_bpe is not None and not 257 <= options.train_bpe <= 1 << 20:
        raise InputError(f"--train-bpe {options.train_bpe}: must be from 257 (bytes and the end of text) to {1 << 20}")
    if not 1 <= options.shard_tokens <= MOST_TOKENS:
        raise InputError(f"--shard-tokens {options.shard_tokens}: must be from 1 to {MOST_TOKENS}")
    if not 0 <= options.val_fraction <= 0.5:  # nan is neither
        raise InputError(f"--val-fraction {options.val_fraction}: must be from 0 to 0.5")
    if options.save_every < 1:
        raise InputError(f"--save-every {options.save_every}: must be at least 1")
    if not 1 <= options.processes <= 1024:
        raise InputError(f"--processes {options.processes}: must be from 1 to 1024")
    if options.document_separator is not None and (not options.document_separator or re.search("[\r\n]", options.document_separator)):
        raise InputError("--document-separator: must be one line that is not empty")
    name = options.name
    if not name or name in (".", "..") or "/" in name or re.fullmatch("val(_[0-9]+)?", name) or not name.isprintable():
        raise InputError(f"--name {name!r}: must be a plain file name other than val")
    if ".tmp-" in name or len(name.encode()) > LONGEST_NAME:
        raise InputError(f"--name {name!r}: holds .tmp-, which marks unfinished files, or is longer than {LONGEST_NAME} bytes")
    options.output = os.path.abspath(options.output)


def identity(options, found):
    """Whatever decides the bytes of the result, as run.json keeps it: named as the user gives it."""
    given = options.tokenizer
    if given is not None and given != "qwen":
        with open(tokenizer.given_file(given), "rb") as file:
            given = f"{given} ({xxhash.xxh3_128_hexdigest(file.read())})"
    values = {f"--{key.replace('_', '-')}": getattr(options, key)
              for key in ("train_bpe", "separator", "document_separator", "errors", "key", "column", "name", "shard_tokens", "val_fraction")}
    return {"version of tokenizers": tokenizers.__version__, "--tokenizer": given, "input": [source.state() for source in found], **values}


def progress(state):
    if sys.stderr.isatty():
        print(f"\r{sum(state.documents)} documents, {sum(state.tokens)} tokens ", end="", file=sys.stderr, flush=True)


def report(output, manifest):
    train = manifest["tokens"] - sum(entry["tokens"] for entry in manifest["files"] if is_validation(entry["path"]))
    for entry in manifest["files"]:
        print(os.path.join(output, entry["path"]))
    print(f"tokens: {manifest['tokens']} ({train} for training, {manifest['tokens'] - train} for validation) in {manifest['documents']} "
          f"documents, vocabulary {manifest['vocab_size']}, separator {manifest['separator']}")


def is_validation(name):
    return re.fullmatch(r"val(_[0-9]+)?\.bin", name) is not None


def tokenize(options):
    found = sources.expand(options.input, options.format, options)
    manifest_name = f"{options.name}.shards.json"
    os.makedirs(os.path.dirname(options.output), exist_ok=True)
    with files.lock(options.output + ".lock"):
        work = files.Work(options.output, manifest_name)
        if work.begin(identity(options, found), options.restart, options.overwrite):
            work.clear()
        else:
            state = make(options, found, work)
            if state.empty:
                print(f"{PROGRAM}: {state.empty} empty documents are left out", file=sys.stderr)
            if options.val_fraction > 0 and not state.documents[1]:
                print(f"{PROGRAM}: none of {state.documents[0]} documents fell to validation (--val-fraction "
                      f"{options.val_fraction}), so there is no val.bin", file=sys.stderr)
            work.publish()
        report(options.output, files.read_json(os.path.join(options.output, manifest_name)))


def make(options, found, work):
    try:
        run = Run(options, found, work, progress)
        run.make()
        return run.state
    except InputError:
        work.clear()  # with other input or options it could not be continued
        raise


def interrupt(*_):
    raise Interrupted


def main(arguments, description):
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    try:
        options = parse(arguments, description)
        with files.naming_failures():
            tokenize(options)
        return 0
    except InputError as error:
        reason, status = str(error), 2
    except Interrupted:
        reason, status = "interrupted; run the same command again to continue", 3
    except Failure as error:
        reason, status = str(error), 1
    print(f"{PROGRAM}: " + "".join(c if c.isprintable() else "?" for c in reason), file=sys.stderr)
    return status
