"""Widths of a model's activations, by fields of most configs, if its tensors are not counted."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.io.families._config import Config
from kvcalc.model.checkpoint import Widths

_DENSE = ("intermediate_size", "ffn_dim", "d_ff", "ffn_hidden_size", "n_inner", "feed_forward_size")
_PICKED = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k")
_EXPERT = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_dim")
_SHARED = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim")
_SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_STATES = ("mamba", "linear_attention", "linear_attn", "ssm_", "state_size", "conv_kernel", "rwkv", "lru_width")
_TOWERS = ("vision_config", "audio_config", "vision_tower", "vit_config", "visual", "sound_config", "image_config")


def widths_of(config: Config) -> Widths | None:
    """Widths by a config's fields; None if one of the three is missing."""
    hidden, vocab = _first(config, ("hidden_size",)), _first(config, ("vocab_size",))
    expert = _first(config, _EXPERT)
    routed = _first(config, _PICKED) * (expert or _first(config, _DENSE))
    shared = _first(config, _SHARED) or _first(config, _SHARED_EXPERTS) * expert
    widest = max(_first(config, _DENSE), routed + shared)
    if not (hidden and vocab and widest):
        return None
    has_towers = any(isinstance(config.top.values.get(name), Mapping) for name in _TOWERS)
    return Widths(hidden, widest, vocab, has_towers, any(word in name for name in config.values for word in _STATES))


def _first(config: Config, names: tuple[str, ...]) -> int:
    """The first of these fields that is a size; 0 without one."""
    values = (config.value(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), 0)
