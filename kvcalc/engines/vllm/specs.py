"""Per-layer KV-cache specs for vLLM's planner: the size of a page, and the blocks that a request takes.

A page is one layer's part of a block. Which specs may share a block table is also decided here.
Source: vLLM, v1/kv_cache_interface.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

from kvcalc.cache.slots.engines import blocks_while_read, switched, whole_blocks
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.errors import NotApplicableError

FULL, MLA, SLIDING, SLIDING_MLA = "full_attention", "mla_attention", "sliding_window", "sliding_window_mla"
CHUNKED, CROSS, STATE = "chunked_local_attention", "cross_attention", "mamba"
CIRCULAR = "circular_buffer"
_EVERY_TOKEN, _WINDOWS = (FULL, MLA), (SLIDING, SLIDING_MLA)
_REMEMBERED = 1024
"""Number of cached rules; a model has about two."""


class Limits(NamedTuple):
    """Limits of a request, and of what may be in flight at the same time, in tokens.

    max_model_len: longest request. in_flight_tokens: of all batches that run at the same time. encoder_tokens: reserved
    for an encoder's output. dcp: ranks that share the tokens of full attention. extra_window_tokens: kept behind every
    window for draft modules that read ahead. keeps_states: whether states of prefixes are cached (`align`).
    speculative_tokens: drafts whose states are kept until they are accepted. batch_tokens: of one batch
    (max_num_batched_tokens), of which as many are in flight as in_flight_tokens has room for.
    """

    max_model_len: int
    in_flight_tokens: int
    encoder_tokens: int
    dcp: int = 1
    extra_window_tokens: int = 0
    keeps_states: bool = False
    speculative_tokens: int = 0
    batch_tokens: int = 0


class Spec(NamedTuple):
    """What one layer caches.

    kind: as vLLM names it.
    block_size: tokens of a block.
    state_bytes: bytes of one stored state of all heads; of a recurrent layer, all of its states.
    shape: whatever else must be equal for layers to share a block table: heads, widths, format, role.
    tokens_per_state: tokens that one stored state stands for.
    window: tokens that a sliding or chunked layer sees; of a full layer, its window before windows were given up.
    chunked: whether that window is a chunk.
    alignment: a page is a multiple of this many bytes.
    padded_bytes: size to which a page is padded.
    stride_bytes: the distance between two blocks is a multiple of this.
    kernel_block: largest block of the kernels, of which a larger block is a multiple.
    checkpoint_blocks: blocks for states that a recurrent layer leaves behind while reading a prompt.
    """

    kind: str
    block_size: int
    state_bytes: int
    shape: tuple[object, ...] = ()
    tokens_per_state: int = 1
    window: int | None = None
    chunked: bool = False
    alignment: int = 1
    padded_bytes: int | None = None
    stride_bytes: int = 1
    kernel_block: int | None = None
    checkpoint_blocks: int = 0

    @property
    def unpadded_bytes(self) -> int:
        """Page as the kernels fill it."""
        states = 1 if self.kind == STATE else self.block_size // self.tokens_per_state
        return states * self.state_bytes

    @property
    def page_bytes(self) -> int:
        """Page as it is laid out."""
        if self.padded_bytes is not None:
            return self.padded_bytes
        return round_up(self.unpadded_bytes, self.alignment)

    @property
    def stride_alignment_bytes(self) -> int:
        """The distance between two blocks is a multiple of this."""
        if self.kernel_block is None:
            return self.stride_bytes
        kernel_block = gcd(self.kernel_block, self.block_size)
        return 1 if kernel_block == self.block_size else self._replace(block_size=kernel_block).page_bytes

    @property
    def is_dcp_sharded(self) -> bool:
        """Whether ranks of decode context parallelism share its tokens."""
        return self.kind != STATE

    def held(self, limits: Limits) -> SlotRule:
        """Blocks of a request of t tokens at its peak, alone and with no prefix cached before.

        A window or a chunk frees blocks out of reach once the batch that read them is done.
        Source: v1/core/single_type_kv_cache_manager.py (remove_skipped_blocks, MambaManager); live requests.
        """
        planned = self.rule(limits)
        if self.kind in (*_WINDOWS, CHUNKED) and limits.batch_tokens:
            return _held_while_read(self._replace(shape=()), limits, str(planned))
        if self.kind == STATE and limits.keeps_states:
            return self._held_states(limits, planned)
        return planned

    def _held_states(self, limits: Limits, planned: SlotRule) -> SlotRule:
        """One state until a block is full; then also that of the block before it, or a checkpoint; else all planned."""
        words, first = str(planned), self.block_size + 1
        running, second = (once(number + limits.speculative_tokens) for number in (1, 2))
        if self.checkpoint_blocks and limits.batch_tokens >= first:  # one batch reads it, and has none before it
            planned = switched(second, limits.batch_tokens + 1, planned, words)
        return switched(running, first, planned, words)

    def freed(self, processed_tokens: int, limits: Limits) -> int:
        """Blocks that no later token reads."""
        if self.kind == CHUNKED:
            chunk = self.window or 1
            return processed_tokens // chunk * chunk // self.block_size
        reach = self._reach(limits) - limits.in_flight_tokens
        return max(0, processed_tokens - reach) // self.block_size

    def rule(self, limits: Limits) -> SlotRule:
        """Planned blocks of a request, by its tokens.

        A window may begin inside a block, so it touches one block more than its tokens fill.
        Raises NotApplicableError for windows that ranks would share.
        """
        window, in_flight = self.window or 0, limits.in_flight_tokens
        if self.kind in _WINDOWS:
            if limits.dcp > 1:
                raise NotApplicableError(
                    f"vLLM cannot divide sliding windows by decode context parallelism (dcp {limits.dcp})",
                    help="use dcp=1, or set disable_hybrid_kv_cache_manager",
                )
            return whole_blocks(self.block_size, self._reach(limits), 1)
        if self.kind == CHUNKED:
            return whole_blocks(self.block_size, window + in_flight)
        if self.kind == CIRCULAR:
            return once(words="a separate ring")
        if self.kind in (CROSS, STATE):
            return once(self._blocks_of_its_own(limits), words="separate blocks")
        return whole_blocks(self.block_size * limits.dcp)

    def _reach(self, limits: Limits) -> int:
        """Tokens that a window and a batch in flight read together."""
        return (self.window or 0) - 1 + limits.extra_window_tokens + limits.in_flight_tokens

    def _blocks_of_its_own(self, limits: Limits) -> int:
        """Blocks of an encoder's output, or of states: those of prefixes, of drafts, and those left behind."""
        if self.kind == CROSS:
            return ceil_div(limits.encoder_tokens, self.block_size)
        kept = 2 + self.checkpoint_blocks if limits.keeps_states else 1
        return kept + limits.speculative_tokens

    def blocks(self, limits: Limits) -> int:
        """Blocks that one request of max_model_len tokens takes."""
        return self.rule(limits).slots(limits.max_model_len)


@lru_cache(maxsize=_REMEMBERED)
def _held_while_read(spec: Spec, limits: Limits, words: str) -> SlotRule:
    """Blocks of a window or a chunk, batch after batch; tokens in flight are not done yet."""
    block, batch = spec.block_size, limits.batch_tokens
    in_flight = limits.in_flight_tokens - batch
    sight = (spec.window or 0) + limits.extra_window_tokens + block + in_flight
    every = lcm(block, batch, (spec.window or 1) if spec.kind == CHUNKED else 1)  # tokens after which it repeats
    return blocks_while_read(
        block,
        batch,
        round_up(sight, batch) + every,
        lambda start: spec.freed(max(0, start - in_flight), limits),
        words,
    )


def ceil_div(number: int, divisor: int) -> int:
    """ceil(number / divisor)."""
    return -(-number // divisor)


def round_up(number: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `number`."""
    return ceil_div(number, step) * step


def merged(specs: Sequence[Spec]) -> Spec | None:
    """The one spec that stands for all, or None if they cannot share a block table as if they were one layer.

    Full layers may differ in their former windows, as long as there is only one such window.
    """
    first, *others = specs
    if first.kind != FULL:
        return first if all(spec == first for spec in others) else None
    plain = first._replace(window=None, chunked=False)
    if any(spec._replace(window=None, chunked=False) != plain for spec in others):
        return None
    windows = {(spec.window, spec.chunked) for spec in specs if spec.window is not None}
    if len(windows) > 1:
        return None
    window, chunked = windows.pop() if windows else (None, False)
    return plain._replace(window=window, chunked=chunked)


def alike(specs: Sequence[Spec]) -> bool:
    """Whether layers always need equally many blocks, so they may share a block table, each with its own page."""
    first = specs[0]
    if any(s.block_size != first.block_size or s.is_dcp_sharded != first.is_dcp_sharded for s in specs):
        return False
    if first.kind in _EVERY_TOKEN:
        return all(spec.kind in _EVERY_TOKEN for spec in specs)
    if first.kind == SLIDING:
        return all(spec.kind in _WINDOWS and spec.window == first.window for spec in specs)
    if first.kind in (SLIDING_MLA, CHUNKED):
        return all(spec.kind == first.kind and spec.window == first.window for spec in specs)
    if first.kind == STATE:
        return all(
            spec.kind == STATE
            and spec.checkpoint_blocks == first.checkpoint_blocks
            and spec.page_bytes == first.page_bytes
            for spec in specs
        )
    return all(spec.kind == first.kind for spec in specs)
