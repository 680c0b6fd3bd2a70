"""What an engine's start-up log says of its cache, held against the prediction."""

from typing import Any, NamedTuple

from kvcalc.report.sheet import Column, Sheet
from kvcalc.units import count


class Compared(NamedTuple):
    """One number of a log. logged, predicted: as they are printed; line: where it stands in the log."""

    what: str
    logged: str
    predicted: str
    agrees: bool
    line: int

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return self._asdict()


class LogReport(NamedTuple):
    """Numbers of a log beside the predicted ones, within the rounding of their print.

    read: settings that the log says, and those that were given. explanations: settings that would make all numbers
    agree, the simplest first, where they do not. tried: how many were tried.
    """

    file: str
    model: str
    engine: str
    read: tuple[tuple[str, Any], ...]
    compared: tuple[Compared, ...]
    explanations: tuple[str, ...] = ()
    tried: int = 0
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every number does."""
        return all(compared.agrees for compared in self.compared)

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        if self.agrees:
            return "the prediction agrees with the log, within the rounding of what was printed"
        if self.explanations:
            return f"the prediction does not agree with the log; it would with {' or with '.join(self.explanations)}"
        return f"the prediction does not agree with the log, and none of {count(self.tried)} other settings explains it"

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "file": self.file,
            "model": self.model,
            "engine": self.engine,
            "agrees": self.agrees,
            "settings": dict(self.read),
            "compared": [compared.data() for compared in self.compared],
            "explanations": list(self.explanations),
            "settings_tried": self.tried,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each number."""
        columns = (
            Column("line", "count"),
            Column("what"),
            Column("log"),
            Column("predicted"),
            Column("verdict"),
        )
        rows = tuple((c.line, c.what, c.logged, c.predicted, "equal" if c.agrees else "OTHER") for c in self.compared)
        read = ", ".join(f"{name}={value}" for name, value in self.read)
        lines = (f"verdict        {self.verdict}", *((f"settings       {read}",) if read else ()))
        return (Sheet(f"{self.file}: {self.model} in {self.engine}", columns, rows, lines, self.notes),)
