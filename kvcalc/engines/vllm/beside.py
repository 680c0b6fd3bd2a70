"""What vLLM takes of its share of a GPU beside weights and cache.

    forward = 2 * T * (3 * intermediate / tp + 4 * hidden)     T: max_num_batched_tokens, 16-bit activations
    sampler = c * S * vocabulary                                S: max_num_seqs; c: bytes of a logit, by version
    low     = 0.9 * max(forward, sampler)
    high    = 1.1 * max(forward, sampler, encoder of images) + what stays: workspaces, communicators, graphs

The CUDA context and NCCL are not in it: since 0.7 vLLM takes its snapshot after them, so they lie in what the share
leaves over. Graphs are charged since 0.21; up to 0.8 there are ranks that do not sample. Up to 0.26 the profile run
sorts logits (values, indices and probabilities in addition to the logits); since 0.27 neither runner does: logits in 16
bits, their copy in 32, and what Gumbel noise takes at most.
Source: vLLM, v1/worker/gpu_worker.py (determine_available_memory), v1/worker/gpu/model_runner.py (_dummy_sampler_run),
v1/sample/ops/topk_topp_sampler.py; the other bounds by figures that vLLM printed in 48 start-ups of 0.6 to 0.31.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.engines.base.beside import Beside
from kvcalc.model.checkpoint import Widths
from kvcalc.units import GIB

_HALF_BYTES = 2
_GATE_UP_ACT, _HIDDEN_BUFFERS = 3, 4
_LOW, _HIGH = Fraction(9, 10), Fraction(11, 10)
_STATES_GIB = Fraction(13, 10)
"""What hybrid models keep more than others, workspaces of their kernels."""


class _Terms(NamedTuple):
    """What differs between versions. first: the first minor version that has them.

    logit_bytes: least and most of the sampler; None: a rank may not sample. context_gib, graphs_gib: most that is
    charged for the CUDA context, and for graphs of a usual batch, on one GPU and on several. encoder_gib: the largest
    peak of an encoder of images that was printed, rounded up.
    """

    first: int
    logit_bytes: tuple[int | None, int]
    context_gib: tuple[Fraction, Fraction]
    graphs_gib: tuple[int, int]
    encoder_gib: int


_CONTEXT = (Fraction(18, 10), Fraction(36, 10))
_NO_CONTEXT, _NO_GRAPHS = (Fraction(0), Fraction(0)), (0, 0)
_GRAPHS, _USUAL_BATCH, _LARGER_GRAPHS = (1, 2), 256, (1, 3)
"""Graphs of up to 256 sequences, and what those of more take in addition."""
_WORKSPACES_GIB = (Fraction(6, 10), Fraction(17, 10))
"""Non-torch memory and buffers that stay, on one GPU and on several (which may share symmetric memory)."""
_VERSIONS = (
    _Terms(27, (6, 14), _NO_CONTEXT, _GRAPHS, 3),
    _Terms(26, (10, 39), _NO_CONTEXT, _GRAPHS, 3),
    _Terms(21, (38, 39), _NO_CONTEXT, _GRAPHS, 3),
    _Terms(19, (38, 39), _NO_CONTEXT, _NO_GRAPHS, 3),
    _Terms(9, (38, 39), _NO_CONTEXT, _NO_GRAPHS, 7),
    _Terms(7, (None, 39), _NO_CONTEXT, _NO_GRAPHS, 7),
    _Terms(0, (None, 39), _CONTEXT, _NO_GRAPHS, 7),
)


def beside(widths: Widths, batch_tokens: int, sequences: int, ranks: int, minor: int) -> Beside:
    """The interval of a rank among `ranks` tensor-parallel ones, in vLLM 0.`minor`."""
    terms = next(each for each in _VERSIONS if minor >= each.first)
    least, most = terms.logit_bytes
    sampled = min(sequences, batch_tokens) * widths.vocab_size
    layer = _GATE_UP_ACT * Fraction(widths.intermediate_size, ranks) + _HIDDEN_BUFFERS * widths.hidden_size
    forward = _HALF_BYTES * batch_tokens * layer
    several = int(ranks > 1)
    stays = _WORKSPACES_GIB[several] + terms.context_gib[several] + terms.graphs_gib[several]
    if terms.graphs_gib[several] and sequences > _USUAL_BATCH:
        stays += _LARGER_GRAPHS[several]
    peak = max(forward, Fraction(most * sampled))
    words = "activations, sampler, graphs and workspaces"
    if widths.has_towers:
        peak = max(peak, Fraction(terms.encoder_gib * GIB))
        words = f"{words}, and an image encoder's peak, which is not known"
    if widths.has_states:
        stays, words = stays + _STATES_GIB, f"{words}, and states of hybrid layers"
    low = _LOW * max(forward, Fraction((least or 0) * sampled))
    high = _HIGH * peak + stays * GIB
    return Beside(int(low), int(high), words, "estimate from start-ups that vLLM printed")
