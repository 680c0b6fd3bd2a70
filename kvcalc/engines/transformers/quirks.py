"""What transformers does for one model type and no other, each with the file that shows it.

A quirk takes a model, one of its groups and its tensors, and returns the tensors that transformers holds instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvcalc.cache.dtypes import FP32
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.model import LayerGroup, Model

Tensors = tuple[CacheTensor, ...]
Quirk = Callable[[Model, LayerGroup, Tensors], Tensors]


def broadcast_heads(_: Model, group: LayerGroup, tensors: Tensors) -> Tensors:
    """falcon: the new decoder architecture repeats its KV heads for all query heads before it caches them."""
    facts = group.facts
    if facts.get("num_kv_heads", 1) == 1:  # multi_query, of the old architecture; or another kind of attention
        return tensors
    return tuple(t._replace(dims=(Dim("num_query_heads", facts["num_query_heads"]), *t.dims[1:])) for t in tensors)


def before_sharing(model: Model) -> Model:
    """Falcon with as many KV heads as query heads, as it caches them: ranks share the repeated ones.

    A single KV head is not changed, so a rank's own cannot be distinguished from it: cut ranks from this model.
    """
    return replace(model, groups=tuple(_repeated(group) for group in model.groups))


def _repeated(group: LayerGroup) -> LayerGroup:
    if group.facts.get("num_kv_heads", 1) == 1:
        return group
    own, query = (Dim("num_kv_heads", group.facts[name]) for name in ("num_kv_heads", "num_query_heads"))
    dims = {own: query}
    parts = tuple(replace(part, num_kv_heads=query.size) for part in group.parts)
    tensors = tuple(t._replace(dims=tuple(dims.get(dim, dim) for dim in t.dims)) for t in group.tensors)
    return replace(group, parts=parts, tensors=tensors)


def no_window(_: Model, __: LayerGroup, tensors: Tensors) -> Tensors:
    """gpt_neo: local layers mask what is out of their window, and keep it."""
    return tuple(t if t.slot_rule.window is None else t._replace(slot_rule=EVERY_TOKEN) for t in tensors)


def nothing(_: Model, __: LayerGroup, ___: Tensors) -> Tensors:
    """openai-gpt: no cache is returned, each token reads the whole sequence again."""
    return ()


def states_in_model_dtype(_: Model, __: LayerGroup, tensors: Tensors) -> Tensors:
    """minimax, xlstm: recurrent states are in the model's dtype; all others are in float32."""
    return tuple(t._replace(dtype=None) if t.dtype == FP32 else t for t in tensors)


def conv_in_float32(_: Model, __: LayerGroup, tensors: Tensors) -> Tensors:
    """inkling: convolution states are in float32; all others are in the model's dtype."""
    return tuple(t._replace(dtype=FP32) if t.name.startswith("conv_state") else t for t in tensors)


def separate_k_and_v(_: Model, __: LayerGroup, tensors: Tensors) -> Tensors:
    """deepseek_v4: a layer with only its window stores the shared K and V twice."""
    if len(tensors) > 1:  # compressed layers store them once
        return tensors
    return tuple(t._replace(name=name) for t in tensors for name in ("k", "v"))


def twice_the_full_heads(model: Model, group: LayerGroup, tensors: Tensors) -> Tensors:
    """mimo_v2_flash: sliding layers have twice the full layers' KV heads, of their widths, regardless of swa_*."""
    full = next((other.facts for other in model.groups if "sliding_window" not in other.facts), None)
    if full is None or group.facts == full or not {"num_kv_heads", "head_dim"} <= full.keys():
        return tensors
    if {tensor.name for tensor in tensors} != {"k", "v"}:  # it was given another attention
        return tensors
    widths = {"k": full["head_dim"], "v": full.get("v_head_dim", full["head_dim"])}
    heads = Dim("num_kv_heads", 2 * full["num_kv_heads"])
    return tuple(t._replace(dims=(heads, Dim("head_dim", widths[t.name]))) for t in tensors)


QUIRKS: dict[str, Quirk] = {
    "falcon": broadcast_heads,  # modeling_falcon.py, _split_heads
    "gpt_neo": no_window,  # modeling_gpt_neo.py
    "openai-gpt": nothing,  # modeling_openai.py
    "minimax": states_in_model_dtype,  # modeling_minimax.py
    "xlstm": states_in_model_dtype,  # modeling_xlstm.py
    "inkling_text": conv_in_float32,  # modeling_inkling.py
    "inkling2_text": conv_in_float32,
    "inkling2_loop_text": conv_in_float32,
    "mimo_v2_flash": twice_the_full_heads,  # modeling_mimo_v2_flash.py
    "deepseek_v4": separate_k_and_v,  # modeling_deepseek_v4.py
}
REPEATS_HEADS = {"falcon"}
"""Types that cache KV heads as often as query heads read them."""
KEEPS_CONV_COLUMNS = {"recurrent_gemma", "zaya"}
"""Types whose convolutions keep kernel - 1 columns; those of all others keep the whole kernel."""
NO_STATIC_CACHE = {"deepseek_v4"}
IGNORES_QUANTIZED_CACHE = {"minimax", "reformer", "rwkv", "xlnet", "xlstm"}
"""Types with their own cache, which they use regardless of the requested one."""
