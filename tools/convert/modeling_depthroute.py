"""A model trained by depthroute, in transformers: AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True).

One file that needs torch and transformers (4.51 to 5) and nothing else; `depthroute-convert export` puts it beside the weights.
Every variant of the residual stream is computed from one table, as in depthroute: which states a sublayer reads and where the state
restarts. State 0 is the token embedding; state s + 1 is the output of sublayer s, added to state s unless the state restarts there.
A read of the states V_0 ... V_{n-1} (the last one is the current state) is

    logit_j = <query, RMSNorm(V_j)> + (bias if j is the last),    h = sum_j softmax(logit)_j V_j,

in float32 whatever the model's dtype.
"""

from dataclasses import fields
from typing import Optional, Union

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

VARIANTS = ("additive", "cumulative", "reset", "kimi")

# What transformers calls the cache of keys and values: `cache` in later versions of 5.
CACHE = "cache" if "cache" in {f.name for f in fields(CausalLMOutputWithPast)} else "past_key_values"


def refuse_unknown(arguments):
    """An argument that is silently left aside (a cache by another name) would give other numbers."""
    for name, value in arguments.items():
        if name != "cache_position" and value is not None and value is not False:
            raise TypeError(f"{name}: this model does not take it")



class DepthrouteConfig(PretrainedConfig):
    model_type = "depthroute"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        vocab_size=151936,
        hidden_size=1024,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        max_position_embeddings=32768,
        initializer_range=0.02,
        use_cache=True,
        tie_word_embeddings=False,  # unlike PretrainedConfig, or transformers 4 would not save true
        attnres_variant="additive",
        attnres_sublayers_per_block=None,
        attnres_recency_bias_init=0.0,
        attnres_qk_norm=True,
        **kwargs,
    ):
        if attnres_variant not in VARIANTS:
            raise ValueError(f"attnres_variant is {attnres_variant!r}; this file computes {', '.join(VARIANTS)}")
        if attnres_variant != "additive" and not attnres_sublayers_per_block:
            raise ValueError("attnres_sublayers_per_block is missing: it says where blocks end")
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.intermediate_size = intermediate_size
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        self.attnres_variant = attnres_variant
        self.attnres_sublayers_per_block = attnres_sublayers_per_block
        self.attnres_recency_bias_init = attnres_recency_bias_init
        self.attnres_qk_norm = attnres_qk_norm
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)


def sources_of(variant, sublayer, block):
    """The states that a sublayer reads, the current one last."""
    if variant == "additive" or (variant == "kimi" and sublayer == 0):
        return [sublayer]
    # `cumulative` takes a finished block before the boundary's own read, so that this state appears twice there.
    last_finished = sublayer if variant == "cumulative" else sublayer - 1
    return [0, *range(block, last_finished + 1, block), sublayer]


def restarts(variant, sublayer, block):
    if variant in ("additive", "cumulative"):
        return False
    return variant == "kimi" if sublayer == 0 else sublayer % block == 0


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def read_states(sources, proj, norm, bias):
    score = proj.weight.float().view(-1) * norm.weight.float()
    wide = [source.float() for source in sources]
    logits = []
    for value in wide:
        logits.append((value * score).sum(-1) * torch.rsqrt(value.pow(2).mean(-1) + norm.eps))
    logits[-1] = logits[-1] + bias.float()
    weights = torch.stack(logits).softmax(0)
    read = sum(weight.unsqueeze(-1) * value for weight, value in zip(weights, wide))
    return read.to(sources[-1].dtype)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        hidden = config.hidden_size
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=False)
        self.qk_norm = config.attnres_qk_norm
        if self.qk_norm:
            self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(self, x, rotation, padding, past, cache):
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q.transpose(1, 2), *rotation), rotate(k.transpose(1, 2), *rotation)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        mask = attention_mask_of(length, k.shape[2], past, padding, x.device)
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


def attention_mask_of(length, keys, past, padding, device):
    """True where query i (position past + i of the cache) sees key j. A padded query sees itself, to stay finite."""
    at = past + torch.arange(length, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    mask = (key <= at)[None, None]
    if padding is None:
        return mask
    seen = F.pad(padding.bool(), (0, max(0, keys - padding.shape[1])))[:, None, None, :keys]
    return (mask & seen) | (key == at)[None, None]


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DepthrouteLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(hidden, eps)
        self.post_attention_layernorm = RMSNorm(hidden, eps)
        if config.attnres_variant != "additive":
            for name in ("attn_res", "mlp_res"):
                add_read(self, name, config)


def add_read(module, name, config):
    proj = nn.Linear(config.hidden_size, 1, bias=False)
    proj.starts_at_zero = True
    setattr(module, name + "_proj", proj)
    setattr(module, name + "_norm", RMSNorm(config.hidden_size, config.rms_norm_eps))
    setattr(module, name + "_bias", nn.Parameter(torch.tensor(float(config.attnres_recency_bias_init))))


class DepthroutePreTrainedModel(PreTrainedModel):
    config_class = DepthrouteConfig
    base_model_prefix = "model"
    _no_split_modules = ["DepthrouteLayer"]
    _supports_sdpa = True
    _supports_cache_class = True

    def _init_weights(self, module):
        """Fresh weights; leaves alone what a checkpoint has filled."""

        def fill(parameter, function, *values):
            if parameter is not None and not getattr(parameter, "_is_hf_initialized", False):
                function(parameter, *values)

        if isinstance(module, (nn.Linear, nn.Embedding)):
            deviation = 0.0 if getattr(module, "starts_at_zero", False) else self.config.initializer_range
            fill(module.weight, nn.init.normal_, 0.0, deviation)
        elif isinstance(module, RMSNorm):
            fill(module.weight, nn.init.ones_)
        elif isinstance(module, (DepthrouteLayer, DepthrouteModel)):
            for name in ("attn_res_bias", "mlp_res_bias", "final_res_bias"):
                fill(getattr(module, name, None), nn.init.constant_, self.config.attnres_recency_bias_init)


class DepthrouteModel(DepthroutePreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([DepthrouteLayer(config, i) for i in range(config.num_hidden_layers)])
        if config.attnres_variant in ("reset", "kimi"):
            add_read(self, "final_res", config)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    def read(self, states, sublayer, module, name):
        sources = [states[s] for s in sources_of(self.config.attnres_variant, sublayer, self.block())]
        if self.config.attnres_variant == "additive":
            return sources[-1]
        parts = (getattr(module, f"{name}_{part}") for part in ("proj", "norm", "bias"))
        return read_states(sources, *parts)

    def block(self):
        return self.config.attnres_sublayers_per_block or 2 * self.config.num_hidden_layers

    def rotation(self, positions, like):
        half = torch.arange(0, self.config.head_dim, 2, device=like.device, dtype=torch.float32)
        angles = positions.float()[..., None] / self.config.rope_theta ** (half / self.config.head_dim)
        angles = torch.cat((angles, angles), -1)[:, None]  # [batch, 1, length, head_dim]
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def forward(
        self,
        input_ids: Optional[torch.LongTensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
        position_ids: Optional[torch.LongTensor] = None,
        past_key_values: Optional[Cache] = None,
        inputs_embeds: Optional[torch.Tensor] = None,
        use_cache: Optional[bool] = None,
        cache: Optional[Cache] = None,
        **kwargs,
    ):
        refuse_unknown(kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if attention_mask is not None and attention_mask.dim() != 2:
            raise ValueError("attention_mask must be [batch, tokens]: 0 for padding")
        state = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache()
        past = cache.get_seq_length() if cache is not None else 0
        length = state.shape[1]
        if position_ids is None:
            position_ids = past + torch.arange(length, device=state.device)[None]
            if attention_mask is not None:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
        rotation = self.rotation(position_ids, state)

        states, variant, block = [state], self.config.attnres_variant, self.block()
        for i, layer in enumerate(self.layers):
            for sublayer, name in ((2 * i, "attn_res"), (2 * i + 1, "mlp_res")):
                h = self.read(states, sublayer, layer, name)
                if name == "attn_res":
                    out = layer.self_attn(layer.input_layernorm(h), rotation, attention_mask, past, cache)
                else:
                    out = layer.mlp(layer.post_attention_layernorm(h))
                states.append(out if restarts(variant, sublayer, block) else states[-1] + out)
        h = states[-1]
        if variant in ("reset", "kimi"):
            h = self.read(states, 2 * len(self.layers), self, "final_res")
        return BaseModelOutputWithPast(last_hidden_state=self.norm(h), **{CACHE: cache if use_cache else None})


class DepthrouteForCausalLM(DepthroutePreTrainedModel, GenerationMixin):
    # transformers 5 wants to know which parameter is the other one; 4 wants a list.
    _tied_weights_keys = (
        {"lm_head.weight": "model.embed_tokens.weight"}
        if int(transformers.__version__.split(".")[0]) >= 5
        else ["lm_head.weight"]
    )

    def __init__(self, config):
        super().__init__(config)
        self.model = DepthrouteModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def tie_weights(self, *args, **kwargs):
        """transformers 5.3 leaves a tied head of code outside its tree on the meta device."""
        super().tie_weights(*args, **kwargs)
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def forward(
        self,
        input_ids: Optional[torch.LongTensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
        position_ids: Optional[torch.LongTensor] = None,
        past_key_values: Optional[Cache] = None,
        inputs_embeds: Optional[torch.Tensor] = None,
        labels: Optional[torch.LongTensor] = None,
        use_cache: Optional[bool] = None,
        logits_to_keep: Union[int, torch.Tensor] = 0,
        return_dict: Optional[bool] = None,
        cache: Optional[Cache] = None,
        **kwargs,
    ):
        if labels is None:
            refuse_unknown(kwargs)
        cache = past_key_values if cache is None else cache
        out = self.model(input_ids, attention_mask, position_ids, None, inputs_embeds, use_cache, cache)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        result = CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: out[CACHE] if CACHE in out else None})
        return result.to_tuple() if return_dict is False else result
