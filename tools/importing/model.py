"""From a GGUF file's keys and tensors to Hugging Face's: which model it is, what config.json says, which tensor becomes which."""

CLASSES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

# Keys of an architecture that are read, and those that change nothing if they have this value.
READ = {"block_count", "embedding_length", "feed_forward_length", "context_length", "vocab_size", "rope.freq_base",
        "rope.dimension_count", "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
        "attention.key_length", "attention.value_length"}
HARMLESS = {"expert_count": 0, "expert_used_count": 0, "rope.scaling.type": "none", "attention.sliding_window": 0,
            "attention.causal": True}
REASONS = {"expert_count": "mixtures of experts are not supported", "expert_used_count": "mixtures of experts are not supported",
           "rope.scaling": "scaled RoPE is not supported", "attention.sliding_window": "sliding-window attention is not supported"}

OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}
IN_LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


class Model:
    def __init__(self, file):
        self.file = file
        self.kind = file.value("general.architecture", (str,))
        if self.kind not in CLASSES:
            file.fail(f"general.architecture is {self.kind!r}: only {' and '.join(CLASSES)} are supported")
        self._refuse_unsupported()
        count = lambda key, default=None: file.count(f"{self.kind}.{key}", default)  # noqa: E731
        self.layers, self.hidden = count("block_count"), count("embedding_length")
        self.heads = count("attention.head_count")
        self.kv_heads = count("attention.head_count_kv", self.heads)
        if self.heads < 1 or self.kv_heads < 1 or self.hidden < 1 or self.layers < 1:
            file.fail("says that it has no layers, heads or width")
        if self.hidden % self.heads != 0 and f"{self.kind}.attention.key_length" not in file.keys():
            file.fail(f"{self.kind}.attention.key_length is missing, and {self.hidden} is no multiple of {self.heads} heads")
        self.head_dim = count("attention.key_length", self.hidden // self.heads)
        for key in ("attention.value_length", "rope.dimension_count"):
            if count(key, self.head_dim) != self.head_dim:
                file.fail(f"{self.kind}.{key} is not the heads' width, {self.head_dim}: not supported")
        self.ffn = count("feed_forward_length")
        self.vocabulary = self._vocabulary()
        self.tied = "output.weight" not in file.tensors
        self.names = self._names()

    def _refuse_unsupported(self):
        file, prefix = self.file, self.kind + "."
        if file.value("general.type", (str,), "model") != "model":
            file.fail("general.type is not model: an adapter or a part of another model")
        if file.count("split.count", 1) > 1:
            file.fail("split.count says that it is a part of a split file: join the parts with llama-gguf-split --merge")
        for key in file.keys():
            name = key.removeprefix(prefix)
            if not key.startswith(prefix) or name in READ:
                continue
            value = file.value(key, (str, int, float, bool, list))
            if name in HARMLESS and value == HARMLESS[name]:
                continue
            reason = next((text for start, text in REASONS.items() if name.startswith(start)),
                          "this key may change what the model computes and is not supported")
            file.fail(f"{key} is {str(value)[:40]!r}: {reason}")
        if "rope_freqs.weight" in file.tensors:
            file.fail("tensor rope_freqs.weight scales RoPE, as Llama 3.1 does: scaled RoPE is not supported")

    def _vocabulary(self):
        if "token_embd.weight" not in self.file.tensors:
            self.file.fail("tensor token_embd.weight is missing: not a whole model")
        rows = self.file.shape("token_embd.weight")[0]
        if self.file.count(f"{self.kind}.vocab_size", rows) != rows:
            self.file.fail(f"{self.kind}.vocab_size is not token_embd.weight's number of rows, {rows}")
        return rows

    def _names(self):
        """Hugging Face's name of each tensor, by GGUF's; every shape checked."""
        q, kv, d, f = self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden, self.ffn
        shapes = {"token_embd": (self.vocabulary, d), "output": (self.vocabulary, d), "output_norm": (d,), "attn_norm": (d,),
                  "ffn_norm": (d,), "attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q),
                  "ffn_gate": (f, d), "ffn_up": (f, d), "ffn_down": (d, f), "attn_q_norm": (self.head_dim,),
                  "attn_k_norm": (self.head_dim,)}
        names = {name: new for name, new in OUTSIDE.items() if not (self.tied and name == "output.weight")}
        in_layer = IN_LAYER | (QK_NORMS if self.kind == "qwen3" else {})
        for layer in range(self.layers):
            for old, new in in_layer.items():
                names[f"blk.{layer}.{old}.weight"] = f"model.layers.{layer}.{new}.weight"
        unknown = sorted(set(self.file.tensors) - set(names))
        if unknown:
            self.file.fail(f"tensor {unknown[0]} does not belong to a {self.kind} that is supported"
                           f" ({len(unknown)} such tensors)")
        for name in names:
            if name not in self.file.tensors:
                self.file.fail(f"tensor {name} is missing: not a whole model")
            wanted = shapes[name.split(".")[-2]]
            if self.file.shape(name) != wanted:
                self.file.fail(f"tensor {name} has shape {list(self.file.shape(name))}, the file's keys ask for {list(wanted)}")
        return names

    def values(self, name):
        """A tensor by GGUF's name, as Hugging Face stores it."""
        values = self.file.values(name)
        part = name.split(".")[-2]
        if self.kind == "llama" and part in ("attn_q", "attn_k"):
            # llama.cpp rotates neighbours (2i, 2i + 1), so its rows are permuted; transformers rotates (i, i + K / 2).
            pairs = values.reshape(-1, self.head_dim // 2, 2, self.hidden)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        return values

    def config(self, dtype):
        number, kind = self.file.number, self.kind
        config = {"architectures": [CLASSES[kind]], "model_type": kind, "vocab_size": self.vocabulary,
                  "hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                  "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "intermediate_size": self.ffn,
                  "rope_theta": number(f"{kind}.rope.freq_base", 10000.0), "rope_scaling": None,
                  "rms_norm_eps": number(f"{kind}.attention.layer_norm_rms_epsilon"), "tie_word_embeddings": self.tied,
                  "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0,
                  "max_position_embeddings": self.file.count(f"{kind}.context_length"), "torch_dtype": dtype}
        if kind == "llama":
            config["mlp_bias"] = False
        for which in ("bos", "eos"):
            key = f"tokenizer.ggml.{which}_token_id"
            if key in self.file.keys():
                config[f"{which}_token_id"] = self.file.count(key)
        return config
