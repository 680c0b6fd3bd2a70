"""The longest prefix that all groups have cached.

Each kind of table finds how much of a candidate it has: full attention first, which also has any shorter prefix; then
the others reduce it until all agree.
Source: vLLM, v1/core/kv_cache_coordinator.py, single_type_kv_cache_manager.py (find_longest_cache_hit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvcalc.engines.vllm.scheduling.pool import NULL, Block
from kvcalc.engines.vllm.scheduling.sequence import Sequence as Running
from kvcalc.engines.vllm.scheduling.states import StateTable
from kvcalc.engines.vllm.scheduling.tables import ChunkTable, Reach, Table, WindowTable
from kvcalc.engines.vllm.specs import ceil_div

Row = tuple[Block, ...]
"""A block of each group of one kind, for the same tokens."""


class Hit(NamedTuple):
    """A hit in the prefix cache. blocks: of each group, in order. longest: tokens cached by some group."""

    blocks: tuple[list[Block], ...]
    tokens: int
    longest: int


class Kind:
    """Groups with equal layers, which are looked up together."""

    def __init__(self, tables: Sequence[Table], reach: Reach) -> None:
        self.tables = tuple(tables)
        self.reach = reach
        self.block_size = tables[0].block_size
        self.is_fine = reach.hit_tokens < self.block_size and self.block_size % reach.hit_tokens == 0

    def row(self, request: Running, tokens: int) -> Row | None:
        """Blocks that end after this many tokens, if every group has one."""
        found = []
        for table in self.tables:
            block = table.find(request, tokens)
            if block is None:
                return None
            found.append(block)
        return tuple(found)

    @property
    def nothing(self) -> Row:
        """A place out of reach."""
        return (NULL,) * len(self.tables)

    @property
    def margin(self) -> int:
        """Additional tokens to look up if the last ones are given up."""
        return self.reach.unit_tokens if self.is_fine else self.block_size

    def find(self, request: Running, most: int, *, drops: bool) -> tuple[list[Row], int]:
        """Rows of the longest prefix of at most `most` tokens, and its tokens. drops: without its last part."""
        raise NotImplementedError


class FullKind(Kind):
    """From left to right, up to the first missing block."""

    def find(self, request: Running, most: int, *, drops: bool) -> tuple[list[Row], int]:  # noqa: D102
        size, rows = self.block_size, []
        for end in range(size, most + 1, size):
            row = self.row(request, end)
            if row is None:
                break
            rows.append(row)
        tokens = len(rows) * size
        if self.is_fine:
            tokens = self._part(request, rows, most)
        step = self.reach.hit_tokens
        if drops and tokens:
            tokens -= min(step, size)
        tokens -= tokens % step
        del rows[ceil_div(tokens, size) :]
        return rows, tokens

    def _part(self, request: Running, rows: list[Row], most: int) -> int:
        """Tokens, including those of the next block if a part of it is registered."""
        step, whole = self.reach.hit_tokens, len(rows) * self.block_size
        most = min(most // step * step, whole + self.block_size - step)
        for end in range(most, whole, -step):
            row = self.row(request, end)
            if row is not None:
                rows.append(row)
                return end
        return whole


class WindowKind(Kind):
    """From right to left: the first run of blocks as long as the window."""

    tables: tuple[WindowTable, ...]

    def find(self, request: Running, most: int, *, drops: bool) -> tuple[list[Row], int]:  # noqa: D102
        size, step = self.block_size, self.reach.hit_tokens
        need = self.tables[0].run_blocks(one_more=drops)
        rows: list[Row] = [self.nothing] * (most // size)
        run, found = 0, False
        for place in range(len(rows) - 1, -1, -1):
            row = self.row(request, (place + 1) * size)
            if row is None:
                run = 0
                continue
            if not run and (place + (not drops)) * size % step:
                continue
            rows[place] = row
            run += 1
            if run >= need:
                del rows[place + run :]
                found = True
                break
        if not found:
            del rows[run:]
            self._align(rows)
        if drops and rows:
            rows.pop()
            self._align(rows)
        return rows, len(rows) * size

    def _align(self, rows: list[Row]) -> None:
        while len(rows) * self.block_size % self.reach.hit_tokens:
            rows.pop()


class ChunkKind(Kind):
    """All earlier chunks count as cached; of the last one, its cached part."""

    tables: tuple[ChunkTable, ...]

    def find(self, request: Running, most: int, *, drops: bool) -> tuple[list[Row], int]:  # noqa: D102
        del drops
        size = self.block_size
        rows: list[Row] = [self.nothing] * (self.tables[0].unseen(most) // size)
        for end in range((len(rows) + 1) * size, most + 1, size):
            row = self.row(request, end)
            if row is None:
                break
            rows.append(row)
        return rows, len(rows) * size


class StateKind(Kind):
    """The last cached state."""

    def find(self, request: Running, most: int, *, drops: bool) -> tuple[list[Row], int]:  # noqa: D102
        del drops
        step = self.reach.hit_tokens if self.is_fine else self.block_size
        for end in range(most // step * step, 0, -step):
            if not self.is_fine and end % self.reach.hit_tokens:
                continue
            row = self.row(request, end)
            if row is not None:
                return [self.nothing] * ((end - 1) // self.block_size) + [row], end
        return [], 0


def kinds_of(tables: Sequence[Table], alike: Sequence[int], reach: Reach) -> list[Kind]:
    """Kinds of the groups, full attention first. alike: a number for each group, equal where their layers are alike."""
    by_number: dict[int, list[Table]] = {}
    for number, table in zip(alike, tables, strict=True):
        by_number.setdefault(number, []).append(table)
    kinds = [_kind_of(members[0])(members, reach) for members in by_number.values()]
    return sorted(kinds, key=lambda kind: not isinstance(kind, FullKind))


def _kind_of(table: Table) -> type[Kind]:
    if isinstance(table, WindowTable):
        return WindowKind
    if isinstance(table, ChunkTable):
        return ChunkKind
    return StateKind if isinstance(table, StateTable) else FullKind


def longest_prefix(kinds: Sequence[Kind], request: Running, most: int, reach: Reach) -> Hit:
    """The longest prefix of `most` tokens that all kinds have. reach.drops_last: each drops a hit's last part once."""
    found: dict[Kind, tuple[list[Row], int]] = {}
    agreed, longest = most, 0
    dropped: set[Kind] = set()
    simple = len(kinds) == 1 or (len(kinds) == 2 and isinstance(kinds[0], FullKind))  # noqa: PLR2004
    while True:
        candidate = agreed
        for kind in kinds:
            if isinstance(kind, FullKind) and kind in found:
                candidate = min(candidate, found[kind][1])
                continue
            drops = reach.drops_last and kind not in dropped
            looked = candidate
            if drops and len(kinds) > 1 and not isinstance(kind, StateKind):
                looked = min(candidate + kind.margin, request.known // reach.unit_tokens * reach.unit_tokens)
            found[kind] = kind.find(request, looked, drops=drops)
            tokens = found[kind][1]
            if drops:
                dropped.add(kind)
            elif tokens < candidate:
                dropped.clear()
            candidate = tokens
            longest = max(longest, candidate)
        done = candidate >= agreed or simple
        agreed = min(agreed, candidate)
        if done:
            break
    return Hit(_by_group(found, agreed), agreed, longest)


def _by_group(found: dict[Kind, tuple[list[Row], int]], tokens: int) -> tuple[list[Block], ...]:
    blocks: dict[int, list[Block]] = {}
    for kind, (rows, _) in found.items():
        if isinstance(kind, FullKind):
            del rows[ceil_div(tokens, kind.block_size) :]
        for position, table in enumerate(kind.tables):
            blocks[table.group] = [row[position] for row in rows]
    return tuple(blocks[group] for group in sorted(blocks))
