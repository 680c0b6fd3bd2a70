"""vLLM's memory on a GPU in addition to weights and cache, within its share.

    forward = 2 * T * (3 * intermediate / tp + 4 * hidden)     T: max_num_batched_tokens, 16-bit activations
    sampler = c * S * vocabulary                               S: max_num_seqs; c: bytes of a logit, by version
    encoder = 2 * p * e * width                                p: patches of the largest image; e: elements of each
    peak    = 0.9 to 1.1 times the largest of them

Persistent memory (workspaces, communicators, graphs) is measured. The CUDA context and NCCL are excluded: since 0.7
vLLM takes its snapshot after them, so they lie outside the share. Graphs are charged since 0.21; up to 0.8, and on
pipeline stages, there are ranks that do not sample.

Bytes of a logit: up to 0.16 the profile run sorts logits (values, indices and probabilities in addition to them),
unless FlashInfer samples; from 0.17 on a kernel chooses without a sort (logits in 32 bits, their copy, two buffers);
0.26 has either runner; from 0.27 on neither sorts: logits in 16 bits, their copy in 32, and what Gumbel noise takes.
An image of 16,384 tokens, four patches each, is the largest that processors of the Qwen family let through.
Source: vLLM, v1/worker/gpu_worker.py (determine_available_memory), v1/worker/gpu/model_runner.py (_dummy_sampler_run),
v1/sample/ops/topk_topp_sampler.py; the other bounds by figures that vLLM printed in 120 start-ups of 0.6 to 0.31.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.engines.base.beside import Beside
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel
from kvcalc.report.beside import Term
from kvcalc.units import GIB

_HALF_BYTES = 2
_GATE_UP_ACT, _HIDDEN_BUFFERS = 3, 4
_LOW, _HIGH = Fraction(9, 10), Fraction(11, 10)
_READ, _PRINTED = "arithmetic of its profile run", "vLLM's start-up logs"
_READ_OF_IMAGES = f"{_READ}, images by {_PRINTED}"


class Batch(NamedTuple):
    """What the profile run computes: max_num_batched_tokens, max_num_seqs, and tokens of the longest request."""

    tokens: int
    sequences: int
    longest: int


class _Terms(NamedTuple):
    """Values by version. first: the first minor version with them.

    logit_bytes: least and most of the sampler; None: a rank may not sample. encoder_gib: the largest peak of an encoder
    of images of unknown size that was printed, rounded up. Then whether images of any size have a known peak, the CUDA
    context is charged, graphs are, and hybrid models keep workspaces.
    """

    first: int
    logit_bytes: tuple[Fraction | None, Fraction]
    encoder_gib: int
    knows_encoder: bool = True
    charges_context: bool = False
    charges_graphs: bool = False
    keeps_for_states: bool = False


_SORTED, _CHOSEN = Fraction(79, 2), (Fraction(14), Fraction(33, 2))
_VERSIONS = (
    _Terms(27, (Fraction(6), Fraction(16)), 3, charges_graphs=True, keeps_for_states=True),
    _Terms(26, (Fraction(10), Fraction(30)), 3, charges_graphs=True),
    _Terms(21, _CHOSEN, 3, charges_graphs=True),
    _Terms(17, _CHOSEN, 3),
    _Terms(9, (Fraction(16), _SORTED), 7, knows_encoder=False),
    _Terms(7, (None, _SORTED), 7, knows_encoder=False),
    _Terms(0, (None, _SORTED), 7, knows_encoder=False, charges_context=True),
)
_WORKSPACES_GIB = (Fraction(6, 10), Fraction(24, 10))
"""Non-torch memory and buffers that stay, on one GPU and on several (which may share symmetric memory)."""
_CONTEXT_GIB = (Fraction(18, 10), Fraction(36, 10))
_GRAPHS_GIB, _USUAL_BATCH, _LARGER_GRAPHS_GIB = (1, 2), 256, (1, 2)
"""Graphs of up to 256 sequences, and what those of more take in addition: 3.45 GiB were the most on several GPUs, and
the estimate that is charged is 1.16 times what they take, in the median."""
_STATES_GIB = Fraction(7, 10)
"""Additional workspaces of hybrid models' kernels."""
_LARGEST_IMAGE_TOKENS, _PATCHES = 16_384, 4
_WHOLE, _DIVIDED = (4, 9), (6, 16)
"""Elements of a patch, in widths of the encoder, at least and at most: what each rank holds, and what ranks divide."""


def beside(widths: Widths, batch: Batch, ranks: Parallel, minor: int) -> Beside:
    """The interval of a rank of such a layout, in vLLM 0.`minor`."""
    version = next(each for each in _VERSIONS if minor >= each.first)
    several = int(ranks.tp > 1)
    found = [
        _peak(widths, batch, ranks, version),
        Term.of("workspaces and communicators", 0, _WORKSPACES_GIB[several], _PRINTED),
    ]
    if version.charges_context:
        found.append(Term.of("the CUDA context", 0, _CONTEXT_GIB[several], _PRINTED))
    if version.charges_graphs:
        larger = _LARGER_GRAPHS_GIB[several] if batch.sequences > _USUAL_BATCH else 0
        found.append(Term.of("graphs", 0, _GRAPHS_GIB[several] + larger, _PRINTED))
    if version.keeps_for_states and widths.has_states:
        found.append(Term.of("workspaces of hybrid layers", 0, _STATES_GIB, _PRINTED))
    return Beside(tuple(found))


def _peak(widths: Widths, batch: Batch, ranks: Parallel, version: _Terms) -> Term:
    """Bytes at the peak of the profile run."""
    least, most = version.logit_bytes
    logits = min(batch.sequences, batch.tokens) * widths.vocab_size
    layer = _GATE_UP_ACT * Fraction(widths.intermediate_size, ranks.tp) + _HIDDEN_BUFFERS * widths.hidden_size
    forward = _HALF_BYTES * batch.tokens * layer
    low = max(forward, logits * (least or 0) if ranks.pp == 1 else 0)
    high = max(forward, logits * most)
    words, source = "peak of activations and sampler", _READ
    if widths.has_towers:
        encoder = _encoder(widths, batch, ranks.tp, version)
        low, high = max(low, encoder[0]), max(high, encoder[1] / _HIGH)
        words, source = "peak of activations, sampler and image encoder", _READ_OF_IMAGES
    return Term(words, int(_LOW * low), int(_HIGH * high), source)


def _encoder(widths: Widths, batch: Batch, tp: int, version: _Terms) -> tuple[Fraction, Fraction]:
    """Least and most bytes of an encoder's own peak; the least is 0 if the size of its images is unknown."""
    if not (version.knows_encoder and widths.any_image_size):
        return Fraction(0), Fraction(version.encoder_gib * GIB)
    low, high = (
        _HALF_BYTES * _PATCHES * tokens * widths.tower_size * (whole + Fraction(divided, tp))
        for tokens, whole, divided in zip(
            (min(_LARGEST_IMAGE_TOKENS, batch.longest), _LARGEST_IMAGE_TOKENS), _WHOLE, _DIVIDED, strict=True
        )
    )
    return low, high
