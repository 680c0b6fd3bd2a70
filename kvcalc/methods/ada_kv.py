"""Ada-KV: SnapKV with the budget divided among a layer's heads by where the best tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._indices import INT32
from kvcalc.methods._masked import masked, masked_indices
from kvcalc.methods._pyramid import Budget
from kvcalc.methods._selection import (
    Share,
    Shares,
    cut_to,
    known_prompt,
    ratio_cut,
    scored_prompt,
    selected,
    window_below,
)
from kvcalc.methods._traits import KEPT, LAYER_BY_LAYER, PROMPT_END, QUERY_HEADS, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import shown

TRAITS = Traits(
    SELECTION,
    "SnapKV with more tokens in heads that attend widely",
    source="Feng et al. 2024, arXiv 2407.11550; FFY0/AdaKV",
    formula=(
        "Tokens kept of a prompt by head i: round(c_i * (1 - floor_alpha) + int(b * floor_alpha)) + w; then every "
        "token."
    ),
    parameters={
        "base_capacity": "tokens of a head on average, the window included",
        "window_size": "w, the prompt's last tokens, which select the others",
        "floor_alpha": "share of b guaranteed to every head",
        "pyramid": "true divides b over the layers as in PyramidKV; prompt_tokens then matters",
        "head_counts": "c_i of the h heads, for all layers or per layer; default: b each",
        "compression_ratio": (
            "share that kvpress masks of the prompt, which saves no memory: h * (n - max(1, int(n * (1 - ratio)))) "
            "entries of three int64 indices"
        ),
        "prompt_tokens": PROMPT_END,
        "gqa_support": QUERY_HEADS,
    },
    remarks=(
        (
            "With w = window_size, b = base_capacity - w and c_i the number of the layer's h * b best tokens in head "
            "i. A prompt with fewer than b tokens before the window stays complete."
        ),
        "State: 7 int32 vectors, 7 h + 3 numbers.",
        "Defaults are those of the authors' script.",
        LAYER_BY_LAYER,
    ),
    per_head_paging=True,
    caveat="how the heads divide a layer's budget depends on the prompt; head_counts sets it. The authors' code can "
    "store every query head (gqa_support=false), and each step copies a layer; kvpress only masks: "
    "compression_ratio",
    step_copy=KEPT,
)
_BETA = 20
"""How much less the top layer of the pyramid keeps, as in the authors' code."""
_VECTORS, _ENDS = 7, 3
"""Number of metadata vectors with one entry per head, and of those with an additional one."""


def apply(  # each is a parameter of the authors' code or of kvpress
    model: Model,
    base_capacity: int = 1024,
    window_size: int = 32,
    floor_alpha: float | Fraction = 0.2,
    pyramid: bool = False,
    head_counts: Sequence[int] = (),
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
    gqa_support: bool = True,
) -> Model:
    """`model` with the prompt cut per head as in Ada-KV.

    Raises InvalidValueError for a window that is not smaller than the capacity or, by a ratio, than the prompt, for
    counts that do not match the layer's budget, and if the pyramid or counts need prompt_tokens.
    """
    alpha = _alpha(floor_alpha)
    if compression_ratio is not None:
        prompt = scored_prompt(prompt_tokens, window_size)
        masked_tokens = prompt - ratio_cut(compression_ratio, prompt).slots(prompt)
        gone = once(masked_tokens, prompt, f"{masked_tokens:,} masked")
        return masked(model, "Ada-KV", state=lambda a, _: (masked_indices(a.num_kv_heads, gone),))
    window_below(window_size, base_capacity, "base_capacity")
    budget = Budget(model.num_layers, base_capacity, window_size, _BETA)
    if pyramid or head_counts:
        known_prompt(prompt_tokens, "pyramid and head_counts depend on the prompt")
    layers = _Layers(budget, alpha, pyramid, tuple(head_counts), prompt_tokens)
    return selected(
        model,
        "Ada-KV",
        lambda layer, attention: layers.shares(layer, _heads(attention, gqa_support=gqa_support)),
        state=lambda attention, _: _metadata(attention, gqa_support=gqa_support),
        gqa_support=gqa_support,
        prompt_cut=PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=window_size),
    )


class _Layers(NamedTuple):
    """The number of tokens that the heads of a layer keep."""

    budget: Budget
    alpha: float
    pyramid: bool
    head_counts: tuple[int, ...]
    prompt: int | None

    def shares(self, layer: int, heads: int) -> Shares:
        """Heads grouped by the number of tokens they keep, in order of first occurrence."""
        base = self._base(layer)
        counts = self._counts(layer, heads, base)
        if self.prompt is not None and base > self.prompt - self.budget.window_size:
            return (Share(EVERY_TOKEN),)  # too short to be cut
        limits = [self._limit(base, count) for count in counts]
        return tuple(
            Share(
                cut_to(limit, self.prompt),
                limits.count(limit),
                f"_{limit}" if len(set(limits)) > 1 else "",
            )
            for limit in dict.fromkeys(limits)
        )

    def _base(self, layer: int) -> int:
        """Mean tokens of a head, without the window."""
        if not self.pyramid or self.prompt is None:
            return self.budget.mean
        return self.budget.kept(layer).slots(self.prompt) - self.budget.window_size

    def _limit(self, base: int, count: int) -> int:
        """Rounded as in the authors' code, in floats and half to even."""
        return round(count * (1 - self.alpha) + int(base * self.alpha)) + self.budget.window_size

    def _counts(self, layer: int, heads: int, base: int) -> Sequence[int]:
        """Number of the layer's best tokens per head."""
        if not self.head_counts or self.prompt is None:
            return [base] * heads
        given = self.head_counts
        if len(given) not in (heads, heads * self.budget.num_layers):
            raise InvalidValueError(
                f"head_counts has {len(given)} numbers, but a layer has {heads} heads",
                field="head_counts",
                help=f"give {heads} numbers, or {heads} per layer for {self.budget.num_layers} layers",
            )
        counts = given if len(given) == heads else given[layer * heads : (layer + 1) * heads]
        most = max(0, self.prompt - self.budget.window_size)
        wanted = heads * min(base, most)
        if sum(counts) != wanted or max(counts) > most:
            raise InvalidValueError(
                f"head_counts of layer {layer} have {sum(counts):,} tokens with {max(counts):,} in one head, but its "
                f"budget is {wanted:,} with at most {most:,} in one",
                field="head_counts",
                help=f"an even split has {wanted // heads:,} per head",
            )
        return counts


def _alpha(value: float | Fraction) -> float:
    alpha = float(value)
    if 0 <= alpha <= 1:
        return alpha
    raise InvalidValueError(
        f"floor_alpha must be at least 0 and at most 1, not {shown(alpha)}", field="floor_alpha", help="write 0.2"
    )


def _heads(attention: GroupedQueryAttention, *, gqa_support: bool) -> int:
    return attention.num_kv_heads if gqa_support else attention.num_query_heads


def _metadata(attention: GroupedQueryAttention, *, gqa_support: bool) -> tuple[CacheTensor, ...]:
    """head_lens, cu_headlens, cu_klen, layer_qlens, cu_qlen, cu_offset and cu_head_offset; three also have an end."""
    heads = Dim("num_kv_heads" if gqa_support else "num_query_heads", _heads(attention, gqa_support=gqa_support))
    return (
        CacheTensor("metadata", (Dim("vectors", _VECTORS), heads), once(), INT32, quantizable=False),
        CacheTensor("metadata_ends", (Dim("vectors", _ENDS),), once(), INT32, quantizable=False),
    )
