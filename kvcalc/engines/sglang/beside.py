"""What reduces SGLang's pool besides the weights: a share of CUDA's context and NCCL.

    pool = free after loading - free before * (1 - mem_fraction_static) = (memory - context) * share - weights

Both are measured after context and communicators, so the pool loses mem_fraction_static of these. Activations and
graphs lie outside the share. Source: SGLang, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside, context
from kvcalc.hardware.gpu import Gpu


def beside(gpu: Gpu, ranks: int, share: Fraction) -> Beside:
    """The interval on each of `ranks` GPUs that share a model, if the pool gets this share of the free memory."""
    return Beside((context(gpu, ranks).in_share(share),))
