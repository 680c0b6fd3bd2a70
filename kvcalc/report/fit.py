"""Plan of an engine's own planner for a model and the available memory."""

from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.planned import asked, common, title
from kvcalc.report.sheet import Column, Json, Line, Sheet
from kvcalc.units import both_units, count, plural


class FitGroup(NamedTuple):
    """Layers that share a block table.

    kind: the engine's name for it. caches: what the layers register, such as attn or indexer. layers: their indices.
    block_size: tokens of a block. page_bytes: bytes of one layer in a block, distinct sizes ascending.
    blocks_per_request: for one request of max_model_len tokens.
    """

    kind: str
    caches: tuple[str, ...]
    layers: tuple[int, ...]
    block_size: int
    page_bytes: tuple[int, ...]
    blocks_per_request: int

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "kind": self.kind,
            "caches": list(self.caches),
            "layers": list(self.layers),
            "block_size": self.block_size,
            "page_bytes": list(self.page_bytes),
            "blocks_per_request": self.blocks_per_request,
        }


class FitReport(NamedTuple):
    """Blocks that fit, and the requests that fit in them.

    available_bytes, bytes_per_block: of a rank of each pipeline stage. num_blocks: on every rank, including the block
    that is never given out. request_blocks: for one request of max_model_len tokens.
    block_size: tokens of a block of the model's attention. resolved: other choices of the engine, by its names.
    counted_block_size: tokens per block of each group, if the engine reports tokens that blocks hold; 0 if it reports
    tokens of requests.
    """

    model: str
    engine: str
    version: str
    gpu: str
    engine_settings: tuple[tuple[str, Json], ...]
    parallel: str
    available_bytes: tuple[int, ...]
    bytes_per_block: tuple[int, ...]
    num_blocks: int
    request_blocks: int
    max_model_len: int
    block_size: int
    groups: tuple[FitGroup, ...]
    resolved: tuple[tuple[str, Json], ...] = ()
    notes: tuple[str, ...] = ()
    counted_block_size: int = 0

    @property
    def max_concurrency(self) -> float:
        """num_blocks / request_blocks, as the engine prints it: concurrent requests of max_model_len tokens."""
        return self.num_blocks / self.request_blocks

    @property
    def tokens(self) -> int:
        """int(max_concurrency * max_model_len), in the engine's own float arithmetic.

        If it counts blocks: num_blocks // groups * counted_block_size.
        """
        if self.counted_block_size:
            return self.num_blocks // len(self.groups) * self.counted_block_size
        return int(self.max_concurrency * self.max_model_len)

    @property
    def allocated_bytes(self) -> tuple[int, ...]:
        """Bytes of the cache on a rank of each pipeline stage."""
        return tuple(self.num_blocks * each_bytes for each_bytes in self.bytes_per_block)

    @property
    def request_bytes(self) -> tuple[int, ...]:
        """Bytes of one request of max_model_len tokens on a rank of each pipeline stage."""
        return tuple(self.request_blocks * each_bytes for each_bytes in self.bytes_per_block)

    @property
    def log_line(self) -> str:
        """The engine's line of its start-up log."""
        return (
            f"GPU KV cache size: {count(self.tokens)} tokens, Maximum concurrency for {count(self.max_model_len)} "
            f"tokens per request: {self.max_concurrency:.2f}x"
        )

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **asked(self),
            "bytes_per_block": list(self.bytes_per_block),
            "allocated_bytes": list(self.allocated_bytes),
            "num_blocks": self.num_blocks,
            "tokens": self.tokens,
            "max_model_len": self.max_model_len,
            "max_concurrency": self.max_concurrency,
            "blocks_per_request": self.request_blocks,
            "request_bytes": list(self.request_bytes),
            "block_size": self.block_size,
            "groups": [group.to_dict() for group in self.groups],
            "resolved": dict(self.resolved),
            "log_line": self.log_line,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each group."""
        columns = (
            Column("layers"),
            Column("kind"),
            Column("caches", wide=True),
            Column("block tokens", "count"),
            Column("page bytes"),
            Column("blocks a request", "count"),
        )
        rows = tuple(
            (
                count(len(group.layers)),
                group.kind,
                ", ".join(group.caches),
                group.block_size,
                " + ".join(map(count, group.page_bytes)),
                group.blocks_per_request,
            )
            for group in self.groups
        )
        return (Sheet(title(self), columns, rows, self._summary(), self.notes, asked=common(self)),)

    def _summary(self) -> tuple[Line, ...]:
        per_stage = zip(self.available_bytes, self.bytes_per_block, self.allocated_bytes, strict=True)
        stages = dict.fromkeys(
            f"{count(self.num_blocks)} of {both_units(block)}: {both_units(taken)} of {both_units(available)}"
            for available, block, taken in per_stage
        )
        request = f"{plural(self.max_model_len, 'token')}: {plural(self.request_blocks, 'block')}"
        return (
            Line("total", self.log_line, "answer"),
            *(Line("blocks", stage) for stage in stages),
            Line("one request", request),
        )
