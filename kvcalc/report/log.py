"""What an engine's start-up log says of its cache, held against the prediction."""

from typing import Literal, NamedTuple

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled
from kvcalc.units import count


class Compared(NamedTuple):
    """One number of a log. logged, predicted: as they are printed; line: where it stands in the log.

    decides: whether it was predicted from bytes that somebody says, so that it might well have been another number;
    without them a number of blocks that fits it is nearly always found.
    """

    what: str
    logged: str
    predicted: str
    agrees: bool
    line: int
    decides: bool = True

    @property
    def verdict(self) -> str:
        """In a word."""
        return "OTHER" if not self.agrees else "equal" if self.decides else "possible"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()


class LogReport(NamedTuple):
    """Numbers of a log beside the predicted ones, within the rounding of their print.

    read: settings that the log says, and those that were given. explanations: settings that would make all numbers
    agree, the simplest first, where they do not. tried: how many were tried. missing: what would decide, in words,
    where nothing disagrees and nothing that agrees decides.
    """

    file: str
    model: str
    engine: str
    read: tuple[tuple[str, Json], ...]
    compared: tuple[Compared, ...]
    explanations: tuple[str, ...] = ()
    tried: int = 0
    missing: str = ""
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether every number does, and one of them might not have."""
        return self.outcome == "agrees"

    @property
    def outcome(self) -> Literal["agrees", "differs", "undecided"]:
        """Of all numbers together."""
        if not all(compared.agrees for compared in self.compared):
            return "differs"
        return "agrees" if any(compared.decides for compared in self.compared) else "undecided"

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        if self.outcome == "agrees":
            return "the prediction agrees with the log, within the rounding of what was printed"
        if self.outcome == "undecided":
            return f"undecided: {self.missing}"
        if self.explanations:
            return f"the prediction does not agree with the log; it would with {' or with '.join(self.explanations)}"
        return f"the prediction does not agree with the log, and none of {count(self.tried)} other settings explains it"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "file": self.file,
            "model": self.model,
            "engine": self.engine,
            "agrees": self.agrees,
            "outcome": self.outcome,
            "settings": dict(self.read),
            "compared": [compared.to_dict() for compared in self.compared],
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
        rows = tuple((c.line, c.what, c.logged, c.predicted, _stressed(c)) for c in self.compared)
        lines = [Line("verdict", self.verdict, "alarm" if self.outcome == "differs" else "plain")]
        if self.read:
            lines.append(Line("settings", ", ".join(f"{name}={value}" for name, value in self.read)))
        return (Sheet(f"{self.file}: {self.model} in {self.engine}", columns, rows, tuple(lines), self.notes),)


def _stressed(compared: Compared) -> Cell:
    return compared.verdict if compared.agrees else Styled(compared.verdict, "alarm")
