"""Laws of what engines store, for the tests of each."""

from __future__ import annotations

import kvcalc
from kvcalc.cache.dtypes import BF16
from kvcalc.engines import Engine

NEEDS_ENCODER = ("llama-3.2-11b-vision", "llama-3.2-90b-vision", "bart-large", "t5-large")
"""Presets whose cross-attention asks how long an encoder's sequence is."""


def layer_bytes(tensors, t: int) -> int:
    """Bytes of one layer and sequence."""
    return sum(tensor.bytes_per_slot(BF16) * tensor.slot_rule.slots(t) for tensor in tensors)


def takes_no_less(model: kvcalc.Model, t: int, engine: str, but: tuple[str, ...] = ()) -> bool:
    """Whether the engine stores the model at all; if so, in no fewer bytes than the model needs.

    but: words in the labels of layers that it stores in fewer, such as index keys in fp8.
    """
    try:
        stored = Engine.of(engine).serving(1).allocate(model, BF16)
    except kvcalc.KvcalcError:
        return False
    own = Engine.of("ideal").allocate(model, BF16)
    for group, tensors, needed in zip(model.groups, stored, own, strict=True):
        taken = layer_bytes(tensors, t)
        if not any(word in group.label for word in but):
            assert taken >= layer_bytes(needed, t), (model.name, engine, group.name)
        assert taken <= layer_bytes(tensors, t + 1)
    return True
