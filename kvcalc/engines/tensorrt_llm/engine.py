"""TensorRT-LLM with its KV-cache manager V1: the whole blocks of requests, and their pools.

A size is what requests take, in whole blocks; the pools are `kvcalc.fit`'s. Manager V2 and its byte quotas are not
modelled. Each tensor-parallel rank holds ceil(num_kv_heads / tp) KV heads, and whole latents. Attention data
parallelism (enable_attention_dp) is tp=1 and dp here.
"""

from __future__ import annotations

from dataclasses import replace

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.engines.base import Allocation, Workload
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.pools import check_own_format
from kvcalc.engines.tensorrt_llm.beside import beside
from kvcalc.engines.tensorrt_llm.plan import TensorrtLlmPlan
from kvcalc.engines.tensorrt_llm.settings import AUTO, TensorrtLlmSettings
from kvcalc.engines.tensorrt_llm.tensors import by_window, dtype_of, tensors_of
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import NVIDIA
from kvcalc.model import Model
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel, Sharing
from kvcalc.report.tiers import HOST, Tier

_SHARING = Sharing(
    kv_heads="ceil",
    extra_layers="first",
    experts=True,
    caveat="some of what the ranks hold is duplicated, or never written",
)
"""(num_kv_heads + tp - 1) // tp of each layer (KVCacheManager), and layers left over in the first stages (Mapping)."""

_FLOATS = {"fp16": "float16", "fp32": "float32"}
"""Formats that its setting calls by another name."""


class TensorrtLlm(TensorrtLlmSettings):
    """TensorRT-LLM: a pool of blocks for each attention window."""

    TITLE = "TensorRT-LLM"
    VENDORS = (NVIDIA,)
    VERIFIED = (
        "305 plans of a transcription of its Python arithmetic, equal; the package was not run; 4 sizes in users' logs"
    )
    SHARE = "free_gpu_memory_fraction"
    FIXED = ""

    def cache_format(self, model: Model, kv_dtype: Dtype) -> str:
        """The format setting, if it is set."""
        return super().cache_format(model, kv_dtype) if self.dtype == AUTO else self.dtype

    def in_eight_bits(self) -> tuple[TensorrtLlm, Dtype]:
        """With the format setting, which decides the format."""
        return replace(self, dtype="fp8"), BF16

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Whole blocks that a request takes. Raises NotApplicableError for what the manager does not store."""
        check_unchanged(model, self.TITLE)
        dtype = dtype_of(self, kv_dtype)
        return tuple(tuple(tensors_of(model, group, self, dtype)) for group in model.groups)

    def served(self, model: Model) -> Model:
        """With a group for the layers of each window."""
        return by_window(model, self)

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> TensorrtLlmPlan:
        """The pools of a rank of each stage. Raises NotApplicableError for what the manager does not store."""
        if ranks.dcp > 1:
            raise NotApplicableError(
                f"TensorRT-LLM has no decode context parallelism of this kind (dcp {ranks.dcp})", help="remove dcp"
            )
        return TensorrtLlmPlan(model, self.storing(model, kv_dtype), ranks, _SHARING)

    def storing(self, model: Model, kv_dtype: Dtype) -> TensorrtLlm:
        """With the setting that stores a question's format.

        Raises InvalidValueError if a setting already decides, NotApplicableError for what it does not store.
        """
        del model
        if kv_dtype == BF16:
            return self
        if self.dtype != AUTO:
            check_own_format(self.name, kv_dtype, "dtype")
        stored = dtype_of(self, kv_dtype).name
        return replace(self, dtype=_FLOATS.get(stored, stored))

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """Offloaded blocks in host memory, per rank."""
        del model, kv_dtype, workload
        size_bytes = self.host_cache_size
        if not size_bytes:
            return ()
        words = "host_cache_size per rank, in whole blocks"
        return (Tier("host cache", HOST, size_bytes, ranks.tp * ranks.pp * size_bytes, words, at_most=True),)

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """Activations of a step, and memory outside PyTorch; None if that includes the system's files."""
        del model, kv_dtype, tokens
        return None if gpu_named(self.gpu).is_unified else beside(widths, self.max_num_tokens, ranks.tp)

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """(memory - memory in use) * free_gpu_memory_fraction."""
        return int((memory_bytes - used_bytes) * self.free_gpu_memory_fraction)

    @property
    def share_words(self) -> str:
        """The setting and its value."""
        return f"{self.SHARE} {self.free_gpu_memory_fraction:g}"

    @property
    def fixed_bytes(self) -> int | None:
        """None: no setting gives them."""
        return None

    @property
    def sharing(self) -> Sharing:
        """KV heads are rounded up, and layers left over go to the first stages."""
        return _SHARING

    def notes(self, model: Model) -> tuple[str, ...]:
        """What TensorRT-LLM unexpectedly does with this model."""
        found = ["blocks that TensorRT-LLM allocates to a request; kvcalc fit sizes the pools"]
        limits = ("sliding_window", "attention_chunk_size")
        if not self.max_attention_window and any(limit in group.facts for group in model.groups for limit in limits):
            found.append(
                "without max_attention_window every layer keeps every token, regardless of the model's windows"
            )
        return tuple(found)
