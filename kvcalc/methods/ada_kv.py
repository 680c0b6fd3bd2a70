"""Ada-KV: SnapKV whose budget goes to the heads of a layer as their best tokens fall."""

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
        "window_size": "w, the prompt's last tokens, which choose the others",
        "floor_alpha": "share of b that every head is guaranteed",
        "pyramid": "true divides b over the layers as PyramidKV does; prompt_tokens then matters",
        "head_counts": "c_i of the h heads, for all layers or layer by layer; without it each has b",
        "compression_ratio": (
            "what kvpress masks of the prompt, which saves nothing: h * (n - max(1, int(n * (1 - ratio)))) entries of "
            "three int64 indices"
        ),
        "prompt_tokens": PROMPT_END,
        "gqa_support": QUERY_HEADS,
    },
    remarks=(
        (
            "With w = window_size, b = base_capacity - w and c_i of the layer's h * b best tokens in head i, which add "
            "up to it. A prompt with fewer than b tokens before the window stays whole."
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
"""How much less the top layer of the pyramid keeps, as the authors' code has it."""
_VECTORS, _ENDS = 7, 3
"""Vectors of metadata with a number for each head, and how many of them have one more at their end."""


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
    """`model` with the prompt cut as Ada-KV divides it over heads.

    Raises InvalidValueError for a window that is not smaller than the capacity or, by a ratio, than the prompt, for
    counts that are not the layer's budget, and where the pyramid or counts want a prompt_tokens.
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
    """What decides how many tokens the heads of a layer keep."""

    budget: Budget
    alpha: float
    pyramid: bool
    head_counts: tuple[int, ...]
    prompt: int | None

    def shares(self, layer: int, heads: int) -> Shares:
        """Heads that keep as many tokens, together, in the order of the first of each."""
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
        """Tokens of a head in the mean beside the window."""
        if not self.pyramid or self.prompt is None:
            return self.budget.mean
        return self.budget.kept(layer).slots(self.prompt) - self.budget.window_size

    def _limit(self, base: int, count: int) -> int:
        """Rounded as the authors' code does, in floats and half to even."""
        return round(count * (1 - self.alpha) + int(base * self.alpha)) + self.budget.window_size

    def _counts(self, layer: int, heads: int, base: int) -> Sequence[int]:
        """How many of the layer's best tokens fell to each head."""
        if not self.head_counts or self.prompt is None:
            return [base] * heads
        given = self.head_counts
        if len(given) not in (heads, heads * self.budget.num_layers):
            raise InvalidValueError(
                f"head_counts has {len(given)} numbers, but a layer has {heads} heads",
                field="head_counts",
                help=f"give {heads} numbers, or {heads} for each of the {self.budget.num_layers} layers",
            )
        counts = given if len(given) == heads else given[layer * heads : (layer + 1) * heads]
        most = max(0, self.prompt - self.budget.window_size)
        wanted = heads * min(base, most)
        if sum(counts) != wanted or max(counts) > most:
            raise InvalidValueError(
                f"head_counts of layer {layer} are {sum(counts):,} tokens with {max(counts):,} in one head, and its "
                f"budget is {wanted:,} with at most {most:,} in one",
                field="head_counts",
                help=f"an even split has {wanted // heads:,} in each",
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
    """head_lens, cu_headlens, cu_klen, layer_qlens, cu_qlen, cu_offset and cu_head_offset; three have an end, too."""
    heads = Dim("num_kv_heads" if gqa_support else "num_query_heads", _heads(attention, gqa_support=gqa_support))
    return (
        CacheTensor("metadata", (Dim("vectors", _VECTORS), heads), once(), INT32, quantizable=False),
        CacheTensor("metadata_ends", (Dim("vectors", _ENDS),), once(), INT32, quantizable=False),
    )
