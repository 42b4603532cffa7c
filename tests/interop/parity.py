#!/usr/bin/env python3
"""Compares exported models with what other programs compute from them; prints one line per comparison, fails on any that is off.

    parity.py depthroute-convert GOLDEN_DIR [--open-attnres modeling_attnres.py]

GOLDEN_DIR is tests/golden, whose expected.h5 an independent float64 implementation made. Every case is exported in every form that can
hold it and loaded with transformers: NLL per token, every gradient, greedy generation with and without a cache of keys and values,
left-padded batches, bf16, and a model that transformers saved again, imported back. Needs torch, transformers and h5py.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

CASES = ["additive", "llama", "cumulative", "cumulative_full", "cumulative_no_qk_norm", "reset", "kimi", "kimi_full"]
NLL, GRADIENT, CACHE = 1e-4, 1e-3, 1e-4  # nats; relative L2 per tensor; logits relative to the largest
failed = []


def report(what, value, limit):
    print(f"  {what:<44} {value:.2e}" + ("" if value <= limit else f"  OFF: more than {limit:.0e}"))
    if not value <= limit:
        failed.append(what)


def load(folder, **how):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **how).eval()


class Case:
    def __init__(self, folder):
        with h5py.File(os.path.join(folder, "expected.h5")) as file:
            self.tokens = torch.tensor(file["tokens"][()].astype(np.int64))
            self.nll = file["nll"][()]
            self.gradients = {name: file["grads"][name][()] for name in file["grads"]}

    def compare(self, model):
        logits = model(self.tokens[:, :-1]).logits
        nll = F.cross_entropy(logits.transpose(1, 2), self.tokens[:, 1:], reduction="none")
        report("NLL, largest difference per token", np.abs(nll.detach().numpy() - self.nll).max(), NLL)
        model.zero_grad()
        nll.mean().backward()
        worst, biases = 0.0, ([], [])
        for name, parameter in model.named_parameters():
            ours, expected = parameter.grad.double().numpy(), self.gradients[name]
            if name.endswith("_res_bias"):  # sums over tokens that may cancel: all of them as one tensor
                biases[0].append(ours), biases[1].append(expected)
            elif np.linalg.norm(expected) > 1e-9:  # below: zero in exact arithmetic (two equal sources)
                worst = max(worst, np.linalg.norm(ours - expected) / np.linalg.norm(expected))
        if biases[0]:
            ours, expected = (np.array([float(np.ravel(x)[0]) for x in side]) for side in biases)
            worst = max(worst, np.linalg.norm(ours - expected) / np.linalg.norm(expected))
        report("gradients, relative L2 of the worst tensor", worst, GRADIENT)

    def generate(self, model):
        """Logits of a cached, token by token, and of a left-padded run against one whole pass; then generate()."""
        tokens = self.tokens[:, :-1]
        with torch.no_grad():
            whole = model(tokens, use_cache=False).logits
            out = model(tokens[:, :3], use_cache=True)
            parts = [out.logits]
            for t in range(3, tokens.shape[1]):
                cache = {key: out[key] for key in ("cache", "past_key_values") if key in out.keys()}
                out = model(tokens[:, t : t + 1], use_cache=True, **cache)
                parts.append(out.logits)
            scale = whole.abs().max()
            report("cached logits", ((torch.cat(parts, 1) - whole).abs().max() / scale).item(), CACHE)
            padded = torch.cat((torch.zeros(len(tokens), 4, dtype=torch.long), tokens), 1)
            mask = torch.ones_like(padded)
            mask[:, :4] = 0
            logits = model(padded, attention_mask=mask).logits[:, 4:]
            report("left-padded logits", ((logits - whole).abs().max() / scale).item(), CACHE)
            how = dict(max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
            prompt = tokens[:, :5]
            cached, plain = model.generate(prompt, **how), model.generate(prompt, use_cache=False, **how)
            # A wrong token counts only where the two best were not as good as equal.
            differing = (cached != plain).any(1)
            bad = 0
            for row in differing.nonzero().flatten().tolist():
                at = (cached[row] != plain[row]).nonzero()[0].item()
                best = model(plain[row : row + 1, :at]).logits[0, -1].topk(2).values
                bad += int(best[0] - best[1] > 1e-3)
            report("generate() with and without a cache, wrong rows", float(bad), 0)


def open_code(path):
    spec = importlib.util.spec_from_file_location("modeling_attnres", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("golden")
    parser.add_argument("--open-attnres", help="modeling_attnres.py of the open AttnRes code")
    options = parser.parse_args()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:

        def convert(*arguments):
            return subprocess.run([options.program, *arguments], capture_output=True, text=True)

        for name in CASES:
            source, case = os.path.join(options.golden, name), Case(os.path.join(options.golden, name))
            for form in ("transformers", "depthroute", "open-attnres"):
                out = os.path.join(scratch, f"{name}-{form}")
                done = convert("export", source, "--output", out, "--format", form)
                if done.returncode != 0:
                    continue
                print(f"{name} as {form}")
                if form == "open-attnres":
                    if options.open_attnres and name.startswith("cumulative"):
                        case.compare(open_code(options.open_attnres).Qwen3AttnResForCausalLM.from_pretrained(out).eval())
                    continue
                model = load(out)
                case.compare(model)
                case.generate(model)
                saved, back = out + "-saved", out + "-back"
                model.save_pretrained(saved)
                imported = convert("import", saved, "--output", back)
                same = imported.returncode == 0 and convert("diff", source, back, "--weights").returncode == 0
                report("saved by transformers, imported: differs", float(not same), 0)
                half = load(out, dtype=torch.bfloat16) if int(transformers.__version__.split(".")[0]) >= 5 else load(
                    out, torch_dtype=torch.bfloat16)  # fmt: skip
                with torch.no_grad():
                    logits = half(case.tokens[:, :-1]).logits.float()
                nll = F.cross_entropy(logits.transpose(1, 2), case.tokens[:, 1:], reduction="none").numpy()
                report("bf16, mean NLL", abs(nll.mean() - case.nll.mean()), 0.05)
            if options.open_attnres and name.startswith(("kimi", "cumulative_no")):
                folder = os.path.join(scratch, name + "-in")
                convert("import", source, "--output", folder)
                try:
                    open_code(options.open_attnres).Qwen3AttnResForCausalLM.from_pretrained(folder)
                    loaded = 1.0
                except TypeError:
                    loaded = 0.0
                report(f"{name}: loads in the open code", loaded, 0)
    print("FAILED: " + ", ".join(failed) if failed else "all within limits")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
