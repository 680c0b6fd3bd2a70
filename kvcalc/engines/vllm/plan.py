"""What a pool of vLLM's blocks holds: the rules by which requests take blocks, and vLLM's own report of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.engines.base.blocks import BlockPlan
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
    """Blocks of vLLM's pool, planned once, whatever memory is asked about.

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
        )
        self._model = model
        self._settings = settings
        self._ranks = ranks
        self._planned = planned

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> FitReport:
        """What fits available_bytes of a rank of each stage. Raises NotApplicableError where vLLM would not start.

        Raises InvalidValueError where nobody says what the longest request is.
        """
        planned, settings = self._planned, self._settings
        asked = longest if settings.max_model_len is None else settings.max_model_len
        if asked != settings.max_model_len or self.max_model_len is None:
            settings = replace(settings, max_model_len=asked)
            run = settle(self._model, settings, ranks_of(self._model, settings, self._ranks))
            planned = for_requests_of(planned, run)
        report = fit_report(self._model.name, planned, capacity(planned, settings, available_bytes))
        return report._replace(notes=self._model.notes)
