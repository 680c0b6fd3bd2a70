"""Where torch runs, and the formats it stores natively."""

from __future__ import annotations

import torch

from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.units import shown

DEVICES = ("cpu", "cuda", "meta")
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn}
"""Formats that torch stores natively; packed ones (int4, nvfp4, q8_0 ...) have no tensors in torch."""


def device_named(device: str | None) -> str:
    """`device`, or by default cuda if there is one, else cpu. Raises InvalidValueError."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in DEVICES:
        raise InvalidValueError(f"device must be one of {', '.join(DEVICES)}, not {shown(device)}", help="write cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidValueError("torch finds no CUDA device", help="remove --device, or use cpu or meta")
    return device


def torch_dtype(name: str) -> torch.dtype:
    """Torch's name of the format. Raises NotApplicableError for one that it does not store."""
    if name not in TORCH_DTYPES:
        raise NotApplicableError(f"torch has no tensors of {name}", help=f"verify with {', '.join(TORCH_DTYPES)}")
    return TORCH_DTYPES[name]
