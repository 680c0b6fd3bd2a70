"""What changed between versions of transformers: one function for each rule of `versions`.

A change takes a question, a group and its tensors, and returns the tensors that this version holds instead. It reads
its rule last, once nothing else rules it out: answers list the rules they read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import FP32
from kvcalc.cache.slots.engines import switched
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.transformers.quirks import Tensors, states_in_model_dtype
from kvcalc.engines.transformers.versions import States, TransformersRelease
from kvcalc.model import LayerGroup, Model

ALLOCATED_AHEAD = {
    *("mamba", "falcon_mamba", "mamba2", "bamba", "granitemoehybrid", "falcon_h1", "nemotron_h", "zamba2"),
}
"""Types whose cache class allocated states in the model's dtype and copied into them; others kept the computed
format."""
KEEPS_OWN_STATES = {"minimax", "olmo_hybrid", "recurrent_gemma", "rwkv", "xlstm", "zaya"}
"""Types whose states were never in a layer of the common cache while this rule held."""
SHARES_WINDOWS = {"gemma3n_text", "gemma4_text", "gemma4_unified_text"}
"""Types whose last layers may read the cache of earlier ones (num_kv_shared_layers)."""
_KEEPS_SHARED_WINDOW: dict[str, Callable[[TransformersRelease], bool]] = {
    "gemma3n_text": lambda release: release.gemma3n_keeps_shared_window,
    "gemma4_text": lambda release: release.gemma4_keeps_shared_window,
}
LENT = "sliding, read by others"
"""Name of the group of the one layer whose window the last layers read."""


class Asked(NamedTuple):
    """What a change may depend on. dynamic: whether the cache grows. prompt_tokens: None: all tokens."""

    model: Model
    release: TransformersRelease
    dynamic: bool
    prompt_tokens: int | None
    decode_steps: int | None

    @property
    def is_forward_pass(self) -> bool:
        """Whether the question is a single forward pass, without generation."""
        return self.decode_steps == 0


Change = Callable[[Asked, LayerGroup, Tensors], Tensors]


def as_read(model: Model, release: TransformersRelease) -> Model:
    """The model as this version reads its config, with a group for the layer whose window is kept twice.

    Methods apply to the layers as read today; the older reading is then kept for a note.
    """
    older = {rule: groups for rule, groups in model.older_readings.items() if not _reads(release, rule)}
    if not model.methods:
        model = replace(model, groups=next(iter(older.values()), model.groups))
        older = {}
    lending = _lending_layer(model, release)
    groups = tuple(part for group in model.groups for part in _apart(group, lending))
    return replace(model, groups=groups, older_readings=older)


def _reads(release: TransformersRelease, rule: str) -> bool:
    return bool(release.rules()[rule].at(release.version))


def _apart(group: LayerGroup, layer: int | None) -> tuple[LayerGroup, ...]:
    """The group, or that one layer of it and the others."""
    if layer not in group.layers or group.name == LENT:
        return (group,)
    others = tuple(other for other in group.layers if other != layer)
    lent = replace(group, name=LENT, layers=(layer,))
    return (replace(group, layers=others), lent) if others else (lent,)


def _lending_layer(model: Model, release: TransformersRelease) -> int | None:
    """The last layer of a window before those that share; None if none is kept twice."""
    if model.model_type not in _KEEPS_SHARED_WINDOW or not _shares(model):
        return None
    if not _KEEPS_SHARED_WINDOW[model.model_type](release):
        return None
    windows = [layer for group in model.groups if _window(group.tensors) for layer in group.layers]
    return max(windows, default=None)


def _shares(model: Model) -> bool:
    return any(isinstance(part, NoCache) for group in model.groups for part in group.parts)


def _window(tensors: Tensors) -> int | None:
    return next((t.slot_rule.window for t in tensors if t.slot_rule.window is not None), None)


# ---- changes


def latent(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """Keys and values of every head, expanded from the latent before they are cached."""
    latents = [part for part in group.parts if isinstance(part, MultiHeadLatentAttention)]
    if not latents:
        return tensors
    indexed = any(isinstance(part, Indexer) for other in asked.model.groups for part in other.parts)
    release = asked.release
    if not (release.expands_indexed_latent if indexed else release.expands_latent):
        return tensors
    kept = (tensor for tensor in tensors if tensor.name not in ("c_kv", "k_rope"))
    return (*(tensor for part in latents for tensor in _expanded(part).tensors()), *kept)


def _expanded(latent: MultiHeadLatentAttention) -> NaiveMultiHeadLatentAttention:
    return NaiveMultiHeadLatentAttention(
        num_query_heads=latent.num_query_heads,
        qk_rope_head_dim=latent.qk_rope_head_dim,
        qk_nope_head_dim=latent.qk_nope_head_dim,
        v_head_dim=latent.v_head_dim,
        **latent.reach,
    )


def index_keys(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """An indexer that keeps its keys in its own module, outside the cache."""
    indexed = any(isinstance(part, Indexer) for part in group.parts)
    if not indexed or asked.release.caches_index_keys:
        return tensors
    return tuple(tensor for tensor in tensors if tensor.name != "index_k")


def recurrent_states(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """States in the model's dtype, though they are computed in float32."""
    model_type, others = asked.model.model_type, states_in_model_dtype(asked.model, group, tensors)
    if others == tensors or model_type in KEEPS_OWN_STATES:
        return tensors
    kept = asked.release.recurrent_states
    by_class = kept is States.BY_CLASS and model_type not in ALLOCATED_AHEAD
    return tensors if kept is States.FLOAT32 or by_class else others


def every_token(asked: Asked, _: LayerGroup, tensors: Tensors) -> Tensors:
    """Windows unknown to the cache, so that every layer keeps all tokens."""
    if not asked.dynamic or _window(tensors) is None or not _forgets_windows(asked.model, asked.release):
        return tensors
    return tuple(t if t.slot_rule.window is None else t._replace(slot_rule=EVERY_TOKEN) for t in tensors)


def _forgets_windows(model: Model, release: TransformersRelease) -> bool:
    if model.model_type == "afmoe":
        return release.afmoe_keeps_every_token
    return model.model_type in SHARES_WINDOWS and not _shares(model) and release.forgets_windows


def shared_window(asked: Asked, group: LayerGroup, tensors: Tensors) -> Tensors:
    """The window as attention saw it, next to the W - 1 tokens of the cache: all of a prompt, then W tokens.

    Both are one tensor until a token leaves the window.
    """
    window = _window(tensors)
    if group.name != LENT or not asked.dynamic or window is None:
        return tensors
    seen = once(window, from_token=window, words=f"last {window:,} as they were seen")
    whole = switched(once(0), window, EVERY_TOKEN)
    prompt = asked.prompt_tokens
    if prompt is None and asked.is_forward_pass:
        seen = whole
    elif prompt is not None:
        seen = switched(whole, prompt + 1, seen)
    nothing = once(0)  # the memory behind it is that of the window's own tensors
    return (*tensors, *(t._replace(name=f"shared_{t.name}", slot_rule=seen, storage_rule=nothing) for t in tensors))


def convolutions(asked: Asked, _: LayerGroup, tensors: Tensors) -> Tensors:
    """lfm2: a convolution state in each layer, those of attention too."""
    model = asked.model
    if model.model_type not in ("lfm2", "lfm2_moe") or not asked.release.lfm2_convolves_in_attention:
        return tensors
    states = [t for group in model.groups for t in group.tensors if t.name.startswith("conv_state")]
    has_own = any(t.name.startswith("conv_state") for t in tensors)
    return tensors if has_own else (*tensors, *states[:1])


def overlap_gate(asked: Asked, _: LayerGroup, tensors: Tensors) -> Tensors:
    """deepseek_v4: of the tokens kept for the overlap, kv is in the model's dtype and the gate in float32."""
    if asked.model.model_type != "deepseek_v4" or not asked.release.gates_in_float32:
        return tensors
    return tuple(part for tensor in tensors for part in _kv_and_gate(tensor))


def _kv_and_gate(tensor: CacheTensor) -> Tensors:
    if tensor.name != "overlap":
        return (tensor,)
    kv = tensor._replace(name="overlap_kv", dims=tensor.dims[1:])
    return (kv, kv._replace(name="overlap_gate", dtype=FP32))


def keeps_conv_columns(model: Model, release: TransformersRelease) -> bool:
    """olmo_hybrid: whether its convolutions keep kernel - 1 columns; the common cache keeps the whole kernel."""
    return model.model_type == "olmo_hybrid" and release.olmo_hybrid_keeps_conv_columns


CHANGES: tuple[Change, ...] = (
    *(latent, index_keys, recurrent_states, every_token, shared_window, convolutions, overlap_gate),
)
