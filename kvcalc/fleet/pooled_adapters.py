"""LoRA adapters in SGLang: a pool with slots for adapters, each with two matrices for each projection with adapters.

For rank r, hidden width H, Q heads and K heads of width D, and MLP width I, a layer has on one of tp ranks:

    qkv_proj      A: 3r x H    B: (Q D + 2 K D) / tp x r; ranks that copy a KV head have all of it
    o_proj        A: r x Q D / tp    B: H x r
    gate_up_proj  A: 2r x H    B: 2 I / tp x r
    down_proj     A: r x I / tp    B: H x r

and the model, twice if both have adapters:

    embed_tokens  whole on every rank, A: r x vocabulary    B: H x r
    lm_head       A: r x H    B: vocabulary / tp x r

Pipeline stages have the matrices of all layers. bytes = max_loras_per_batch x the sum x 2.
Source: SGLang, lora/mem_pool.py, lora/utils.py; its LoRAMemoryPool made the rows of `tests/data/sglang_lora.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.fleet.weights import Weights
from kvcalc.model import Model
from kvcalc.parallel import EVENLY, Parallel, Sharing
from kvcalc.units import plural

_TYPES = ("llama", "mistral", "qwen2", "qwen3", "granite", "phi3")
"""Model types whose pool was measured."""
_MODULES = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj"), "gate_up_proj"),
    **{name: name for name in ("o_proj", "down_proj", "embed_tokens", "lm_head")},
}
"""Names of --lora-target-modules, with the module that each is part of."""
_OF_TOKENS = {"embed_tokens", "lm_head"}
"""Modules of which each is made once for itself and, if both have adapters, once with the other."""
_ALL = "all"
_VOCABULARY_STEP = 64
"""Rows to which ranks pad the vocabulary."""
_ELEMENT_BYTES = 2


class PooledAdapters(NamedTuple):
    """Arguments of SGLang's server: slots, the highest rank of an adapter, and the projections that may have one."""

    max_loras_per_batch: int = 8
    max_lora_rank: int | None = None
    lora_target_modules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{plural(self.max_loras_per_batch, 'adapter')} of rank {self.max_lora_rank or 0:,}"

    def on_rank(self, weights: Weights, model: Model, ranks: Parallel, sharing: Sharing = EVENLY) -> int | None:
        """Bytes on a rank; None if unknown.

        That is without a rank or modules, which are then those of the adapters, for types not measured, for attention
        data parallelism, and for ranks that do not divide a projection.
        """
        del sharing
        modules = self._modules()
        shape = _Shape.of(weights, model) if model.model_type in _TYPES and ranks.dp == 1 else None
        if not self.max_lora_rank or not modules or shape is None or not shape.divides(ranks.tp):
            return None
        of_module, outer = shape.widths(ranks.tp), modules & _OF_TOKENS
        times = {module: len(outer) if module in outer else 1 for module in modules}
        widths = sum(of_module[module] * times[module] for module in modules)
        return self.max_loras_per_batch * self.max_lora_rank * widths * _ELEMENT_BYTES

    def _modules(self) -> set[str]:
        """The modules that hold the named projections; empty for one that is not known."""
        if self.lora_target_modules == (_ALL,):
            return set(_MODULES.values())
        named = [name.rpartition(".")[2] for name in self.lora_target_modules]
        return {_MODULES[name] for name in named} if all(name in _MODULES for name in named) else set()


class _Shape(NamedTuple):
    """Widths of a decoder whose layers are alike. heads, kv_heads: widths of all heads of Q, and their number of K."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def of(cls, weights: Weights, model: Model) -> _Shape | None:
        """Widths by the tensors of the weights; None if these are unknown, or layers differ."""
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for each in weights.tensors:
            shapes.setdefault(each.tensor.name.removesuffix(".weight").rpartition(".")[2], set()).add(each.tensor.shape)
        parts = {part for group in model.groups for part in group.parts}
        needed = [shapes.get(name, set()) for name in ("o_proj", "down_proj", "embed_tokens")]
        if any(len(found) != 1 for found in needed) or len(parts) != 1:
            return None
        (part,) = parts
        if not isinstance(part, GroupedQueryAttention):
            return None
        (hidden, heads), (_, inner), (vocabulary, _) = (next(iter(found)) for found in needed)
        return cls(model.num_layers, hidden, inner, heads, part.num_kv_heads, part.head_dim, vocabulary)

    def divides(self, tp: int) -> bool:
        """Whether ranks have equal parts of each projection."""
        copies = self.kv_heads < tp and tp % self.kv_heads == 0
        return not (self.heads % tp or self.inner % tp or (self.kv_heads % tp and not copies))

    def widths(self, tp: int) -> Mapping[str, int]:
        """Elements for each unit of the rank, of both matrices of a module in all layers."""
        qkv = self.heads // tp + 2 * max(1, self.kv_heads // tp) * self.head_dim
        padded = ceil(self.vocabulary / _VOCABULARY_STEP) * _VOCABULARY_STEP
        return {
            "qkv_proj": self.layers * (3 * self.hidden + qkv),
            "o_proj": self.layers * (self.heads // tp + self.hidden),
            "gate_up_proj": self.layers * (2 * self.hidden + 2 * self.inner // tp),
            "down_proj": self.layers * (self.inner // tp + self.hidden),
            "embed_tokens": self.vocabulary + self.hidden,
            "lm_head": self.hidden + min(self.vocabulary, ceil(padded / tp)),
        }
