"""Formats of vLLM's `--kv-cache-dtype`: how many bytes the key and the value of one head take together.

Source: vLLM, config/cache.py (CacheDType), and customize_spec of the attention backends.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.errors import UnknownNameError

MODEL = ("auto", "float16", "bfloat16")
"""Not quantised: the cache is in the model's dtype."""
ELEMENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
COMPUTED = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""The model's dtypes as --dtype has them."""
FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")
FP8_DS_MLA, NVFP4_DS_MLA = "fp8_ds_mla", "nvfp4_ds_mla"
_SCALE_BYTES = 4
"""One float32 scale for each token and head, for K and for V."""
_FP4_GROUP = 16
"""fp4 elements that share an fp8 scale."""
_BITS_PER_BYTE = 8
_NORM_BYTES, _SCALE_AND_ZERO_BYTES = 2, 4  # float16 each: a key's norm; a value's scale and zero point
_DS_MLA_ROWS = {FP8_DS_MLA: 656, NVFP4_DS_MLA: 352}  # vLLM mla_attention.py: opaque rows of FlashMLA's sparse kernels


def _plain(key: int, value: int) -> int:
    return key + value


def _per_token_head(key: int, value: int) -> int:
    return key + value + 2 * _SCALE_BYTES


def _int4_per_token_head(key: int, value: int) -> int:
    return key // 2 + value // 2 + 2 * _SCALE_BYTES


def _nvfp4(key: int, value: int) -> int:
    return sum(width // 2 + width // _FP4_GROUP for width in (key, value))


def _turboquant(key_bits: int, value_bits: int) -> Callable[[int, int], int]:
    """Keys in fp8 or as indices with a norm, values with scale and zero point; the sum rounded up to an even number."""

    def kv_bytes(key: int, _: int) -> int:
        packed_key = key if key_bits == _BITS_PER_BYTE else -(-key * key_bits // _BITS_PER_BYTE) + _NORM_BYTES
        together = packed_key - (-key * value_bits // _BITS_PER_BYTE) + _SCALE_AND_ZERO_BYTES
        return together + together % 2

    return kv_bytes


_TURBOQUANT_BITS = {
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}
TURBOQUANT = tuple(_TURBOQUANT_BITS)
QUANTISED: dict[str, Callable[[int, int], int]] = {
    **dict.fromkeys(FP8, _plain),
    "fp8_per_token_head": _per_token_head,
    "int8_per_token_head": _per_token_head,
    "int4_per_token_head": _int4_per_token_head,
    "nvfp4": _nvfp4,
    "nvfp4_4over6": _nvfp4,
    **{name: _turboquant(*bits) for name, bits in _TURBOQUANT_BITS.items()},
    **dict.fromkeys(_DS_MLA_ROWS, _plain),
}
"""Quantised formats: the bytes of one head's key and value, of these widths."""
PER_TOKEN_HEAD = ("fp8_per_token_head", "int8_per_token_head", "int4_per_token_head")
CACHE_DTYPES = (*MODEL, *QUANTISED)


def check_cache_dtype(name: str) -> None:
    """Raises UnknownNameError for a format that vLLM does not have on NVIDIA GPUs."""
    if name not in CACHE_DTYPES:
        raise UnknownNameError.among("kv_cache_dtype of vLLM", str(name), CACHE_DTYPES)


def kv_bytes(cache_dtype: str, model_dtype: str, key: int, value: int) -> int:
    """Bytes of one head's key and value, of these widths, scales included."""
    if cache_dtype in MODEL:
        return (key + value) * ELEMENT_BYTES[model_dtype]
    return QUANTISED[cache_dtype](key, value)


def latent_bytes(cache_dtype: str, model_dtype: str, width: int) -> int:
    """Bytes of one token's latent and rotary key, `width` elements together."""
    if cache_dtype in _DS_MLA_ROWS:
        return _DS_MLA_ROWS[cache_dtype]
    return width * (ELEMENT_BYTES[model_dtype] if cache_dtype in MODEL else 1)
