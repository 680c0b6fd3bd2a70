"""Predicted and measured caches of several ranks."""

from typing import NamedTuple, Self

from kvcalc.report.sheet import Column, Json, Line, Sheet
from kvcalc.report.size import RankReport
from kvcalc.report.verification import Verification, stressed, verdict_line, workload
from kvcalc.units import both_units, count, plural


class MeasuredRank(NamedTuple):
    """Predicted and measured cache of one rank."""

    predicted: RankReport
    measured: Verification

    @property
    def equal(self) -> bool:
        """Whether each tensor of the rank is as predicted, and their sum equals the rank's in the model's report."""
        return self.measured.equal and self.measured.predicted_bytes == self.predicted.bytes

    @property
    def verdict(self) -> str:
        """`equal`, or the difference."""
        return "equal" if self.equal else f"{self.measured.storage_bytes - self.predicted.bytes:+,} bytes"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        predicted = self.predicted.to_dict()
        place = {name: predicted[name] for name in ("rank", "tp_rank", "pp_rank", "dp_rank", "layers", "sequences")}
        totals = {"predicted_bytes": self.predicted.bytes, "storage_bytes": self.measured.storage_bytes}
        return {**place, **totals, "equal": self.equal, "tensors": self.measured.to_dict()["tensors"]}


class RanksVerification(NamedTuple):
    """One model's cache across real ranks, each of which ran and measured its own.

    parallel: layout of the ranks. backend: of torch.distributed, over which they exchanged results.
    whole_bytes: predicted cache of the model on a single rank.
    """

    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    device: str
    parallel: str
    backend: str
    whole_bytes: int
    ranks: tuple[MeasuredRank, ...]

    def of_model(self, notes: tuple[str, ...]) -> Self:
        """The same, with notes on the model."""
        return self._replace(ranks=tuple(each._replace(measured=each.measured.of_model(notes)) for each in self.ranks))

    @property
    def equal(self) -> bool:
        """Whether every rank is as predicted."""
        return all(rank.equal for rank in self.ranks)

    @property
    def predicted_bytes(self) -> int:
        """Of all ranks."""
        return sum(rank.predicted.bytes for rank in self.ranks)

    @property
    def storage_bytes(self) -> int:
        """Of all ranks."""
        return sum(rank.measured.storage_bytes for rank in self.ranks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was run, and how, as reported by the ranks."""
        return tuple(dict.fromkeys(note for rank in self.ranks for note in rank.measured.notes))

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        totals = {"predicted_bytes": self.predicted_bytes, "storage_bytes": self.storage_bytes, "equal": self.equal}
        return {**self._asdict(), **totals, "notes": list(self.notes), "ranks": [rank.to_dict() for rank in self.ranks]}

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each rank."""
        columns = (
            Column("rank", "count"),
            Column("layers"),
            Column("sequences", "count", wide=True),
            Column("predicted", "bytes"),
            Column("measured", "bytes"),
            Column("verdict"),
        )
        rows = tuple(
            (
                rank.predicted.rank,
                "{} to {}".format(*rank.predicted.layers),
                rank.predicted.sequences,
                rank.predicted.bytes,
                rank.measured.storage_bytes,
                stressed(rank),
            )
            for rank in self.ranks
        )
        title = (
            f"{self.model}, {count(self.tokens)} tokens x {plural(self.sequences, 'sequence')}, {self.kv_dtype}, "
            f"{self.parallel}: {plural(len(self.ranks), 'rank')} of torch modules on {self.device}, "
            f"connected by {self.backend}"
        )
        wrong = [str(rank.predicted.rank) for rank in self.ranks if not rank.equal]
        lines = (
            Line("whole", both_units(self.whole_bytes)),
            Line("predicted", f"{both_units(self.predicted_bytes)}, all ranks"),
            Line("measured", f"{both_units(self.storage_bytes)}, all ranks"),
            verdict_line([f"rank {', '.join(wrong)}"] if wrong else []),
        )
        return (Sheet(title, columns, rows, lines, self.notes, asked=workload(self)),)
