"""MLX-LM's settings, and its caches for a model."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.attention.mamba import Mamba
from kvcalc.cache.dtypes import BF16, Dtype, dtype_named
from kvcalc.engines.base import Allocation, Engine
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.loading import MLX
from kvcalc.engines.base.longest import Longest
from kvcalc.engines.base.settings import count_from, one_of, setting
from kvcalc.engines.mlx_lm.arrays import Reading
from kvcalc.engines.mlx_lm.caches import Caches
from kvcalc.engines.mlx_lm.classes import LISTS, OWN_CACHES, STATES_IN_FLOAT32, makes_cache, module_of
from kvcalc.engines.mlx_lm.quantised import Quantising
from kvcalc.engines.mlx_lm.versions import MlxLmRelease
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model

_BITS, _GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
_BY_KV_DTYPE = {"int4": 4, "int8": 8}
_KEPT = 4
"""First tokens kept by a ring of max_kv_size (make_prompt_cache)."""
_NEVER_QUANTISED = LISTS | OWN_CACHES


@dataclass(frozen=True)
class MlxLm(Engine):
    """Arguments of `mlx_lm.generate`, with MLX-LM's names and defaults."""

    TITLE = "MLX-LM"
    VERIFIED = "measured: 1,210 caches of 48 small random models, run on a CPU, equal to the byte"
    RELEASE = MlxLmRelease
    LOADS = MLX
    HOLDS = {"k": ("c_kv",), "v": ("c_kv",)}  # noqa: RUF012  # never changed

    version: str = setting(MlxLmRelease.newest(), "version of MLX-LM")
    max_kv_size: int | None = setting(None, "tokens of a ring in every layer, for models with MLX-LM's default caches")
    prefill_step_size: int = setting(2048, "tokens per chunk of the prompt")
    prompt_tokens: int | None = setting(None, "how many of the tokens are the prompt; default: all")
    kv_bits: int | None = setting(None, "8, 6, 5, 4, 3 or 2; default: the model's dtype, or by kv_dtype int8 or int4")
    kv_group_size: int = setting(64, "elements with a common scale and bias")
    quantized_kv_start: int = setting(5000, "tokens from which caches are quantised")

    def __post_init__(self) -> None:
        count_from(self.max_kv_size, "max_kv_size", 1)
        count_from(self.prefill_step_size, "prefill_step_size", 1)
        count_from(self.prompt_tokens, "prompt_tokens", 1)
        if self.kv_bits is not None:
            one_of(self.kv_bits, "kv_bits", _BITS)
        one_of(self.kv_group_size, "kv_group_size", _GROUPS)
        count_from(self.quantized_kv_start, "quantized_kv_start", 0)

    def in_eight_bits(self) -> tuple[MlxLm, Dtype]:
        """kv_bits 8, called int8 in a question."""
        return self, dtype_named("int8")

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Arrays of the caches. Raises NotApplicableError for what MLX-LM refuses, and for unknown behaviour."""
        check_unchanged(model, self.TITLE)
        caches = self._caches(model, kv_dtype)
        return tuple(tuple(caches.of(group)) for group in model.groups)

    def longest(self, model: Model, kv_dtype: Dtype) -> Longest | None:
        """The longest sequence with kv_bits: rings, odd rows and some modules fail when their caches are quantised."""
        return self._caches(model, kv_dtype).longest()

    def _caches(self, model: Model, kv_dtype: Dtype) -> Caches:
        module = module_of(model)
        bits = self.kv_bits or _BY_KV_DTYPE.get(kv_dtype.name)
        if not (bits or kv_dtype.is_computed_in):
            raise NotApplicableError(f"MLX-LM stores no cache in {kv_dtype}", help="use bf16, fp16, or kv_bits=8 or 4")
        dtype = kv_dtype if kv_dtype.is_computed_in else BF16
        quantising = None
        if bits and module not in _NEVER_QUANTISED:
            quantising = Quantising(bits, self.kv_group_size, self.quantized_kv_start, dtype)
        rings = None if makes_cache(module) else self._rings()
        return Caches(model, module, Reading(self.prefill_step_size, self.prompt_tokens), rings, dtype, quantising)

    def _rings(self) -> int | None:
        if self.max_kv_size is not None and self.max_kv_size < _KEPT:
            raise NotApplicableError(
                f"a ring keeps its first {_KEPT} tokens, more than max_kv_size ({self.max_kv_size})",
                help=f"write max_kv_size={_KEPT}, or more",
            )
        return self.max_kv_size

    def notes(self, model: Model) -> tuple[str, ...]:
        """Unused settings, and assumptions about the weights."""
        module = module_of(model)
        found = []
        if self.max_kv_size is not None and makes_cache(module):
            found.append(f"max_kv_size is ignored: MLX-LM's {module} creates its own caches")
        if self.kv_bits is not None and module in _NEVER_QUANTISED:
            what = "lists of caches" if module in LISTS else "caches of its own"
            found.append(f"kv_bits is ignored: MLX-LM's {module} has {what}, which are not quantised")
        parts = [part for group in model.groups for part in group.parts]
        if module not in STATES_IN_FLOAT32 and any(isinstance(part, Mamba) for part in parts):
            found.append(
                "Mamba states have the dtype of A_log, assumed to be that of all weights; float32 would double them"
            )
        return tuple(found)
