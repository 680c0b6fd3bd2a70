"""Plan of an engine that keeps its caches in pools."""

from typing import Any, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.planned import asked, common, memory_lines, title
from kvcalc.report.sheet import Column, Json, Line, Sheet
from kvcalc.units import count, plural


class Pool(NamedTuple):
    """Memory shared by layers of one kind: slots for requests, and spare slots that are never given out.

    name: the kind, such as full, sliding or states. layers: number of layers. slot: contents of a slot, in words.
    slot_bytes: of all layers together, by tensor. spare_slots: such as the page for padded writes.
    """

    name: str
    layers: int
    slot: str
    slots: int
    slot_bytes: tuple[tuple[str, int], ...]
    spare_slots: int = 0

    @property
    def bytes_per_slot(self) -> int:
        """Bytes of one slot, all tensors and layers."""
        return sum(bytes_ for _, bytes_ in self.slot_bytes)

    @property
    def bytes(self) -> int:
        """(slots + spare slots) * bytes of a slot."""
        return (self.slots + self.spare_slots) * self.bytes_per_slot

    def bytes_of(self, *tensors: str) -> int:
        """Bytes of the tensors of these names, all slots."""
        return (self.slots + self.spare_slots) * sum(bytes_ for name, bytes_ in self.slot_bytes if name in tensors)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "name": self.name,
            "layers": self.layers,
            "slot": self.slot,
            "slots": self.slots,
            "spare_slots": self.spare_slots,
            "bytes_per_slot": self.bytes_per_slot,
            "tensors": dict(self.slot_bytes),
            "bytes": self.bytes,
        }


class PoolReport(NamedTuple):
    """Pools that fit, and the tokens they hold.

    available_bytes, stages: of a rank of each pipeline stage. tokens: cached tokens of all requests together, as in the
    engine's log. max_requests: concurrent requests, if the pools limit them.
    log_lines: the engine's lines of its start-up log, of its first rank. resolved: its other choices, by its names.
    host: pools in host memory of a rank of each stage; empty if the engine keeps none there.
    """

    model: str
    engine: str
    version: str
    gpu: str
    available_bytes: tuple[int, ...]
    tokens: int = 0
    stages: tuple[tuple[Pool, ...], ...] = ()
    log_lines: tuple[str, ...] = ()
    engine_settings: tuple[tuple[str, Json], ...] = ()
    parallel: str = ""
    max_requests: int | None = None
    resolved: tuple[tuple[str, Json], ...] = ()
    notes: tuple[str, ...] = ()
    host: tuple[tuple[Pool, ...], ...] = ()

    @property
    def allocated_bytes(self) -> tuple[int, ...]:
        """Bytes of the pools on a rank of each pipeline stage."""
        return tuple(sum(pool.bytes for pool in pools) for pools in self.stages)

    @property
    def log_line(self) -> str:
        """The engine's first line of its start-up log."""
        return self.log_lines[0] if self.log_lines else ""

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **asked(self),
            "allocated_bytes": list(self.allocated_bytes),
            "tokens": self.tokens,
            "max_requests": self.max_requests,
            "stages": [[pool.to_dict() for pool in pools] for pools in self.stages],
            **({"host": [[pool.to_dict() for pool in pools] for pools in self.host]} if self.host else {}),
            "resolved": dict(self.resolved),
            "log_lines": list(self.log_lines),
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
        """One row for each pool of each pipeline stage."""
        columns = (
            Column("stage", once=True),
            Column("layers"),
            Column("slot"),
            Column("slots", "count"),
            Column("spare", "count", wide=True),
            Column("bytes", "bytes"),
        )
        rows = tuple(
            (f"{stage}{where}", f"{pool.layers} {pool.name}", pool.slot, pool.slots, pool.spare_slots, pool.bytes)
            for where, stages in (("", self.stages), (" (host)", self.host))
            for stage, pools in enumerate(stages)
            for pool in pools
        )
        return (Sheet(title(self), columns, rows, self._summary(), self.notes, asked=common(self)),)

    def _summary(self) -> tuple[Line, ...]:
        most = [] if self.max_requests is None else [f"at most {count(self.max_requests)} at a time"]
        return (
            Line("total", plural(self.tokens, "token"), "answer"),
            *memory_lines(self),
            *(Line("requests", words) for words in most),
            *(Line("log", line) for line in self.log_lines),
        )
