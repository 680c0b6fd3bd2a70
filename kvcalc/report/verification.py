"""What was predicted of a cache, beside what its tensors really took."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled
from kvcalc.units import both_units, count, plural


class MeasuredTensor(NamedTuple):
    """One tensor of a group, or all that its layers hold; all its layers and sequences.

    shape: of one layer. logical_bytes: elements times their size. storage_bytes: the memory behind them, each once.
    predicted_storage_bytes: None where no memory but the tensors' own is predicted.
    layers: those that the row is of. shapes: of all tensors of one layer, where the row is of several.
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
        """Of the memory behind the tensors, as predicted."""
        return self.predicted_bytes if self.predicted_storage_bytes is None else self.predicted_storage_bytes

    @property
    def equal(self) -> bool:
        """Whether tensors and the memory behind them are as predicted, to the byte."""
        return self.predicted_bytes == self.logical_bytes and self.expected_storage_bytes == self.storage_bytes

    @property
    def verdict(self) -> str:
        """`equal`, or what differs."""
        if self.equal:
            return "equal"
        if self.predicted_bytes != self.logical_bytes:
            return f"{self.logical_bytes - self.predicted_bytes:+,} bytes"
        return f"a view of {self.storage_bytes:,} bytes"

    @property
    def measured_bytes(self) -> int:
        """What stands beside predicted_bytes: the memory, or the tensors where the memory is predicted by itself."""
        return self.storage_bytes if self.predicted_storage_bytes is None else self.logical_bytes

    @property
    def shape_words(self) -> str:
        """`1 x 8 x 1000 x 64`, of each tensor of a layer; what several have is told once."""
        return ", ".join(dict.fromkeys(" x ".join(map(str, shape)) for shape in self.shapes or (self.shape,)))

    def to_dict(self) -> dict[str, Json]:
        """Plain values; of the layers only where the row says which they are."""
        plain = {**self._asdict(), "shape": list(self.shape), "equal": self.equal}
        if not self.layers:
            return {name: value for name, value in plain.items() if name not in _OF_WHOLE_LAYERS}
        return {**plain, "layers": list(self.layers), "shapes": [list(shape) for shape in self.shapes]}


_OF_WHOLE_LAYERS = ("predicted_storage_bytes", "layers", "shapes")


_JUDGED_FROM_BYTES = 256 * 2**20
"""Resident memory is counted in pages and shared with what runs beside; smaller caches drown in that."""
_PER_CENT = 100


class MemoryReading(NamedTuple):
    """What memory itself says of a cache.

    kind: `resident` pages of the process, or bytes that CUDA's allocator has `allocated`. predicted_bytes: what the
    tensors' storages come to there. The others are of CUDA's allocator alone. reserved_bytes, peak_bytes: with weights
    and work. spare_bytes: what large blocks may keep beyond what was asked for. storage_bytes, requested_bytes: of the
    storages, as predicted, and as the allocator was asked for them, neither of them rounded.
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
        """To the byte for what was allocated; within 1% for what is resident, from 256 MiB on."""
        if self.kind == "allocated":
            in_blocks = 0 <= self.measured_bytes - self.predicted_bytes <= self.spare_bytes
            return in_blocks and self.requested_bytes == self.storage_bytes
        off = abs(self.measured_bytes - self.predicted_bytes)
        return self.predicted_bytes < _JUDGED_FROM_BYTES or off * _PER_CENT <= self.predicted_bytes

    def lines(self) -> tuple[Line, ...]:
        """For people."""
        off = self.measured_bytes - self.predicted_bytes
        if self.kind == "resident":
            judged = "" if self.predicted_bytes >= _JUDGED_FROM_BYTES else "; too little to be judged"
            return (Line("resident", f"{both_units(self.measured_bytes)}, {off:+,} bytes{judged}"),)
        return (
            Line(
                "allocated", f"{both_units(self.measured_bytes)}, {off:+,} bytes of {self.predicted_bytes:,} predicted"
            ),
            Line("reserved", f"{both_units(self.reserved_bytes or 0)}, with weights and work"),
            Line("peak", f"{both_units(self.peak_bytes or 0)}, with weights and work"),
        )


class Verification(NamedTuple):
    """One model's cache, built, run, and measured.

    device: cpu, cuda or meta. tokens: of each sequence, of which the last decode_steps went through attention one by
    one. notes: what was run in place of the whole, and how. against: whose classes were run; kvcalc's own modules if
    empty. memory: what the process or the allocator says, where it can be asked.
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
        """The same, with what a reader must know of the model."""
        return self._replace(notes=(*notes, *self.notes))

    @property
    def equal(self) -> bool:
        """Whether every tensor is as predicted, and the memory too."""
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
        """Of the memory behind all tensors, as predicted."""
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
        """A row for each tensor of each group."""
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
        """The memory behind the tensors, where more was predicted or found than they take."""
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
    """What was measured and has a verdict."""

    @property
    def equal(self) -> bool: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102


def stressed(judged: Judged) -> Cell:
    """The verdict as a cell, stressed where something differs."""
    return judged.verdict if judged.equal else Styled(judged.verdict, "alarm")


def verdict_line(wrong: Sequence[str]) -> Line:
    """The verdict on all that was measured; wrong: what differs."""
    return (
        Line("verdict", f"not equal: {', '.join(wrong)}", "alarm") if wrong else Line("verdict", "equal, to the byte")
    )
