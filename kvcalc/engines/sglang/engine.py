"""SGLang: whole pages that requests take of its pools, and how many tokens fit.

A size is what requests take of the pools, in whole pages; the pools themselves, each with its spare page, are
`kvcalc.fit`'s. Each tensor-parallel rank holds max(1, num_kv_heads // tp) KV heads (get_num_kv_heads), and whole
latents and index keys. Attention data parallelism (`--tp 8 --dp 8 --enable-dp-attention`) is tp=1, dp=8 here. The
model's own layers of EAGLE drafts are counted on request (`--mtp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation, Workload
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.loading import QUANTISED
from kvcalc.engines.base.pools import check_own_format
from kvcalc.engines.base.rows import Row
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.sglang.beside import beside
from kvcalc.engines.sglang.compressed import is_compressed, out_of_page
from kvcalc.engines.sglang.drafting import all_rows, check_ranks, drafted_by
from kvcalc.engines.sglang.memory import default_fraction
from kvcalc.engines.sglang.plan import CompressedPlan, SglangPlan
from kvcalc.engines.sglang.resolution import cache_dtype, drafts_of, has_own_windows, schedule_of
from kvcalc.engines.sglang.served import served_model
from kvcalc.engines.sglang.settings import AUTO, FP4, HOST_POOL, SglangSettings
from kvcalc.engines.sglang.stage import counted_drafts
from kvcalc.engines.sglang.support import SUPPORT
from kvcalc.engines.sglang.tensors import is_sliding, rows_without_use
from kvcalc.engines.sglang.tiers import tier_of_decode, tiers_of
from kvcalc.engines.sglang.types import CROSS_ATTENDING, EXPANDED_LATENTS, WITHOUT_PREFIXES, is_of, type_of
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import NVIDIA
from kvcalc.model import LayerGroup, Model
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel, Sharing
from kvcalc.report.tiers import Tier

_SHARING = Sharing(
    kv_heads="floor",
    extra_layers="last",
    experts=True,
    caveat="SGLang's pools have this layout, but most of its model classes then refuse to load",
)
"""max(1, num_kv_heads // tp) (get_num_kv_heads), and layers left over in the last stages (get_pp_indices)."""


class Sglang(SglangSettings):
    """SGLang: pools of pages, sized from the memory left."""

    TITLE = "SGLang"
    VENDORS = (NVIDIA,)
    VERIFIED = (
        "equal to its own pools in 208 start-ups of 52 models and to its own share of memory in 21, planned without a "
        "GPU; 22 sizes in 8 of users' start-up logs"
    )
    SUPPORT = SUPPORT
    LOADS = QUANTISED
    SHARE = "mem_fraction_static"
    FIXED = ""

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Whole pages that a request takes of the pools, and its states.

        Raises NotApplicableError for tensors without a pool.
        """
        check_unchanged(model, self.TITLE)
        settings = self._for(model)
        rows = all_rows(model, settings, kv_dtype, schedule_of(model, settings))
        return tuple(rows.of(model, group) for group in model.groups)

    def rows(self, group: LayerGroup, stored: tuple[CacheTensor, ...], kv_dtype: Dtype) -> tuple[Row, ...]:
        """The same, with entries outside their pages."""
        return tuple(map(out_of_page, super().rows(group, stored, kv_dtype)))

    def allocate_rank(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> Allocation:
        """The same for a rank: its stages do not overlap, and it may hold copies of other ranks' tensors."""
        settings = self._for(model)
        check_ranks(model, settings, ranks)
        rows = all_rows(model, settings, kv_dtype, schedule_of(model, settings, dp=ranks.dp, pp=ranks.pp))
        (whole,) = stage_models(model, ranks.tp, 1, self.sharing)
        return tuple(rows.of(whole, group) for group in whole.groups)

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> SglangPlan | CompressedPlan:
        """The pools of a rank of each stage. Raises NotApplicableError if SGLang refuses to start, with its message."""
        if ranks.dcp > 1:
            raise NotApplicableError(
                f"kvcalc does not know how SGLang {self.version} lays pools out for decode context parallelism (dcp "
                f"{ranks.dcp})",
                help="remove dcp",
            )
        if self.kv_cache_dtype in FP4:
            raise NotApplicableError(
                f"kvcalc does not know SGLang's scales and workspace for {self.kv_cache_dtype}",
                help="use kvcalc size, which counts codes and one layout of scales",
            )
        served, settings = self.served(model), self._for(model).storing(model, kv_dtype)
        check_ranks(served, settings, ranks)
        return (CompressedPlan if is_compressed(served) else SglangPlan)(served, settings, ranks, _SHARING)

    def storing(self, model: Model, kv_dtype: Dtype) -> Sglang:
        """With the setting that stores a question's format; pools in 16 bits have one size.

        Raises InvalidValueError if a setting already decides, NotApplicableError for what it does not store.
        """
        if kv_dtype.block_bytes == BF16.block_bytes and kv_dtype.is_computed_in:
            return self
        if self.kv_cache_dtype != AUTO or kv_dtype.is_computed_in:
            check_own_format(self.name, kv_dtype, "kv_cache_dtype")
        return replace(self, kv_cache_dtype=cache_dtype(model, self, kv_dtype))

    def _for(self, model: Model) -> Sglang:
        """With values that the model's type decides, regardless of the settings."""
        return replace(self, disable_radix_cache=True) if is_of(model, WITHOUT_PREFIXES) else self

    def served(self, model: Model) -> Model:
        """With draft layers on request, and the heads that it stores for sliding layers and latents.

        Raises NotApplicableError for drafts by another model.
        """
        return served_model(model, self)

    @property
    def draft_model(self) -> str | None:
        """speculative_draft_model_path, if there is an algorithm."""
        return None if self.speculative_algorithm is None else self.speculative_draft_model_path

    def drafted_by(self, model: Model, drafter: Model) -> Model:
        """With all layers of the draft; unchanged if they are the model's own."""
        return drafted_by(model, drafter, self)

    def settled(self, model: Model, ranks: Parallel) -> Sglang:
        """With SGLang's default share of a GPU's memory, if none is given.

        Raises InvalidValueError if that depends on fields that the model's config does not have.
        """
        if self.mem_fraction_static is not None:
            return self
        fraction = default_fraction(self.served(model), self, ranks)
        if fraction <= 0:
            raise InvalidValueError(
                f"SGLang would reserve all memory of {self.gpu} for prefill chunks and CUDA graphs",
                field=self.SHARE,
                help=f"set a share, --engine-set {self.SHARE}=0.85, or a smaller chunked_prefill_size",
            )
        return replace(self, mem_fraction_static=fraction)

    def cache_format(self, model: Model, kv_dtype: Dtype) -> str:
        """The format setting, if it is set."""
        return super().cache_format(model, kv_dtype) if self.kv_cache_dtype == AUTO else self.kv_cache_dtype

    def in_eight_bits(self) -> tuple[Sglang, Dtype]:
        """With the format setting, which decides the format."""
        return replace(self, kv_cache_dtype="fp8_e4m3"), BF16

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """What the pool loses to context and communicators, which reduce the memory that the share applies to."""
        del kv_dtype, widths, tokens
        share = Fraction(self.settled(model, ranks).mem_fraction_static or 0)
        return beside(gpu_named(self.gpu), ranks.tp, share)

    def tiers(self, model: Model, kv_dtype: Dtype, ranks: Parallel, workload: Workload) -> tuple[Tier, ...]:
        """HiCache's copies of the device's pools, LMCache, and what a decode side keeps."""
        planned, why = None, "relative to the pools on the device, which `kvcalc fit` knows"
        if is_compressed(model):
            why = (
                "relative to the pools on the device; kvcalc does not know how SGLang copies those of compressed "
                "attention"
            )
        elif (self.enable_hierarchical_cache or self._has_host_pool(model)) and workload.cache_bytes:
            planned = self.plan(model, kv_dtype, ranks).fit((workload.cache_bytes,) * ranks.pp)
        found = tuple(tiers_of(self, ranks, planned or why, at_most=workload.at_most))
        if planned is None or self.enable_hierarchical_cache or not self._has_host_pool(model):
            return found
        longest = self.context_length or model.max_model_len
        return (*found, tier_of_decode(self, ranks, planned, longest, at_most=workload.at_most))

    def _has_host_pool(self, model: Model) -> bool:
        """Whether it is a decode side with a pool on the host: for offloading, or for retracted requests.

        The latter is on by default if keys and values are cached, without states and prefixes.
        """
        if self.disaggregation_mode != "decode":
            return False
        if self.disaggregation_decode_enable_offload_kvcache:
            return True
        backup = self.disaggregation_decode_retraction_backup
        heads = all(isinstance(p, GroupedQueryAttention | NoCache) for group in model.groups for p in group.parts)
        return backup == HOST_POOL or (backup is None and self.disable_radix_cache and heads)

    def together(self, model: str, gpu_bytes: int, others: Sequence[tuple[str, int]]) -> str:
        """A share of the memory free at its start, which depends on the order."""
        del gpu_bytes
        names = ", ".join(name for name, _ in others)
        return (
            f"each SGLang takes {self.SHARE} of the memory free at its start: with {names} started before {model} the "
            "same bytes are a larger share"
        )

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """Memory of a GPU before the weights are loaded: memory * mem_fraction_static less memory in use.

        Raises InvalidValueError if that fraction is neither given nor resolved (`settled`).
        """
        if self.mem_fraction_static is None:
            raise InvalidValueError(
                "mem_fraction_static is not given, and SGLang's default depends on the model and its ranks",
                field=self.SHARE,
                help=f"set it: --engine-set {self.SHARE}=0.85; a start-up log prints it among server_args",
            )
        return memory_bytes - int(memory_bytes * (1 - self.mem_fraction_static)) - used_bytes

    @property
    def share_words(self) -> str:
        """The setting and its value."""
        return f"{self.SHARE} {self.mem_fraction_static or 0:g}"

    @property
    def fixed_bytes(self) -> int | None:
        """None: no setting gives them."""
        return None

    @property
    def sharing(self) -> Sharing:
        """KV heads are rounded down, and layers left over go to the last stages."""
        return _SHARING

    def notes(self, model: Model) -> tuple[str, ...]:
        """What SGLang unexpectedly does with this model."""
        found = [f"pages that SGLang {self.version} allocates to a request; kvcalc fit sizes the pools"]
        slides = any(map(is_sliding, model.groups))
        if slides and not has_own_windows(model, self):
            found.append(
                f"SGLang has no sliding pool for {model.model_type or model.name}: every layer keeps every token, in "
                "rows of the full layers' heads"
            )
        if is_of(model, EXPANDED_LATENTS):
            found.append(
                f"SGLang has no class for {type_of(model)}: its fallback to Transformers stores K and V of every head"
            )
        if is_of(model, CROSS_ATTENDING):
            found.append("tokens of an encoder use slots of every layer, like text tokens: include them")
        if drafts_of(model, self) and not counted_drafts(self.served(model)):
            found.append(f"SGLang reserves no memory for draft layers of {type_of(model)}")
        if idle := rows_without_use(model):
            found.append(f"SGLang has rows for every layer, including the {idle} that cache nothing")
        if self.kv_cache_dtype in FP4:
            found.append(
                "not counted: a second layout of the scales and a workspace, which some of its FP4 kernels need"
            )
        return tuple(found)
