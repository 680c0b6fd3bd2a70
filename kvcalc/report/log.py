"""What an engine's start-up log, its error or its running server says of its cache, held against the prediction."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from kvcalc.report.sheet import Cell, Column, Json, Line, Sheet, Styled
from kvcalc.report.versions import named
from kvcalc.units import count, plural


class Compared(NamedTuple):
    """One number of a log. logged, predicted: as they are printed; line: where it stands in the log.

    decides: whether it was predicted from bytes that are stated, so that it might well have been another number;
    without them a number of blocks that fits it is nearly always found. judged: whether it can be predicted at all.
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
        """In a word."""
        if not self.judged:
            return "not judged"
        return "OTHER" if not self.agrees else "equal" if self.decides else "possible"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()


class Way(NamedTuple):
    """A change that would help. flags: as the engine takes them, or in words; gives: what it brings, with numbers."""

    flags: str
    gives: str

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return self._asdict()


class Room(NamedTuple):
    """What a running server holds and still takes.

    used: how full its cache is, in words; share: of the whole. requests: further requests, by their tokens. longest:
    tokens of one further request, 0 for none.
    """

    used: str
    share: float
    requests: tuple[tuple[int, int], ...]
    longest: int

    @property
    def words(self) -> str:
        """The further requests in a sentence."""
        if not self.longest:
            return "not one more request"
        each = ", ".join(f"{count(number)} of {plural(tokens, 'token')}" for tokens, number in self.requests)
        return f"{each}; the longest single one {plural(self.longest, 'token')}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "used": self.used,
            "share": self.share,
            "further_requests": [{"tokens": tokens, "requests": number} for tokens, number in self.requests],
            "longest": self.longest,
        }


class LogReport(NamedTuple):
    """Numbers of a log beside the predicted ones, within the rounding of their print.

    read: settings that the log says, and those that were given. explanations: settings that would make all numbers
    agree, the simplest first, where they do not. tried: how many were tried. missing: what would decide, in words,
    where nothing disagrees and nothing that agrees decides. excuse: why numbers differ although the prediction is
    right. refusal: the error that ended the start-up. ways: out of it, or to more room, the cheapest first. room: of a
    running server.
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
    ways: tuple[Way, ...] = ()
    room: Room | None = None

    @property
    def agrees(self) -> bool:
        """Whether every number does, and one of them might not have."""
        return self.outcome == "agrees"

    @property
    def outcome(self) -> Literal["agrees", "differs", "explained", "undecided"]:
        """Of all numbers together."""
        if not all(compared.agrees for compared in self.compared):
            return "explained" if self.excuse else "differs"
        return "agrees" if any(compared.decides for compared in self.compared) else "undecided"

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        said = "error" if self.refusal else "server" if self.room else "log"
        if self.outcome == "agrees":
            return f"the prediction agrees with the {said}, {self._closeness}"
        if self.outcome == "undecided":
            return f"undecided: {self.missing}"
        if self.outcome == "explained":
            return f"explained: {self.excuse}"
        differs = f"the prediction does not agree with the {said}"
        if self.explanations:
            return f"{differs}; it would with {' or with '.join(self.explanations)}"
        return f"{differs}, and none of {count(self.tried)} other settings explains it"

    @property
    def _closeness(self) -> str:
        return "to the last digit" if self.room else "within the rounding of what was printed"

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
            **({"ways": [way.to_dict() for way in self.ways]} if self.ways else {}),
            **({"room": self.room.to_dict()} if self.room else {}),
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
        title = f"{self.file}: {self.model} in {self.engine}"
        asked = (("file", self.file), ("model", self.model), ("engine", self.engine))
        return (Sheet(title, columns, rows, tuple(self._lines()), self.notes, asked=asked),)

    def _lines(self) -> Iterator[Line]:
        if self.refusal:
            yield Line("error", self.refusal)
        yield Line("verdict", self.verdict, "alarm" if self.outcome == "differs" else "plain")
        if self.room:
            yield Line("in use", self.room.used)
            yield Line("more", self.room.words, "answer")
        for number, way in enumerate(self.ways, 1):
            label = "to raise it" if self.room else "way out"
            yield Line(f"{label} {number}" if len(self.ways) > 1 else label, f"{way.flags}: {way.gives}")
        if self.read:
            yield Line("settings", ", ".join(f"{name}={value}" for name, value in self.read))


def _stressed(compared: Compared) -> Cell:
    return compared.verdict if compared.agrees else Styled(compared.verdict, "alarm")
