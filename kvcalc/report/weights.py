"""Bytes of a model's weights by part, and of a rank's share."""

from typing import NamedTuple

from kvcalc.report.sheet import Column, Json, Line, Sheet
from kvcalc.report.versions import named
from kvcalc.units import both_units, count, plural, ratio

_NOT_KNOWN = "tensors not known individually"


class WeightsPart(NamedTuple):
    """One part of a checkpoint, such as `experts`. meaning: its description. Counts are None if unknown."""

    name: str
    meaning: str
    tensors: int | None
    parameters: int | None
    bytes: int | None


class WeightsReport(NamedTuple):
    """A model's weights.

    total_bytes: of the whole checkpoint. parameters: None if its tensors are unknown. estimate: whether a format was
    assumed for matrices that were not read. loaded_bytes: loaded by engines. rank_bytes: of the largest rank, None
    without a layout. counted: parameters of the class, if it was built; differences: tensors that differ from it.
    """

    model: str
    total_bytes: int
    source: str
    estimate: bool
    parameters: int | None
    parts: tuple[WeightsPart, ...]
    loaded_bytes: int
    parallel: str = ""
    rank_bytes: int | None = None
    counted: int | None = None
    counted_from: str = ""
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether all counted tensors agree."""
        return not self.differences

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        verified = {
            "verified": {
                "equal": self.equal,
                "parameters": self.counted,
                "source": self.counted_from,
                "differences": list(self.differences),
            }
        }
        return {
            **named("weights"),
            "model": self.model,
            "weights_bytes": self.total_bytes,
            "weights_source": self.source,
            "estimate": self.estimate,
            "parameters": self.parameters,
            "loaded_bytes": self.loaded_bytes,
            "parts": [part._asdict() for part in self.parts],
            "parallel": self.parallel,
            "rank_bytes": self.rank_bytes,
            **(verified if self.counted is not None else {}),
            "notes": list(self.notes),
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each part."""
        columns = (
            Column("part"),
            Column("what it is", wide=True),
            Column("tensors", "count", wide=True),
            Column("parameters", "count"),
            Column("bytes", "bytes"),
            Column("GB", "gigabytes"),
            Column("of parameters", "ratio"),
        )
        parts = self.parts or (WeightsPart("all", _NOT_KNOWN, None, None, self.total_bytes),)
        whole = sum(part.parameters or 0 for part in parts)
        rows = tuple((*part, part.bytes, ratio(part.parameters or 0, whole)) for part in parts)
        asked = (("model", self.model),)
        return (Sheet(f"Weights of {self.model}", columns, rows, tuple(self._lines()), self.notes, asked=asked),)

    def _lines(self) -> list[Line]:
        about = " (estimate)" if self.estimate else ""
        lines = [Line("total", f"{both_units(self.total_bytes)}{about}", "answer")]
        if self.parameters is not None:
            lines.append(Line("parameters", count(self.parameters)))
        if self.loaded_bytes != self.total_bytes:
            lines.append(Line("loaded", f"{both_units(self.loaded_bytes)}, without multi-token prediction"))
        if self.rank_bytes is not None:
            lines.append(Line("on each GPU", f"{both_units(self.rank_bytes)} ({self.parallel})", "answer"))
        lines.append(Line("source", self.source))
        if self.counted is not None:
            lines.append(self._verified())
        return lines

    def _verified(self) -> Line:
        found = f"{plural(self.counted or 0, 'parameter')} of {self.counted_from}"
        if self.equal:
            return Line("verified", f"EQUAL: {found}, tensor by tensor", "answer")
        return Line("verified", f"DIFFERENT: {found}; {'; '.join(self.differences)}", "alarm")
