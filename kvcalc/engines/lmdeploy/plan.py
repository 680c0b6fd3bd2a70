"""Plan of LMDeploy's PyTorch engine for the free memory: blocks, slots of states, and requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvcalc.cache.dtypes import BF16
from kvcalc.engines.base import Allocation
from kvcalc.engines.base.blocks import BlockPlan
from kvcalc.engines.base.plan import least
from kvcalc.engines.lmdeploy.reserve import Found, Reserve, state_slots
from kvcalc.engines.lmdeploy.serving import Serving, has_sparse_latent
from kvcalc.engines.lmdeploy.settings import LmdeploySettings
from kvcalc.engines.lmdeploy.tensors import ALIGNMENT
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.model import Model
from kvcalc.report.blocks import BlocksReport
from kvcalc.report.pool import Pool
from kvcalc.report.sheet import Json
from kvcalc.units import MIB, count

_DUMMY_BLOCKS = 1
"""Blocks for dummy inputs and padding, not for requests (num_reserved_gpu_blocks)."""


class Held(NamedTuple):
    """Contents of a block or a slot of states. layers: number of layers; tensors: total bytes by name."""

    layers: int
    tensors: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """Bytes of one block or slot, all tensors and layers."""
        return sum(size for _, size in self.tensors)


class LmdeployPlan(BlockPlan):
    """One block pool for all layers, a pool of states, and at most max_batch_size concurrent sequences.

    model: share of a tensor-parallel rank; stored: its tensors.
    """

    def __init__(self, model: Model, stored: Allocation, serving: Serving, settings: LmdeploySettings) -> None:
        self._model = model
        self._serving = serving
        self._settings = settings
        self._blocks = _held(model, stored, states=False)
        self._states = _held(model, stored, states=True)
        self._slots = state_slots(settings.batches, settings.prefix_cache_state_budget) if self._states.layers else 0
        self._reserve = self._reserve_of(model)
        super().__init__(
            (self._reserve.block_bytes,),
            ((serving.block_rule,),),
            spare_blocks=_DUMMY_BLOCKS,
            max_model_len=settings.session_len or model.published.longest_tokens or model.max_model_len,
            max_requests=settings.batches,
        )

    def _reserve_of(self, model: Model) -> Reserve:
        settings = self._settings
        vocab_size = settings.vocab_size or model.published.vocab_size
        if vocab_size is None:
            raise InvalidValueError(
                f"LMDeploy sets memory aside for logits before blocks, and the vocabulary size of {model.name} is "
                "unknown",
                field="vocab_size",
                help="set the engine's vocab_size (such as vocab_size=151936), or name the model by its config.json",
            )
        return Reserve(
            block_bytes=self._blocks.bytes,
            states_bytes=self._slots * self._states.bytes,
            scores_bytes=settings.dsa_indexer_max_logits_mb * MIB if has_sparse_latent(model) else 0,
            vocab_size=vocab_size,
            batches=settings.batches,
            prefill_tokens=settings.max_prefill_token_num,
            share=settings.cache_max_entry_count,
            num_blocks=settings.num_gpu_blocks,
        )

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """The least free memory with enough blocks for them, including states and logits."""
        return (self._reserve.least_bytes(sequences * self._blocks_of(tokens) + self.spare_blocks),)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether there are blocks for all of them at the same time."""
        most = self.max_sequences(tokens, cache_bytes)
        return most is None or sequences <= most

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Longest session of which this number fits; 0 above max_batch_size."""
        if sequences > self._settings.batches:
            return 0
        longest = self._longest_in(self.blocks_in(cache_bytes))
        return least([super().max_tokens(sequences, cache_bytes), longest])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Blocks divided by a request's, limited by concurrent requests; 0 if no session may be that long."""
        longest = self._longest_in(self.blocks_in(cache_bytes))
        if longest is not None and tokens > longest:
            self._blocks_of(tokens)  # refused if it is too long for any memory
            return 0
        return least([super().max_sequences(tokens, cache_bytes), self._settings.batches])

    def blocks_in(self, cache_bytes: int) -> int:
        """Blocks that LMDeploy creates in this free memory; 0 if it does not start."""
        try:
            return self._reserve.found(cache_bytes).num_blocks
        except NotApplicableError:
            return 0

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> BlocksReport:
        """LMDeploy's plan for the free memory. Raises NotApplicableError if it would not start."""
        settings, block_size = self._settings, self._serving.block_size
        found = self._reserve.found(available_bytes[0])
        asked = settings.session_len or longest or self.max_model_len
        session = least([asked, self._longest_in(found.num_blocks)]) or block_size
        return BlocksReport(
            model=self._model.name,
            engine=settings.name,
            version=settings.release_words,
            gpu=gpu_named(settings.gpu).name,
            available_bytes=tuple(available_bytes),
            stages=(tuple(self._pools_of(found)),),
            block_size=block_size,
            max_model_len=session,
            request_blocks=self.request_blocks(session),
            max_requests=settings.batches,
            reserved_bytes=found.reserved_bytes,
            resolved=tuple(self._resolved(found)),
            log_lines=(self._log_line(found),),
            notes=self._model.notes,
        )

    def _longest_in(self, num_blocks: int) -> int | None:
        """Longest session in this number of blocks, with one held back; None if a window makes it unlimited."""
        tokens = max(0, num_blocks - self.spare_blocks) * self._serving.block_size
        window = self._serving.window
        return None if window is not None and window <= tokens else max(0, tokens - self._serving.block_size)

    def _pools_of(self, found: Found) -> Iterator[Pool]:
        block, spare = f"block of {self._serving.block_size}", self.spare_blocks
        yield Pool("blocks", self._blocks.layers, block, found.num_blocks - spare, self._blocks.tensors, spare)
        if self._slots:
            batches = self._settings.batches
            yield Pool("states", self._states.layers, "sequence", batches, self._states.tensors, self._slots - batches)

    def _resolved(self, found: Found) -> Iterator[tuple[str, Json]]:
        yield ("block_size", self._serving.block_size)
        yield ("kernel_block_size", self._serving.kernel_block)
        yield ("quant_policy", self._serving.policy)
        yield ("max_batch_size", self._settings.batches)
        yield ("max_prefill_token_num", found.prefill_tokens)
        yield ("vocab_size", self._reserve.vocab_size)
        if self._slots:
            yield ("num_state_caches", self._slots)

    def _log_line(self, found: Found) -> str:
        """The beginning of the configuration that LMDeploy prints after counting its blocks."""
        serving, settings = self._serving, self._settings
        return (
            f"CacheConfig(max_batches={settings.batches}, block_size={serving.block_size}, num_cpu_blocks=0, "
            f"num_gpu_blocks={found.num_blocks}, kernel_block_size={serving.kernel_block}, "
            f"window_size={serving.window or -1}, cache_max_entry_count={settings.cache_max_entry_count}, "
            f"max_prefill_token_num={found.prefill_tokens}, ...)"
        )

    def _blocks_of(self, tokens: int) -> int:
        longest = self.max_model_len
        if longest is not None and tokens > longest:
            raise NotApplicableError(
                f"a request of {count(tokens)} tokens exceeds session_len ({count(longest)})",
                help=f"use at most {count(longest)} tokens, or raise session_len",
            )
        return self.request_blocks(tokens)


def _held(model: Model, stored: Allocation, *, states: bool) -> Held:
    """Bytes of a slot of states, with each tensor of all layers padded together; or of a block."""
    layers, found = 0, dict[str, int]()
    for group, tensors in zip(model.groups, stored, strict=True):
        own = [tensor for tensor in tensors if (tensor.slot_rule.constant is not None) == states]
        layers += len(group.layers) if own else 0
        for tensor in own:
            each_bytes = tensor.slot_rule.slots(1) * tensor.bytes_per_slot(BF16)
            found[tensor.name] = found.get(tensor.name, 0) + len(group.layers) * each_bytes
    step = ALIGNMENT if states else 1
    return Held(layers, tuple((name, -(-size // step) * step) for name, size in found.items()))
