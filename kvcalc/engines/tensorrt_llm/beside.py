"""What TensorRT-LLM's PyTorch backend holds besides weights and cache when it measures free memory.

    free       = memory - (peak inside PyTorch + all memory outside it)
    activation = 2 * T * (3 * intermediate / tp + 4 * hidden)     T: max_num_tokens, of a step of dummy requests

Outside PyTorch are the CUDA context, NCCL, cuBLAS and CUDA graphs. Source: TensorRT-LLM, _torch/pyexecutor/_util.py
(configure_kv_cache_capacity); activations of 0.91 and 0.46 GiB that it printed where the arithmetic has 0.91 and 0.45;
the other bounds by ten start-ups.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside
from kvcalc.model.checkpoint import Widths
from kvcalc.report.beside import Term

_HALF_BYTES = 2
_GATE_UP_ACT, _HIDDEN_BUFFERS = 3, 4
_LOW, _HIGH = Fraction(9, 10), Fraction(13, 10)
_OUTSIDE_GIB = ((1, 3), (Fraction(3, 2), Fraction(15, 2)))
"""Least and most memory outside PyTorch, on one GPU and on several."""


def beside(widths: Widths, tokens: int, ranks: int) -> Beside:
    """The interval on each of `ranks` tensor-parallel GPUs, with steps of this many tokens."""
    layer = _GATE_UP_ACT * Fraction(widths.intermediate_size, ranks) + _HIDDEN_BUFFERS * widths.hidden_size
    forward = _HALF_BYTES * tokens * layer
    activations = Term("activations", int(_LOW * forward), int(_HIGH * forward), "arithmetic of its dummy requests")
    low, high = _OUTSIDE_GIB[ranks > 1]
    words = "context, communicators and graphs" if ranks > 1 else "context and graphs"
    return Beside((activations, Term.of(words, low, high, "TensorRT-LLM's start-up logs")))
