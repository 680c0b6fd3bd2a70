"""Facts of a config.json besides the cache, on which engines base their own decisions."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.io.families._config import Config
from kvcalc.model import Published, Vision

_LONGEST = "max_position_embeddings"
_LENGTHS = (
    *(_LONGEST, "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
"""Fields for the longest sequence, in any class."""
_VOCABULARIES = ("padded_vocab_size", "vocab_size")
"""Fields for the number of logits per token; ChatGLM's padded one comes first."""
_EIGHT_BITS, _FOUR_BITS = 8, 4
_MOST = 2**32
"""Largest plausible factor."""
_SEES_IMAGES_WHOLE = ("bagel", "gemma3", "molmo2", "moondream3", "paligemma")
"""Types whose images are a prefix, whatever their config says."""


def published(config: Config) -> Published:
    """Facts of the decoder's section, or of the whole config if only that has them."""
    top, own = config.top.values, config.values
    rope, lengths = _rope(top), _lengths(config)
    return Published(
        model_type=str(top.get("model_type") or ""),
        dtype=_text(own, "dtype", "torch_dtype") or _text(top, "dtype", "torch_dtype"),
        kv_dtype=_kv_dtype(top.get("quantization_config") or own.get("quantization_config")),
        longest_tokens=min((tokens for _, tokens in lengths), default=None),
        lengths=lengths,
        rope_type=_text(rope, "rope_type", "type"),
        rope_factor=_number(rope.get("factor")),
        original_tokens=_count(top.get("original_max_position_embeddings")),
        sees_images_whole=_sees_images_whole(top, own),
        state_dtype=_text(own, "mamba_ssm_cache_dtype", "mamba_ssm_dtype"),
        vision=_vision(top.get("vision_config")),
        encoder_layers=_count(own.get("encoder_layers")) or 0,
        vocab_size=_vocabulary(config),
        index_topk=_index_topk(own),
    )


def _index_topk(own: Mapping[str, object]) -> int | None:
    """Tokens or entries that an indexer selects; MiniMax M3's selects whole blocks."""
    blocks = own.get("sparse_attention_config")
    if not isinstance(blocks, Mapping):
        return _count(own.get("index_topk"))
    each, number = (_count(blocks.get(name)) for name in ("sparse_block_size", "sparse_topk_blocks"))
    return each * number if each and number else None


def _lengths(config: Config) -> tuple[tuple[str, int], ...]:
    """Each length in the config, or the class's default; aliases of max_position_embeddings count as that."""
    named = {name: _count(config.values.get(name)) for name in _LENGTHS}
    own = config.key(_LONGEST)
    if named.get(own) is not None:
        named[_LONGEST] = named.pop(own)
    found = {name: tokens for name, tokens in named.items() if tokens is not None}
    default = _count(config.value(_LONGEST))
    return tuple(found.items()) if found or default is None else ((_LONGEST, default),)


def _vocabulary(config: Config) -> int | None:
    """Logits in the decoder's section, or the class's default."""
    return next((count for name in _VOCABULARIES if (count := _count(config.value(name)))), None)


def _rope(values: Mapping[str, object]) -> Mapping[str, object]:
    """The last of the rotary settings, if each kind of layer has its own."""
    rope = values.get("rope_parameters") or values.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return {}
    nested = [part for part in rope.values() if isinstance(part, Mapping) and part]
    return nested[-1] if nested else rope


def _kv_dtype(quantization: object) -> str:
    """`fp8` or `nvfp4`, if a checkpoint sets the format of its cache (ModelOpt, compressed-tensors)."""
    if not isinstance(quantization, Mapping):
        return ""
    inner = quantization.get("quantization")
    sections = [section for section in (inner, quantization) if isinstance(section, Mapping)]
    for name in ("kv_cache_scheme", "kv_cache_quant_algo"):
        for section in sections:
            if section.get(name):
                return _scheme(section[name])
    return ""


def _scheme(scheme: object) -> str:
    if not isinstance(scheme, Mapping):
        return str(scheme).lower()
    bits = scheme.get("num_bits") if scheme.get("type") == "float" else None
    return {_EIGHT_BITS: "fp8", _FOUR_BITS: "nvfp4"}.get(bits, "") if isinstance(bits, int) else ""


def _vision(section: object) -> Vision | None:
    if not isinstance(section, Mapping):
        return None
    return Vision(_count(section.get("num_hidden_layers")), _count(section.get("hidden_size")))


def _sees_images_whole(top: Mapping[str, object], own: Mapping[str, object]) -> bool:
    if not isinstance(top.get("vision_config"), Mapping):
        return False
    if isinstance(top.get("is_mm_prefix_lm"), bool):
        return bool(top["is_mm_prefix_lm"])
    return top.get("model_type") in _SEES_IMAGES_WHOLE or own.get("use_bidirectional_attention") == "vision"


def _text(values: Mapping[str, object], *names: str) -> str:
    found = (values.get(name) for name in names)
    return next((value.removeprefix("torch.") for value in found if isinstance(value, str)), "")


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _number(value: object) -> int | float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST else 1
