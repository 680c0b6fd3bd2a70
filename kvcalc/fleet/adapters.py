"""LoRA adapters: the buffers that a server allocates for them next to the weights, whether or not one is loaded.

A slot has two matrices for each projection of the checkpoint: A (rank x in) and B (out x rank); in some classes also
for embeddings and logits. Each expert has its own, and where a class keeps gate and up apart, an A for both. bytes =
max_loras x max_lora_rank x sum over projections and layers of (in + out) x 2. Ranks that split a projection's output
hold all of A and their part of B; those that split its input hold their part of A and all of B. Routers are whole on
every rank.
Source: vLLM lora/layers/, create_lora_weights; for the models of `tests/data/lora.jsonl` the CPU build of 0.32.0
allocated these bytes, and 0.33.0's own classes make these on ranks.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.fleet.weights import EXPERTS, Stored, Weights, fewest_kv_heads, on_stages, share_of_rank
from kvcalc.model import Model
from kvcalc.model.checkpoint import WeightTensor
from kvcalc.parallel import EVENLY, Parallel, Sharing, stages_of
from kvcalc.units import plural

_PROJECTIONS, _OF_TOKENS = ("attention", "mlp"), ("embedding", "head")
_OF_EXPERTS = (EXPERTS, "router", "shared experts")
_KNOWN = {*_PROJECTIONS, *_OF_TOKENS, *_OF_EXPERTS, "norm", "mtp"}
"""Parts of a decoder. With any other its buffers are not known; layers of multi-token prediction have none."""
_WITH_EMBEDDING = (*_PROJECTIONS, "embedding")
_OF_TYPES = {
    **dict.fromkeys(("llama", "qwen3", "phi3", "granite", "ernie4_5", "exaone4"), (*_PROJECTIONS, *_OF_TOKENS)),
    **dict.fromkeys(("qwen2", "mistral", "gemma", "gemma2", "gemma3_text"), _PROJECTIONS),
    **dict.fromkeys(("cohere", "cohere2", "olmo2", "olmo3", "phi", "seed_oss", "starcoder2"), _WITH_EMBEDDING),
    **dict.fromkeys(("mixtral", "qwen3_moe"), (*_PROJECTIONS, *_OF_TOKENS, *_OF_EXPERTS)),
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "minimax_m2", "qwen2_moe"),
        (*_PROJECTIONS, *_OF_EXPERTS),
    ),
}
"""Parts with adapters, for each measured model type."""
_JOINS_GATE_AND_UP = {"gpt_oss"}
"""Types whose experts have one A for gate and up, and whose checkpoint stores matrices as in x out."""
_SPLIT_ON_INPUT = ("o_proj", "down_proj", "c_proj", "self_attn.dense", "mlp.fc2")
_GATE_AND_UP, _ALL_HEADS = "gate_up_proj", "qkv_proj"
_MATRIX, _OF_EACH_EXPERT = 2, 3
"""Dimensions of one, and of one for each expert."""
_ELEMENT_BYTES = 2
"""In the model's dtype, as `--lora-dtype auto` is."""


class Adapters(NamedTuple):
    """Slots for adapters, and the highest rank of one: --max-loras and --max-lora-rank, with vLLM's own defaults."""

    max_loras: int = 1
    max_lora_rank: int = 16

    def __str__(self) -> str:
        return f"{plural(self.max_loras, 'adapter')} of rank {self.max_lora_rank:,}"

    def on_rank(self, weights: Weights, model: Model, ranks: Parallel, sharing: Sharing = EVENLY) -> int | None:
        """Bytes on a rank of the largest stage; None if its buffers are unknown.

        That is where the tensors are not, for models with states or towers, for types not measured, and where ranks
        copy the KV heads of a projection that has all heads.
        """
        parts = _OF_TYPES.get(model.model_type)
        if parts is None or not weights.tensors or any(each.tensor.part not in _KNOWN for each in weights.tensors):
            return None
        try:
            stages = stages_of(model, ranks.pp, sharing)
        except InvalidValueError:  # the engine reports this, or has its own stages
            return None
        held, kv_heads = [0] * ranks.pp, fewest_kv_heads(model)
        if kv_heads and ranks.tp > kv_heads and any(_ALL_HEADS in each.tensor.name for each in weights.tensors):
            return None
        joins = model.model_type in _JOINS_GATE_AND_UP
        for each in weights.tensors:
            widths = _widths(each.tensor, kv_heads, ranks, joins=joins) if each.tensor.part in parts else 0
            counted = Stored(each.tensor, (widths,) * max(1, len(each.tensor.layers)))
            for stage, own in on_stages(counted, stages):
                held[stage] += own
        held[-1] += _tied_logits(weights) if "head" in parts else 0
        return max(held) * self.max_loras * self.max_lora_rank * _ELEMENT_BYTES


def _widths(tensor: WeightTensor, kv_heads: int | None, ranks: Parallel, *, joins: bool) -> int:
    """Summed width of both matrices of a projection on a rank; 0 for parts without adapters."""
    if tensor.part == EXPERTS:
        return _widths_of_experts(tensor, ranks, joins=joins) if len(tensor.shape) == _OF_EACH_EXPERT else 0
    if len(tensor.shape) != _MATRIX or tensor.shares:
        return 0
    out, into = tensor.shape
    if tensor.part in _OF_TOKENS:
        return out + into
    share = share_of_rank(tensor, kv_heads, ranks)
    if any(name in tensor.name for name in _SPLIT_ON_INPUT):
        return out + ceil(into * share)
    return ceil(out * share) + into


def _widths_of_experts(tensor: WeightTensor, ranks: Parallel, *, joins: bool) -> int:
    """The same of all experts of a rank, whose matrices are stored together, gate and up as one.

    Ranks share the experts among them (ep), or each expert.
    """
    number, *sides = tensor.shape
    out, into = reversed(sides) if joins else sides
    number, tp = (ceil(number / ranks.ep), 1) if ranks.ep > 1 else (number, ranks.tp)
    if _GATE_AND_UP not in tensor.name:
        return number * (out + ceil(into / tp))
    return number * (ceil(out / tp) + (into if joins else 2 * into))


def _tied_logits(weights: Weights) -> int:
    """The same for logits tied to the embeddings, which have their own adapter."""
    tied = (each.tensor for each in weights.tensors if each.tensor.part == "head" and each.tensor.shares)
    return next((sum(tensor.shape) for tensor in tied), 0)
