#!/usr/bin/env python3
"""Requests of a benchmark task for depthroute-eval, as the EleutherAI harness makes them:

    make_requests.py hellaswag hellaswag_val.jsonl --tokenizer MODEL_FOLDER --max-length 2048 -o hellaswag.jsonl

The task's template, tokenisation, windows and cut are the installed harness's own (Python package lm_eval, 0.4);
the data are a local file in the task's own format, one JSON object per line. data/README.md has what is written."""
import sys

from task_requests.cli import main

if __name__ == "__main__":
    sys.exit(main())
