#!/usr/bin/env python3
"""The same model in PyTorch, timed on the same GPU as depthroute-bench-step and reported in the same JSON lines.

  tools/bench_peers.py [--variant additive,cumulative,kimi] [--micro-batch 4,8] [--impl eager,compile,fla,...] [--json FILE]
  tools/bench_peers.py --check tests/golden/kimi ...     does the twin compute what the golden case says? (needs h5py)
  tools/bench_peers.py --device cpu --tiny                 tries the script

What a user would write: bf16 weights without autocast, float32 master weights under fused AdamW, scaled_dot_product_attention,
F.cross_entropy on whole logits. Reads of depth states: `eager` and `compile` use the published formulation (stack, key norm,
softmax over depth, weighted sum); `fla` and `liger` the fused kernels of flash-linear-attention (with the following RMSNorm in
it) and Liger, which have no recency bias: it is left out there, and is 0 in fresh models anyway. `compile+X` compiles the rest.
"""
import argparse
import gc
import json
import math
import statistics
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def flash_linear_attention():
    from fla.ops.attnres import fused_attnres

    return fused_attnres


def liger():
    from liger_kernel.transformers.functional import liger_attn_res

    return liger_attn_res


def attention(q, k, v):
    """Causal, grouped queries: q [B, H, T, K], k and v [B, G, T, K]."""
    groups = q.shape[1] // k.shape[1]
    if hasattr(F, "scaled_dot_product_attention"):
        try:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1)
        except TypeError:  # before PyTorch 2.5
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)  # before PyTorch 2.0
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ v


def rms_norm(x, weight, eps):
    if hasattr(F, "rms_norm"):
        return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)
    wide = x if x.dtype == torch.float64 else x.float()  # before PyTorch 2.4
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return wide.to(x.dtype) * weight.to(x.dtype)


class Config:
    def __init__(self, **keys):
        self.__dict__.update(keys)

    def copy(self, **keys):
        return Config(**{**self.__dict__, **keys})


QWEN3_06B = Config(vocab=151936, hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=3072, theta=1e6, eps=1e-6,
                   variant="additive", block=8, tied=True)
TINY = Config(vocab=257, hidden=64, layers=6, heads=4, kv_heads=2, head_dim=16, ffn=96, theta=1e4, eps=1e-6,
              variant="additive", block=4, tied=True)


def depth_plan(c):
    """For each sublayer (sources, restart), then the final site's sources or None. `block`: sublayers per block."""
    last, plan = 2 * c.layers, []
    for s in range(last):
        boundary = s > 0 and s % c.block == 0
        if c.variant == "additive":
            plan.append(([s], False))
        elif c.variant == "cumulative":
            plan.append(([0] + list(range(c.block, s + 1, c.block)) + [s], False))
        elif c.variant == "kimi" and s == 0:
            plan.append(([0], True))
        else:
            plan.append(([0] + list(range(c.block, s, c.block)) + [s], boundary))
    final = [0] + list(range(c.block, last, c.block)) + [last] if c.variant in ("reset", "kimi") else None
    return plan, final


def weight(*shape):
    return nn.Parameter(torch.empty(*shape))


class Scale(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.q_norm, self.k_norm = Scale(c.head_dim), Scale(c.head_dim)

    def forward(self, x, rope):
        c, (batch, length, _) = self.c, x.shape
        heads = lambda y: y.view(batch, length, -1, c.head_dim).transpose(1, 2)
        cos, sin = rope

        def rotate(y):
            a, b = y.chunk(2, -1)
            return y * cos + torch.cat((-b, a), -1) * sin

        q = rotate(rms_norm(heads(self.q_proj(x)), self.q_norm.weight, c.eps))
        k = rotate(rms_norm(heads(self.k_proj(x)), self.k_norm.weight, c.eps))
        out = attention(q, k, heads(self.v_proj(x)))
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.ffn, bias=False)
        self.down_proj = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def add_read(module, name, c):
    setattr(module, name + "_res_proj", nn.Linear(c.hidden, 1, bias=False))
    setattr(module, name + "_res_norm", Scale(c.hidden))
    setattr(module, name + "_res_bias", nn.Parameter(torch.zeros(())))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), Mlp(c)
        self.input_layernorm, self.post_attention_layernorm = Scale(c.hidden), Scale(c.hidden)
        if c.variant != "additive":
            add_read(self, "attn", c)
            add_read(self, "mlp", c)


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Scale(c.hidden)
        if c.variant in ("reset", "kimi"):
            add_read(self, "final", c)


class Twin(nn.Module):
    """Qwen3 with Block Attention Residuals; parameters have Hugging Face's names. `kernel`: None, "fla" or "liger"."""

    def __init__(self, c, kernel=None):
        super().__init__()
        self.c, self.kernel = c, kernel
        self.fused = {"fla": flash_linear_attention, "liger": liger, None: lambda: None}[kernel]()
        self.plan, self.final = depth_plan(c)
        self.model = Decoder(c)
        if not c.tied:
            self.lm_head = nn.Linear(c.hidden, c.vocab, bias=False)
        for name, p in self.named_parameters():
            if "_res_proj" in name:
                nn.init.zeros_(p)
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def read(self, owner, name, sources, norm):
        """Mixes the sources and norms the mix. One source is the identity."""
        eps = self.c.eps
        if len(sources) == 1:
            return rms_norm(sources[0], norm.weight, eps)
        query = getattr(owner, name + "_res_proj").weight.view(-1)
        key_norm = getattr(owner, name + "_res_norm").weight
        bias = getattr(owner, name + "_res_bias")
        if self.kernel == "fla":
            return self.fused(query, sources, key_norm, norm.weight, eps)
        if self.kernel == "liger":
            return rms_norm(self.fused(torch.stack(sources), query, key_norm, eps), norm.weight, eps)
        values = torch.stack(sources)
        wide = values if values.dtype == torch.float64 else values.float()
        logits = (rms_norm(wide, key_norm, eps) * query).sum(-1)
        logits = torch.cat((logits[:-1], logits[-1:] + bias))
        mix = (torch.softmax(logits, 0).unsqueeze(-1) * wide).sum(0).to(values.dtype)
        return rms_norm(mix, norm.weight, eps)

    def rope(self, length, device, dtype):
        k = self.c.head_dim
        rates = self.c.theta ** (-torch.arange(0, k, 2, device=device, dtype=torch.float64) / k)
        angles = torch.outer(torch.arange(length, device=device, dtype=torch.float64), rates)
        angles = torch.cat((angles, angles), -1)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, tokens, targets):
        model = self.model
        states = [model.embed_tokens(tokens)]
        rope = self.rope(tokens.shape[1], tokens.device, states[0].dtype)
        for s, (sources, restart) in enumerate(self.plan):
            layer, inputs = model.layers[s // 2], [states[j] for j in sources]
            if s % 2 == 0:
                out = layer.self_attn(self.read(layer, "attn", inputs, layer.input_layernorm), rope)
            else:
                out = layer.mlp(self.read(layer, "mlp", inputs, layer.post_attention_layernorm))
            states.append(out if restart else states[s] + out)
        if self.final is None:
            hidden = rms_norm(states[-1], model.norm.weight, self.c.eps)
        else:
            hidden = self.read(model, "final", [states[j] for j in self.final], model.norm)
        head = model.embed_tokens.weight if self.c.tied else self.lm_head.weight
        logits = F.linear(hidden, head)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(logits.view(-1, self.c.vocab), targets.reshape(-1))

    def flops_per_token(self, length):
        """As depthroute counts them: 6 per weight that multiplies, plus causal attention."""
        c = self.c
        q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
        per_layer = c.hidden * (2 * q + 2 * kv) + 3 * c.hidden * c.ffn
        return 6 * (c.layers * per_layer + c.hidden * c.vocab) + 6 * c.layers * length * q


class Master:
    """Float32 master weights under AdamW for a model whose weights may be bf16."""

    def __init__(self, model, device):
        self.working = list(model.parameters())
        self.master = [p.detach().float().clone() for p in self.working]
        kinds = [name for name, _ in model.named_parameters()]
        matrices = [m for m, p, n in zip(self.master, self.working, kinds) if p.dim() == 2 and "_res_" not in n]
        rest = [m for m, p, n in zip(self.master, self.working, kinds) if not (p.dim() == 2 and "_res_" not in n)]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        fused = {"fused": True} if device == "cuda" else {}
        self.adam = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), **fused)

    @torch.no_grad()
    def step(self):
        for master, p in zip(self.master, self.working):
            master.grad = None if p.grad is None else p.grad.float()
            p.grad = None
        torch.nn.utils.clip_grad_norm_(self.master, 1.0)
        self.adam.step()
        if hasattr(torch, "_foreach_copy_"):
            torch._foreach_copy_([p.data for p in self.working], self.master)
            return
        for master, p in zip(self.master, self.working):
            p.copy_(master)


def read_safetensors(path):
    """Name -> float64 array; float32 files."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", f"{path}: {name} is {entry['dtype']}"
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"]).astype(np.float64)
    return tensors


def check(folder):
    """Loss and all gradients of a golden case, in float64: (name, figure, bound) of both."""
    import h5py

    with open(f"{folder}/config.json") as file:
        j = json.load(file)
    c = Config(vocab=j["vocab_size"], hidden=j["hidden_size"], layers=j["num_hidden_layers"], heads=j["num_attention_heads"],
               kv_heads=j["num_key_value_heads"], head_dim=j["head_dim"], ffn=j["intermediate_size"], theta=j["rope_theta"],
               eps=j["rms_norm_eps"], variant=j.get("attnres_variant", "additive"),
               block=j.get("attnres_sublayers_per_block") or 2, tied=j["tie_word_embeddings"])
    model = Twin(c).double()
    weights = {name: torch.from_numpy(value) for name, value in read_safetensors(f"{folder}/model.safetensors").items()}
    model.load_state_dict(weights)
    with h5py.File(f"{folder}/expected.h5") as file:
        tokens = torch.from_numpy(file["tokens"][()].astype(np.int64))
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        loss_error = abs(loss.item() - float(file["loss"][()]))
        worst = 0.0
        for name, p in model.named_parameters():
            want = torch.from_numpy(np.asarray(file["grads/" + name][()], dtype=np.float64)).reshape(p.shape)
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            # Norms this small are zeros in exact arithmetic (two equal sources, or one).
            if max(want.norm().item(), grad.norm().item()) > 1e-12:
                worst = max(worst, ((grad - want).norm() / want.norm()).item())
    return [("loss", loss_error, 1e-9), ("gradients", worst, 1e-7)]


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def gemm_rate(device, dtype):
    """FLOP/s of the GEMM that depthroute-bench-step measures: the median of nine."""
    side = 8192 if device == "cuda" else 512
    a, b = (torch.rand(side, side, device=device).to(dtype) * 2 - 1 for _ in range(2))
    samples = []
    for _ in range(12):
        wait(device)
        begin = time.perf_counter()
        for _ in range(4):
            a @ b.t()
        wait(device)
        samples.append((time.perf_counter() - begin) / 4)
    return 2 * side**3 / statistics.median(samples[3:])


def measure(c, impl, args, micro_batch, dtype, peak):
    compiled, kernel = "compile" in impl, next((k for k in ("fla", "liger") if k in impl), None)
    torch.manual_seed(1)
    model = Twin(c, kernel).to(args.device)
    for name, p in model.named_parameters():
        p.data = p.data if "_res_" in name else p.data.to(dtype)  # reads of depth states stay float32
    optimizer = Master(model, args.device)
    loss_of = torch.compile(model) if compiled else model
    windows = torch.randint(c.vocab, (micro_batch, args.seq_len + 1), device=args.device)
    tokens, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, loss = [], None
    for step in range(args.warm_up + args.steps):
        wait(args.device)
        begin = time.perf_counter()
        loss = loss_of(tokens, targets)
        loss.backward()
        optimizer.step()
        value = loss.item()
        wait(args.device)
        if step >= args.warm_up:
            seconds.append(time.perf_counter() - begin)
    if not math.isfinite(value):
        raise RuntimeError(f"the loss is {value}")
    median, flops = statistics.median(seconds), model.flops_per_token(args.seq_len)
    rate = micro_batch * args.seq_len / median
    return {"name": c.variant, "implementation": f"torch {impl}", "device": args.device, "precision": str(dtype)[6:],
            "seq_len": args.seq_len, "micro_batch": micro_batch, "step_ms": 1e3 * median, "best_ms": 1e3 * min(seconds),
            "tokens_per_s": rate, "gflop_per_token": flops / 1e9, "mfu": flops * rate / peak, "peak_tflops": peak / 1e12,
            "memory_mib": torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else None, "loss": value,
            "torch": torch.__version__}


def why_not(impl, device):
    """Why an implementation cannot be measured here, or ""."""
    if "compile" in impl and not hasattr(torch, "compile"):
        return f"PyTorch {torch.__version__} has no torch.compile"
    for name, load, package in (("fla", flash_linear_attention, "flash-linear-attention"), ("liger", liger, "liger-kernel")):
        if name not in impl:
            continue
        if device != "cuda":
            return f"{package}'s kernels need a GPU"
        try:
            load()
        except Exception as error:  # not installed, or its own requirements are not
            return f"{package} cannot be imported: {error}"
    return ""


def benchmark(args):
    base = TINY if args.tiny else QWEN3_06B
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    peak = args.peak_tflops * 1e12 if args.peak_tflops else gemm_rate(args.device, dtype)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    print(f"PyTorch {torch.__version__} on {name}; peak {peak / 1e12:.3g} TFLOP/s ({'given' if args.peak_tflops else 'measured'})")
    plain = {}  # step time of `additive` by implementation without its read kernel, and micro-batch
    out = open(args.json, "a") if args.json else None
    for impl in args.impl.split(","):
        reason = why_not(impl, args.device)
        if reason:
            print(f"{impl}: not measured: {reason}")
            continue
        for micro_batch in map(int, args.micro_batch.split(",")):
            for variant in args.variant.split(","):
                if variant == "additive" and ("fla" in impl or "liger" in impl):
                    continue  # has no reads
                try:
                    line = measure(base.copy(variant=variant), impl, args, micro_batch, dtype, peak)
                except Exception as error:  # out of memory, or a kernel that refuses: the others are still worth having
                    line = {"name": variant, "implementation": f"torch {impl}", "micro_batch": micro_batch,
                            "error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
                    print(f"{variant:<12}{impl:<16}{micro_batch:>4} sequences: {line['error'][:120]}")
                else:
                    key = ("compile" in impl, micro_batch)
                    if variant == "additive":
                        plain[key] = line["step_ms"]
                    elif key in plain:
                        line["overhead"] = line["step_ms"] / plain[key] - 1
                    overhead = f"{100 * line['overhead']:+.1f} %" if "overhead" in line else "-"
                    print(f"{variant:<12}{impl:<16}{micro_batch:>4} sequences: {line['step_ms']:9.2f} ms "
                          f"{line['tokens_per_s']:10.0f} tokens/s  MFU {100 * line['mfu']:5.1f} %  overhead {overhead}", flush=True)
                if out:
                    out.write(json.dumps(line) + "\n")
                    out.flush()
                gc.collect()
                if hasattr(torch, "_dynamo"):
                    torch._dynamo.reset()
                if args.device == "cuda":
                    torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--variant", default="additive,cumulative,kimi")
    parser.add_argument("--impl", default="eager,compile,fla,compile+fla,liger,compile+liger")
    parser.add_argument("--micro-batch", default=None)
    parser.add_argument("--seq-len", type=int, default=None)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, default=0)
    parser.add_argument("--json", help="file for one JSON object a line")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--check", nargs="+", metavar="DIR", help="golden cases to compare with; nothing is timed")
    args = parser.parse_args()
    args.micro_batch = args.micro_batch or ("2" if args.tiny else "4,8")
    args.seq_len = args.seq_len or (32 if args.tiny else 2048)
    if not args.check:
        benchmark(args)
        return 0
    failed = 0
    for folder in args.check:
        for name, figure, bound in check(folder):
            failed += not figure <= bound
            print(f"{folder} {name}: {figure:.3g} (bound {bound:g}) {'ok' if figure <= bound else 'FAILED'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
