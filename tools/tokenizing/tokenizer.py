"""The tokenizer of a run: found, converted or trained, and kept as tokenizer.json beside the shards."""
import json
import os
import re

import tokenizers
import xxhash

from . import documents, qwen, workers
from .errors import InputError

NAME = "tokenizer.json"
# What else transformers reads, where the tokenizer's folder has it.
COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "<|end▁of▁sentence|>")
TRAINED_ON = 256 << 20  # characters, at most, that --train-bpe looks at
TRAINED_PART = 1 << 16  # characters that the trainer gets at once
MOST_TOKENS = 1 << 24


class Tokenizer:
    """A tokenizer.json ready to encode text alone: nothing added around it, cut off or padded, special tokens in it taken as text."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        try:
            with open(path, "rb") as file:
                data = file.read()
            self.loaded = tokenizers.Tokenizer.from_buffer(data)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except Exception as error:  # tokenizers raises nothing more special
            raise InputError(f"{path}: is no tokenizer.json that tokenizers {tokenizers.__version__} can read: "
                             f"{' '.join(str(error).split())[:200]}") from None
        self.checksum = xxhash.xxh3_128_hexdigest(data)
        self.loaded.no_truncation()
        self.loaded.no_padding()
        self.loaded.encode_special_tokens = True
        self.vocab_size = max(self.loaded.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if not 1 <= self.vocab_size <= MOST_TOKENS:
            raise InputError(f"{path}: has tokens up to number {self.vocab_size - 1}; use another tokenizer")

    def encode(self, text):
        return self.loaded.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts):
        # encode_batch_fast() takes a third longer in tokenizers 0.23.
        return [encoding.ids for encoding in self.loaded.encode_batch(texts, add_special_tokens=False)]

    def token(self, given):
        """The number of a token that is given by number or text."""
        number = self.loaded.token_to_id(given)
        if number is None and re.fullmatch("[0-9]+", given):
            number = int(given)
        if number is None or number >= self.vocab_size:
            raise InputError(f"--separator {given}: is no token of {self.name}, which has {self.vocab_size}")
        return number

    def end_of_text(self):
        """The token that ends a document, by its usual names, else what tokenizer_config.json calls eos_token."""
        for text in END_OF_TEXT:
            if self.loaded.token_to_id(text) is not None:
                return self.loaded.token_to_id(text)
        text = configured_end(os.path.join(os.path.dirname(self.path), COMPANIONS[0]))
        if text is None or self.loaded.token_to_id(text) is None:
            raise InputError(f"{self.path}: names no end-of-text token; say with --separator which token is to end documents")
        return self.loaded.token_to_id(text)


def configured_end(path):
    try:
        with open(path, encoding="utf-8") as file:
            text = json.load(file).get("eos_token")
    except (OSError, ValueError, AttributeError):
        return None
    return text.get("content") if isinstance(text, dict) else text


def given_file(given):
    """The tokenizer.json that --tokenizer names."""
    path = os.path.join(given, NAME) if os.path.isdir(given) else given
    if not os.path.isfile(path):
        raise InputError(f"--tokenizer {given}: there is no {path}; give a tokenizer.json, a folder that holds one, or qwen")
    return path


def name_of(options):
    if options.train_bpe is not None:
        return f"byte-level BPE of {options.train_bpe}"
    if options.tokenizer == "qwen":
        return "qwen"
    path = os.path.abspath(given_file(options.tokenizer))
    return os.path.basename(os.path.dirname(path)) if os.path.basename(path) == NAME else os.path.basename(path)


def write_config(folder, write):
    """What transformers needs beside tokenizer.json to know the end of a text."""
    write(os.path.join(folder, COMPANIONS[0]), json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT[0], "pad_token": END_OF_TEXT[0], "bos_token": None,
        "unk_token": None, "clean_up_tokenization_spaces": False, "model_max_length": 10**18
    }, indent=1) + "\n")


def provide(options, sources, folder, write):
    """Puts tokenizer.json into `folder`, unless an earlier run has, and loads it from there. write(path, text) writes whole files."""
    path = os.path.join(folder, NAME)
    if not os.path.exists(path):
        if options.train_bpe is not None:
            write_config(folder, write)
            write(path, workers.call(train, options, sources))
        elif options.tokenizer == "qwen":
            text = qwen.tokenizer_json()
            write_config(folder, write)
            write(path, text)
        else:
            copy(given_file(options.tokenizer), folder, write)
    return Tokenizer(path, name_of(options))


def copy(path, folder, write):
    Tokenizer(path, path)  # refuses a damaged one before anything is written
    for name in COMPANIONS + (NAME,):  # the last says that all are there
        origin = path if name == NAME else os.path.join(os.path.dirname(path), name)
        if name == NAME or os.path.isfile(origin):
            with open(origin, "rb") as file:
                write(os.path.join(folder, name), file.read())


def train(options, sources):
    """The text of a tokenizer.json trained on the documents that are not held out: from each source its share of TRAINED_ON."""
    loaded = tokenizers.Tokenizer(tokenizers.models.BPE())
    loaded.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    loaded.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=options.train_bpe, show_progress=False, special_tokens=[END_OF_TEXT[0]],
                                             initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    loaded.train_from_iterator(texts_to_train_on(options, sources), trainer)
    return loaded.to_str()


def texts_to_train_on(options, sources):
    total = max(1, sum(source.size for source in sources))
    for source in sources:
        left = -(-TRAINED_ON * source.size // total)
        for text, _, validation in documents.Documents(source, options.val_fraction).parts():
            if validation:
                continue
            for begin in range(0, len(text), TRAINED_PART):
                yield text[begin:begin + TRAINED_PART]
            left -= len(text)
            if left <= 0:
                break
