"""What one rank of SGLang stores: bytes of a slot of each pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import BF16
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.pools import STATES
from kvcalc.engines.sglang.tensors import (
    DRAFTED,
    TAIL_K,
    TAIL_SCORE,
    encoder_rows,
    has_sparse_latent,
    is_sliding,
    reads_sliding,
    window_of,
)
from kvcalc.engines.sglang.types import INKLING, SELF_DRAFTING, UNCOUNTED_DRAFTS, is_of
from kvcalc.model import LayerGroup, Model

FULL, SLIDING, TAILS = "full", "sliding", "tails"
DRAFT, DRAFT_SLIDING, DRAFT_STATES = "draft", "draft sliding", "draft states"
_INDEX = "index_k"
_UNCOUNTED = "ngram_conv_state"
"""A state that slots have in addition to their counted bytes (ple_state_pool.py)."""


class Stage(NamedTuple):
    """Bytes of a rank. bytes_of: of one slot of each pool, all layers, by tensor. layers: how many share each.

    window: earlier tokens that a query of a sliding layer sees. charged: what a token of the full and of the sliding
    pool counts in addition to its bytes, for draft layers. largest_state_bytes: of a slot of the Mamba pool, on the
    stage with most layers that have one.
    """

    bytes_of: dict[str, dict[str, int]]
    layers: dict[str, int]
    window: int
    charged: dict[str, int]
    largest_state_bytes: int
    is_inkling: bool

    def slot_bytes(self, pool: str) -> int:
        """Bytes of one slot of a pool, or none."""
        return sum(self.bytes_of.get(pool, {}).values())

    def token_bytes(self, pool: str) -> int:
        """What a token of a pool counts when memory is divided, including draft layers."""
        own = self.slot_bytes(pool)
        return own + self.charged.get(pool, 0) if own else 0


Stored = Sequence[tuple[LayerGroup, tuple[CacheTensor, ...]]]
"""Groups of a stage with the tensors of one of their layers."""


def stages_of(model: Model, parts: Sequence[Stored], *, own_windows: bool, exact_drafts: bool = False) -> list[Stage]:
    """Each pipeline stage, with the size that a slot of the Mamba pool counts on all of them.

    exact_drafts: whether a token is charged what another checkpoint that drafts stores of it.
    """
    found = [_stage(model, stored, own_windows=own_windows, exact_drafts=exact_drafts) for stored in parts]
    layers = [stage.layers.get(STATES, 0) for stage in found]
    whole = sum(stage.slot_bytes(STATES) - stage.bytes_of.get(STATES, {}).get(_UNCOUNTED, 0) for stage in found)
    most = int(whole * (max(layers) / max(sum(layers), 1)))
    return [stage._replace(largest_state_bytes=most) for stage in found]


def _stage(model: Model, stored: Stored, *, own_windows: bool, exact_drafts: bool) -> Stage:
    bytes_of: dict[str, dict[str, int]] = {}
    layers: dict[str, int] = {}
    for group, tensors in stored:
        apart = group.drafts and model.drafter is not None
        for pool, own in _by_pool(group, tensors, own_windows=own_windows and not apart):
            held = bytes_of.setdefault(pool, {})
            layers[pool] = layers.get(pool, 0) + len(group.layers)
            for tensor in own:
                held[tensor.name] = held.get(tensor.name, 0) + len(group.layers) * tensor.bytes_per_slot(BF16)
    _add_encoder(model, bytes_of, layers)
    heads = [group for group, _ in stored if model.drafter is None or not group.drafts]
    attending = [part for group in heads for part in group.parts if isinstance(part, GroupedQueryAttention)]
    windows = [window_of(part) or 0 for part in attending]
    stage = Stage(bytes_of, layers, max(windows, default=0), {}, 0, is_of(model, INKLING))
    index_bytes = [each.bytes_per_slot(BF16) for _, tensors in stored for each in tensors if each.name == _INDEX]
    charged = _charged_exactly(stage) if exact_drafts else _charged(model, stage, max(index_bytes, default=0))
    return stage._replace(charged=dict(charged))


def _by_pool(
    group: LayerGroup, tensors: Iterable[CacheTensor], *, own_windows: bool
) -> list[tuple[str, list[CacheTensor]]]:
    """Pools of a group's tensors."""
    slides = own_windows and (is_sliding(group) or reads_sliding(group))
    tokens = SLIDING if slides else FULL
    if group.drafts:
        tokens = DRAFT_SLIDING if slides else DRAFT
    split: dict[str, list[CacheTensor]] = {tokens: [], STATES: [], DRAFT_STATES: [], TAILS: []}
    for tensor in tensors:
        of_request = DRAFT_STATES if tensor.name.startswith(DRAFTED) else STATES
        of_request = TAILS if tensor.name in (TAIL_K, TAIL_SCORE) else of_request
        split[tokens if tensor.slot_rule.constant is None else of_request].append(tensor)
    return [(pool, own) for pool, own in split.items() if own]


def _add_encoder(model: Model, bytes_of: dict[str, dict[str, int]], layers: dict[str, int]) -> None:
    """Rows of an encoder's layers, next to the decoder's, though nothing is written to them."""
    rows = encoder_rows(model)
    if not rows:
        return
    decoder = layers[FULL]
    bytes_of[FULL] = {name: held + held // decoder * rows // 2 for name, held in bytes_of[FULL].items()}
    layers[FULL] = 2 * decoder + rows


def _charged(model: Model, stage: Stage, index_bytes: int) -> Iterator[tuple[str, int]]:
    """What tokens count for the draft layers that SGLang knows of, each as an average layer of its pool.

    index_bytes: of the key of an indexer, which each draft layer has with a sparse latent.
    """
    drafts = counted_drafts(model)
    like_model = model.drafter is None  # whose first layers slide
    pool = SLIDING if SLIDING in stage.layers and (like_model or FULL not in stage.layers) else FULL
    if not drafts or pool not in stage.layers:
        return
    whole, layers = stage.bytes_of[pool], stage.layers[pool]
    keys = drafts * index_bytes if has_sparse_latent(model) else 0
    yield pool, int((sum(whole.values()) - (keys and whole.get(_INDEX, 0))) * drafts / layers) + keys


def _charged_exactly(stage: Stage) -> Iterator[tuple[str, int]]:
    """What tokens count for a draft whose own bytes SGLang adds."""
    yield FULL if FULL in stage.layers else SLIDING, stage.slot_bytes(DRAFT)


def counted_drafts(model: Model) -> int:
    """Draft layers for which memory is reserved."""
    drafts = sum(len(group.layers) for group in model.groups if group.drafts)
    if model.drafter is not None:
        return drafts
    if not drafts or is_of(model, UNCOUNTED_DRAFTS):
        return 0
    return 1 if is_of(model, SELF_DRAFTING) else drafts
