"""A predicted cache next to its measured tensors."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled
from kvcalc.units import both_units, count, plural


class MeasuredTensor(NamedTuple):
    """One tensor of a group, or all tensors of some layers; over all layers and sequences.

    shape: of one layer. logical_bytes: elements times their size. storage_bytes: storages behind them, each once.
    predicted_storage_bytes: None if the tensors' own memory is predicted. layers: indices. shapes: of all tensors of
    one layer, if the row combines several.
    """

    group: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    predicted_bytes: int
    logical_bytes: int
    storage_bytes: int
    predicted_storage_bytes: int | None = None
    layers: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def expected_storage_bytes(self) -> int:
        """Predicted memory behind the tensors."""
        return self.predicted_bytes if self.predicted_storage_bytes is None else self.predicted_storage_bytes

    @property
    def equal(self) -> bool:
        """Whether tensors and the memory behind them match the prediction to the byte."""
        return self.predicted_bytes == self.logical_bytes and self.expected_storage_bytes == self.storage_bytes

    @property
    def verdict(self) -> str:
        """`equal`, or the difference."""
        if self.equal:
            return "equal"
        if self.predicted_bytes != self.logical_bytes:
            return f"{self.logical_bytes - self.predicted_bytes:+,} bytes"
        return f"a view of {self.storage_bytes:,} bytes"

    @property
    def measured_bytes(self) -> int:
        """Value compared with predicted_bytes: the memory, or the tensors if memory is predicted separately."""
        return self.storage_bytes if self.predicted_storage_bytes is None else self.logical_bytes

    @property
    def shape_words(self) -> str:
        """`1 x 8 x 1000 x 64`, of each tensor of a layer; shapes in common are shown once."""
        return ", ".join(dict.fromkeys(" x ".join(map(str, shape)) for shape in self.shapes or (self.shape,)))

    def to_dict(self) -> dict[str, Json]:
        """Plain values; with layers only if the row names them."""
        plain = {**self._asdict(), "shape": list(self.shape), "equal": self.equal}
        if not self.layers:
            return {name: value for name, value in plain.items() if name not in _OF_WHOLE_LAYERS}
        return {**plain, "layers": list(self.layers), "shapes": [list(shape) for shape in self.shapes]}


_OF_WHOLE_LAYERS = ("predicted_storage_bytes", "layers", "shapes")


_JUDGED_FROM_BYTES = 256 * 2**20
"""Resident memory comes in pages and includes everything else in the process; smaller caches drown in that noise."""
_PER_CENT = 100


class MemoryReading(NamedTuple):
    """A cache as seen by the memory system.

    kind: `resident` pages of the process, or bytes that CUDA's allocator has `allocated`. predicted_bytes: of the
    tensors' storages there. The others apply to CUDA's allocator only. reserved_bytes, peak_bytes: with weights and
    workspaces. spare_bytes: what large blocks may hold beyond the request. storage_bytes, requested_bytes: of the
    storages, as predicted and as requested from the allocator, both unrounded.
    """

    kind: str
    predicted_bytes: int
    measured_bytes: int
    reserved_bytes: int | None = None
    peak_bytes: int | None = None
    spare_bytes: int = 0
    storage_bytes: int | None = None
    requested_bytes: int | None = None

    @property
    def equal(self) -> bool:
        """To the byte for allocated memory; within 1% for resident memory, from 256 MiB on."""
        if self.kind == "allocated":
            in_blocks = 0 <= self.measured_bytes - self.predicted_bytes <= self.spare_bytes
            return in_blocks and self.requested_bytes == self.storage_bytes
        off = abs(self.measured_bytes - self.predicted_bytes)
        return self.predicted_bytes < _JUDGED_FROM_BYTES or off * _PER_CENT <= self.predicted_bytes

    def lines(self) -> tuple[Line, ...]:
        """For people."""
        off = self.measured_bytes - self.predicted_bytes
        if self.kind == "resident":
            judged = "" if self.predicted_bytes >= _JUDGED_FROM_BYTES else "; too small to judge"
            return (Line("resident", f"{both_units(self.measured_bytes)}, {off:+,} bytes{judged}"),)
        return (
            Line(
                "allocated", f"{both_units(self.measured_bytes)}, {off:+,} bytes of {self.predicted_bytes:,} predicted"
            ),
            Line("reserved", f"{both_units(self.reserved_bytes or 0)}, with weights and workspaces"),
            Line("peak", f"{both_units(self.peak_bytes or 0)}, with weights and workspaces"),
        )


class Verification(NamedTuple):
    """One model's cache, built, run and measured.

    device: cpu, cuda or meta. tokens: of each sequence; the last decode_steps were decoded one by one. notes: what was
    run instead of the full model, and how. against: library whose classes were run; kvcalc's own modules if empty.
    memory: of the process or the allocator, if available.
    """

    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    device: str
    decode_steps: int
    tensors: tuple[MeasuredTensor, ...]
    notes: tuple[str, ...] = ()
    against: str = ""
    memory: MemoryReading | None = None

    def of_model(self, notes: tuple[str, ...]) -> Self:
        """The same, with notes on the model."""
        return self._replace(notes=(*notes, *self.notes))

    @property
    def equal(self) -> bool:
        """Whether every tensor and the memory match the prediction."""
        return all(tensor.equal for tensor in self.tensors) and (self.memory is None or self.memory.equal)

    @property
    def predicted_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.predicted_bytes for tensor in self.tensors)

    @property
    def storage_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.storage_bytes for tensor in self.tensors)

    @property
    def measured_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.measured_bytes for tensor in self.tensors)

    @property
    def expected_storage_bytes(self) -> int:
        """Predicted memory behind all tensors."""
        return sum(tensor.expected_storage_bytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        totals = {"predicted_bytes": self.predicted_bytes, "storage_bytes": self.storage_bytes, "equal": self.equal}
        return {
            **self._asdict(),
            **totals,
            "notes": list(self.notes),
            "tensors": [tensor.to_dict() for tensor in self.tensors],
            "memory": self.memory and {**self.memory._asdict(), "equal": self.memory.equal},
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each tensor of each group."""
        columns = (
            Column("layers", once=True),
            Column("tensor"),
            Column("shape of a layer", wide=True),
            Column("dtype", wide=True),
            Column("predicted", "bytes"),
            Column("logical", "bytes", wide=True),
            Column("measured", "bytes"),
            Column("verdict"),
        )
        rows = tuple(
            (t.group, t.name, t.shape_words, t.dtype, t.predicted_bytes, t.logical_bytes, t.measured_bytes, stressed(t))
            for t in self.tensors
        )
        title = (
            f"{self.model}, {count(self.tokens)} tokens x {plural(self.sequences, 'sequence')}, {self.kv_dtype}, "
            f"{self.against or 'torch modules'} on {self.device}"
        )
        wrong = [f"{tensor.group} {tensor.name}" for tensor in self.tensors if not tensor.equal]
        if self.memory and not self.memory.equal:
            wrong.append(f"{self.memory.kind} memory")
        lines = (
            Line("predicted", both_units(self.predicted_bytes)),
            Line("measured", both_units(self.measured_bytes)),
            *self._memory_lines(),
            *(self.memory.lines() if self.memory else ()),
            verdict_line(wrong),
        )
        return (Sheet(title, columns, rows, lines, self.notes, asked=workload(self)),)

    def _memory_lines(self) -> Iterator[Line]:
        """The memory behind the tensors, if predicted or measured to be larger than the tensors."""
        predicted, held = self.expected_storage_bytes, self.storage_bytes
        if predicted != self.predicted_bytes or held != self.measured_bytes:
            verdict = "as predicted" if predicted == held else f"{both_units(predicted)} predicted"
            yield Line("memory behind", f"{both_units(held)}, {verdict}")


class Run(Protocol):
    """What was run."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def sequences(self) -> int: ...  # noqa: D102
    @property
    def kv_dtype(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102


def workload(run: Run) -> tuple[tuple[str, Cell], ...]:
    """What was run, as columns of a table for programs."""
    return (
        *(("model", run.model), ("tokens", run.tokens), ("sequences", run.sequences)),
        *(("kv_dtype", run.kv_dtype), ("device", run.device)),
    )


class Judged(Protocol):
    """Measured values with a verdict."""

    @property
    def equal(self) -> bool: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102


def stressed(judged: Judged) -> Cell:
    """The verdict as a cell, highlighted if it differs."""
    return judged.verdict if judged.equal else Styled(judged.verdict, "alarm")


def verdict_line(wrong: Sequence[str]) -> Line:
    """The overall verdict; wrong: what differs."""
    return (
        Line("verdict", f"not equal: {', '.join(wrong)}", "alarm") if wrong else Line("verdict", "equal, to the byte")
    )
