#!/usr/bin/env python3
"""The same model in PyTorch, timed on the same GPU as depthroute-bench-step and reported in the same JSON lines.

  tools/bench_peers.py [--model 0.6b|100m|demo] [--variant additive,cumulative,kimi] [--micro-batch 4,8]
                       [--impl eager,compile,fla,...] [--json FILE]
                       [--ours FILE]        lines of depthroute-bench-step, for the ratio of speeds
  tools/bench_peers.py --check tests/golden/kimi ...     does the twin compute what the golden case says? (needs h5py)
  tools/bench_peers.py --device cpu --tiny                 tries the script

What a user would write: bf16 weights without autocast, float32 master weights under fused AdamW, scaled_dot_product_attention,
F.cross_entropy on whole logits. Reads of depth states: `eager` and `compile` use the published formulation (stack, key norm,
softmax over depth, weighted sum); `fla`, `liger` and `fast` the fused kernels of flash-linear-attention (with the following
RMSNorm in it; FLA_ATTNRES_GLUON=1 in the environment chooses its other backend), Liger and fast-attnres (whose query stands for
query * key norm, in bf16). They have no recency bias: it is left out there, and is 0 in fresh models anyway. `compile+X` compiles
the rest. What is not installed, fails to import or fails to run gets a line that says so, and the others go on.
"""
import argparse
import gc
import json
import math
import statistics
import struct
import sys
import time

import torch

from bench_peers_model import KERNELS, PRESETS, Config, Twin, kernel_of


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
    import numpy as np

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
    import numpy as np

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
    compiled, kernel = "compile" in impl, kernel_of(impl)
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


def one_line(error):
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def why_not(impl, device):
    """Why an implementation cannot be measured here: ("not_installed" or "error", reason), or None."""
    if "compile" in impl and not hasattr(torch, "compile"):
        return "not_installed", f"PyTorch {torch.__version__} has no torch.compile"
    kernel = kernel_of(impl)
    if kernel is None:
        return None
    load, package = KERNELS[kernel]
    if device != "cuda":
        return "not_installed", f"{package}'s kernels need a GPU"
    try:
        load()
    except ModuleNotFoundError as error:
        return "not_installed", f"{package}: {error}"
    except Exception as error:  # another version's names, or its own requirements are not met
        return "error", f"{package} cannot be imported: {one_line(error)}"
    return None


def read_ours(path):
    """Tokens per second by (variant, sequences of a micro-batch, tokens of a sequence) from lines of depthroute-bench-step."""
    ours = {}
    if path:
        with open(path) as file:
            for line in map(json.loads, filter(str.strip, file)):
                ours[line["name"], line["micro_batch"], line["seq_len"]] = line["tokens_per_s"]
    return ours


def benchmark(args):
    base = PRESETS["tiny" if args.tiny else args.model]
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    peak = args.peak_tflops * 1e12 if args.peak_tflops else gemm_rate(args.device, dtype)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    print(f"PyTorch {torch.__version__} on {name}; peak {peak / 1e12:.3g} TFLOP/s ({'given' if args.peak_tflops else 'measured'})")
    ours = read_ours(args.ours)
    plain = {}  # step time of `additive` by implementation without its read kernel, and micro-batch
    out = open(args.json, "a") if args.json else None
    for impl in args.impl.split(","):
        reason = why_not(impl, args.device)
        if reason:
            print(f"{impl}: not measured: {reason[1]}")
            if out:
                out.write(json.dumps({"implementation": f"torch {args.label or impl}", reason[0]: reason[1]}) + "\n")
                out.flush()
            continue
        for micro_batch in map(int, args.micro_batch.split(",")):
            for variant in args.variant.split(","):
                if variant == "additive" and kernel_of(impl):
                    continue  # has no reads
                try:
                    line = measure(base.copy(variant=variant), impl, args, micro_batch, dtype, peak)
                except Exception as error:  # out of memory, or a kernel that refuses: the others are still worth having
                    line = {"name": variant, "implementation": f"torch {impl}", "micro_batch": micro_batch,
                            "error": one_line(error)}
                    print(f"{variant:<12}{impl:<16}{micro_batch:>4} sequences: {line['error'][:120]}")
                else:
                    key = ("compile" in impl, micro_batch)
                    if variant == "additive":
                        plain[key] = line["step_ms"]
                    elif key in plain:
                        line["overhead"] = line["step_ms"] / plain[key] - 1
                    # How many times as fast as this one depthroute is, by tokens, since its steps have several micro-batches.
                    if (variant, micro_batch, args.seq_len) in ours:
                        line["ratio"] = round(ours[variant, micro_batch, args.seq_len] / line["tokens_per_s"], 4)
                    overhead = f"{100 * line['overhead']:+.1f} %" if "overhead" in line else "-"
                    print(f"{variant:<12}{impl:<16}{micro_batch:>4} sequences: {line['step_ms']:9.2f} ms "
                          f"{line['tokens_per_s']:10.0f} tokens/s  MFU {100 * line['mfu']:5.1f} %  overhead {overhead}", flush=True)
                if out:
                    out.write(json.dumps({**line, "implementation": f"torch {args.label or impl}"}) + "\n")
                    out.flush()
                gc.collect()
                if hasattr(torch, "_dynamo"):
                    torch._dynamo.reset()
                if args.device == "cuda":
                    torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--model", default="0.6b", choices=PRESETS)
    parser.add_argument("--variant", default="additive,cumulative,kimi")
    parser.add_argument("--impl", default="eager,compile,fla,compile+fla,liger,compile+liger,fast,compile+fast")
    parser.add_argument("--label", help="name of the implementation in the file, instead of --impl")
    parser.add_argument("--ours", help="file of depthroute-bench-step's lines, for the ratio of tokens per second")
    parser.add_argument("--micro-batch", default=None)
    parser.add_argument("--seq-len", type=int, default=None)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, default=0)
    parser.add_argument("--json", help="file for one JSON object a line")
    parser.add_argument("--tiny", action="store_true", help="--model tiny, and few short sequences")
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
