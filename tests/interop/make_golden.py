#!/usr/bin/env python3
"""Makes golden/: small models saved by transformers and flash-linear-attention themselves, with the NLL that they compute.

    make_golden.py OUTPUT          needs torch, transformers and flash-linear-attention (README.md has the versions)

Each folder is what save_pretrained writes, shortened by nothing, plus expected.json: the program and version, tokens [B][T + 1] and
nll [B][T] in nats, computed in float32 (fla: float64) on the CPU. fla's kernels need a GPU, so its modules are composed here from its own
CPU functions: naive_attnres and torch's attention; names, shapes and config.json are its own.
"""

import importlib.metadata
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402

SHAPE = dict(
    vocab_size=61, hidden_size=24, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=40, max_position_embeddings=64, rms_norm_eps=1e-6,
)  # fmt: skip


def randomize(model, seed):
    """Weights far from their initial values, so that no wrong routing goes unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = name.endswith("norm.weight") or "layernorm" in name
            parameter.copy_(1 + 0.2 * noise if norm else 0.25 * noise)


def save(model, output, name, nll, tokens, program, **how):
    folder = os.path.join(output, name)
    model.save_pretrained(folder, **how)
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"program": program, "tokens": tokens.tolist(), "nll": nll.double().tolist()}, file)
        file.write("\n")
    print(name, "mean NLL", nll.mean().item())


def nll_of(logits, tokens):
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").detach()


def transformers_model(output, name, config_class, model_class, seed, dtype=torch.float32, how=None, **keys):
    model = model_class(config_class(**{**SHAPE, **keys})).eval()
    randomize(model, seed)
    model = model.to(dtype)
    tokens = torch.randint(0, SHAPE["vocab_size"], (2, 13), generator=torch.Generator().manual_seed(seed))
    wide = model_class(model.config).eval()
    wide.load_state_dict({key: value.float() for key, value in model.state_dict().items()})
    save(model, output, name, nll_of(wide(tokens[:, :-1]).logits, tokens), tokens,
         f"transformers {transformers.__version__}", **(how or {}))  # fmt: skip


def fla_forward(model, tokens):
    """flash-linear-attention's `transformer`, from its naive functions, in float64."""
    from fla.ops.attnres.naive import naive_attnres

    config, inner = model.config, model.model

    def norm(x, module):
        return F.rms_norm(x, (x.shape[-1],), module.weight.double(), module.eps)

    def linear(x, module):
        return x @ module.weight.double().T

    def attention(x, module):
        batch, length, hidden = x.shape
        dim = hidden // config.num_heads
        q, k, v = (linear(x, p).view(batch, length, -1, dim) for p in (module.q_proj, module.k_proj, module.v_proj))
        if config.qk_norm:
            q, k = norm(q, module.q_norm), norm(k, module.k_norm)
        angle = torch.arange(length).double()[:, None] / config.rope_theta ** (torch.arange(0, dim, 2).double() / dim)
        cos, sin = (torch.cat((f(angle), f(angle)), -1)[None, :, None] for f in (torch.cos, torch.sin))
        q, k = (y * cos + torch.cat((-y[..., dim // 2 :], y[..., : dim // 2]), -1) * sin for y in (q, k))
        groups = config.num_heads // (config.num_kv_heads or config.num_heads)
        q, k, v = q.transpose(1, 2), k.repeat_interleave(groups, 2).transpose(1, 2), v.repeat_interleave(groups, 2).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return linear(out.transpose(1, 2).reshape(batch, length, hidden), module.o_proj)

    def mlp(x, module):
        return linear(F.silu(linear(x, module.gate_proj)) * linear(x, module.up_proj), module.down_proj)

    def read(sources, proj, key_norm):
        out, _ = naive64(sources, proj.weight.view(-1), key_norm.weight, key_norm.eps)
        return out

    def naive64(sources, query, weight, eps):
        # naive_attnres computes in float32; this is its text in float64, compared with it below.
        v = torch.stack(sources)
        p = (F.rms_norm(v, (v.shape[-1],), weight.double(), eps) * query.double()).sum(-1).softmax(0)
        out = (p[..., None] * v).sum(0)
        theirs = naive_attnres(query, [s.float() for s in sources], weight, rms_eps=eps)
        assert (theirs - out).abs().max() < 1e-4 * out.abs().max(), "not naive_attnres"
        return out, p

    prefix, states, size = F.embedding(tokens, inner.embeddings.weight.double()), None, config.attnres_block_size
    for i, layer in enumerate(inner.layers):
        for s, norms, body in ((2 * i, layer.attn_norm, layer.attn), (2 * i + 1, layer.mlp_norm, layer.mlp)):
            step = attention if s % 2 == 0 else mlp
            if size is None:
                prefix = prefix + step(norm(prefix, norms), body)
                continue
            if states is None:
                h, states, prefix = prefix, [prefix], None
            else:
                sources = [*states, prefix]
                if s % size == 0:
                    states, prefix = sources, None
                name = "attn_res" if s % 2 == 0 else "mlp_res"
                h = read(sources, getattr(layer, name + "_proj"), getattr(layer, name + "_norm"))
            out = step(norm(h, norms), body)
            prefix = out if prefix is None else prefix + out
    if size is not None:
        prefix = read([*states, prefix], inner.res_proj, inner.res_norm)
    return linear(norm(prefix, inner.norm), model.lm_head)


def fla_model(output, name, seed, **keys):
    from fla.layers import attn

    attn.flash_attn_func = attn.flash_attn_func or (lambda *a, **k: None)  # asked for on construction, not used here
    from fla.models.transformer import TransformerConfig, TransformerForCausalLM

    shape = {key: value for key, value in SHAPE.items() if not key.startswith(("num_attention", "num_key", "rms"))}
    config = TransformerConfig(**shape, num_heads=4, num_kv_heads=2, norm_eps=1e-5, fuse_norm=False, fuse_swiglu=False,
                               fuse_cross_entropy=False, **keys)  # fmt: skip
    model = TransformerForCausalLM(config).eval()
    randomize(model, seed)
    tokens = torch.randint(0, SHAPE["vocab_size"], (2, 13), generator=torch.Generator().manual_seed(seed))
    version = importlib.metadata.version("flash-linear-attention")
    save(model, output, name, nll_of(fla_forward(model, tokens[:, :-1]), tokens), tokens,
         f"flash-linear-attention {version}")  # fmt: skip


def main(output):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    qwen3, llama = (Qwen3Config, Qwen3ForCausalLM), (LlamaConfig, LlamaForCausalLM)
    transformers_model(output, "qwen3", *qwen3, 1, head_dim=10, tie_word_embeddings=True)
    transformers_model(output, "qwen3_bf16_shards", *qwen3, 2, dtype=torch.bfloat16, how=dict(max_shard_size="12KB"),
                       head_dim=6, tie_word_embeddings=False)  # fmt: skip
    transformers_model(output, "llama_f16", *llama, 3, dtype=torch.float16, tie_word_embeddings=False)
    fla_model(output, "fla_full", 4, attnres_block_size=1, qk_norm=True)
    fla_model(output, "fla_block", 5, attnres_block_size=4, qk_norm=False, tie_word_embeddings=True)
    fla_model(output, "fla_plain", 6, qk_norm=False)


if __name__ == "__main__":
    main(sys.argv[1])
