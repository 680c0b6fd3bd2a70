"""Plan of an engine with one block pool for all layers, plus states."""

from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.planned import asked, common, memory_lines, title
from kvcalc.report.pool import Pool
from kvcalc.report.sheet import Column, Json, Line, Sheet
from kvcalc.units import both_units, count, plural


class BlocksReport(NamedTuple):
    """Blocks that fit, the tokens they hold, and the requests.

    available_bytes, stages: of a rank of each pipeline stage; the first pool of a stage is its blocks. block_size:
    tokens of a block. max_model_len: longest request the engine accepts. request_blocks: blocks it takes.
    max_requests: concurrent requests. reserved_bytes: memory set aside before blocks are allocated.
    log_lines: the engine's lines of its start-up log. resolved: what else it chose, by its names.
    """

    model: str
    engine: str
    version: str
    gpu: str
    available_bytes: tuple[int, ...]
    stages: tuple[tuple[Pool, ...], ...]
    block_size: int
    max_model_len: int
    request_blocks: int
    max_requests: int
    reserved_bytes: int
    resolved: tuple[tuple[str, Json], ...] = ()
    log_lines: tuple[str, ...] = ()
    engine_settings: tuple[tuple[str, Json], ...] = ()
    parallel: str = ""
    notes: tuple[str, ...] = ()

    @property
    def num_blocks(self) -> int:
        """Blocks on every rank, including those that are never given out."""
        return self.stages[0][0].slots + self.stages[0][0].spare_slots

    @property
    def bytes_per_block(self) -> tuple[int, ...]:
        """Of one block, on a rank of each pipeline stage."""
        return tuple(pools[0].bytes_per_slot for pools in self.stages)

    @property
    def tokens(self) -> int:
        """Tokens of the blocks that requests can use."""
        return self.stages[0][0].slots * self.block_size

    @property
    def max_concurrency(self) -> float:
        """Requests of max_model_len tokens that the blocks hold, ignoring other limits."""
        return self.stages[0][0].slots / self.request_blocks

    @property
    def allocated_bytes(self) -> tuple[int, ...]:
        """Bytes of blocks and states on a rank of each pipeline stage."""
        return tuple(sum(pool.bytes for pool in pools) for pools in self.stages)

    @property
    def log_line(self) -> str:
        """The engine's first line of its start-up log."""
        return self.log_lines[0] if self.log_lines else ""

    @property
    def kept_words(self) -> str:
        """Memory set aside before blocks are allocated."""
        kept = [f"{both_units(self.reserved_bytes)} for logits"]
        kept += [f"{both_units(pool.bytes)} for {pool.name}" for pool in self.stages[0][1:]]
        return f"{', '.join(kept)}, before blocks are allocated"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **asked(self),
            "bytes_per_block": list(self.bytes_per_block),
            "allocated_bytes": list(self.allocated_bytes),
            "reserved_bytes": self.reserved_bytes,
            "num_blocks": self.num_blocks,
            "block_size": self.block_size,
            "tokens": self.tokens,
            "max_model_len": self.max_model_len,
            "max_concurrency": self.max_concurrency,
            "max_requests": self.max_requests,
            "blocks_per_request": self.request_blocks,
            "stages": [[pool.to_dict() for pool in pools] for pools in self.stages],
            "resolved": dict(self.resolved),
            "log_lines": list(self.log_lines),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is installed."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each pool."""
        columns = (
            Column("layers"),
            Column("slot"),
            Column("slots", "count"),
            Column("spare", "count", wide=True),
            Column("bytes a slot", "bytes"),
            Column("bytes", "bytes"),
        )
        rows = tuple(
            (f"{pool.layers} {pool.name}", pool.slot, pool.slots, pool.spare_slots, pool.bytes_per_slot, pool.bytes)
            for pools in self.stages
            for pool in pools
        )
        return (Sheet(title(self), columns, rows, self._summary(), self.notes, asked=common(self)),)

    def _summary(self) -> tuple[Line, ...]:
        longest = plural(self.max_model_len, "token")
        blocks = f"{count(self.num_blocks)} of {count(self.block_size)} tokens"
        return (
            Line("total", plural(self.tokens, "token"), "answer"),
            Line("blocks", blocks),
            *memory_lines(self),
            Line("kept", self.kept_words),
            Line("one request", f"{longest}: {plural(self.request_blocks, 'block')}"),
            Line(
                "requests", f"{self.max_concurrency:.2f} of that length, at most {count(self.max_requests)} at a time"
            ),
            *(Line("log", line) for line in self.log_lines),
        )
