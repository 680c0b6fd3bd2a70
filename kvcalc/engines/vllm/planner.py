"""vLLM's plan for a model before memory is known (groups, pages, stages), and what fits.

Source: vLLM, v1/core/kv_cache_planning.py; distributed/utils.py (get_pp_indices).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.engines.vllm.backends import Backend
from kvcalc.engines.vllm.block_sizes import Blocks
from kvcalc.engines.vllm.capacity import Stage, auto_fit, check_fits, request_blocks, stage_block_bytes
from kvcalc.engines.vllm.cpu import check_kernel_blocks
from kvcalc.engines.vllm.grouping import Group, groups_of
from kvcalc.engines.vllm.layers import Cache, caches_of
from kvcalc.engines.vllm.layouts import is_block_outermost, layout_of
from kvcalc.engines.vllm.ranks import Ranks
from kvcalc.engines.vllm.run import Run, settle
from kvcalc.engines.vllm.settings import VllmSettings
from kvcalc.engines.vllm.specs import STATE, Limits
from kvcalc.engines.vllm.support import SUPPORT
from kvcalc.engines.vllm.versions import Packing
from kvcalc.errors import NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Parallel, check_stages_of

PARTITION = "pp_layer_partition"
"""The setting that gives the layers of each stage."""


class Planned(NamedTuple):
    """Groups and pages of a model.

    caches: every cache that layers register. groups: of caches, by their positions. blocks_outermost: the layout.
    stages: positions of the caches that each pipeline stage holds.
    """

    run: Run
    caches: tuple[Cache, ...]
    groups: tuple[Group, ...]
    blocks_outermost: bool
    stages: tuple[tuple[int, ...], ...]
    block_size: int

    @property
    def block_bytes(self) -> tuple[int, ...]:
        """Bytes of one block on each pipeline stage."""
        packing = self.run.release.packing if self.blocks_outermost else Packing.DENSE
        return tuple(
            stage_block_bytes(self.groups, held, blocks_outermost=self.blocks_outermost, packing=packing)
            for held in self.stages
        )


class Capacity(NamedTuple):
    """What fits. limits: with the longest planned request. request_blocks: its blocks."""

    num_blocks: int
    request_blocks: int
    limits: Limits
    available_bytes: tuple[int, ...]


def plan(model: Model, settings: VllmSettings, parallel: Parallel) -> Planned:
    """Groups and pages of `model` on these ranks. Raises NotApplicableError for what vLLM refuses, in its words."""
    for loaded in filter(None, (model, model.drafter)):
        SUPPORT.check(loaded, settings.version)
    ranks = ranks_of(model, settings, parallel)
    _check_as_published(model, settings)
    run = settle(model, settings, ranks)
    caches = tuple(caches_of(model, run))
    if not caches:
        raise NotApplicableError(f"no layer of {model.name} has a cache", help="use --engine ideal")
    blocks = Blocks(caches, run)
    layout = layout_of(blocks.backends, run.capability)
    blocks_outermost = is_block_outermost(layout)
    groups = groups_of(
        blocks.specs(caches),
        unifies_windows=run.unifies_windows,
        blocks_outermost=blocks_outermost,
        release=run.release,
    )
    if run.cpu is not None:
        check_kernel_blocks(_read_in_blocks(groups, caches))
    if model.drafter is not None and _drafts_in_one_group(run, settings):
        _check_drafts_together(groups, caches, model.num_layers)
    return Planned(run, caches, tuple(groups), blocks_outermost, _stages(ranks, caches), blocks.size)


def _drafts_in_one_group(run: Run, settings: VllmSettings) -> bool:
    """Whether the runner wants all draft layers in one group, as older ones and the CPU's do."""
    return run.cpu is not None or not settings.use_v2_model_runner or run.release.drafts_in_one_group


def _check_drafts_together(groups: Sequence[Group], caches: Sequence[Cache], first: int) -> None:
    """Raises NotApplicableError if the draft layers, from `first` on, are of several groups."""
    drafting = {position for position, cache in enumerate(caches) if cache.layer >= first}
    if sum(not drafting.isdisjoint(group.members) for group in groups) > 1:
        raise NotApplicableError(
            "All drafting layers should belong to the same kv cache group",
            help="draft with a model whose layers are all of one kind, or remove speculative",
        )


def _read_in_blocks(groups: Sequence[Group], caches: Sequence[Cache]) -> list[tuple[int, Backend]]:
    """Blocks of each group and the kernels that read them."""
    return [
        (spec.block_size, backend)
        for group in groups
        for member, spec in zip(group.members, group.specs, strict=True)
        if (backend := caches[member].backend) is not None
    ]


def ranks_of(model: Model, settings: VllmSettings, parallel: Parallel) -> Ranks:
    """The layout with the layers of each stage."""
    partition = _partition(model, parallel.pp, tuple(settings.pp_layer_partition))
    return Ranks(parallel.tp, parallel.pp, parallel.dcp, partition)


def for_requests_of(planned: Planned, run: Run) -> Planned:
    """The same caches and groups for another longest request, which a block of states may hold."""
    if run.limits.keeps_states:
        return planned._replace(run=run)
    groups = tuple(
        group._replace(
            specs=tuple(
                spec._replace(block_size=run.limits.max_model_len) if spec.kind == STATE else spec
                for spec in group.specs
            )
        )
        for group in planned.groups
    )
    return planned._replace(run=run, groups=groups)


def capacity(planned: Planned, settings: VllmSettings, available_bytes: Sequence[int]) -> Capacity:
    """Blocks that fit available_bytes of each stage. Raises NotApplicableError if vLLM would not start."""
    block_bytes, limits, release = planned.block_bytes, planned.run.limits, planned.run.release
    check_stages(planned)
    available = list(available_bytes)
    if settings.num_gpu_blocks_override is not None:
        available = [settings.num_gpu_blocks_override * each_bytes for each_bytes in block_bytes]
    stages = list(map(Stage, planned.stages, block_bytes, available))
    if planned.run.auto_fit:
        limits = auto_fit(planned.groups, limits, stages, release)
    check_fits(planned.groups, limits, stages, release)
    num_blocks = min(stage.available_bytes // stage.block_bytes for stage in stages)
    asked = request_blocks(planned.groups, limits, release)
    return Capacity(num_blocks, asked, limits, tuple(available))


def check_stages(planned: Planned) -> None:
    """Raises NotApplicableError for a pipeline stage without a cache."""
    if 0 in planned.block_bytes:
        raise NotApplicableError(
            f"pipeline stage {planned.block_bytes.index(0)} has no layer with a cache", help="use fewer pipeline stages"
        )


def _check_as_published(model: Model, settings: VllmSettings) -> None:
    """Raises NotApplicableError for a method that changed what the model's layers cache."""
    for group in model.groups:
        if not group.is_as_built:
            raise NotApplicableError(
                f"vLLM {settings.version} does not support methods that change the cache of {group.name} layers of "
                f"{model.name}",
                help="remove the method, or use --engine ideal",
            )


def _partition(model: Model, pp: int, given: tuple[int, ...]) -> tuple[int, ...]:
    """Layers of each stage: divided evenly, with one more in those before the last if there is a remainder."""
    layers = model.num_layers
    if given:
        check_stages_of(layers, pp, given, PARTITION)
        return given
    each, remaining = divmod(layers, pp)
    stages = [each] * pp
    for stage in range(2, remaining + 2):
        stages[-stage] += 1
    return tuple(stages)


def _stages(ranks: Ranks, caches: Sequence[Cache]) -> tuple[tuple[int, ...], ...]:
    """Positions of the caches of each stage; drafts stand on the last."""
    found, first = [], 0
    for stage, layers in enumerate(ranks.partition):
        end = first + layers if stage < ranks.pp - 1 else max(cache.layer for cache in caches) + 1
        found.append(tuple(p for p, cache in enumerate(caches) if first <= cache.layer < end))
        first += layers
    return tuple(found)
