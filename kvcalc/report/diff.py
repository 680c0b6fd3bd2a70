"""Changes between two states of the same deployments: bytes, users and contexts, and the fields that caused them."""

from fractions import Fraction
from typing import Any, Literal, NamedTuple

from kvcalc.report.check import Finding, memory_column, notice_of, place_of, refused_row
from kvcalc.report.deployments import Note, notes_sheet
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.notices import GREW, NO_LONGER_FITS, OVER_LIMIT, TOO_LARGE, UNREAD, Notice, Rule
from kvcalc.report.sheet import Cell, Column, Json, Point, Sheet, Styled, Table
from kvcalc.report.versions import named
from kvcalc.units import IN_FULL, common_scale, count, plural

Verdict = Literal[
    "added",
    "removed",
    "no longer sized",
    "no longer fits",
    "does not fit",
    "still does not fit",
    "grew too much",
    "fits again",
    "changed",
]
_PERCENT = 100
_ANY = "any"
_FAILURES: dict[str, Rule] = {"no longer fits": NO_LONGER_FITS, "grew too much": GREW, "no longer sized": UNREAD}


class Cause(NamedTuple):
    """A field whose text changed. was, now: None if not written. file, line: its place now."""

    field: str
    was: str | None
    now: str | None
    file: str = ""
    line: int = 0

    @property
    def words(self) -> str:
        """`plans/prod.yaml:5: tokens 128K -> 256K`."""
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        if self.was is None:
            return f"{place}{self.field} {self.now}, not set before"
        if self.now is None:
            return f"{place}{self.field} {self.was}, no longer set"
        return f"{place}{self.field} {self.was} -> {self.now}"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {**self._asdict()}


class Change(NamedTuple):
    """One deployment, before and after; None before if it was added, None after if removed.

    file: relative path on both sides. causes: fields that changed; max_growth: largest growth allowed. refused: why it
    can no longer be sized.
    """

    deployment: str
    file: str
    was: Finding | None
    now: Finding | None
    causes: tuple[Cause, ...] = ()
    max_growth: Fraction | None = None
    refused: tuple[Note, ...] = ()

    @property
    def growth(self) -> Fraction | None:
        """Growth of the needed bytes as a fraction; None if none were needed before."""
        if self.was is None or self.now is None or not self.was.needed_bytes:
            return None
        return Fraction(self.now.needed_bytes - self.was.needed_bytes, self.was.needed_bytes)

    @property
    def grew_too_much(self) -> bool:
        """Whether it grew by more than allowed; growth from zero always counts."""
        if self.max_growth is None or self.was is None or self.now is None:
            return False
        if self.growth is None:
            return self.now.needed_bytes > 0
        return self.growth > self.max_growth

    @property
    def verdict(self) -> Verdict:
        """The verdict in a word or two."""
        if self.now is None:
            return "no longer sized" if self.refused else "removed"
        if not self.now.fits and (self.was is None or self.was.fits):
            return "no longer fits" if self.was else "does not fit"
        if self.grew_too_much:
            return "grew too much"
        if self.was is None:
            return "added"
        if not self.now.fits:
            return "still does not fit"
        return "changed" if self.was.fits else "fits again"

    @property
    def fails(self) -> bool:
        """Whether it does not fit or cannot be sized now, but did before or is new, or grew by more than allowed."""
        return self.verdict in ("no longer sized", "no longer fits", "does not fit", "grew too much")

    def lines(self, *, exact: bool = False) -> tuple[str, ...]:
        """Before, after and the causes; the next step if it does not fit."""
        causes = tuple(cause.words for cause in self.causes)
        advice = (self.now.advice,) if self.now is not None and not self.now.fits else ()
        return (self._balance(exact=exact), *causes, *advice, *(_reason(note) for note in self.refused))

    def _balance(self, *, exact: bool) -> str:
        found = [finding for finding in (self.was, self.now) if finding is not None]
        scale = IN_FULL if exact else common_scale(*(n for f in found for n in (f.needed_bytes, f.available_bytes)))
        if self.was is None or self.now is None:
            (only,) = found
            tense = ("needs", "has") if self.was is None else ("needed", "had")
            return (
                f"{tense[0]} {scale.of(only.needed_bytes)} ({only.asked}), {tense[1]} {scale.of(only.available_bytes)}"
            )
        parts = [
            f"needs {_to(scale.of(self.was.needed_bytes), scale.of(self.now.needed_bytes))}{self._growth_in_words()}"
        ]
        if self.was.tokens != self.now.tokens:
            parts.append(f"{_to(count(self.was.tokens), count(self.now.tokens))} tokens")
        if self.was.available_bytes != self.now.available_bytes or not self.now.fits:
            parts.append(f"has {_to(scale.of(self.was.available_bytes), scale.of(self.now.available_bytes))}")
        if self.was.max_sequences != self.now.max_sequences:
            parts.append(f"at most {_to(_most(self.was.max_sequences), _most(self.now.max_sequences))} users")
        return ", ".join(parts)

    def _growth_in_words(self) -> str:
        return f" ({percent(self.growth)})" if self.growth else ""

    def row(self) -> dict[str, Cell]:
        """Plain values in one row, before and after."""
        sides = {"was": self.was and self.was.row(), "now": self.now and self.now.row()}
        compared = ("model", "tokens", "sequences", "kv_dtype", "engine", "engine_version", "parallel")
        numbers = ("needed_bytes", "available_bytes", "max_tokens", "max_sequences")
        return {
            "deployment": self.deployment,
            "verdict": self.verdict,
            "fails": self.fails,
            "growth": None if self.growth is None else float(self.growth),
            **{
                f"{side}_{name}": None if row is None else row[name]
                for name in (*compared, *numbers)
                for side, row in sides.items()
            },
            "file": self.file,
        }

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        refused: list[Json] = [note.to_dict() for note in self.refused]
        return {
            "deployment": self.deployment,
            "file": self.file,
            "verdict": self.verdict,
            "fails": self.fails,
            "growth": None if self.growth is None else float(self.growth),
            "was": None if self.was is None else self.was.to_dict(),
            "now": None if self.now is None else self.now.to_dict(),
            "causes": [cause.to_dict() for cause in self.causes],
            **({"refused": refused} if refused else {}),
        }


class DiffReport(NamedTuple):
    """Deployments that changed from `was` to `now`, in the order of `now`, removed ones last.

    unchanged: number of the others. exact: whether tables show exact bytes. refused: what is new and cannot be checked;
    passed_over: what could not be before, and files without deployments.
    """

    was: str
    now: str
    changes: tuple[Change, ...]
    unchanged: int = 0
    exact: bool = False
    refused: tuple[Note, ...] = ()
    passed_over: tuple[Note, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether any change fails, or something new cannot be checked."""
        return bool(self.refused) or any(change.fails for change in self.changes)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            **named("diff"),
            "was": self.was,
            "now": self.now,
            "fails": self.fails,
            "unchanged": self.unchanged,
            "changes": [change.to_dict() for change in self.changes],
            "refused": [note.to_dict() for note in self.refused],
            "passed_over": [note.to_dict() for note in self.passed_over],
        }

    def notices(self) -> tuple[Notice, ...]:
        """One for each change, at its first cause or deployment, and for each deployment that cannot be checked."""
        return (*map(self._notice, self.changes), *map(notice_of, self.refused))

    def _notice(self, change: Change) -> Notice:
        at = next((c for c in change.causes if c.file and c.now is not None), None)
        here = change.now or change.was
        assert here is not None
        too_large = TOO_LARGE if here.missing_bytes else OVER_LIMIT
        rule = _FAILURES.get(change.verdict, GREW if not change.fails else too_large)
        file, line = (at.file, at.line) if at else (here.file, here.line)
        if change.refused:
            file, line = place_of(change.refused[0])
        lines = change.lines(exact=self.exact)
        return Notice(rule, change.fails, change.deployment, change.verdict, lines, file, line, here.notes)

    def table(self) -> Table:
        """One row for each change and for each deployment that cannot be checked."""
        return Table.of((*(change.row() for change in self.changes), *map(refused_row, self.refused)))

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each change, followed by its causes."""
        unit, kind = memory_column(exact=self.exact)
        columns = (
            Column("deployment"),
            Column("verdict"),
            Column(f"was {unit}", kind),
            Column(f"is {unit}", kind),
            Column("change"),
            Column("users"),
            Column("context", wide=True),
            Column("file", wide=True),
        )
        points = tuple(Point(self._title(change), change.lines(exact=self.exact)) for change in self.changes)
        named = (("Refused", self.refused), ("Ignored", self.passed_over))
        more = tuple(notes_sheet(title, notes) for title, notes in named if notes)
        if not self.changes:
            return (Sheet(self._summary(), (), ()), *more)
        return (Sheet(self._summary(), columns, tuple(map(_row, self.changes)), points=points), *more)

    def _title(self, change: Change) -> str:
        here = change.now or change.was
        place = f"{change.refused[0].where}: " if change.refused else here.place if here else ""
        return f"{place}{change.deployment}: {change.verdict}"

    def _summary(self) -> str:
        between = f"from {self.was} to {self.now}"
        refused = f", {len(self.refused):,} refused" if self.refused else ""
        if not self.changes:
            return f"Nothing changed {between}: {plural(self.unchanged, 'deployment')}{refused}"
        failing = sum(change.fails for change in self.changes)
        failed = f", {failing} failing" if failing else ""
        unchanged = f", {self.unchanged} unchanged" if self.unchanged else ""
        return f"{plural(len(self.changes), 'change')} {between}{unchanged}{failed}{refused}"


def _reason(note: Note) -> str:
    return f"{note.where}: {note.about}: {note.sentence}"


def _row(change: Change) -> tuple[Cell, ...]:
    was, now = change.was, change.now
    return (
        change.deployment,
        Styled(change.verdict, "alarm") if change.fails else change.verdict,
        was and was.needed_bytes,
        now and now.needed_bytes,
        percent(change.growth) if change.growth is not None else "",
        _pair(was and _most(was.max_sequences), now and _most(now.max_sequences)),
        _pair(was and _most(was.max_tokens), now and _most(now.max_tokens)),
        change.file,
    )


def percent(growth: Fraction | None) -> str:
    """A growth as `+12.5%`, to a tenth of a percent; smaller changes are not rounded to zero."""
    if growth is None:
        return ""
    number = float(growth * _PERCENT)
    text = f"{number:+,.1f}"
    return "0%" if not growth else f"{text}%" if float(text.replace(",", "")) else f"{number:+.1g}%"


def _most(number: int | None) -> str:
    return _ANY if number is None else f"{number:,}"


def _pair(was: str | None, now: str | None) -> str:
    return _to(was, now) if was is not None and now is not None else was or now or ""


def _to(was: str, now: str) -> str:
    return now if was == now else f"{was} -> {now}"
