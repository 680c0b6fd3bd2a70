"""Groups of layers whose pages differ in size, packed side by side into blocks, as DeepSeek-V4 needs them.

Layers that always need equally many blocks make a bucket. A bucket with equally many layers of each page size is a
pattern that repeats; all such buckets are split so that their groups cover the same number of repeats. Buckets of
states are split until they fit the width that the others need anyway.
Source: vLLM, v1/core/kv_cache_planning.py, _get_packed_kv_cache_groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.engines.vllm.specs import CIRCULAR, MLA, SLIDING, SLIDING_MLA, STATE, Spec, alike, ceil_div
from kvcalc.errors import NotApplicableError


class _Bucket(NamedTuple):
    """Positions of layers that are alike, by the size of their pages."""

    members: tuple[int, ...]
    first: Spec
    by_page: dict[int, tuple[int, ...]]

    @property
    def repeats(self) -> int:
        """Layers of the page size that most of them have."""
        return max(map(len, self.by_page.values()))

    @property
    def is_balanced(self) -> bool:
        """Whether it has equally many layers of each page size."""
        return len(set(map(len, self.by_page.values()))) == 1

    def widest_bytes(self, groups: int) -> int:
        """Pages of the largest of this many groups."""
        return sum(ceil_div(len(members), groups) * page for page, members in self.by_page.items())


def packed(specs: Sequence[Spec]) -> list[tuple[int, ...]]:
    """Positions of the layers of each group."""
    buckets = _buckets(specs)
    mixed = [bucket.repeats for bucket in buckets if bucket.is_balanced and len(bucket.by_page) > 1]
    repeats = (
        _least_padding([bucket.repeats for bucket in buckets if bucket.is_balanced], at_least=max(mixed))
        if mixed
        else None
    )

    def is_state(bucket: _Bucket) -> bool:
        return bucket.first.kind in (STATE, CIRCULAR) or (
            repeats is None and bucket.first.kind in (SLIDING, SLIDING_MLA)
        )

    def by_pattern(bucket: _Bucket) -> int:
        return ceil_div(bucket.repeats, repeats) if bucket.is_balanced and repeats else 1

    width = max(b.widest_bytes(len(b.members) if is_state(b) else by_pattern(b)) for b in buckets)
    found: list[tuple[int, ...]] = []
    for bucket in buckets:
        groups = by_pattern(bucket)
        if is_state(bucket):
            states_per_block = max(width // bucket.first.page_bytes, 1)
            groups = max(groups, ceil_div(len(bucket.members), states_per_block))
        if groups == 1:
            found.append(bucket.members)
            continue
        pattern = list(zip(*bucket.by_page.values(), strict=False))
        found += [tuple(member for repeat in pattern[first::groups] for member in repeat) for first in range(groups)]
    return found


def _buckets(specs: Sequence[Spec]) -> list[_Bucket]:
    """Layers in their order, each in the first bucket whose layers are like it."""
    members: list[list[int]] = []
    for position, spec in enumerate(specs):
        home = next((own for own in members if alike((specs[own[0]], spec))), None)  # the others are like the first
        if home is None:
            members.append([position])
        else:
            home.append(position)
    return [_Bucket(tuple(own), specs[own[0]], _by_page(own, specs)) for own in members]


def _by_page(members: Sequence[int], specs: Sequence[Spec]) -> dict[int, tuple[int, ...]]:
    sizes = dict.fromkeys(specs[member].page_bytes for member in members)
    return {size: tuple(m for m in members if specs[m].page_bytes == size) for size in sizes}


def _least_padding(counts: Sequence[int], *, at_least: int) -> int:
    """Number whose multiples round the counts up with the least padding; the largest of several."""
    candidates = range(at_least, max(counts) + 1)
    return max(candidates, key=lambda size: (-sum(-count % size for count in counts), size), default=at_least)


def packed_in_tuples(specs: Sequence[Spec]) -> list[tuple[tuple[int, ...], tuple[Spec, ...]]]:
    """Positions and specs of the layers of each group, as vLLM packed them up to 0.26.

    All latents are one group, whose repeats the windows are split to, and to whose page sizes theirs are padded. Raises
    NotApplicableError if there are none, or rings in addition.
    """
    latents = tuple(position for position, spec in enumerate(specs) if spec.kind == MLA)
    if not latents or any(spec.kind == CIRCULAR for spec in specs):
        raise NotApplicableError(
            "up to 0.26 vLLM packed pages of several sizes only for DeepSeek-V4, not for rings or keys and values",
            help="use a newer version",
        )
    windows: dict[tuple[int, int | None], list[int]] = {}
    for position, spec in enumerate(specs):
        if spec.kind != MLA:
            windows.setdefault((spec.block_size, spec.window), []).append(position)
    sizes = sorted({specs[position].page_bytes for position in latents})
    counts = [most_of_one_page([specs[m] for m in members]) for members in (latents, *windows.values())]
    repeats = _least_padding(counts, at_least=counts[0])
    found = [(latents, tuple(specs[position] for position in latents))]
    for members in windows.values():
        padded = {m: _padded_to(specs[m], sizes) for m in members}
        by_page: dict[int, list[int]] = {}
        for member, spec in padded.items():
            by_page.setdefault(spec.page_bytes, []).append(member)
        tuples = list(zip(*by_page.values(), strict=False))
        groups = ceil_div(len(tuples), repeats)
        for first in range(groups):
            own = tuple(member for each in tuples[first::groups] for member in each)
            found.append((own, tuple(padded[member] for member in own)))
    return found


def most_of_one_page(specs: Sequence[Spec]) -> int:
    """Layers of the page size that most of them have."""
    return max(Counter(spec.page_bytes for spec in specs).values())


def _padded_to(spec: Spec, sizes: Sequence[int]) -> Spec:
    """`spec` with a page of the smallest of these sizes that holds it."""
    size = next((size for size in sizes if size >= spec.page_bytes), spec.page_bytes)
    return spec if size == spec.page_bytes else spec._replace(padded_bytes=size)
