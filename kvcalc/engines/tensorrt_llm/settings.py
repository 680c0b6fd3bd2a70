"""Settings of TensorRT-LLM's cache, and its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines.base import Engine
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.base.settings import count_from, one_of, setting, share
from kvcalc.engines.base.versions import Release
from kvcalc.errors import InvalidValueError
from kvcalc.units import shown

AUTO = "auto"
STORED = {**{name: dtype_named(name) for name in ("fp8", "nvfp4", "int8")}, "float16": dtype_named("fp16")}
_DTYPES = (AUTO, *STORED, "bfloat16", "float32")


class TensorrtLlmRelease(Release):
    """A version of TensorRT-LLM."""

    TITLE = "TensorRT-LLM"
    KNOWN = ("1",)


@dataclass(frozen=True)
class TensorrtLlmSettings(Engine):
    """Fields of KvCacheConfig, named and defaulted as TensorRT-LLM has them, and of the LLM around it."""

    RELEASE = TensorrtLlmRelease

    version: str = setting(TensorrtLlmRelease.newest(), "version of TensorRT-LLM; 1 is any 1.x")
    gpu: str = setting("h100-80gb", "a name listed by `kvcalc gpus`")
    dtype: str = setting(
        AUTO, "format of the cache: auto (the model's, or kv_dtype), fp8, nvfp4, int8, float16, bfloat16 or float32"
    )
    tokens_per_block: int = setting(32, "tokens of a block; engines that were built for TensorRT had 64")
    free_gpu_memory_fraction: float = setting(
        0.9, "share of the memory free after loading weights and measuring activations"
    )
    max_num_tokens: int = setting(8192, "tokens of a step, by which the memory of its activations is estimated")
    max_tokens: int | None = setting(None, "most tokens of the pool; the smaller of the two applies")
    host_cache_size: int | None = setting(None, "bytes of host memory per rank for offloaded blocks; default: none")
    max_attention_window: Sequence[int] = setting(
        (), "windows of the layers, repeated cyclically; default: every layer keeps every token"
    )
    max_seq_len: int | None = setting(None, "longest request; windows are not longer")

    def __post_init__(self) -> None:
        known_device(type(self), self.gpu)
        one_of(self.dtype, "dtype", _DTYPES)
        for field, value in (
            ("tokens_per_block", self.tokens_per_block),
            ("max_num_tokens", self.max_num_tokens),
            ("max_tokens", self.max_tokens),
            ("max_seq_len", self.max_seq_len),
        ):
            count_from(value, field, 1)
        count_from(self.host_cache_size, "host_cache_size", 0)
        if self.tokens_per_block is None or self.tokens_per_block & (self.tokens_per_block - 1):
            raise InvalidValueError(
                f"tokens_per_block must be a power of two, not {shown(self.tokens_per_block)}",
                field="tokens_per_block",
                help="write tokens_per_block=32",
            )
        share(self.free_gpu_memory_fraction, "free_gpu_memory_fraction", 0.9)
        object.__setattr__(self, "max_attention_window", _windows(self.max_attention_window))

    def has_several_windows(self, longest: int | None) -> bool:
        """Whether layers have several windows, after the longest request has cut them (is_vswa)."""
        return len({window if longest is None else min(window, longest) for window in self.max_attention_window}) > 1

    @property
    def release_words(self) -> str:
        """The version and which of its two managers."""
        return f"{self.version}.x, manager V1"


def _windows(given: object) -> tuple[int, ...]:
    """Windows of the layers; a single one may be written without a list."""
    windows = (given,) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(windows, list | tuple) or any(type(window) is not int or window < 1 for window in windows):
        raise InvalidValueError(
            f"max_attention_window must be a list of whole numbers, not {shown(given)}",
            field="max_attention_window",
            help='for example {"max_attention_window": [512, 512, 32768]}',
        )
    return tuple(windows)
