"""What was predicted of a cache, beside what its tensors really took."""

from typing import Any, NamedTuple

from kvcalc.report.sheet import Column, Sheet
from kvcalc.units import both_units, count, plural


class MeasuredTensor(NamedTuple):
    """One tensor of a group, all its layers and sequences.

    shape: of one layer. logical_bytes: elements times their size. storage_bytes: the memory behind them, each once.
    """

    group: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    predicted_bytes: int
    logical_bytes: int
    storage_bytes: int

    @property
    def equal(self) -> bool:
        """Whether all three agree, to the byte."""
        return self.predicted_bytes == self.logical_bytes == self.storage_bytes

    @property
    def verdict(self) -> str:
        """`equal`, or what differs."""
        if self.equal:
            return "equal"
        if self.predicted_bytes != self.logical_bytes:
            return f"{self.logical_bytes - self.predicted_bytes:+,} bytes"
        return f"a view of {self.storage_bytes:,} bytes"

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._asdict(), "shape": list(self.shape), "equal": self.equal}


class Verification(NamedTuple):
    """One model's cache, built from torch modules, run, and measured.

    device: cpu, cuda or meta. tokens: of each sequence, of which the last decode_steps went through attention one by
    one. notes: what was run in place of the whole, and how.
    """

    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    device: str
    decode_steps: int
    tensors: tuple[MeasuredTensor, ...]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every tensor is as predicted."""
        return all(tensor.equal for tensor in self.tensors)

    @property
    def predicted_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.predicted_bytes for tensor in self.tensors)

    @property
    def storage_bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.storage_bytes for tensor in self.tensors)

    def data(self) -> dict[str, Any]:
        """Plain values."""
        totals = {"predicted_bytes": self.predicted_bytes, "storage_bytes": self.storage_bytes, "equal": self.equal}
        return {
            **self._asdict(),
            **totals,
            "notes": list(self.notes),
            "tensors": [tensor.data() for tensor in self.tensors],
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """A row for each tensor of each group."""
        columns = (
            Column("layers", once=True),
            Column("tensor"),
            Column("shape of a layer", wide=True),
            Column("predicted", "bytes"),
            Column("measured", "bytes"),
            Column("verdict"),
        )
        rows = tuple(
            (t.group, t.name, " x ".join(map(str, t.shape)), t.predicted_bytes, t.storage_bytes, t.verdict)
            for t in self.tensors
        )
        title = (
            f"{self.model}, {count(self.tokens)} tokens x {plural(self.sequences, 'sequence')}, {self.kv_dtype}, "
            f"torch modules on {self.device}"
        )
        wrong = [f"{tensor.group} {tensor.name}" for tensor in self.tensors if not tensor.equal]
        lines = (
            f"predicted      {both_units(self.predicted_bytes)}",
            f"measured       {both_units(self.storage_bytes)}",
            f"verdict        {'equal, to the byte' if self.equal else 'not equal: ' + ', '.join(wrong)}",
        )
        return (Sheet(title, columns, rows, lines, self.notes),)
