"""How many GPUs a program sees, by its drivers' variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)
_DEVICE = re.compile(r"\d{1,4}|(GPU|MIG)-[\w/.-]{1,80}")


def visible_gpus(variables: Mapping[str, str]) -> int | None:
    """GPUs of the first variable that lists some; None if none does, or the list is unknown."""
    for name in _NAMES:
        if name in variables:
            found = listed_gpus(variables[name])
            if found is not None:
                return found
    return None


def listed_gpus(text: str) -> int | None:
    """Number of devices in `0,1,2,3`; None for other values, such as `all`."""
    devices = [part.strip() for part in text.strip("'\" ").split(",") if part.strip()]
    return len(devices) if devices and all(_DEVICE.fullmatch(device) for device in devices) else None
