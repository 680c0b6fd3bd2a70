"""What SGLang's pool lacks beside the weights: CUDA's context and NCCL, which it measures before it takes its share.

    pool = free after loading - free before * (1 - mem_fraction_static)

Activations and graphs lie in what the share leaves over, and are not in it. Source: SGLang,
mem_cache/kv_cache_configurator.py; free memory before and after loading as it printed in 17 start-ups.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside
from kvcalc.units import GIB

_ALONE_GIB, _RANKS_GIB = (Fraction(3, 10), Fraction(11, 5)), (Fraction(1), Fraction(7, 2))
"""Least and most that contexts and communicators take, of one GPU and of several."""


def beside(ranks: int) -> Beside:
    """The interval on each of `ranks` tensor-parallel GPUs."""
    low, high = (int(bound * GIB) for bound in (_ALONE_GIB if ranks == 1 else _RANKS_GIB))
    return Beside(low, high, "CUDA context and communicators", "estimate from start-ups that SGLang printed")
