"""vLLM (V1): its own KV-cache planner, from the outside: no GPU, and nothing of vLLM installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, floor
from typing import TYPE_CHECKING

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.engines.base import Allocation, Workload
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.loading import QUANTISED
from kvcalc.engines.vllm.allocation import HOLDS, allocation_of, told_apart
from kvcalc.engines.vllm.beside import Batch, beside
from kvcalc.engines.vllm.cpu import cpu_named
from kvcalc.engines.vllm.drafting import draft_named_in, drafted_by
from kvcalc.engines.vllm.dtypes import COMPUTED, MODEL, TURBOQUANT
from kvcalc.engines.vllm.layers import draft_groups
from kvcalc.engines.vllm.plan import VllmPlan
from kvcalc.engines.vllm.planner import PARTITION, Planned, plan
from kvcalc.engines.vllm.quirks import is_one_of
from kvcalc.engines.vllm.ranks import Ranks
from kvcalc.engines.vllm.run import DEFAULT_MAX_LEN, declared_format, longest_by_config, settle
from kvcalc.engines.vllm.scheduling.settings import REPLAYED, SchedulerSettings
from kvcalc.engines.vllm.settings import VllmSettings
from kvcalc.engines.vllm.support import SUPPORT
from kvcalc.engines.vllm.tiers import tiers_of
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import CPU, NVIDIA
from kvcalc.model import Model, with_draft_layers, with_drafts_apart
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel, Sharing
from kvcalc.report.tiers import Tier

if TYPE_CHECKING:
    from kvcalc.engines.base.traffic import Scheduler

_STEPS = 1000
"""Shares are written in thousandths."""
_SHARING = Sharing(extra_layers="before last", drafts_last=True, tokens=True, experts=True)
"""get_pp_indices; heads that do not divide are refused."""


class Vllm(VllmSettings):
    """vLLM: whole blocks of one pool, planned for all ranks together."""

    TITLE = "vLLM"
    VENDORS = (NVIDIA, CPU)
    VERIFIED = (
        "measured: equal to 0.33.0's own planner in 379 start-ups, run without a GPU for 30 models on 4 GPUs, and to "
        "17 versions' in 433 for 22 models on one; on a CPU in 219 of 221 start-ups and requests of 0.32.0"
    )
    SUPPORT = SUPPORT
    LOADS = QUANTISED
    HOLDS = HOLDS
    PLANS_STAGES = True
    SHARE = "gpu_memory_utilization"
    FIXED = "kv_cache_memory_bytes"
    REPLAYED = REPLAYED
    SCHEDULER = SchedulerSettings

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Whole blocks of one request at its peak, with no prefix cached before.

        The pages of a layer, padding included; the part of a pool's block beyond its group's pages belongs to no layer,
        and `fit` counts it.
        Raises NotApplicableError for what vLLM refuses.
        """
        whole = replace(self, pp_layer_partition=())
        return allocation_of(model, whole._planned(model, kv_dtype, Parallel()))

    def allocate_rank(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Allocation:
        """What a rank of such a layout reserves for each layer; dcp ranks share the tokens of each block."""
        return allocation_of(model, self._planned(model, kv_dtype, ranks))

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> VllmPlan:
        """Blocks that requests take of the pool, and their size on each stage.

        Raises NotApplicableError for what vLLM refuses, in its words.
        """
        planned = self._planned(model, kv_dtype, ranks)
        return VllmPlan(self._apart(model), self._in_format(kv_dtype), ranks, planned)

    def planned(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Planned:
        """Groups and pages of `model`. Raises NotApplicableError for what vLLM refuses, in its words."""
        return self._planned(model, kv_dtype, ranks)

    def scheduler(
        self,
        model: Model,
        kv_dtype: Dtype,
        settings: Mapping[str, object],
        num_blocks: int | None = None,
        parallel: Parallel | None = None,
    ) -> Scheduler:
        """Its idle scheduler; num_blocks: of the pool, if not in `settings`.

        Raises NotApplicableError for what vLLM refuses or kvcalc does not replay.
        """
        from kvcalc.engines.vllm.scheduling.building import started

        return started(self, model, kv_dtype, settings, num_blocks, parallel or Parallel())

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """Peaks of a forward pass and of the sampler; None if the cache's bytes are set, and on a CPU."""
        del tokens
        if self.kv_cache_memory_bytes is not None or cpu_named(self.gpu) is not None:
            return None
        run = settle(self._apart(model), self._settled(model, kv_dtype), Ranks())
        batch = Batch(run.max_num_batched_tokens, run.max_num_seqs, run.limits.max_model_len)
        found = beside(widths, batch, ranks, int(self.version.split(".")[1]))
        return found.on_unified_memory() if gpu_named(self.gpu).is_unified else found

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """Host memory of its connectors."""
        del model, kv_dtype, workload
        return tuple(tiers_of(self, ranks))

    def together(self, model: str, gpu_bytes: int, others: Sequence[tuple[str, int]]) -> str:
        """A share of the whole GPU for each, which add up."""
        shares = {name: ceil(taken * _STEPS / gpu_bytes) / _STEPS for name, taken in others}
        own = floor((self.gpu_memory_utilization - sum(shares.values())) * _STEPS) / _STEPS
        said = ", ".join(f"{name} {share:g}" for name, share in [(model, max(0, own)), *shares.items()])
        return f"each vLLM takes a share of the whole GPU ({self.SHARE}): {said}"

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """ceil(memory * gpu_memory_utilization) less what is in use, as vLLM multiplies them (gpu_worker.py)."""
        return ceil(memory_bytes * self.gpu_memory_utilization) - used_bytes

    @property
    def share_words(self) -> str:
        """The setting and its value."""
        return f"{self.SHARE} {self.gpu_memory_utilization:g}"

    @property
    def fixed_bytes(self) -> int | None:
        """kv_cache_memory_bytes."""
        return self.kv_cache_memory_bytes

    @property
    def sharing(self) -> Sharing:
        """Layers left over go to the stages before the last, unless a setting says what each holds."""
        given = tuple(self.pp_layer_partition)
        return _SHARING._replace(stages=(given, PARTITION)) if given else _SHARING

    def notes(self, model: Model) -> tuple[str, ...]:
        """What a size in blocks means."""
        del model
        return (f"blocks that one request holds in vLLM {self.version} at its peak; kvcalc fit sizes the pool",)

    def served(self, model: Model) -> Model:
        """With draft layers if speculative is set; unquantised layers separate."""
        loaded = self._with_drafts(model)
        if not (self.kv_cache_dtype_skip_layers or self.kv_cache_dtype in TURBOQUANT):
            return loaded
        apart = self._apart(model)
        return told_apart(loaded, settle(apart, self._settled(apart, BF16), Ranks()).skipped_layers)

    def _with_drafts(self, model: Model) -> Model:
        apart = self._apart(model)
        if not self.speculative or not settle(apart, self._settled(apart, BF16), Ranks()).speculation.has_layers:
            return model
        return with_draft_layers(replace(apart, draft_groups=draft_groups(apart))) if apart is model else model

    @property
    def draft_model(self) -> str | None:
        """The model of speculative."""
        return draft_named_in(self)

    def drafted_by(self, model: Model, drafter: Model) -> Model:
        """With all layers of the draft, or only those of multi-token prediction, by its method and type."""
        return drafted_by(model, drafter, self)

    def cache_format(self, model: Model, kv_dtype: Dtype) -> str:
        """kv_cache_dtype as resolved: the setting, the checkpoint's, or else the model's own."""
        run = settle(self._apart(model), self._settled(model, kv_dtype), Ranks())
        plain = run.cache_dtype in MODEL or self._keeps_model_dtype(model)
        return COMPUTED[run.model_dtype] if plain else run.cache_dtype

    def _keeps_model_dtype(self, model: Model) -> bool:
        return is_one_of(model, self.release.keeps_model_dtype)

    def caveats(self, model: Model) -> tuple[str, ...]:
        """Notes: no class for the model; layers or a checkpoint that decide the format of the cache."""
        found = super().caveats(model)
        if self._keeps_model_dtype(model):
            own = (
                f"layers of {model.name} ignore kv_cache_dtype: vLLM {self.version} caches them in the model's dtype",
            )
            return found + own
        if self.kv_cache_dtype == "auto" and (declared := declared_format(model, self.release)):
            found += (f"the checkpoint declares its cache {declared}, which kv_cache_dtype=auto follows",)
        return found

    def _apart(self, model: Model) -> Model:
        """With draft layers where the planner expects them, if it does."""
        return with_drafts_apart(model) if self.speculative else model

    def _planned(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Planned:
        apart = self._apart(model)
        return plan(apart, self._settled(apart, kv_dtype), ranks)

    def _settled(self, model: Model, kv_dtype: Dtype) -> Vllm:
        """With the question's format, and a longest request if it is unknown."""
        settled = self._in_format(kv_dtype)
        if settled.max_model_len is None and longest_by_config(model) is None:
            return replace(settled, max_model_len=DEFAULT_MAX_LEN)  # no page and no rule of growth depends on it
        return settled

    def _in_format(self, kv_dtype: Dtype) -> Vllm:
        if self.kv_cache_dtype == "auto" and not kv_dtype.is_computed_in:
            return replace(self, kv_cache_dtype=kv_dtype.name)
        return self
