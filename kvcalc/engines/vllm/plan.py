"""What a pool of vLLM's blocks holds: the rules by which requests take blocks, and vLLM's own report of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.engines.base.blocks import BlockPlan
from kvcalc.engines.vllm.capacity import Stage, longest_fitting, needed_bytes
from kvcalc.engines.vllm.planner import Planned, capacity, check_stages, for_requests_of, ranks_of
from kvcalc.engines.vllm.reporting import fit_report
from kvcalc.engines.vllm.run import longest_by_config, settle
from kvcalc.engines.vllm.settings import VllmSettings
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport

_NULL_BLOCKS = 1
"""The pool keeps its first block for itself."""


class VllmPlan(BlockPlan):
    """Blocks of vLLM's pool, planned once for any amount of memory.

    Raises NotApplicableError for groups that these ranks cannot share, and for stages without a cache.
    """

    def __init__(self, model: Model, settings: VllmSettings, ranks: Parallel, planned: Planned) -> None:
        limits = planned.run.limits
        check_stages(planned)
        known = settings.max_model_len is not None or longest_by_config(model) is not None
        super().__init__(
            planned.block_bytes,
            tuple(group.rules(limits) for group in planned.groups),
            spare_blocks=_NULL_BLOCKS,
            max_model_len=limits.max_model_len if known else None,
            num_blocks=settings.num_gpu_blocks_override,
            max_requests=planned.run.max_num_seqs,
        )
        self._model = model
        self._settings = settings
        self._ranks = ranks
        self._planned = planned

    def checked_bytes(self, tokens: int | None = None) -> int:
        """Bytes that one request must fit in, of the stage that needs most, as the version counts them.

        tokens: of the request, max_model_len if it is not given.
        """
        planned = self._planned
        limits = planned.run.limits if tokens is None else planned.run.limits._replace(max_model_len=tokens)
        return max(needed_bytes(planned.groups, limits, stage, planned.run.release) for stage in self._stages(0))

    def longest_in(self, usable_bytes: int) -> int:
        """Longest request, up to max_model_len, in the memory of the start-up check; 0 for none."""
        planned = self._planned
        return min(
            longest_fitting(planned.groups, planned.run.limits, stage, planned.run.release)
            for stage in self._stages(usable_bytes)
        )

    def usable_bytes(self, available_bytes: int) -> int:
        """The part of this memory that the start-up check counts, of the stage that has least."""
        return min(
            stage._replace(available_bytes=available_bytes).usable_bytes(self._planned.run.release)
            for stage in self._stages(0)
        )

    def _stages(self, usable_bytes: int) -> list[Stage]:
        """Each stage with this much usable memory."""
        release, found = self._planned.run.release, []
        for held, block_bytes in zip(self._planned.stages, self.block_bytes, strict=True):
            stage = Stage(held, block_bytes, usable_bytes)
            spare_bytes = usable_bytes - stage.usable_bytes(release)
            found.append(stage._replace(available_bytes=usable_bytes + spare_bytes))
        return found

    @property
    def block_size(self) -> int:
        """Tokens of a block of the model's attention."""
        return self._planned.block_size

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> FitReport:
        """What fits available_bytes of a rank of each stage. Raises NotApplicableError if vLLM would not start.

        Raises InvalidValueError if the longest request is unknown.
        """
        planned, settings = self._planned, self._settings
        asked = longest if settings.max_model_len is None else settings.max_model_len
        if asked != settings.max_model_len or self.max_model_len is None:
            settings = replace(settings, max_model_len=asked)
            run = settle(self._model, settings, ranks_of(self._model, settings, self._ranks))
            planned = for_requests_of(planned, run)
        report = fit_report(self._model.name, planned, capacity(planned, settings, available_bytes))
        return report._replace(notes=self._model.notes)
