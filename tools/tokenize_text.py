#!/usr/bin/env python3
"""Turns text into token shards with a tokenizer.json, in parallel, streaming, resumable.
    python3 tools/tokenize_text.py corpus/*.parquet --tokenizer Qwen3-0.6B-Base/ --output shards
    python3 tools/tokenize_text.py pages.jsonl.zst --tokenizer qwen --output shards --val-fraction 0.001
    python3 tools/tokenize_text.py book.txt --train-bpe 4096 --document-separator "***" --output shards

Reads text, JSONL (--key) and parquet (--column), text and JSONL also as .gz and .zst; * and ? in paths are expanded. A text file is
one document, or several with a line of --document-separator between them. After each document comes one separator token. Writes
shards in llm.c's format, their manifest NAME.shards.json and the tokenizer, into --output, which appears when everything is there.
Killed or interrupted, the same command continues, and ends with the same bytes.

Exit status: 0; 2 bad input, one line says what; 3 interrupted, run it again to continue; 1 anything else.
"""
# Not called tokenize.py: beside other scripts that name hides a module of Python's which half of its library needs.
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import packages  # noqa: E402

for name in ("numpy", "xxhash", "tokenizers"):
    packages.require(name, "turning text into tokens")

from tokenizing import cli  # noqa: E402

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:], __doc__))
