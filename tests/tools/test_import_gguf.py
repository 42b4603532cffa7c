"""tools/import_gguf.py on small GGUF files made here: known weights come back, anything it does not know is refused by name."""
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
sys.path.insert(0, TOOLS)
import packages  # noqa: E402

packages.use_installed()
try:
    import gguf
    import numpy as np
    import tokenizers
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
from importing import cli  # noqa: E402

PROGRAM = os.path.join(TOOLS, "import_gguf.py")
VOCABULARY, D, LAYERS, HEADS, GROUPS, K, F = 300, 64, 2, 4, 2, 32, 96
Q8_0 = gguf.GGMLQuantizationType.Q8_0


def shapes(kind, tied):
    found = {"model.embed_tokens.weight": (VOCABULARY, D), "model.norm.weight": (D,)}
    if not tied:
        found["lm_head.weight"] = (VOCABULARY, D)
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        found |= {layer + "input_layernorm.weight": (D,), layer + "post_attention_layernorm.weight": (D,),
                  layer + "self_attn.q_proj.weight": (HEADS * K, D), layer + "self_attn.k_proj.weight": (GROUPS * K, D),
                  layer + "self_attn.v_proj.weight": (GROUPS * K, D), layer + "self_attn.o_proj.weight": (D, HEADS * K),
                  layer + "mlp.gate_proj.weight": (F, D), layer + "mlp.up_proj.weight": (F, D),
                  layer + "mlp.down_proj.weight": (D, F)}
        if kind == "qwen3":
            found |= {layer + "self_attn.q_norm.weight": (K,), layer + "self_attn.k_norm.weight": (K,)}
    return found


GGUF_NAMES = (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"), ("model.layers", "blk"),
              ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attn_norm"), ("self_attn.q_norm", "attn_q_norm"),
              ("self_attn.k_norm", "attn_k_norm"), ("self_attn.o_proj", "attn_output"), ("self_attn.q_proj", "attn_q"),
              ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("mlp.gate_proj", "ffn_gate"),
              ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"))


def gguf_name(name):
    for new, old in GGUF_NAMES:
        name = name.replace(new, old)
    return name


def as_llama_cpp_rotates(weight):
    """Row by row: what transformers rotates together, i and i + K / 2, llama.cpp wants as neighbours."""
    rows = []
    for head in range(len(weight) // K):
        for i in range(K // 2):
            rows += [weight[head * K + i], weight[head * K + i + K // 2]]
    return np.array(rows)


def weights_of(kind, tied, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes(kind, tied).items()}


def byte_alphabet():
    """GPT-2's printable character of every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


MERGES = ["Ġ t", "h e", "Ġt he", "e r", "c a", "ca t"]
TOKENS = ["<|end|>", "<|start|>", *byte_alphabet().values(), *(merge.replace(" ", "") for merge in MERGES)]


class InFolder(unittest.TestCase):

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = holder.name

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, kind="llama", tied=True, keys=(), tensors=(), without=(), kinds=(), tokens=True, pre="smollm", name="model.gguf"):
        """keys, tensors: added or, with a value of None, left out; kinds: of tensors that are not F32."""
        writer = gguf.GGUFWriter(self.path(name), kind)
        said = {"block_count": LAYERS, "embedding_length": D, "feed_forward_length": F, "context_length": 128,
                "attention.head_count": HEADS, "attention.head_count_kv": GROUPS, "attention.key_length": K,
                "attention.value_length": K} | dict(keys)
        for key, value in said.items():
            key = key if "." in key and key.split(".")[0] in ("general", "split", "tokenizer") else f"{kind}.{key}"
            if isinstance(value, str):
                writer.add_string(key, value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            elif isinstance(value, float):
                writer.add_float32(key, value)
            elif isinstance(value, list):
                writer.add_array(key, value)
            elif value is not None:
                writer.add_uint32(key, value)
        if "rope.freq_base" not in said:
            writer.add_float32(f"{kind}.rope.freq_base", 100000.0)
        if "attention.layer_norm_rms_epsilon" not in said:
            writer.add_float32(f"{kind}.attention.layer_norm_rms_epsilon", 1e-5)
        if tokens:
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre(pre)
            writer.add_token_list(TOKENS)
            writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
            writer.add_token_merges(MERGES)
            writer.add_bos_token_id(1)
            writer.add_eos_token_id(0)
        weights = weights_of(kind, tied)
        for name, values in (weights | dict(tensors)).items():
            old = gguf_name(name)
            if old in without:
                continue
            if kind == "llama" and old.split(".")[-2] in ("attn_q", "attn_k") and name in weights:
                values = as_llama_cpp_rotates(values)
            quantised = dict(kinds).get(old)
            data = gguf.quants.quantize(values, quantised) if quantised is not None else values
            writer.add_tensor(old, data, raw_dtype=quantised)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return weights

    def run_program(self, *options, name="model.gguf"):
        """Status, stdout, stderr of the program, in this process."""
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = cli.main([self.path(name), self.path("out"), *options], "")
        return status, out.getvalue(), error.getvalue()

    def succeeds(self, *options):
        status, _, error = self.run_program(*options)
        self.assertEqual((status, error), (0, ""))

    def refused(self, *parts):
        status, out, error = self.run_program()
        self.assertEqual((status, out), (2, ""), error)
        self.assertEqual(error.count("\n"), 1, error)
        for part in parts:
            self.assertIn(part, error)
        self.assertEqual([entry for entry in os.listdir(self.folder) if not entry.endswith(".gguf")], [])

    def json(self, name):
        with open(self.path("out", name), encoding="utf-8") as file:
            return json.load(file)

    def stored(self):
        """model.safetensors by hand: type and values of every tensor."""
        with open(self.path("out", "model.safetensors"), "rb") as file:
            data = file.read()
        size = int.from_bytes(data[:8], "little")
        header, found = json.loads(data[8:8 + size]), {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            kind = {"F32": "<f4", "BF16": "<u2"}[entry["dtype"]]
            found[name] = np.frombuffer(data[8 + size + begin:8 + size + end], kind).reshape(entry["shape"])
        return found


class WhatIsWritten(InFolder):

    def test_weights_and_shape_come_back(self):
        for kind, tied in (("llama", True), ("llama", False), ("qwen3", True)):
            with self.subTest(kind=kind, tied=tied):
                weights = self.write(kind, tied)
                self.succeeds()
                stored = self.stored()
                self.assertEqual(set(stored), set(weights))
                for name, values in weights.items():
                    self.assertTrue(np.array_equal(stored[name], values), name)
                config = self.json("config.json")
                expected = {"model_type": kind, "vocab_size": VOCABULARY, "hidden_size": D, "num_hidden_layers": LAYERS,
                            "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "head_dim": K, "intermediate_size": F,
                            "rope_theta": 1e5, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "max_position_embeddings": 128,
                            "bos_token_id": 1, "eos_token_id": 0, "torch_dtype": "float32"}
                self.assertEqual({key: config[key] for key in expected}, expected)
                self.assertEqual(self.json("generation_config.json")["eos_token_id"], 0)
                os.rename(self.path("out"), self.path(f"done_{kind}_{tied}"))

    def test_bf16_is_the_nearest(self):
        weights = self.write()
        self.succeeds("--dtype", "bfloat16")
        self.assertEqual(self.json("config.json")["torch_dtype"], "bfloat16")
        for name, bits in self.stored().items():
            exact = weights[name].astype(np.float64)
            near = [((bits.astype(np.int64) + step).astype(np.uint32) << 16).view(np.float32).astype(np.float64) for step in (-1, 0, 1)]
            errors = [abs(values - exact) for values in near]
            self.assertTrue((errors[1] <= np.minimum(errors[0], errors[2])).all(), name)
            ties = errors[1] == np.minimum(errors[0], errors[2])
            self.assertFalse((bits[ties] & 1).any(), name)

    def test_quantised_tensors_are_what_their_blocks_say(self):
        names = ("token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight")
        weights = self.write(kinds=[(name, Q8_0) for name in names])
        self.succeeds()
        stored = self.stored()
        for name, values in weights.items():
            if gguf_name(name) not in names:
                self.assertTrue(np.array_equal(stored[name], values), name)
                continue
            # A block is 32 numbers of a row: a scale in f16, its largest magnitude / 127, and 32 signed bytes.
            blocks = values.reshape(-1, 32)
            scales = abs(blocks).max(1, keepdims=True) / 127
            self.assertFalse(np.array_equal(stored[name], values))
            error = abs(stored[name].reshape(-1, 32) - blocks)
            self.assertTrue((error <= scales * 0.5 + 127 * scales * 2.0**-11 * 1.01).all(), name)

    def test_the_tokenizer_splits_and_merges(self):
        self.write()
        self.succeeds()
        tokenizer = tokenizers.Tokenizer.from_file(self.path("out", "tokenizer.json"))
        encoded = tokenizer.encode("the cat  42 é<|end|>her")
        self.assertEqual(encoded.tokens, ["t", "he", "Ġ", "cat", "Ġ", "Ġ", "4", "2", "Ġ", "Ã", "©", "<|end|>", "he", "r"])
        self.assertEqual(tokenizer.decode(encoded.ids, skip_special_tokens=False), "the cat  42 é<|end|>her")
        self.assertEqual(tokenizer.decode(encoded.ids), "the cat  42 éher")
        self.assertEqual(self.json("tokenizer_config.json")["eos_token"], "<|end|>")

    def test_without_a_known_tokenizer_there_is_none_and_a_line_says_so(self):
        self.write(pre="nobody-knows")
        status, out, error = self.run_program()
        self.assertEqual(status, 0, error)
        self.assertIn("warning:", error)
        self.assertIn("nobody-knows", error)
        self.assertFalse(os.path.exists(self.path("out", "tokenizer.json")))
        self.assertIn("LlamaForCausalLM", out)

    def test_the_command_line(self):
        self.write()
        command = [sys.executable, "-B", PROGRAM, self.path("model.gguf"), self.path("out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((again.returncode, again.stdout), (2, ""))
        self.assertIn("exists already", again.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), ["model.gguf", "out"])


class WhatIsRefused(InFolder):

    def test_keys(self):
        for key, value, part in (("expert_count", 8, "mixtures of experts"), ("rope.scaling.type", "yarn", "scaled RoPE"),
                                 ("rope.scaling.factor", 8.0, "scaled RoPE"), ("attention.sliding_window", 4096, "sliding-window"),
                                 ("attention.head_count_kv", [2, 1], "must be of type int"), ("rope.dimension_count", 16, "heads' width"),
                                 ("logit_scale", 0.5, "may change"), ("attention.layer_norm_rms_epsilon", "x", "must be of type float"),
                                 ("vocab_size", 7, "number of rows"), ("block_count", None, "is missing"),
                                 ("embedding_length", 96, "has shape"), ("split.count", 2, "a split file"),
                                 ("general.type", "adapter", "adapter")):
            with self.subTest(key=key):
                self.write(keys={key: value})
                self.refused(key if key != "embedding_length" else "token_embd", part)
        self.write(keys={"expert_count": 0, "rope.scaling.type": "none", "rope.dimension_count": K, "vocab_size": VOCABULARY})
        self.succeeds()

    def test_tensors(self):
        for tensor, part in (("rope_freqs.weight", "scaled RoPE"), ("blk.0.attn_q.bias", "does not belong"),
                             ("blk.0.attn_q_norm.weight", "does not belong"), ("blk.0.ffn_gate_inp.weight", "does not belong"),
                             (f"blk.{LAYERS}.attn_norm.weight", "does not belong")):
            with self.subTest(tensor=tensor):
                self.write(tensors={tensor: np.ones(K, np.float32)})
                self.refused(tensor, part)
        self.write(without=("blk.1.ffn_up.weight",))
        self.refused("blk.1.ffn_up.weight", "is missing")
        self.write("qwen3", without=("blk.1.attn_k_norm.weight",))
        self.refused("blk.1.attn_k_norm.weight", "is missing")
        self.write(tensors={"model.norm.weight": np.full(D, np.nan, np.float32)})
        self.refused("output_norm.weight", "not finite")

    def test_other_architectures(self):
        for kind in ("qwen2", "mistral", "gemma2"):
            self.write(kind)
            self.refused(repr(kind), "only llama and qwen3")

    def test_files_that_are_cut_or_changed_end_in_one_line(self):
        self.write()
        with open(self.path("model.gguf"), "rb") as file:
            whole = file.read()
        choose = random.Random(5)
        damaged = [whole[:size] for size in (0, 3, 8, 24, 100, len(whole) // 2, len(whole) - 1)]
        damaged += [whole[:choose.randrange(20_000)] for _ in range(20)]
        for _ in range(60):
            bytes_ = bytearray(whole)
            bytes_[choose.randrange(12_000)] ^= 1 << choose.randrange(8)
            damaged.append(bytes(bytes_))
        refused = 0
        for data in damaged:
            with open(self.path("model.gguf"), "wb") as file:
                file.write(data)
            status, _, error = self.run_program()
            self.assertIn(status, (0, 2), error)
            self.assertLessEqual(error.count("\n"), 1)
            self.assertEqual(os.path.exists(self.path("out")), status == 0)
            refused += status == 2
            if status == 0:
                os.rename(self.path("out"), self.path(f"read_{len(os.listdir(self.folder))}"))
        self.assertGreater(refused, 27)
        self.assertEqual([name for name in os.listdir(self.folder) if ".tmp-" in name], [])


if __name__ == "__main__":
    unittest.main()
