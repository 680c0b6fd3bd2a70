"""vLLM (V1, 0.33.0): its own KV-cache planner, from the outside: no GPU, and nothing of vLLM installed.

What a start-up decides, in its order, stands in `_vllm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from kvcalc.dtypes import Dtype
from kvcalc.engines import Allocation
from kvcalc.engines._block_plan import BlockPlan
from kvcalc.engines._vllm import VERSION
from kvcalc.engines._vllm.allocation import allocation_of
from kvcalc.engines._vllm.planning import capacity, plan
from kvcalc.engines._vllm.reporting import fit_report
from kvcalc.engines._vllm.requests import block_plan_of
from kvcalc.engines._vllm.run import DEFAULT_MAX_LEN, longest_by_config
from kvcalc.engines._vllm.settings import Settings
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Sharing
from kvcalc.report.fit import FitReport

SHARING = Sharing(extra_layers="before last", tokens=True)
"""get_pp_indices; heads that do not divide are refused."""


def allocate(model: Model, settings: Settings, kv_dtype: Dtype) -> Allocation:
    """Whole blocks, as vLLM reserves them for a request: those of a window with all tokens that may be in flight.

    The pages of a layer, padding included; what a block of the pool has more than the pages of its group is not any
    layer's, and `fit` counts it. Raises NotApplicableError for what vLLM refuses.
    """
    return allocation_of(model, plan(model, _settled(model, settings, kv_dtype)))


def allocate_rank(model: Model, settings: Settings, kv_dtype: Dtype, *, tp: int, pp: int, dcp: int) -> Allocation:
    """What a rank of such a layout reserves for each layer; dcp ranks share the tokens of each block."""
    if settings.pp_layer_partition:
        raise NotApplicableError("sizes of ranks know vLLM's own stages alone", help="ask kvcalc.fit, which knows any")
    return allocation_of(model, plan(model, _settled(model, settings, kv_dtype), tp=tp, pp=pp, dcp=dcp))


def _settled(model: Model, settings: Settings, kv_dtype: Dtype) -> Settings:
    """Settings with what a question says beside them: the format, and where nobody knows it a longest request."""
    if settings.kv_cache_dtype == "auto" and not kv_dtype.is_computed_in:
        settings = replace(settings, kv_cache_dtype=kv_dtype.name)
    if settings.max_model_len is None and longest_by_config(model) is None:
        return replace(settings, max_model_len=DEFAULT_MAX_LEN)  # no page and no rule of growth depends on it
    return settings


def notes(_: Model, __: Settings) -> tuple[str, ...]:
    """What a size in blocks is, and what it is not."""
    return (f"blocks that vLLM {VERSION} reserves for a request; kvcalc.fit knows the pool that they come from",)


def fit(model: Model, settings: Settings, *, tp: int, pp: int, dcp: int, available_bytes: Sequence[int]) -> FitReport:
    """What fits available_bytes of a rank of each pipeline stage. Raises NotApplicableError for what vLLM refuses."""
    planned = plan(model, settings, tp=tp, pp=pp, dcp=dcp)
    fitting = capacity(planned, settings, available_bytes)
    return fit_report(model.name, VERSION, planned, fitting)._replace(notes=model.notes)


def block_plan(model: Model, settings: Settings, kv_dtype: Dtype, *, tp: int, pp: int, dcp: int) -> BlockPlan:
    """Blocks that requests take of the pool, and how large they are on each stage. Raises as `fit` does."""
    planned = plan(model, _settled(model, settings, kv_dtype), tp=tp, pp=pp, dcp=dcp)
    known = settings.max_model_len is not None or longest_by_config(model) is not None
    return block_plan_of(planned, settings.num_gpu_blocks_override, limited=known)


MEMORY_SHARE, FIXED_MEMORY = "gpu_memory_utilization", "kv_cache_memory_bytes"


def left_for_cache(settings: Settings, memory_bytes: int, used_bytes: int) -> int:
    """ceil(memory * gpu_memory_utilization) less what is in use, as vLLM multiplies them (gpu_worker.py)."""
    return ceil(memory_bytes * settings.gpu_memory_utilization) - used_bytes
