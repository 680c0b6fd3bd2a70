"""The format of a checkpoint's weights from its config.json: its dtype or quantisation.

Names are from `kvcalc.model.weight_formats`. Sources: quantization_config of transformers (QuantizationMethod),
compressed-tensors (config_groups), ModelOpt (quant_algo).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_ALGORITHMS = {"nvfp4": "nvfp4", "fp8": "fp8-tensor", "w4a16_awq": "awq"}
_EIGHT_BITS = 8


def weights_format(values: Mapping[str, Any], inner: Mapping[str, Any]) -> str:
    """Format by a config and its decoder's section; empty if neither gives it."""
    for section in (values, inner):
        if isinstance(quantization := section.get("quantization_config"), Mapping):
            return _quantised(quantization)
    names = (section.get(key) for section in (inner, values) for key in ("dtype", "torch_dtype"))
    return next((_PLAIN[name] for name in map(_dtype, names) if name in _PLAIN), "")


def _dtype(value: object) -> str:
    return value.removeprefix("torch.") if isinstance(value, str) else ""


def _quantised(quantization: Mapping[str, Any]) -> str:
    """By the method and its bits and groups; the method's name if it gives nothing more."""
    method = str(quantization.get("quant_method") or "").lower()
    bits = quantization.get("bits")
    match method:
        case "fp8" | "fbgemm_fp8":
            return "fp8" if quantization.get("weight_block_size") else "fp8-channel"
        case "gptq":
            return "gptq-8bit" if bits == _EIGHT_BITS else "gptq"
        case "bitsandbytes":
            return "bnb-4bit" if quantization.get("load_in_4bit") else "bnb-8bit"
        case "compressed-tensors":
            return _compressed(quantization)
        case _:
            return _ALGORITHMS.get(str(_algorithm(quantization)).lower(), method)


def _compressed(quantization: Mapping[str, Any]) -> str:
    """By the weights of the first group: bits, type, and scale granularity."""
    groups = quantization.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    if not isinstance(weights, Mapping):
        return "compressed-tensors"
    if weights.get("num_bits") != _EIGHT_BITS:
        return "nvfp4" if weights.get("type") == "float" else "int4"
    by_strategy = {"block": "fp8", "tensor": "fp8-tensor"}
    return by_strategy.get(str(weights.get("strategy")), "fp8-channel") if weights.get("type") == "float" else "int8"


def _algorithm(quantization: Mapping[str, Any]) -> object:
    inner = quantization.get("quantization")
    return (inner if isinstance(inner, Mapping) else quantization).get("quant_algo")
