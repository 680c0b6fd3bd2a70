"""What XLNet, XLM and Reformer hold beyond a plain cache: their generate() passes the model more than the tokens."""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.attention.hidden import HiddenStates
from kvcalc.cache.dtypes import FP32, Dtype
from kvcalc.cache.slots.engines import switched
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.slots.primitives import TOKENS, AtMost
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.transformers.history import Asked
from kvcalc.engines.transformers.quirks import Tensors
from kvcalc.model import LayerGroup

INT64 = Dtype("int64", 1, 8, "torch.int64")
EVERY_TOKEN_AND_MASK = SlotRule(TOKENS + 1, "every token and a mask token")
"""XLM appends the token whose place the next one takes."""


def own_cache(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """What the type holds instead of these tensors, those of its tokens."""
    own = _OWN.get(asked.model.model_type)
    return own(asked, group, tensors) if own else tensors


def _memory(asked: Asked, _: LayerGroup, tensors: Tensors) -> Tensors:
    """xlnet: generate() appends a token whose place the next one takes; a memory of mem_len is not a window."""
    if asked.is_forward_pass:
        return tuple(t._replace(slot_rule=SlotRule(t.slot_rule, str(t.slot_rule))) for t in tensors)  # no window
    return tuple(t._replace(slot_rule=_and_dummy(t.slot_rule)) for t in tensors)


def _and_dummy(rule: SlotRule) -> SlotRule:
    """T + 1 slots, or those of a memory that is already full."""
    held = TOKENS + 1 if rule.window is None else AtMost(TOKENS + 1, rule.window)
    return SlotRule(held, f"{rule} and a dummy")


def _cached_in_generate(asked: Asked, _: LayerGroup, tensors: Tensors) -> Tensors:
    """xlm: a forward pass makes no cache; generate() does since 5.24, and appends a mask token to its input."""
    if asked.is_forward_pass or not asked.release.xlm_caches:
        return ()
    return tuple(t._replace(slot_rule=EVERY_TOKEN_AND_MASK) for t in tensors)


def _buckets(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """reformer: LSH attention keeps the bucket of each token, head and hash next to the hidden states.

    A prompt longer than a chunk is hashed at once, into int64. After a shorter one there are no buckets until a whole
    chunk; then all are hashed again, and become float32 by being appended to an empty float32 tensor.
    """
    if not group.is_as_built:
        return tensors
    for part in group.parts:
        if isinstance(part, HiddenStates) and part.hash_chunk is not None:
            tensors = (*tensors, *_bucket_tensors(part, asked.prompt_tokens))
    return tensors


def _bucket_tensors(part: HiddenStates, prompt: int | None) -> tuple[CacheTensor, ...]:
    chunk, beyond = part.hash_chunk or 0, part.hash_beyond or part.hash_chunk or 0
    dims = (Dim("hash_heads", part.hash_heads or 1), Dim("num_hashes", part.num_hashes or 1))
    if prompt is None or prompt > beyond:
        rule = switched(once(0), beyond + 1, EVERY_TOKEN, f"every token, from {beyond + 1:,} on")
        return (CacheTensor("buckets", dims, rule, INT64, quantizable=False),)
    first = max(prompt + 1, chunk)
    rule = switched(once(0), first, EVERY_TOKEN, f"every token, from {first:,} on")
    return (CacheTensor("buckets", dims, rule, FP32, quantizable=False),)


_OWN: dict[str, Callable[[Asked, LayerGroup, Tensors], Tensors]] = {
    "xlnet": _memory,  # modeling_xlnet.py, prepare_inputs_for_generation
    "xlm": _cached_in_generate,  # modeling_xlm.py, prepare_inputs_for_generation
    "reformer": _buckets,  # modeling_reformer.py, LSHSelfAttention
}
