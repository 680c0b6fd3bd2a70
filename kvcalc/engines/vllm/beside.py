"""What vLLM takes of its share of a GPU beside weights and cache.

    forward = 2 * T * (3 * intermediate / tp + 4 * hidden)     T: max_num_batched_tokens, 16-bit activations
    sampler = c * S * vocabulary                                S: max_num_seqs; c: bytes of a logit, by version
    peak    = max(forward, sampler)
    low     = 0.9 * peak
    high    = 1.1 * peak + what stays: workspaces, graphs, symmetric memory

The CUDA context and NCCL are not in it: vLLM takes its snapshot after them, so they lie in what the share leaves over.
Source: vLLM, v1/worker/gpu_worker.py (determine_available_memory), v1/sample; the factors by figures that vLLM printed
in 48 start-ups of 0.6 to 0.31.
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines.base.beside import Beside
from kvcalc.model.checkpoint import Widths
from kvcalc.units import GIB

_HALF_BYTES = 2
_GATE_UP_ACT, _HIDDEN_BUFFERS = 3, 4
_LOGIT_BYTES = ((0, 26, 38, 39), (26, 27, 10, 39), (27, 31, 10, 39), (31, None, 10, 39))
"""From which minor version to which: least and most bytes of a logit in the sampler."""
_LOW, _HIGH = Fraction(9, 10), Fraction(11, 10)
_STAYS_GIB, _GRAPHS_GIB, _RANKS_GIB = Fraction(1, 10), 1, Fraction(5, 2)
_TOWERS_GIB, _STATES_GIB = 6, 2
"""Peaks of encoders (4.1 to 6.9 GiB seen), and what hybrid models hold more than others."""


def beside(widths: Widths, batch_tokens: int, sequences: int, ranks: int, minor: int) -> Beside:
    """The interval of a rank among `ranks` tensor-parallel ones, in vLLM 0.`minor`."""
    sampled = min(sequences, batch_tokens) * widths.vocab_size
    least, most = next(
        (low, high) for first, end, low, high in _LOGIT_BYTES if first <= minor and (end or minor + 1) > minor
    )
    forward = (
        _HALF_BYTES
        * batch_tokens
        * (_GATE_UP_ACT * widths.intermediate_size // ranks + _HIDDEN_BUFFERS * widths.hidden_size)
    )
    stays = _STAYS_GIB + (_GRAPHS_GIB if ranks == 1 else _RANKS_GIB)
    words = "activations, sampler, graphs and workspaces"
    if widths.has_towers:
        stays, words = stays + _TOWERS_GIB, f"{words}, and an image encoder's peak, which is not known"
    if widths.has_states:
        stays, words = stays + _STATES_GIB, f"{words}, and states of hybrid layers"
    low = _LOW * max(forward, least * sampled)
    high = _HIGH * max(forward, most * sampled) + stays * GIB
    return Beside(int(low), int(high), words, "estimate from start-ups that vLLM printed")
