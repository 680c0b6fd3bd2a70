"""Other memory on a GPU besides weights and cache: activations, graphs, workspaces, contexts.

Some terms are arithmetic, others were only ever measured, so each is an interval with its source: the true sum lies
between the sums of their bounds in nine cases of ten. A reserve that is given takes its place.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from kvcalc.hardware.gpu import Gpu
from kvcalc.report.beside import Term

_UNIFIED_GIB = 6
"""Observed difference between start-ups of one model on one GB10."""
_ALONE_GIB, _RANKS_GIB = (Fraction(1, 5), Fraction(6, 5)), (Fraction(6, 5), Fraction(33, 10))
"""Least and most that PyTorch's context takes of one GPU, and with NCCL of several."""
_WITH_CPU_GIB = (6, 13)
"""Of memory that an operating system has its own part of."""
_CONTEXTS = "free memory that SGLang printed before it loads"


class Beside(NamedTuple):
    """Bytes on each GPU, between two bounds, and the terms that they are made of."""

    terms: tuple[Term, ...]

    @property
    def low_bytes(self) -> int:
        """The least of all terms."""
        return max(0, sum(term.low_bytes for term in self.terms))

    @property
    def high_bytes(self) -> int:
        """The most of all terms."""
        return max(0, sum(term.high_bytes for term in self.terms))

    @property
    def words(self) -> str:
        """What is counted."""
        return ", ".join(term.words for term in self.terms)

    @property
    def source(self) -> str:
        """Where the bounds came from."""
        return "; ".join(dict.fromkeys(term.source for term in self.terms))

    def __str__(self) -> str:
        """Each term with its bounds, those of one source together."""
        by_source = groupby(self.terms, key=lambda term: term.source)
        return "; ".join(f"{', '.join(map(str, terms))} ({source})" for source, terms in by_source)

    def on_unified_memory(self) -> Beside:
        """The same if the operating system allocates from the same memory, or frees it, while an engine measures it."""
        term = Term.of("memory shared with the CPU", -_UNIFIED_GIB, _UNIFIED_GIB, "start-ups on one GB10")
        return Beside((*self.terms, term))


def context(gpu: Gpu, ranks: int) -> Term:
    """What a process with PyTorch holds on each of its GPUs before it loads anything."""
    if gpu.is_unified:
        return Term.of("CUDA context, and what the CPU holds of the same memory", *_WITH_CPU_GIB, _CONTEXTS)
    if ranks == 1:
        return Term.of("CUDA context", *_ALONE_GIB, _CONTEXTS)
    return Term.of("CUDA context and communicators", *_RANKS_GIB, _CONTEXTS)
