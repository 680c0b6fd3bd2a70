"""Which layers share a block table: the KV-cache groups of vLLM.

All groups take their blocks from one pool, so a block of any group is as large as that of the largest. Layers of a
hybrid are dealt into groups of equally many layers whose pages are of one size; if the layout puts blocks outermost,
pages of several sizes are packed side by side (`packing`).
Source: vLLM, v1/core/kv_cache_planning.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from kvcalc.cache.slots.rule import SlotRule
from kvcalc.engines.vllm.packing import packed, packed_in_tuples
from kvcalc.engines.vllm.specs import (
    CHUNKED,
    FULL,
    MLA,
    SLIDING,
    SLIDING_MLA,
    STATE,
    Limits,
    Spec,
    alike,
    ceil_div,
    merged,
    round_up,
)
from kvcalc.engines.vllm.versions import Packing, UnequalPages, VllmRelease
from kvcalc.errors import NotApplicableError

_NEWEST = VllmRelease(VllmRelease.newest())


class Group(NamedTuple):
    """Layers of one block table: their positions among all caches, and the spec of each."""

    members: tuple[int, ...]
    specs: tuple[Spec, ...]

    @property
    def first(self) -> Spec:
        """The spec by which the group is known."""
        return self.specs[0]

    def rules(self, limits: Limits) -> tuple[SlotRule, ...]:
        """Rules by which a request takes blocks of this group; the largest decides."""
        return tuple(dict.fromkeys(spec.rule(limits) for spec in dict.fromkeys(self.specs)))

    def blocks(self, limits: Limits) -> int:
        """Blocks that one request of max_model_len tokens takes of this group."""
        return max(spec.blocks(limits) for spec in dict.fromkeys(self.specs))

    def bytes_per_block(self, held: Iterable[int], *, blocks_outermost: bool) -> int:
        """Bytes of one block over the layers among `held`."""
        here = set(held)
        pages = ((spec.page_bytes, spec.stride_alignment_bytes) for m, spec in self._each() if m in here)
        return sum(page if blocks_outermost else round_up(page, stride) for page, stride in pages)

    def _each(self) -> Iterable[tuple[int, Spec]]:
        return zip(self.members, self.specs, strict=True)


def groups_of(
    specs: Sequence[Spec], *, unifies_windows: bool, blocks_outermost: bool, release: VllmRelease = _NEWEST
) -> list[Group]:
    """Groups of all caches, each known by its position.

    unifies_windows: every layer is allocated as full attention where any is (disable_hybrid_kv_cache_manager).
    Raises NotApplicableError if pages cannot be brought to one size.
    """
    if unifies_windows:
        specs = _promoted(specs)
    one = merged(specs)
    everything = tuple(range(len(specs)))
    if one is not None:
        return [Group(everything, (one,) * len(specs))]
    if alike(specs) and release.shares_tables_by_type:
        return [Group(everything, tuple(specs))]
    if blocks_outermost and len({spec.page_bytes for spec in specs}) > 1:
        if release.packing is not Packing.DENSE:
            return [Group(*group) for group in packed_in_tuples(specs)]
        hands = packed(specs)
        if () in hands:
            raise NotApplicableError(
                "states of several sizes cannot be split into as many groups as their blocks need",
                help="use --engine ideal",
            )
        return [Group(members, tuple(specs[m] for m in members)) for members in hands]
    unified = _one_page_size(specs, release)
    if unified is None:
        return _all_full(specs)
    return [_dealt(members, unified) for members in _hands(unified, release.padded_group_ratio)]


def _dealt(members: tuple[int, ...], specs: Sequence[Spec]) -> Group:
    one = merged([specs[member] for member in members])
    assert one is not None  # layers are dealt from a bucket of mergeable ones
    return Group(members, (one,) * len(members))


def _one_page_size(specs: Sequence[Spec], release: VllmRelease) -> list[Spec] | None:
    """Specs with pages of the largest size: larger blocks if that divides, else padding; None if neither works.

    Raises NotApplicableError if the version refuses to.
    """
    largest = max(spec.page_bytes for spec in specs)
    found = []
    for spec in specs:
        page = spec.page_bytes
        if page == largest:
            found.append(spec)
        elif spec.kind != STATE and largest % page == 0:
            _check_allowed(UnequalPages.ENLARGED, release)
            found.append(spec._replace(block_size=spec.block_size * (largest // page)))
        elif spec.kind == MLA:
            _check_allowed(UnequalPages.PROMOTED, release)
            return None
        else:
            _check_allowed(UnequalPages.STATES_PADDED if spec.kind == STATE else UnequalPages.PADDED, release)
            found.append(spec._replace(padded_bytes=largest))
    return found


def _check_allowed(step: UnequalPages, release: VllmRelease) -> None:
    """Raises NotApplicableError if the version does not yet bring pages to one size by this step."""
    steps = list(UnequalPages)
    if steps.index(release.unequal_pages) < steps.index(step):
        raise NotApplicableError(
            f"vLLM {release.version} cannot unify the page sizes of these layers by adjusting block_size",
            help="use a later version, or use --engine ideal",
        )


def _hands(specs: Sequence[Spec], ratio: Fraction) -> list[tuple[int, ...]]:
    """Positions of each group: every bucket of mergeable layers, dealt out round-robin.

    A group is as large as the smallest bucket, or as the largest if that has less than `ratio` times its layers.
    """
    buckets: list[list[int]] = []
    for spec in dict.fromkeys(specs):
        members = [position for position, other in enumerate(specs) if other == spec]
        bucket = next((b for b in buckets if merged([*(specs[m] for m in b), spec]) is not None), None)
        if bucket is None:
            buckets.append(members)
        else:
            bucket.extend(members)
    fewest, most = min(map(len, buckets)), max(map(len, buckets))
    size = most if most < fewest * ratio else fewest
    return [
        tuple(bucket[first :: ceil_div(len(bucket), size)])
        for bucket in buckets
        for first in range(ceil_div(len(bucket), size))
    ]


def _promoted(specs: Sequence[Spec]) -> list[Spec]:
    """Windows and chunks allocated as full attention, if there is any full attention.

    Raises NotApplicableError if there are other layers that cannot be.
    """
    if merged(specs) is not None or alike(specs):
        return list(specs)
    full = {spec.block_size for spec in specs if spec.kind in (FULL, MLA)}
    windows = any(spec.kind in (SLIDING, SLIDING_MLA, CHUNKED) for spec in specs)
    promoted = [_as_full(spec, full) for spec in specs] if full and windows else list(specs)
    reaches = {(spec.window, spec.chunked) for spec in promoted if spec.kind == FULL and spec.window is not None}
    if all(spec.kind == FULL for spec in promoted) and len({chunked for _, chunked in reaches}) < len(reaches):
        raise NotApplicableError(
            "All attention layers in the same KV cache group must have the same window size",
            help="remove disable_hybrid_kv_cache_manager",
        )
    one_type = merged(promoted) is not None or alike(promoted)
    if not one_type or any(spec.kind == SLIDING_MLA for spec in specs):
        raise NotApplicableError(
            "Failed to promote local KV cache specs to one unified type",
            help="remove disable_hybrid_kv_cache_manager",
        )
    return promoted


def _as_full(spec: Spec, full_blocks: set[int]) -> Spec:
    """A window's spec as full attention, in blocks of full attention's size if there is only one."""
    if spec.kind not in (SLIDING, CHUNKED):
        return spec
    block = next(iter(full_blocks)) if len(full_blocks) == 1 else spec.block_size
    padded = spec.padded_bytes
    if padded is not None:
        padded = max(padded, spec.unpadded_bytes * block // spec.block_size)
    return spec._replace(kind=FULL, block_size=block, padded_bytes=padded)


def _all_full(specs: Sequence[Spec]) -> list[Group]:
    """One group in which windows next to latent attention are allocated as full attention; nothing else is possible."""
    kinds = {spec.kind for spec in specs}
    if kinds & {SLIDING_MLA, CHUNKED} or not {MLA, SLIDING} <= kinds:
        raise NotApplicableError(
            "page size is not divisible by the maximum page size and cannot be padded. Padding is only supported for "
            "non-MLA attention layers",
            help="use --engine ideal",
        )
    return groups_of(specs, unifies_windows=True, blocks_outermost=False)
