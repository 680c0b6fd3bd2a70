"""The parts of a layer, from GGUF metadata: attention, latents, indexers, and recurrent states."""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.lightning import LightningAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.attention.wkv import MatrixWkv
from kvcalc.io.families._decoder import Layer
from kvcalc.io.gguf.architectures import CONV, DELTA, KDA, LIGHTNING, MAMBA, MAMBA_GROUPS, WKV
from kvcalc.io.gguf.metadata import Facts, Metadata

HEADS, KV_HEADS, WINDOW = "attention.head_count", "attention.head_count_kv", "attention.sliding_window"
_INDEX_AT = 4
"""Compress ratio of DeepSeek-V4's layers with an indexer."""


def key_length(metadata: Metadata, *, sliding: bool) -> int:
    """Width of a key head: by default embedding_length / head_count of the first layer."""
    return _width(metadata, "key_length", sliding)


def value_length(metadata: Metadata, *, sliding: bool) -> int:
    """Width of a value head, by default that of a key head."""
    return _width(metadata, "value_length", sliding)


def _width(metadata: Metadata, name: str, sliding: bool) -> int:
    if sliding and f"attention.{name}_swa" in metadata:
        return metadata.integer(f"attention.{name}_swa")
    if f"attention.{name}" in metadata:
        return metadata.integer(f"attention.{name}")
    heads = metadata.value(HEADS)
    of_first = heads[0] if isinstance(heads, list) else metadata.integer(HEADS)
    if not of_first:
        raise metadata.missing(f"attention.{name}", "layer 0 has no heads to derive it from; give the head width")
    return metadata.integer("embedding_length") // of_first


def heads_layer(metadata: Metadata, heads: int, kv_heads: int, reach: str, tokens: int) -> Layer:
    """Full grouped-query attention, or limited to the last `tokens` tokens if `reach` is given."""
    sliding = bool(reach)
    facts = Facts(metadata).put("num_query_heads", heads, HEADS)
    facts.put("num_kv_heads", kv_heads, KV_HEADS if KV_HEADS in metadata else HEADS)
    width, value = key_length(metadata, sliding=sliding), value_length(metadata, sliding=sliding)
    facts.put("head_dim", width, _width_key(metadata, "key_length", sliding))
    if value != width:
        facts.put("v_head_dim", value, _width_key(metadata, "value_length", sliding))
    return (facts.put(reach, tokens, WINDOW) if reach else facts).build(GroupedQueryAttention)


def _width_key(metadata: Metadata, name: str, sliding: bool) -> str:
    names = (f"attention.{name}_swa", f"attention.{name}") if sliding else (f"attention.{name}",)
    return next((name for name in names if name in metadata), "embedding_length")


def latent_layer(metadata: Metadata, heads: int, kv_heads: int, reach: str, tokens: int) -> Layer:
    """MLA: key_length covers latent and rotary key, key_length_mla an expanded key."""
    sliding = bool(reach)
    if kv_heads != 1:
        raise metadata.wrong(
            KV_HEADS,
            f"an MLA layer has {kv_heads} KV heads, but all its heads share one latent",
            "convert the model again with a newer version",
        )
    suffix = "_swa" if sliding and metadata.key("attention.kv_lora_rank_swa") in metadata.values else ""
    rank = metadata.integer(f"attention.kv_lora_rank{suffix}")
    expanded = metadata.integer(f"attention.key_length_mla{suffix}")
    rotary = key_length(metadata, sliding=sliding) - rank
    if not 0 <= rotary <= expanded:
        raise metadata.wrong(
            "attention.key_length",
            f"key_length ({rank + rotary}) must include kv_lora_rank ({rank}) and a rotary key of at most "
            f"key_length_mla ({expanded})",
            "convert the model again with a newer version",
        )
    facts = Facts(metadata).put("num_query_heads", heads, HEADS).take("kv_lora_rank", f"attention.kv_lora_rank{suffix}")
    facts.put("qk_rope_head_dim", rotary, "attention.key_length")
    facts.put("qk_nope_head_dim", expanded - rotary, f"attention.key_length_mla{suffix}")
    facts.take("v_head_dim", f"attention.value_length_mla{suffix}")
    return (facts.put(reach, tokens, WINDOW) if reach else facts).build(MultiHeadLatentAttention)


def expanded_layer(metadata: Metadata, heads: int) -> Layer:
    """MLA with only the expansion of the latent in the file: keys and values of every head."""
    width = key_length(metadata, sliding=False)
    rotary = min(width, metadata.whole("rope.dimension_count", width))
    facts = Facts(metadata).put("num_query_heads", heads, HEADS)
    facts.put("qk_rope_head_dim", rotary, "rope.dimension_count")
    facts.put("qk_nope_head_dim", width - rotary, "attention.key_length")
    value = value_length(metadata, sliding=False)
    return facts.put("v_head_dim", value, "attention.value_length").build(NaiveMultiHeadLatentAttention)


def compressed_layer(metadata: Metadata, heads: int, kv_heads: int, ratio: int) -> Layer:
    """DeepSeek-V4: a window, and for a nonzero ratio one entry per that many tokens."""
    if kv_heads != 1:
        raise metadata.wrong(KV_HEADS, f"{kv_heads} KV heads, but all heads share one entry", "set it to 1")
    facts = Facts(metadata).put("num_query_heads", heads, HEADS)
    facts.put("head_dim", key_length(metadata, sliding=True), "attention.key_length").take("sliding_window", WINDOW)
    if ratio:
        facts.put("compress_rate", ratio, "attention.compress_ratios")
    if ratio == _INDEX_AT:
        facts.take("index_head_dim", "attention.indexer.key_length")
    return facts.build(CompressedAttention)


def indexer(metadata: Metadata) -> Layer:
    """The index key of a layer; with pooled keys also its gate."""
    facts = Facts(metadata).take("index_head_dim", "attention.indexer.key_length")
    if metadata.whole("attention.indexer.kpool") > 1:
        facts.put("index_pooling", True, "attention.indexer.kpool")
    return facts.build(Indexer)


def recurrent_layer(metadata: Metadata, kind: str, first_heads: int) -> Layer:
    """States of a recurrent layer. first_heads: attention heads of the model's first layer."""
    return _RECURRENT[kind](metadata, first_heads)


def _mamba(metadata: Metadata, _: int) -> Layer:
    groups = metadata.whole("ssm.group_count") if metadata.architecture in MAMBA_GROUPS else 0
    facts = Facts(metadata).take("mamba_state_size", "ssm.state_size").take("mamba_conv_kernel", "ssm.conv_kernel")
    if not groups:
        return facts.take("mamba_intermediate_size", "ssm.inner_size").build(Mamba)
    heads, width = _heads_of_inner(metadata)
    facts.put("mamba_num_heads", heads, "ssm.time_step_rank").put("mamba_head_dim", width, "ssm.inner_size")
    return facts.take("mamba_num_groups", "ssm.group_count").build(Mamba2)


def _delta(metadata: Metadata, _: int) -> Layer:
    heads, width = _heads_of_inner(metadata)
    facts = Facts(metadata).take("linear_num_key_heads", "ssm.group_count")
    facts.put("linear_num_value_heads", heads, "ssm.time_step_rank").take("linear_key_head_dim", "ssm.state_size")
    facts.put("linear_value_head_dim", width, "ssm.inner_size").take("linear_conv_kernel", "ssm.conv_kernel")
    return facts.build(GatedDeltaNet)


def _heads_of_inner(metadata: Metadata) -> tuple[int, int]:
    """Heads (time_step_rank) and their width, for inner_size channels."""
    heads, inner = metadata.integer("ssm.time_step_rank"), metadata.integer("ssm.inner_size")
    if inner % heads:
        raise metadata.wrong(
            "ssm.inner_size", f"{inner} channels do not divide among {heads} heads (ssm.time_step_rank)", "check both"
        )
    return heads, inner // heads


def _conv(metadata: Metadata, _: int) -> Layer:
    facts = Facts(metadata).take("conv_channels", "embedding_length")
    return facts.take("conv_kernel", "shortconv.l_cache").build(ShortConvolution)


def _kda(metadata: Metadata, first_heads: int) -> Layer:
    facts = Facts(metadata).put("linear_num_heads", first_heads, HEADS).take("linear_head_dim", "kda.head_dim")
    return facts.take("linear_conv_kernel", "ssm.conv_kernel").build(KimiDeltaAttention)


def _lightning(metadata: Metadata, first_heads: int) -> Layer:
    facts = Facts(metadata).put("linear_num_heads", first_heads, HEADS)
    width = key_length(metadata, sliding=False)
    return facts.put("linear_head_dim", width, "attention.key_length").build(LightningAttention)


def _wkv(metadata: Metadata, _: int) -> Layer:
    hidden, width = metadata.integer("embedding_length"), metadata.integer("wkv.head_size")
    if hidden % width:
        raise metadata.wrong("wkv.head_size", f"{width} does not divide embedding_length ({hidden})", "check both")
    facts = Facts(metadata).put("hidden_size", hidden, "embedding_length")
    facts.put("wkv_num_heads", hidden // width, "wkv.head_size").put("wkv_head_dim", width, "wkv.head_size")
    if "token_shift_count" in metadata:
        facts.take("wkv_token_shifts", "token_shift_count")
    return facts.build(MatrixWkv)


_RECURRENT: dict[str, Callable[[Metadata, int], Layer]] = {
    MAMBA: _mamba,
    DELTA: _delta,
    CONV: _conv,
    KDA: _kda,
    LIGHTNING: _lightning,
    WKV: _wkv,
}
