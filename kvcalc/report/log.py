"""An engine's start-up log, error or running server compared with the prediction of its cache."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled, Table, table_of_sheet
from kvcalc.report.versions import named
from kvcalc.units import count, plural


class Compared(NamedTuple):
    """One number of a log. logged, predicted: as printed; line: its line in the log.

    decides: whether it was predicted from stated bytes, so that agreement is evidence; without them almost any number
    can be matched by some number of blocks. judged: whether it can be predicted at all.
    """

    what: str
    logged: str
    predicted: str
    agrees: bool
    line: int
    decides: bool = True
    judged: bool = True

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        if not self.judged:
            return "not judged"
        return "OTHER" if not self.agrees else "equal" if self.decides else "possible"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()


class Way(NamedTuple):
    """A change that would help. flags: as the engine takes them, or in words; gives: its effect, with numbers."""

    flags: str
    gives: str

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()


class Room(NamedTuple):
    """What a running server holds, and its remaining capacity.

    used: how full its cache is, in words; share: as a fraction. requests: additional requests that fit, by tokens.
    longest: tokens of the longest one, 0 if none fits.
    """

    used: str
    share: float
    requests: tuple[tuple[int, int], ...]
    longest: int

    @property
    def words(self) -> str:
        """The additional requests as a sentence."""
        if not self.longest:
            return "no further request"
        each = " or ".join(
            f"{plural(number, 'request')} of {plural(tokens, 'token')}" for tokens, number in self.requests
        )
        return f"{each}; the longest {plural(self.longest, 'token')}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "used": self.used,
            "share": self.share,
            "further_requests": [{"tokens": tokens, "requests": number} for tokens, number in self.requests],
            "longest": self.longest,
        }


class LogReport(NamedTuple):
    """Logged numbers next to the predicted ones, compared within their printed rounding.

    read: settings from the log, and those passed. explanations: settings with which all numbers would agree, the
    simplest first, if they do not. tried: number of settings tried. missing: what would decide, in words, if nothing
    disagrees but the agreement is no evidence. excuse: why numbers differ although the prediction is right. refusal:
    the error that ended the start-up; needed, available: what it was short of, in words. ways: fixes, or ways to more
    capacity, the cheapest first. room: of a running server.
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
    excuse: str = ""
    refusal: str = ""
    needed: str = ""
    available: str = ""
    ways: tuple[Way, ...] = ()
    room: Room | None = None

    @property
    def agrees(self) -> bool:
        """Whether every number agrees, and at least one is evidence."""
        return self.outcome == "agrees"

    @property
    def outcome(self) -> Literal["agrees", "differs", "explained", "undecided"]:
        """The verdict on all numbers."""
        if not all(compared.agrees for compared in self.compared):
            return "explained" if self.excuse else "differs"
        return "agrees" if any(compared.decides for compared in self.compared) else "undecided"

    @property
    def verdict(self) -> str:
        """The answer as a sentence."""
        said = "error" if self.refusal else "server" if self.room else "log"
        if self.outcome == "agrees":
            return f"the prediction agrees with the {said}, {self._closeness}"
        if self.outcome == "undecided":
            return f"undecided: {self.missing}"
        if self.outcome == "explained":
            return f"explained: {self.excuse}"
        differs = f"the prediction does not agree with the {said}"
        if self.explanations:
            return f"{differs}; it would agree with {' or '.join(self.explanations)}"
        return f"{differs}, and none of {count(self.tried)} other settings explains the difference"

    @property
    def _closeness(self) -> str:
        return "to the last digit" if self.room else "within the printed rounding"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("explain"),
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
            **({"refusal": self.refusal} if self.refusal else {}),
            **({"needed": self.needed} if self.needed else {}),
            **({"available": self.available} if self.available else {}),
            **({"ways": [way.to_dict() for way in self.ways]} if self.ways else {}),
            **({"room": self.room.to_dict()} if self.room else {}),
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        """One row for each number, under the same columns if there is none."""
        return table_of_sheet(self._sheet())

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each number; no table for an error that states none."""
        sheet = self._sheet()
        return (sheet if sheet.rows else sheet._replace(columns=()),)

    def _sheet(self) -> Sheet:
        columns = (
            Column("line", "count"),
            Column("what"),
            Column("log"),
            Column("predicted"),
            Column("verdict"),
        )
        rows = tuple((c.line or "", c.what, c.logged, c.predicted, _stressed(c)) for c in self.compared)
        title = f"{self.file}: {self.model} in {self.engine}" if self.model else f"{self.file}: {self.engine}"
        asked = (("file", self.file), ("model", self.model), ("engine", self.engine))
        return Sheet(title, columns, rows, tuple(self._lines()), self.notes, asked=asked)

    def _lines(self) -> Iterator[Line]:
        """What was needed, what there was and what to do; then whether the prediction says the same."""
        if self.needed:
            yield Line("needed", self.needed)
        if self.available:
            yield Line("available", self.available)
        if self.room:
            yield Line("in use", self.room.used)
            yield Line("room for", self.room.words, "answer")
        for number, way in enumerate(self.ways, 1):
            label = "to get more" if self.room else "fix"
            yield Line(f"{label} {number}" if len(self.ways) > 1 else label, f"{way.flags}: {way.gives}")
        if self.refusal:
            yield Line("error", self.refusal)
        yield Line("verdict", self.verdict, "alarm" if self.outcome == "differs" else "plain")
        if self.read:
            yield Line("settings", ", ".join(f"{name}={value}" for name, value in self.read))


def _stressed(compared: Compared) -> Cell:
    return compared.verdict if compared.agrees else Styled(compared.verdict, "alarm")
