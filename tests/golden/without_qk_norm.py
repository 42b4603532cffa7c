#!/usr/bin/env python3
"""Makes the golden cases of models without q/k norm, in float64 with torch: see README.md.

Written from the formulas of train/model/SPEC.md, sharing nothing with the program. By hand only; needs torch, safetensors and
h5py.

  without_qk_norm.py FOLDER   writes FOLDER/llama and FOLDER/cumulative_no_qk_norm
  without_qk_norm.py --check  recomputes the older cases additive, cumulative and cumulative_full from their weights
  without_qk_norm.py --transformers  holds the case llama against transformers' LlamaForCausalLM
"""

import json
import math
import os
import sys

import h5py
import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
FAMILIES = ("embedding", "older", "recent", "current")
BANDS = ("early", "mid", "late")
ADAMW = dict(lr=0.01, lr_min=0.001, warmup=2, total=5, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, max_norm=1.0)

SHAPE = dict(vocab_size=61, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
             rope_theta=100000.0, rms_norm_eps=1e-5, hidden_act="silu", attention_bias=False, torch_dtype="float32")
CASES = {
    "llama": dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=32, tie_word_embeddings=False,
                  mlp_bias=False, pretraining_tp=1, **SHAPE),
    "cumulative_no_qk_norm": dict(
        architectures=["Qwen3AttnResForCausalLM"], model_type="qwen3_attnres", hidden_size=24, head_dim=8,
        tie_word_embeddings=True, attnres_mode="block", attnres_num_blocks=None, attnres_recency_bias_init=0.0,
        attnres_gate_type="bias", attnres_variant="cumulative", attnres_sublayers_per_block=2, attnres_qk_norm=False,
        **SHAPE),
}


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def site_name(layer, sublayer):
    return f"model.layers.{layer}.{sublayer}_res"


def fresh(config, generator):
    d, f, k = config["hidden_size"], config["intermediate_size"], head_dim(config)
    q, kv = k * config["num_attention_heads"], k * config["num_key_value_heads"]

    def normal(*shape, std, mean=0.0):
        return (mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)).float()

    weights = {"model.embed_tokens.weight": normal(config["vocab_size"], d, std=0.5), "model.norm.weight": normal(d, std=0.2, mean=1)}
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = normal(config["vocab_size"], d, std=0.3)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, rows, columns in (("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
                                    ("self_attn.o_proj", d, q), ("mlp.gate_proj", f, d), ("mlp.up_proj", f, d),
                                    ("mlp.down_proj", d, f)):
            weights[f"{layer}{name}.weight"] = normal(rows, columns, std=0.2)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}{name}.weight"] = normal(d, std=0.2, mean=1)
        if "attnres_variant" in config:
            for sublayer in ("attn", "mlp"):
                weights[site_name(i, sublayer) + "_proj.weight"] = normal(1, d, std=0.5)
                weights[site_name(i, sublayer) + "_norm.weight"] = normal(d, std=0.2, mean=1)
                weights[site_name(i, sublayer) + "_bias"] = normal(std=0.3)
    return weights


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """x [B, heads, T, K]; pairs (i, i + K/2) as complex numbers."""
    k = x.shape[-1]
    angles = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * theta ** (-torch.arange(0, k, 2, dtype=torch.float64) / k)
    turned = torch.complex(x[..., : k // 2], x[..., k // 2 :]) * torch.exp(1j * angles)
    return torch.cat((turned.real, turned.imag), -1)


def attention(config, p, layer, x):
    k, eps = head_dim(config), config["rms_norm_eps"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    name = f"model.layers.{layer}.self_attn."

    def project(which, count):
        return (x @ p[f"{name}{which}_proj.weight"].T).unflatten(-1, (count, k)).transpose(1, 2)

    q, key, value = project("q", heads), project("k", groups), project("v", groups)
    if name + "q_norm.weight" in p:  # the older cases
        q, key = rms_norm(q, p[name + "q_norm.weight"], eps), rms_norm(key, p[name + "k_norm.weight"], eps)
    q, key = rotate(q, config["rope_theta"]), rotate(key, config["rope_theta"])
    key, value = (t.repeat_interleave(heads // groups, dim=1) for t in (key, value))
    scores = q @ key.transpose(-1, -2) / math.sqrt(k)
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    mixed = torch.softmax(scores.masked_fill(later, -math.inf), -1) @ value
    return mixed.transpose(1, 2).flatten(2) @ p[name + "o_proj.weight"].T


def mlp(p, layer, x):
    name = f"model.layers.{layer}.mlp."
    gate = x @ p[name + "gate_proj.weight"].T
    return (gate * torch.sigmoid(gate) * (x @ p[name + "up_proj.weight"].T)) @ p[name + "down_proj.weight"].T


def family(position, count):
    if position == count - 1:
        return "current"
    if position == 0:
        return "embedding"
    return "recent" if position == count - 2 else "older"


def forward(config, p, tokens, cell=None):
    """logits [B, T, V], the weights of every routed site, and how many sites the cell changed. cell: (kind, family, sublayer,
    band)."""
    eps, layers = config["rms_norm_eps"], config["num_hidden_layers"]
    routed = "attnres_variant" in config
    per_block = config.get("attnres_sublayers_per_block", 0)
    state = p["model.embed_tokens.weight"][tokens]
    finished, routing, changed = [state], [], 0
    for s in range(2 * layers):
        layer, sublayer = s // 2, ("attn", "mlp")[s % 2]
        read = state
        if routed:
            if s > 0 and s % per_block == 0:
                finished.append(state)
            values = torch.stack(finished + [state])  # [source, B, T, D]
            site = site_name(layer, sublayer)
            logits = rms_norm(values, p[site + "_norm.weight"], eps) @ p[site + "_proj.weight"].reshape(-1)
            logits = torch.cat((logits[:-1], logits[-1:] + p[site + "_bias"]))
            scale = torch.ones(len(values), dtype=torch.float64)
            if cell is not None and cell[2] == sublayer and BANDS[3 * layer // layers] == cell[3]:
                chosen = [j for j in range(len(values)) if family(j, len(values)) == cell[1]]
                changed += bool(chosen)
                for j in chosen:
                    if cell[0] == "mask":
                        logits = logits.index_fill(0, torch.tensor([j]), -math.inf)
                    else:
                        scale[j] = 0
            weights = torch.softmax(logits, 0)
            routing.append(weights)
            read = ((weights * scale[:, None, None])[..., None] * values).sum(0)
        norm = "input_layernorm" if sublayer == "attn" else "post_attention_layernorm"
        x = rms_norm(read, p[f"model.layers.{layer}.{norm}.weight"], eps)
        state = state + (attention(config, p, layer, x) if sublayer == "attn" else mlp(p, layer, x))
    hidden = rms_norm(state, p["model.norm.weight"], eps)
    return hidden @ p.get("lm_head.weight", p["model.embed_tokens.weight"]).T, routing, changed


def nll_of(logits, targets):
    return torch.logsumexp(logits, -1) - logits.gather(-1, targets[..., None])[..., 0]


def gradients(config, weights, windows):
    p = {name: w.double().clone().requires_grad_() for name, w in weights.items()}
    logits, routing, _ = forward(config, p, windows[:, :-1])
    nll = nll_of(logits, windows[:, 1:])
    nll.mean().backward()
    return logits.detach(), nll.detach(), [w.detach() for w in routing], {name: w.grad for name, w in p.items()}


def adamw(config, weights, batches, out):
    o, group = ADAMW, out.create_group("adamw")
    group.attrs.update(o)
    p = {name: w.double() for name, w in weights.items()}
    m, v = ({name: torch.zeros_like(w) for name, w in p.items()} for _ in range(2))
    losses, norms = [], []
    for t in range(1, o["total"] + 1):
        _, nll, _, grads = gradients(config, p, batches[t - 1])
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
        losses.append(float(nll.mean()))
        norms.append(norm)
        clip = min(1.0, o["max_norm"] / (norm + 1e-6))
        w, n = o["warmup"], o["total"]
        lr = o["lr"] * t / w if t <= w else o["lr_min"] + (o["lr"] - o["lr_min"]) * (1 + math.cos(math.pi * (t - w) / (n - w))) / 2
        for name in p:
            g = clip * grads[name]
            m[name] = o["beta1"] * m[name] + (1 - o["beta1"]) * g
            v[name] = o["beta2"] * v[name] + (1 - o["beta2"]) * g * g
            step = (m[name] / (1 - o["beta1"] ** t)) / (torch.sqrt(v[name] / (1 - o["beta2"] ** t)) + o["eps"])
            matrix = "_proj.weight" in name and "_res_" not in name or name in ("model.embed_tokens.weight", "lm_head.weight")
            p[name] = p[name] - lr * (step + (o["weight_decay"] * p[name] if matrix else 0))
    put(group, "batches", batches.int().numpy())
    group["loss"], group["grad_norm"] = np.array(losses), np.array(norms)
    for name, w in p.items():
        put(group, "params/" + name, w.numpy())


def put(group, name, values):
    packed = dict(compression="gzip", shuffle=True) if values.size > 64 else {}
    return group.create_dataset(name, data=values, **packed)


def all_cells():
    return [(kind, f, sublayer, band) for kind in ("mask", "zero") for f in FAMILIES for sublayer in ("attn", "mlp") for band in BANDS]


def make(folder, name, seed):
    config, generator = CASES[name], torch.Generator().manual_seed(seed)
    os.makedirs(f"{folder}/{name}")
    with open(f"{folder}/{name}/config.json", "w") as out:
        json.dump(config, out, indent=1)
    weights = fresh(config, generator)
    save_file(weights, f"{folder}/{name}/model.safetensors", {"format": "pt"})

    def draw(*shape):
        return torch.randint(config["vocab_size"], shape, generator=generator)

    windows = draw(2, 25)
    logits, nll, routing, grads = gradients(config, weights, windows)
    with h5py.File(f"{folder}/{name}/expected.h5", "w") as out:
        put(out, "tokens", windows.int().numpy())
        put(out, "logits", logits.numpy())
        put(out, "nll", nll.numpy())
        out["loss"] = float(nll.mean())
        for tensor, grad in grads.items():
            put(out, "grads/" + tensor, grad.numpy())
        for site, values in enumerate(routing):
            put(out, f"routing/{site:03}", values.numpy()).attrs.update(layer=site // 2, sublayer=("attn", "mlp")[site % 2])
        p = {tensor: w.double() for tensor, w in weights.items()}
        for cell in all_cells() if routing else ():
            changed_logits, _, changed = forward(config, p, windows[:, :-1], cell)
            data = put(out, "ablation/" + "/".join(cell), nll_of(changed_logits, windows[:, 1:]).numpy())
            data.attrs.update(sites_ablated=changed, sites_skipped=0)
        adamw(config, weights, draw(5, 4, 17), out)
    print(f"{name}: loss {float(nll.mean()):.6f}")


def worst(pairs):
    return max(float((torch.as_tensor(ours) - torch.as_tensor(theirs)).norm() / max(1e-9, float(torch.as_tensor(theirs).norm())))
               for ours, theirs in pairs)


def check(name):
    config, weights = json.load(open(f"{HERE}/{name}/config.json")), load_file(f"{HERE}/{name}/model.safetensors")
    with h5py.File(f"{HERE}/{name}/expected.h5") as expected:
        windows = torch.as_tensor(expected["tokens"][:]).long()
        logits, nll, routing, grads = gradients(config, weights, windows)
        print(f"{name}: largest relative L2: nll {worst([(nll, expected['nll'][:])]):.1e}, gradients",
              f"{worst((g, expected['grads'][t][()]) for t, g in grads.items() if float(np.linalg.norm(expected['grads'][t][()])) > 1e-9):.1e}",
              end="")
        if routing:
            p = {tensor: w.double() for tensor, w in weights.items()}
            cells = [(forward(config, p, windows[:, :-1], cell), expected["ablation/" + "/".join(cell)]) for cell in all_cells()]
            assert all(ours[2] == theirs.attrs["sites_ablated"] for ours, theirs in cells)
            print(f", weights {worst((w, expected[f'routing/{i:03}'][:]) for i, w in enumerate(routing)):.1e}, ablations",
                  f"{worst((nll_of(ours[0], windows[:, 1:]), theirs[:]) for ours, theirs in cells):.1e}", end="")
        print()


def against_transformers():
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(f"{HERE}/llama", attn_implementation="eager", dtype=torch.float64)
    with h5py.File(f"{HERE}/llama/expected.h5") as expected:
        windows = torch.as_tensor(expected["tokens"][:]).long()
        nll = nll_of(model(windows[:, :-1]).logits, windows[:, 1:])
        nll.mean().backward()
        print(f"{type(model).__name__}, transformers {transformers.__version__}: largest |difference| of a token's nll",
              f"{float((nll.detach() - torch.as_tensor(expected['nll'][:])).abs().max()):.1e}, largest relative L2 of a gradient",
              f"{worst((p.grad, expected['grads'][t][()]) for t, p in model.named_parameters()):.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "--check":
        for case in ("additive", "cumulative", "cumulative_full"):
            check(case)
    elif sys.argv[1] == "--transformers":
        against_transformers()
    else:
        for seed, case in enumerate(CASES):
            make(sys.argv[1], case, 20 + seed)
