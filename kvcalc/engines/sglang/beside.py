"""What SGLang's pool lacks beside the weights: a share of CUDA's context and NCCL.

    pool = free after loading - free before * (1 - mem_fraction_static) = (memory - context) * share - weights

Both are measured after context and communicators, so the pool lacks mem_fraction_static of these. Activations and
graphs lie in what the share leaves over, and are not in it. Source: SGLang, mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside, context
from kvcalc.hardware.gpu import Gpu


def beside(gpu: Gpu, ranks: int, share: Fraction) -> Beside:
    """The interval on each of `ranks` GPUs that share a model, where the pool gets such a share of what is free."""
    return Beside((context(gpu, ranks).in_share(share),))
