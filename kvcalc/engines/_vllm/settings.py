"""Arguments of `vllm serve`, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvcalc.engines import count_from, one_of
from kvcalc.engines._checks import share
from kvcalc.engines._vllm.dtypes import ELEMENT_BYTES, check_cache_dtype
from kvcalc.errors import InvalidValueError
from kvcalc.hardware import gpu_named
from kvcalc.units import shown

SERVER, LLM = "server", "llm"
USAGES = (SERVER, LLM)
_MODEL_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
_STATE_DTYPES = ("auto", *ELEMENT_BYTES)


@dataclass(frozen=True)
class Settings:
    """Arguments of `vllm serve`, named and defaulted as vLLM 0.33.0 names them, and the GPU that it runs on.

    gpu: a name of presets/gpus.yaml, or the driver's own; its kernels decide block sizes, its memory the batch.
    kv_cache_dtype: auto is the model's, unless its checkpoint or class wants another.
    block_size: tokens of a block; hybrids may raise it.
    max_model_len: None for the model's own, -1 for the longest that fits.
    usage: `server` or `llm` (offline), which have batches of different sizes.
    speculative: `{"method": "mtp", "num_speculative_tokens": 1}`.
    disable_hybrid_kv_cache_manager: whether windows are allocated as full attention; None: where vLLM has to.
    enable_prefix_caching: None: where the model allows it.
    async_scheduling: None: on.
    gpu_memory_utilization: share of the GPU's memory that vLLM takes.
    kv_cache_memory_bytes: the cache's memory, in the place of that share.
    kv_cache_dtype_skip_layers: indices of layers that are not quantised, or sliding_window.
    dtype: of the weights as they are run.
    pp_layer_partition: layers of each pipeline stage (VLLM_PP_LAYER_PARTITION).
    use_v2_model_runner: False for the older one (VLLM_USE_V2_MODEL_RUNNER).
    """

    gpu: str = "h100-80gb"
    kv_cache_dtype: str = "auto"
    block_size: int | None = None
    max_model_len: int | None = None
    usage: str = USAGES[0]
    speculative: Mapping[str, Any] | None = None
    disable_hybrid_kv_cache_manager: bool | None = None
    enable_prefix_caching: bool | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    async_scheduling: bool | None = None
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    num_gpu_blocks_override: int | None = None
    gpu_memory_utilization: float = 0.92
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype_skip_layers: Sequence[int | str] = ()
    dtype: str = "auto"
    pp_layer_partition: Sequence[int] = ()
    use_v2_model_runner: bool = True

    def __post_init__(self) -> None:
        gpu_named(self.gpu)
        check_cache_dtype(self.kv_cache_dtype)
        one_of(self.usage, "usage", USAGES)
        one_of(self.dtype, "dtype", _MODEL_DTYPES)
        for field in ("mamba_cache_dtype", "mamba_ssm_cache_dtype"):
            one_of(getattr(self, field), field, _STATE_DTYPES)
        for field in ("block_size", "max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks_override"):
            count_from(getattr(self, field), field, 1)
        count_from(self.kv_cache_memory_bytes, "kv_cache_memory_bytes", 1)
        if self.max_model_len != -1 or isinstance(self.max_model_len, bool):
            count_from(self.max_model_len, "max_model_len", 1)
        for field in ("disable_hybrid_kv_cache_manager", "enable_prefix_caching", "async_scheduling"):
            _flag(getattr(self, field), field)
        _flag(self.use_v2_model_runner, "use_v2_model_runner")
        share(self.gpu_memory_utilization, "gpu_memory_utilization", 0.92)
        _list(self.kv_cache_dtype_skip_layers, "kv_cache_dtype_skip_layers", (int, str))
        _list(self.pp_layer_partition, "pp_layer_partition", (int,))


def _flag(value: object, field: str) -> None:
    """Raises InvalidValueError where a setting is neither None nor true or false."""
    if value is not None and not isinstance(value, bool):
        raise InvalidValueError(
            f"{field} must be true or false, not {shown(value)}", field=field, help=f"write {field}=true"
        )


def _list(value: object, field: str, kinds: tuple[type, ...]) -> None:
    """Raises InvalidValueError where a setting is no list of values of these kinds."""
    if not isinstance(value, list | tuple) or any(type(item) not in kinds for item in value):
        raise InvalidValueError(
            f"{field} must be a list, not {shown(value)}", field=field, help=f'for instance {{"{field}": [0, 1]}}'
        )
