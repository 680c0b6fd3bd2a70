"""Devices for which an engine's rules are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import Gpu

if TYPE_CHECKING:
    from kvcalc.engines.base import Engine

_MAKERS = {"nvidia": "an NVIDIA", "amd": "an AMD", "intel": "an Intel", "apple": "an Apple", "google": "a Google"}


def known_device(engine: type[Engine], name: str) -> Gpu:
    """The device of that name. Raises NotApplicableError if its kernels in this engine are not modelled."""
    gpu = gpu_named(name)
    if not engine.VENDORS or gpu.vendor in engine.VENDORS:
        return gpu
    known = [_MAKERS[vendor] for vendor in engine.VENDORS if vendor in _MAKERS]
    makers = " or ".join(known)
    kernels = " and ".join(maker.partition(" ")[2] for maker in known)
    if not gpu.vendor:
        raise NotApplicableError(
            f"{gpu.name} is not known to be {makers} GPU; kvcalc models {engine.TITLE}'s {kernels} kernels only",
            help=f"name the nearest GPU and its memory (rtx-4090@{gpu.written}), or its compute capability "
            f"(sm_90@{gpu.written}); or use --engine ideal",
        )
    raise NotApplicableError(
        f"{gpu.name} is not {makers} GPU; kvcalc models {engine.TITLE}'s {kernels} kernels only",
        help="use --engine ideal, llama_cpp or transformers, whose caches are the same on any device",
    )
