"""Arguments of `vllm serve`, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvcalc.engines.base import Engine
from kvcalc.engines.base.settings import count_from, mapping, number_above_zero, one_of, setting, share
from kvcalc.engines.vllm.backends import BACKENDS
from kvcalc.engines.vllm.cpu import cpu_named
from kvcalc.engines.vllm.dtypes import ELEMENT_BYTES, check_cache_dtype
from kvcalc.engines.vllm.versions import VllmRelease
from kvcalc.errors import InvalidValueError
from kvcalc.hardware import gpu_named
from kvcalc.units import shown

SERVER, LLM = "server", "llm"
USAGES = (SERVER, LLM)
_MODEL_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
_NEWEST = VllmRelease(VllmRelease.newest())
_STATE_DTYPES = ("auto", *ELEMENT_BYTES)


@dataclass(frozen=True)
class VllmSettings(Engine):
    """Arguments of `vllm serve`, named and defaulted as vLLM names them, and the GPU that it runs on."""

    RELEASE = VllmRelease

    version: str = setting(_NEWEST.version, "version of vLLM")
    gpu: str = setting(
        "h100-80gb",
        "a name listed by `kvcalc gpus`, the driver's name, or cpu (cpu-amx, cpu-avx512, cpu-avx2); its kernels "
        "decide block sizes, its memory the batch",
    )
    kv_cache_dtype: str = setting(
        "auto", "format of the cache; auto: the model's, unless its checkpoint or class requires another"
    )
    block_size: int | None = setting(None, "tokens of a block; hybrids may raise it")
    max_model_len: int | None = setting(None, "longest request; default: the model's, -1: the longest that fits")
    usage: str = setting(USAGES[0], "server or llm (offline), which have batches of different sizes")
    speculative: Mapping[str, object] | None = setting(
        None, 'speculative decoding: {"method": "mtp", "num_speculative_tokens": 1}'
    )
    disable_hybrid_kv_cache_manager: bool | None = setting(
        None, "whether windows are allocated as full attention; default: only if vLLM has to"
    )
    enable_prefix_caching: bool | None = setting(None, "whether prefixes are kept; default: if the model allows it")
    prefix_match_unit: int | None = setting(
        None, "granularity of prefix hits in tokens, even inside a block of states; default: blocks"
    )
    max_num_batched_tokens: int | None = setting(None, "tokens of a batch; default: by the GPU's memory and usage")
    max_num_seqs: int | None = setting(None, "requests of a batch; default: by the GPU's memory")
    async_scheduling: bool | None = setting(None, "whether batches overlap; default: on")
    mamba_cache_dtype: str = setting("auto", "format of convolution states")
    mamba_ssm_cache_dtype: str = setting("auto", "format of recurrent states")
    num_gpu_blocks_override: int | None = setting(None, "fixed number of blocks")
    gpu_memory_utilization: float = setting(_NEWEST.gpu_memory_utilization, "share of the GPU's memory that vLLM takes")
    kv_cache_memory_bytes: int | None = setting(None, "the cache's bytes, instead of that share")
    kv_cache_dtype_skip_layers: Sequence[int | str] = setting(
        (), "layers that are not quantised: their indices, or sliding_window"
    )
    dtype: str = setting("auto", "dtype of the weights at run time")
    pp_layer_partition: Sequence[int] = setting((), "layers of each pipeline stage (VLLM_PP_LAYER_PARTITION)")
    attention_backend: str | None = setting(
        None, "attention kernels, such as TRITON_ATTN; default: by the model and the GPU"
    )
    use_v2_model_runner: bool = setting(True, "false: the older one (VLLM_USE_V2_MODEL_RUNNER)")
    kv_offloading_size: float | None = setting(
        None, "GiB of host memory for blocks, all ranks of a replica together; default: none"
    )
    kv_offloading_backend: str = setting("native", "backend: native or lmcache")
    kv_transfer_config: Mapping[str, object] | None = setting(
        None, "connectors, some of which keep blocks on the host: kv_connector, kv_connector_extra_config"
    )
    lmcache: Mapping[str, object] | None = setting(
        None, "LMCache's own configuration, if one of its connectors is used: max_local_cpu_size, max_local_disk_size"
    )

    @property
    def release(self) -> VllmRelease:
        """The version's rules."""
        return VllmRelease(self.version)

    def __post_init__(self) -> None:
        if cpu_named(self.gpu) is None:
            gpu_named(self.gpu)
        check_cache_dtype(self.kv_cache_dtype)
        one_of(self.usage, "usage", USAGES)
        one_of(self.dtype, "dtype", _MODEL_DTYPES)
        if self.attention_backend is not None:
            one_of(self.attention_backend, "attention_backend", tuple(BACKENDS))
        for field in ("mamba_cache_dtype", "mamba_ssm_cache_dtype"):
            one_of(getattr(self, field), field, _STATE_DTYPES)
        for field in ("block_size", "max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks_override"):
            count_from(getattr(self, field), field, 1)
        count_from(self.kv_cache_memory_bytes, "kv_cache_memory_bytes", 1)
        count_from(self.prefix_match_unit, "prefix_match_unit", 1)
        if self.max_model_len != -1 or isinstance(self.max_model_len, bool):
            count_from(self.max_model_len, "max_model_len", 1)
        for field in ("disable_hybrid_kv_cache_manager", "enable_prefix_caching", "async_scheduling"):
            _flag(getattr(self, field), field)
        _flag(self.use_v2_model_runner, "use_v2_model_runner")
        mapping(self.kv_transfer_config, "kv_transfer_config", "{kv_connector: NixlConnector}")
        mapping(self.lmcache, "lmcache", "{max_local_cpu_size: 20}")
        one_of(self.kv_offloading_backend, "kv_offloading_backend", ("native", "lmcache"))
        number_above_zero(self.kv_offloading_size, "kv_offloading_size")
        share(self.gpu_memory_utilization, "gpu_memory_utilization", self.release.gpu_memory_utilization)
        _list(self.kv_cache_dtype_skip_layers, "kv_cache_dtype_skip_layers", (int, str))
        _list(self.pp_layer_partition, "pp_layer_partition", (int,))


def _flag(value: object, field: str) -> None:
    """Raises InvalidValueError if a setting is neither None nor true or false."""
    if value is not None and not isinstance(value, bool):
        raise InvalidValueError(
            f"{field} must be true or false, not {shown(value)}", field=field, help=f"write {field}=true"
        )


def _list(value: object, field: str, kinds: tuple[type, ...]) -> None:
    """Raises InvalidValueError if a setting is not a list of values of these kinds."""
    if not isinstance(value, list | tuple) or any(type(item) not in kinds for item in value):
        raise InvalidValueError(
            f"{field} must be a list, not {shown(value)}", field=field, help=f'for example {{"{field}": [0, 1]}}'
        )
