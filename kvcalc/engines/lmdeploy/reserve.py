"""Memory that LMDeploy sets aside before it takes a share of the rest for blocks.

    free      - slots * bytes of a slot                        states, in slots of max_batch_size + 2 sequences
              - (prefill + 2 * max_batch_size) * vocab_size * 2  logits of an iteration, and an indexer's scores
    blocks    = int(what is left * cache_max_entry_count) // bytes of a block

prefill starts at max_prefill_token_num and is halved while fewer than 16 blocks are left, so that slightly less memory
may hold more blocks. The product with the share is in floats, as in LMDeploy.
Source: LMDeploy, pytorch/engine/executor/base.py (_get_runtime_size, _get_state_cache_mem, _update_num_gpu_blocks).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.errors import NotApplicableError

_LOGIT_BYTES = 2
_ENOUGH_BLOCKS, _TOO_FEW_BLOCKS = 16, 2
_SPARE_SLOTS = 2
"""Extra slots of states: one for the system, one for a rolling prefill."""


def state_slots(batches: int, budget: int) -> int:
    """Slots of states: max_batch_size, spare ones, and prefix_cache_state_budget."""
    return batches + _SPARE_SLOTS + budget


class Found(NamedTuple):
    """Blocks that fit, the tokens of an iteration that leave room for them, and the memory kept for those tokens."""

    num_blocks: int
    prefill_tokens: int
    reserved_bytes: int


class Reserve(NamedTuple):
    """block_bytes: of one block in all layers. states_bytes: of all slots. scores_bytes: of an indexer's scores.

    num_blocks: if fixed by a setting; 0: as many as fit.
    """

    block_bytes: int
    states_bytes: int
    scores_bytes: int
    vocab_size: int
    batches: int
    prefill_tokens: int
    share: float
    num_blocks: int

    def found(self, free_bytes: int) -> Found:
        """LMDeploy's blocks in this memory. Raises NotApplicableError with its message if it does not start."""
        left_bytes = free_bytes - self.states_bytes
        if left_bytes <= 0:
            raise NotApplicableError(
                "No enough gpu memory for state cache. Please reduce max_batch_size.",
                help="lower max_batch_size, or use more GPUs",
            )
        for prefill in self._prefills():
            fitting = self._fitting(left_bytes, prefill)
            if fitting <= _TOO_FEW_BLOCKS:
                raise _too_little("kv cache")
            if fitting >= _ENOUGH_BLOCKS or not prefill:
                return Found(self.num_blocks or fitting, prefill, self._reserved(prefill))
        raise _too_little("runtime")

    def least_bytes(self, blocks: int) -> int:
        """The least memory, including states, for at least this number of blocks."""
        if self.num_blocks:
            return self.states_bytes + self.num_blocks * self.block_bytes
        start, below, found = 0, None, []
        for prefill in self._prefills():
            start = start or self._left_for(_TOO_FEW_BLOCKS + 1, prefill)
            least = max(start, self._left_for(max(blocks, _ENOUGH_BLOCKS if prefill else 0), prefill))
            if below is None or least < below:
                found.append(least)
            below = self._left_for(_ENOUGH_BLOCKS, prefill)
        return self.states_bytes + min(found)

    def _prefills(self) -> Iterator[int]:
        """Tokens of an iteration to try, in order."""
        prefill = self.prefill_tokens
        yield prefill
        while prefill := prefill // 2:
            yield prefill

    def _reserved(self, prefill: int) -> int:
        """Bytes of logits and scores; 0 if an iteration has no tokens."""
        logits_bytes = (prefill + 2 * self.batches) * self.vocab_size * _LOGIT_BYTES
        return logits_bytes + self.scores_bytes if prefill else 0

    def _fitting(self, left_bytes: int, prefill: int) -> int:
        return int((left_bytes - self._reserved(prefill)) * self.share) // self.block_bytes

    def _left_for(self, blocks: int, prefill: int) -> int:
        """Least memory, after states, for this number of blocks plus the logits of an iteration."""
        left_bytes = self._reserved(prefill) + int(blocks * self.block_bytes / self.share)
        while self._fitting(left_bytes, prefill) < blocks:
            left_bytes += 1
        while self._fitting(left_bytes - 1, prefill) >= blocks:
            left_bytes -= 1
        return left_bytes


def _too_little(what: str) -> NotApplicableError:
    return NotApplicableError(
        f"No enough gpu memory for {what}.",
        help="lower max_prefill_token_num or max_batch_size, or use more GPUs",
    )
