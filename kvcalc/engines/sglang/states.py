"""The Mamba pool of SGLang: how many states fit, before any token.

    slots          floor((available * r / (1 + r) - slot) / slot), and a spare one; or as many as set, or as
                   requests may run, with the radix cache off
    with drafts    floor((available * r / (1 + r) - slot * (1 + D)) / (slot * (1 + D / k))), since each request also
                   has states after each of the D verified tokens

Under pipeline parallelism a slot counts as on the stage with most such layers, so that all stages have the same number.
Quotients are floats, as in SGLang.
Source: SGLang, mem_cache/kv_cache_configurator.py (_handle_max_mamba_cache), memory_pool.py (MambaPool).
"""

from __future__ import annotations

from kvcalc.engines.sglang.schedule import Drafts, Schedule
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.stage import Stage
from kvcalc.errors import NotApplicableError

_DEFAULT_RATIO, _INKLING_RATIO = 0.9, 0.1
"""mamba_full_memory_ratio if none is given."""


def states_of(stage: Stage, settings: SglangSettings, schedule: Schedule, available_bytes: int) -> tuple[int, int]:
    """Slots of the Mamba pool, and the memory left. Raises NotApplicableError if there are none."""
    slot = stage.largest_state_bytes
    if not slot:
        return 0, available_bytes
    size = _slots(stage, settings, schedule, available_bytes)
    if size <= 0:
        raise NotApplicableError(
            "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. "
            f"Computed max_mamba_cache_size={size}",
            help="lower max_running_requests, raise mem_fraction_static, or use GPUs with more memory",
        )
    left = available_bytes - (size + 1) * slot
    return size, left if schedule.drafts is None else left - _drafted_bytes(slot, size, schedule, schedule.drafts)


def _slots(stage: Stage, settings: SglangSettings, schedule: Schedule, available_bytes: int) -> int:
    slot, asked = stage.largest_state_bytes, settings.max_mamba_cache_size
    if asked is not None:
        return asked // schedule.dp
    if not schedule.keeps_prefixes and schedule.requests is not None:
        return schedule.requests
    default = _INKLING_RATIO if stage.is_inkling else _DEFAULT_RATIO
    ratio = settings.mamba_full_memory_ratio or default
    budget = available_bytes * ratio / (1 + ratio)
    if schedule.drafts is None:
        return int((budget - slot) // slot)
    drafted = schedule.drafts.tokens
    return int((budget - slot * (1 + drafted)) // (slot * (1 + drafted / schedule.states)))


def _drafted_bytes(slot: int, size: int, schedule: Schedule, drafts: Drafts) -> int:
    """Bytes reserved for the states after each draft token, of all requests and a spare one."""
    requests = min(schedule.requests or size, size // schedule.states)
    return slot * (requests + 1) * drafts.tokens
