"""The number of cells of a llama.cpp context: the arithmetic of llama_context and of its caches.

    n_ctx is padded to 256 cells; if each sequence has its own stream, its share of them is padded again cells of a
    sliding cache = pad(min(n_ctx_seq, window * (sequences of a stream) + n_ubatch), 256) rows of recurrent states =
    n_seq_max * (1 + n_rs_seq)

With s sequences in s streams pad(floor(pad(t, 256) / s), 256) is 256 * ceil(t / (256 s)) for s <= 256, so that every
cache has whole steps. And since n_ubatch is smaller than requested only if the context is shorter than that, in which
case n_ctx_seq is the smaller one anyway, the limit of a sliding cache does not depend on t.

Older versions pad to other steps than 256, or not at all, and give each stream of a hybrid the whole context.

Source: llama.cpp, src/llama-context.cpp, llama-kv-cache-iswa.cpp, llama-kv-cache-dsv4.cpp
and llama-memory-recurrent.cpp.
"""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.cache.slots.engines import in_steps
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule, ordinal

PADDING = 256
MAX_SEQUENCES = 256
"""LLAMA_MAX_SEQ."""


class Cells(NamedTuple):
    """Cells of one context.

    sequences: n_seq_max. streams: copies of a cache, each with its own cells. kv_unified: whether a stream has all of
    n_ctx. swa_full: whether sliding layers get as many cells as full ones. ubatch: most tokens computed at once.
    state_rows: rows of recurrent states.
    """

    sequences: int
    streams: int
    kv_unified: bool
    swa_full: bool
    ubatch: int
    state_rows: int
    padding: int = PADDING
    shared: bool = True

    @property
    def _tokens_of_step(self) -> int:
        """Tokens of the context for which each stream needs `padding` cells."""
        return self.padding * (1 if self.kv_unified or not self.shared else self.sequences)

    def full(self) -> SlotRule:
        """Cells of full-attention layers."""
        return self._cells("every token")

    def sliding(self, window: int) -> SlotRule:
        """Cells of layers with a window of `window` tokens."""
        if self.swa_full:
            return self._cells("every token (swa_full)")
        in_a_stream = self.sequences if self.streams == 1 else 1
        limit = self._padded(window * in_a_stream + self.ubatch)
        return self._cells(f"last {in_a_stream * window:,} + {self.ubatch:,}", limit=limit)

    def compressed(self, ratio: int) -> SlotRule:
        """Cells with one entry for each `ratio` tokens: pad(ceil(n_ctx_seq / ratio), 256)."""
        return self._cells(f"every {ordinal(ratio)} token", ratio=ratio)

    def states(self) -> SlotRule:
        """Rows of a recurrent state."""
        return once(self.state_rows, words="once for each sequence" if self.state_rows > 1 else "once")

    def planes(self) -> SlotRule:
        """States of a compressor: a plane for each stream and copy."""
        planes = self.streams * self.state_rows // self.sequences
        return once(planes, words="once for each stream" if planes > 1 else "once")

    def _cells(self, what: str, *, ratio: int = 1, limit: int | None = None) -> SlotRule:
        by = f", by {self.padding}" if self.padding > 1 or self.streams > 1 else ""
        steps = f"{what}{by}{f' x {self.streams} streams' if self.streams > 1 else ''}"
        total = None if limit is None else self.streams * limit
        return in_steps(ratio * self._tokens_of_step, self.padding * self.streams, total, steps)

    def _padded(self, cells: int) -> int:
        return -(-cells // self.padding) * self.padding
