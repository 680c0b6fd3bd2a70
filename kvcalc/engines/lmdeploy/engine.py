"""LMDeploy: whole blocks of requests in one table for all layers, and the blocks and states that fit.

A size is what requests take: whole blocks, and a slot of states. Tensor parallelism divides the heads, and copies them
if there are more ranks; MLA's latent, cached as one key of 576, is complete on every rank. Draft layers of the model
itself are counted if requested (`--mtp`).

TurboMind has the same blocks without padding, a latent once for K and V, and states in the same memory; kvcalc does not
know how many blocks its allocator creates. Source: LMDeploy, src/turbomind/kernels/attention/block.h,
models/llama/GatedDeltaNetLayer.cc.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines.base import Allocation
from kvcalc.engines.base.beside import Beside, context
from kvcalc.engines.base.checks import check_unchanged
from kvcalc.engines.base.stages import stage_models
from kvcalc.engines.lmdeploy.plan import LmdeployPlan
from kvcalc.engines.lmdeploy.serving import IN_TURBOMIND, is_compressed, policy_of, serving_of, window_of
from kvcalc.engines.lmdeploy.settings import POLICY_NAMES, PYTORCH, LmdeploySettings
from kvcalc.engines.lmdeploy.tensors import tensors_of
from kvcalc.errors import NotApplicableError
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import NVIDIA
from kvcalc.model import DRAFTS, Model
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel


class Lmdeploy(LmdeploySettings):
    """LMDeploy: one table of blocks for all layers."""

    TITLE = "LMDeploy"
    VENDORS = (NVIDIA,)
    VERIFIED = (
        "985 of 987 sizes, plans and refusals of its own PyTorch engine, run without a GPU; TurboMind from source"
    )
    HOLDS = {"k": ("c_kv",), "v": ("c_kv",)}  # noqa: RUF012  # never changed
    SHARE = "cache_max_entry_count"
    FIXED = ""

    def in_eight_bits(self) -> tuple[Lmdeploy, Dtype]:
        """quant_policy 8, called int8 in a question."""
        return self, dtype_named("int8")

    def allocate(self, model: Model, kv_dtype: Dtype) -> Allocation:
        """Whole blocks of a request, and its states. Raises NotApplicableError for what the engine refuses."""
        check_unchanged(model, self.TITLE)
        serving = serving_of(model, self, kv_dtype)
        stored = tuple(tuple(tensors_of(model, group, serving)) for group in model.groups)
        _check_alike(model, stored)
        return stored

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> LmdeployPlan:
        """Blocks and states of a rank. Raises NotApplicableError with the engine's message if it refuses."""
        if self.backend != PYTORCH:
            raise NotApplicableError(
                "kvcalc does not know how many blocks TurboMind's allocator creates: that depends on its slabs and on "
                "the address returned by CUDA",
                help="set backend=pytorch, or use kvcalc size for the bytes of requests",
            )
        for name in ("pp", "dcp"):
            if getattr(ranks, name) > 1:
                raise NotApplicableError(
                    f"LMDeploy's PyTorch engine does not support this layout ({name} {getattr(ranks, name)})",
                    help=f"remove {name}",
                )
        (own,) = stage_models(model, ranks.tp, 1, self.sharing)
        return LmdeployPlan(own, self.allocate(own, kv_dtype), serving_of(own, self, kv_dtype), self)

    def beside(
        self, model: Model, kv_dtype: Dtype, ranks: Parallel, widths: Widths, tokens: int | None
    ) -> Beside | None:
        """PyTorch's context and communicators: logits and states come off in the plan, and nothing else does."""
        del model, kv_dtype, widths, tokens
        return Beside((context(gpu_named(self.gpu), ranks.tp),))

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """All free memory: the plan subtracts states and logits and takes the share for blocks."""
        return memory_bytes - used_bytes

    @property
    def share_words(self) -> str:
        """The share in words: all memory, and the share of free memory for blocks."""
        return f"1, blocks get {self.SHARE} {self.cache_max_entry_count:g} of the rest"

    @property
    def fixed_bytes(self) -> int | None:
        """None: no setting gives them."""
        return None

    def cache_format(self, model: Model, kv_dtype: Dtype) -> str:
        """The active policy by name, or the model's own format."""
        return POLICY_NAMES.get(policy_of(model, self, kv_dtype), kv_dtype.name)

    def caveats(self, model: Model) -> tuple[str, ...]:
        """Which of LMDeploy's engines is modelled, and how it handles windows."""
        return (*_backend_notes(model, self), *_window_notes(model, self))


def _check_alike(model: Model, stored: Allocation) -> None:
    """Raises NotApplicableError if layers have keys of different shapes: LMDeploy supports only one."""
    shapes = {
        tensor.dims: group.name
        for group, tensors in zip(model.groups, stored, strict=True)
        for tensor in tensors
        if tensor.name == "k" and group.name != DRAFTS
    }
    if len(shapes) > 1:
        raise NotApplicableError(
            f"LMDeploy has one key shape for all layers, but {' and '.join(shapes.values())} layers of {model.name} "
            "differ",
            help="try another --engine",
        )


def _backend_notes(model: Model, settings: LmdeploySettings) -> Iterator[str]:
    """A note if LMDeploy would choose its other engine by default (archs.py, autoget_backend)."""
    if settings.backend == PYTORCH and {model.model_type, model.published.model_type} & IN_TURBOMIND:
        yield (
            "these numbers are for LMDeploy's PyTorch engine (--backend pytorch); by default it serves this model "
            "with TurboMind"
        )


def _window_notes(model: Model, settings: LmdeploySettings) -> Iterator[str]:
    """Notes on windows: the block table of all layers is limited to one, or unlimited."""
    limits = ("sliding_window", "attention_chunk_size")
    if is_compressed(model) or not any(limit in group.facts for group in model.groups for limit in limits):
        return
    window = window_of(model) if settings.backend == PYTORCH else None
    if window is None:
        yield "LMDeploy has one block table for all layers: every layer keeps every token, regardless of its window"
    else:
        yield (
            f"LMDeploy has one block table for all layers, which keeps only the last {window:,} tokens, even in "
            "full-attention layers"
        )
