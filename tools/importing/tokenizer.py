"""The vocabulary of a GGUF file as a tokenizer.json: byte-level BPE (GPT-2's kind) whose way of splitting text is known."""

# How text is split before merging, by tokenizer.ggml.pre. The regular expressions are the models' own.
LLAMA_3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
QWEN = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


SPLITTERS = {
    "gpt-2": byte_level(True),
    "smollm": sequence({"type": "Digits", "individual_digits": True}, byte_level(True)),
    "llama-bpe": sequence(split(LLAMA_3), byte_level(False)),
    "qwen2": sequence(split(QWEN), byte_level(False)),
}


def why_not(file):
    """Why there is no tokenizer.json for this file's vocabulary, or ""."""
    kind = file.value("tokenizer.ggml.model", (str,), "none")
    if kind != "gpt2":
        return f"its vocabulary is of the kind {kind!r}, not a byte-level BPE"
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"):
        if key not in file.keys():
            return f"{key} is missing"
    pre = file.value("tokenizer.ggml.pre", (str,), "default")
    return "" if pre in SPLITTERS else f"how it splits text is not known (tokenizer.ggml.pre is {pre!r})"


def tokenizer(file, vocabulary):
    """tokenizer.json and tokenizer_config.json as objects."""
    tokens = file.value("tokenizer.ggml.tokens", (list,))
    merges = file.value("tokenizer.ggml.merges", (list,))
    pre = file.value("tokenizer.ggml.pre", (str,), "default")
    if len(tokens) > vocabulary:
        file.fail(f"tokenizer.ggml.tokens has {len(tokens)} tokens, token_embd.weight {vocabulary} rows")
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        file.fail("tokenizer.ggml.tokens holds a token twice")
    types = file.value("tokenizer.ggml.token_type", (list,), [1] * len(tokens))
    if len(types) != len(tokens):
        file.fail(f"tokenizer.ggml.token_type has {len(types)} entries for {len(tokens)} tokens")
    for merge in merges:
        left, _, right = merge.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            file.fail(f"tokenizer.ggml.merges holds {merge[:40]!r}, whose parts or whole are no tokens")
    added = [{"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": types[number] == CONTROL}
             for number, token in enumerate(tokens) if types[number] in (CONTROL, USER_DEFINED)]
    special = {which: tokens[file.count(f"tokenizer.ggml.{key}_token_id")]
               for which, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding"))
               if f"tokenizer.ggml.{key}_token_id" in file.keys()
               and file.count(f"tokenizer.ggml.{key}_token_id") < len(tokens)}
    add_bos = file.value("tokenizer.ggml.add_bos_token", (bool,), False) and "bos_token" in special
    text = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"} if pre == "qwen2" else None, "pre_tokenizer": SPLITTERS[pre],
            "post_processor": begin_with(special["bos_token"], ids) if add_bos else None,
            "decoder": byte_level(True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": pre == "llama-bpe", "vocab": ids, "merges": merges}}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    if "tokenizer.chat_template" in file.keys():
        config["chat_template"] = file.value("tokenizer.chat_template", (str,))
    return text, config


def begin_with(token, ids):
    start = {"SpecialToken": {"id": token, "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, start, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]}}}
