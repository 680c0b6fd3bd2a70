"""What TensorRT-LLM stores of each kind of layer, in whole blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import FP32, Dtype, dtype_named
from kvcalc.cache.slots.engines import in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, last_tokens
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.checks import check_blocks
from kvcalc.engines.tensorrt_llm.settings import AUTO, STORED, TensorrtLlmSettings
from kvcalc.errors import NotApplicableError
from kvcalc.model import Attention, LayerGroup, Model

_KV_DTYPES = ("bf16", "fp16", "fp32", *STORED)
_QUANT_BLOCK = 128
"""Elements of an index key that share a float32 scale."""


def tensors_of(model: Model, group: LayerGroup, settings: TensorrtLlmSettings, dtype: Dtype) -> Iterator[CacheTensor]:
    """Tensors of one layer: K and V, or only the latent, and the key of its indexer."""
    rule = _rule(window_of(model, group, settings), settings.tokens_per_block)
    for part in group.parts:
        if isinstance(part, GroupedQueryAttention | MultiHeadLatentAttention):
            for tensor in part.tensors():
                check_blocks(f"a head of {tensor.name}", tensor.dims[-1].size, dtype, "TensorRT-LLM")
                yield tensor._replace(slot_rule=rule, dtype=dtype)
        elif isinstance(part, Indexer) and _is_beside_latent(group) and not part.index_pooling:
            width = part.index_head_dim
            scaled = Dtype("fp8", width, width + width // _QUANT_BLOCK * FP32.block_bytes, "fp8, float32 scale for 128")
            yield part.tensors()[0]._replace(slot_rule=rule, dtype=scaled, quantizable=False)
        elif not isinstance(part, NoCache):
            raise NotApplicableError(
                f"kvcalc does not know how TensorRT-LLM stores {part.label} layers, as {group.name} layers of "
                f"{model.name} are",
                help="try another --engine",
            )


def _rule(window: int | None, block: int) -> SlotRule:
    """Whole blocks; one more than a window fills, so that it is always held (kSWAExtraBlock)."""
    return in_blocks(block, EVERY_TOKEN if window is None else last_tokens(-(-window // block) * block + block))


def window_of(model: Model, group: LayerGroup, settings: TensorrtLlmSettings) -> int | None:
    """Window of the group's layers; None if they keep every token.

    A pipeline stage counts its own layers from 0 (_get_window_size_to_layers).
    Raises NotApplicableError for layers of several windows.
    """
    found = {_window_of_layer(model, layer, settings) for layer in group.layers}
    if len(found) > 1:
        windows = sorted(window or 0 for window in found)
        raise NotApplicableError(
            f"max_attention_window gives {group.name} layers of {model.name} several windows ({windows}), which "
            "pipeline stages split differently",
            help="give as many windows as the model's own pattern has layers, or remove pp",
        )
    return found.pop()


def _window_of_layer(model: Model, layer: int, settings: TensorrtLlmSettings) -> int | None:
    windows = settings.max_attention_window
    longest = settings.max_seq_len or model.max_model_len
    window = windows[layer % len(windows)] if windows else None
    return None if window is None or (longest is not None and window >= longest) else window


def by_window(model: Model, settings: TensorrtLlmSettings) -> Model:
    """`model` with a separate group for the layers of each window, if max_attention_window splits a group."""
    groups = tuple(part for group in model.groups for part in _cut(model, group, settings))
    return replace(model, groups=groups) if len(groups) > len(model.groups) else model


def _cut(model: Model, group: LayerGroup, settings: TensorrtLlmSettings) -> Iterator[LayerGroup]:
    layers: dict[int | None, list[int]] = {}
    for layer in group.layers:
        layers.setdefault(_window_of_layer(model, layer, settings), []).append(layer)
    for window, own in layers.items():
        name = group.name if len(layers) == 1 else f"{group.name}, {f'window {window:,}' if window else 'no window'}"
        yield replace(group, name=name, layers=tuple(own))


def _is_beside_latent(group: LayerGroup) -> bool:
    kinds: list[Attention] = list(group.parts)
    return any(isinstance(part, MultiHeadLatentAttention) for part in kinds)


def dtype_of(settings: TensorrtLlmSettings, kv_dtype: Dtype) -> Dtype:
    """Format of the cache. Raises NotApplicableError for one that the manager does not have."""
    if settings.dtype != AUTO:
        return dtype_named(settings.dtype)
    if kv_dtype.name not in _KV_DTYPES:
        raise NotApplicableError(
            f"TensorRT-LLM stores no cache in {kv_dtype}", help=f"use one of {', '.join(_KV_DTYPES)}"
        )
    return kv_dtype
