"""The model of bench_peers.py: Qwen3 with Block Attention Residuals as a user of PyTorch would write it. Parameters have Hugging Face's
names. KERNELS are other people's fused kernels for the reads of depth states."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def flash_linear_attention():
    from fla.ops.attnres import fused_attnres

    return fused_attnres


def liger():
    from liger_kernel.transformers.functional import liger_attn_res

    return liger_attn_res


def fast_attnres():
    from attnres import attnres

    return attnres


KERNELS = {"fla": (flash_linear_attention, "flash-linear-attention"), "liger": (liger, "liger-kernel"),
           "fast": (fast_attnres, "fast-attnres")}


def kernel_of(impl):
    return next((name for name in KERNELS if name in impl.split("+")), None)


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
ATTNRES_100M = QWEN3_06B.copy(hidden=512, layers=12, heads=8, kv_heads=4, head_dim=64, ffn=1536, theta=1e4, block=6)
DEMO = ATTNRES_100M.copy(vocab=256, hidden=192, layers=8, heads=6, kv_heads=2, head_dim=32, ffn=512, block=4)
TINY = Config(vocab=257, hidden=64, layers=6, heads=4, kv_heads=2, head_dim=16, ffn=96, theta=1e4, eps=1e-6,
              variant="additive", block=4, tied=True)
PRESETS = {"0.6b": QWEN3_06B, "100m": ATTNRES_100M, "demo": DEMO, "tiny": TINY}  # names of depthroute-bench-step's --model


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
    """Qwen3 with Block Attention Residuals; parameters have Hugging Face's names. `kernel`: None or a key of KERNELS."""

    def __init__(self, c, kernel=None):
        super().__init__()
        self.c, self.kernel = c, kernel
        self.fused = KERNELS[kernel][0]() if kernel else None
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
        if self.kernel == "fast":
            return rms_norm(self.fused(tuple(sources), (query * key_norm).to(sources[0].dtype), eps=eps), norm.weight, eps)
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
