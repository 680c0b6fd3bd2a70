"""Verdicts on the deployments of capacity plans."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.report.deployments import Note, notes_sheet
from kvcalc.report.notebooks import frame_of, html_of, text_of
from kvcalc.report.notices import OVER_LIMIT, TOO_LARGE, UNREAD, Notice
from kvcalc.report.sheet import Cell, Column, Json, Kind, Point, Sheet, Styled, Table, in_version
from kvcalc.report.tiers import NodeTier, host_bytes
from kvcalc.report.versions import named
from kvcalc.units import IN_FULL, Scale, common_scale, plural

if TYPE_CHECKING:
    from kvcalc.report.chart import Bar, Bars

_MOST_DRAWN = 40
"""Deployments in a chart."""
_MOST_NAMED = 4
"""Deployments that a note names."""
_BELOW_ALL = 99.99
"""Largest percentage shown below 100%."""


NODE, CONTAINER = "host memory of a node", "memory limit of its container"
"""Owners of the memory that holds caches off the devices."""


class Written(NamedTuple):
    """A field of a deployment: how and where it was written. of: the field that names the file."""

    field: str
    value: str
    file: str = ""
    line: int = 0
    of: str = ""


class Mixed(NamedTuple):
    """A workload with requests of different lengths.

    described: its description by part. quantile: required share of the time without preemption; share: that of the
    requested users.
    """

    described: tuple[tuple[str, str], ...]
    quantile: Fraction
    share: float

    @property
    def time(self) -> str:
        """`99% of the time`."""
        return f"{100 * float(self.quantile):g}% of the time"

    @property
    def words(self) -> str:
        """The workload and its outcome."""
        parts = "; ".join(f"{name} {words}" for name, words in self.described)
        percent = 100 if self.share == 1 else min(100 * self.share, _BELOW_ALL)
        return f"{parts}: no preemption {percent:.2f}% of the time"

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {**dict(self.described), "quantile": float(self.quantile), "share": self.share}


class Finding(NamedTuple):
    """Verdict on one deployment of a plan.

    needed_bytes, available_bytes: on one GPU; if several share the model, the one with the least to spare.
    limit: how the available bytes were derived, as words with bytes between them.
    max_tokens: longest context at this number of sequences; None if any length fits, 0 if none does.
    max_sequences: most sequences at this length; None if they take no memory.
    fits: whether the cache fits the limit, and caches off the devices fit the host's memory. parallel: how GPUs share
    the model; empty for one.
    engine_version: version whose rules apply, if the engine has versions. written: the fields it was read from.
    mixed: set if requests differ in length; then tokens are the longest request's, sequences and max_sequences count
    users, and the needed bytes suffice for its share of the time.
    tiers: caches off the devices, on each node; host_memory_bytes: of a node; None if unknown.
    """

    deployment: str
    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    needed_bytes: int
    available_bytes: int
    limit: tuple[str | int, ...]
    max_tokens: int | None
    max_sequences: int | None
    fits: bool
    engine: str = "ideal"
    parallel: str = ""
    file: str = ""
    line: int = 0
    notes: tuple[str, ...] = ()
    engine_version: str = ""
    written: tuple[Written, ...] = ()
    mixed: Mixed | None = None
    tiers: tuple[NodeTier, ...] = ()
    host_memory_bytes: int | None = None
    host_words: str = NODE

    @property
    def missing_host_bytes(self) -> int:
        """Bytes missing in a node's memory; 0 if it is sufficient or unknown."""
        return 0 if self.host_memory_bytes is None else max(0, host_bytes(self.tiers) - self.host_memory_bytes)

    @property
    def _fits_devices(self) -> bool:
        """Whether only the host's memory is too small."""
        return self.fits or bool(self.missing_host_bytes and not self.missing_bytes)

    @property
    def missing_bytes(self) -> int:
        """Missing bytes; 0 if it fits."""
        return max(0, self.needed_bytes - self.available_bytes)

    @property
    def free_bytes(self) -> int:
        """Available bytes that are not needed; 0 if some are missing."""
        return max(0, self.available_bytes - self.needed_bytes)

    def bar(self) -> "Bar":
        """Needed bytes, up to the available ones, and what is free or missing."""
        from kvcalc.report.chart import Bar, Segment

        held = min(self.needed_bytes, max(0, self.available_bytes))
        missing = self.missing_bytes if held else min(self.missing_bytes, self.needed_bytes)
        parts = (Segment("cache", held, 2), Segment("missing", missing, 1), Segment("free", self.free_bytes, 3))
        words = "" if self.fits else self.verdict
        return Bar(self.deployment, tuple(part for part in parts if part.bytes), words)

    @property
    def place(self) -> str:
        """`plan.yaml:14: `; empty for a deployment without a file."""
        return f"{self.file}:{self.line}: " if self.file else ""

    @property
    def asked(self) -> str:
        """`131,072 tokens x 5 sequences`."""
        if self.mixed is not None:
            return f"requests of up to {plural(self.tokens, 'token')} x {plural(self.sequences, 'user')}"
        return f"{plural(self.tokens, 'token')} x {plural(self.sequences, 'sequence')}"

    def lines(self, *, exact: bool = False) -> tuple[str, ...]:
        """Needed and available bytes, the cause, and the next step if it does not fit; bytes in one unit."""
        scale = IN_FULL if exact else common_scale(self.needed_bytes, self.available_bytes)
        asked = (self.model, self.asked, self.kv_dtype, self.parallel)
        cause = f"{', '.join(filter(None, asked))}; {scale.words(self.limit)}"
        return (
            self._balance(scale),
            cause,
            *(() if self._fits_devices else (self.advice,)),
            *self._of_host(exact=exact),
        )

    def _of_host(self, *, exact: bool) -> Iterator[str]:
        """Whether the host's memory suffices, if both sizes are known."""
        if self.host_memory_bytes is None or not self.tiers:
            return
        needed = host_bytes(self.tiers)
        scale = IN_FULL if exact else common_scale(needed, self.host_memory_bytes)
        words = f"{self.host_words}: needs {scale.of(needed)}, has {scale.of(self.host_memory_bytes)}"
        short = self.missing_host_bytes
        yield f"{words}: {scale.of(short)} short; lower the size of the host cache" if short else words

    def _balance(self, scale: Scale) -> str:
        on = " on each GPU" if self.parallel else ""
        on += f" {self.mixed.time}" if self.mixed else ""
        balance = f"needs {scale.of(self.needed_bytes)}{on}, has {scale.of(self.available_bytes)}"
        if self.missing_bytes:
            return f"{balance}: {scale.of(self.missing_bytes)} short"
        return balance if self._fits_devices else f"{balance}, but the settings of {self.engine} allow less"

    @property
    def advice(self) -> str:
        """The next step: what would fit, more sequences first."""
        if self.mixed is not None and self.max_sequences:
            return f"would fit: {plural(self.max_sequences, 'user')}, {self.mixed.time}"
        if not self.max_sequences and not self.max_tokens:
            if self.available_bytes <= 0:
                return "nothing fits: weights and reserve take all memory; use more or larger GPUs"
            return "nothing fits, not even one sequence of one token"
        pairs = ((self.max_sequences, self.tokens), (self.sequences, self.max_tokens))
        parts = [
            f"{plural(number, 'sequence')} of {plural(tokens, 'token')}"
            for number, tokens in pairs
            if number and tokens
        ]
        return f"would fit: {', or '.join(parts)}"

    @property
    def message(self) -> str:
        """The verdict as one sentence, its bytes in full."""
        return "; ".join(self.lines(exact=True))

    @property
    def verdict(self) -> str:
        """The verdict in a word: the memory or the engine's settings are too small."""
        if self.fits:
            return "fits"
        return "TOO LARGE" if self.missing_bytes else "HOST TOO SMALL" if self.missing_host_bytes else "OVER LIMIT"

    def row(self) -> dict[str, Cell]:
        """Plain values in one row."""
        return {
            "deployment": self.deployment,
            "verdict": self.verdict,
            "fits": self.fits,
            "model": self.model,
            "tokens": self.tokens,
            "sequences": self.sequences,
            "kv_dtype": self.kv_dtype,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "parallel": self.parallel,
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "missing_bytes": self.missing_bytes,
            "max_tokens": self.max_tokens,
            "max_sequences": self.max_sequences,
            "host_bytes": host_bytes(self.tiers),
            "host_memory_bytes": self.host_memory_bytes,
            "file": self.file,
            "line": self.line,
            "notes": "; ".join(self.notes),
        }

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "deployment": self.deployment,
            "fits": self.fits,
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "parallel": self.parallel,
            "workload": {
                "tokens": self.tokens,
                "sequences": self.sequences,
                "kv_dtype": self.kv_dtype,
                **(self.mixed.to_dict() if self.mixed else {}),
            },
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "missing_bytes": self.missing_bytes,
            "free_bytes": self.free_bytes,
            "limit": IN_FULL.words(self.limit),
            "max_tokens": self.max_tokens,
            "max_sequences": self.max_sequences,
            **(self._host_data() if self.tiers else {}),
            "file": self.file,
            "line": self.line,
            "message": self.message,
            "notes": list(self.notes),
        }

    def _host_data(self) -> dict[str, Json]:
        host = {
            "needed_bytes": host_bytes(self.tiers),
            "available_bytes": self.host_memory_bytes,
            "missing_bytes": self.missing_host_bytes,
        }
        return {"tiers": [tier.to_dict() for tier in self.tiers], "host": host}


class CheckReport(NamedTuple):
    """Verdicts on all deployments. refused: what cannot be checked; skipped: files in folders that have no deployment.

    exact: whether tables show exact bytes.
    """

    findings: tuple[Finding, ...]
    refused: tuple[Note, ...] = ()
    skipped: tuple[Note, ...] = ()
    exact: bool = False

    @property
    def fits(self) -> bool:
        """Whether every deployment fits."""
        return all(finding.fits for finding in self.findings)

    def to_dict(self) -> dict[str, Json]:
        """Plain values."""
        values: dict[str, Json] = {
            **named("check"),
            "fits": self.fits,
            "findings": [finding.to_dict() for finding in self.findings],
        }
        for name, notes in (("refused", self.refused), ("skipped", self.skipped)):
            if notes:
                values[name] = [note.to_dict() for note in notes]
        return values

    def notices(self) -> tuple[Notice, ...]:
        """One for each deployment, and one for each that cannot be checked."""
        found = (
            Notice(
                TOO_LARGE if finding.missing_bytes or finding.missing_host_bytes else OVER_LIMIT,
                not finding.fits,
                finding.deployment,
                "fits" if finding.fits else "does not fit",
                finding.lines(exact=self.exact),
                finding.file,
                finding.line,
                finding.notes,
            )
            for finding in self.findings
        )
        return (*found, *map(notice_of, self.refused))

    def table(self) -> Table:
        """One row for each deployment, and for each that cannot be checked."""
        return Table.of((*(finding.row() for finding in self.findings), *map(refused_row, self.refused)))

    def charts(self) -> "tuple[Bars, ...]":
        """Needed memory of each deployment against what there is for its cache; of many, the tightest."""
        from kvcalc.report.chart import Bars

        drawn = self.findings
        if len(drawn) > _MOST_DRAWN:
            drawn = tuple(sorted(drawn, key=lambda each: each.available_bytes - each.needed_bytes)[:_MOST_DRAWN])
        if not drawn:
            return ()
        notes = (f"the {_MOST_DRAWN} tightest of {len(self.findings):,} deployments",) if drawn != self.findings else ()
        bars = tuple(finding.bar() for finding in drawn)
        return (Bars(self._title, "memory for the cache on each GPU", bars, notes=notes),)

    def __str__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def to_frame(self) -> Any:
        """A data frame of what `--format csv` prints, in pandas, polars or pyarrow, whichever is there."""
        return frame_of(self)

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each deployment; a few lines on each that does not fit."""
        failing = [finding for finding in self.findings if not finding.fits]
        unit, kind = memory_column(exact=self.exact)
        columns = (
            Column("deployment"),
            Column("verdict"),
            Column("tokens", "count"),
            Column("sequences", "count"),
            Column("max sequences", "count", wide=True),
            Column("engine", wide=True),
            Column("GPUs", wide=True),
            Column(f"needed {unit}", kind),
            Column(f"available {unit}", kind),
        )
        rows = tuple(
            (
                finding.deployment,
                finding.verdict if finding.fits else Styled(finding.verdict, "alarm"),
                finding.tokens,
                finding.sequences,
                finding.max_sequences,
                in_version(finding.engine, finding.engine_version),
                finding.parallel or "1",
                finding.needed_bytes,
                finding.available_bytes,
            )
            for finding in self.findings
        )
        points = tuple(Point(f"{f.place}{f.deployment}", f.lines(exact=self.exact)) for f in failing)
        sheet = Sheet(self._title, columns, rows, notes=tuple(self._remarks()), points=points)
        named = (("Refused", self.refused), ("Skipped", self.skipped))
        return (sheet, *(notes_sheet(title, notes) for title, notes in named if notes))

    def _remarks(self) -> Iterator[str]:
        """Each note once, with the deployments that it is about."""
        about: dict[str, list[str]] = {}
        for finding in self.findings:
            for note in dict.fromkeys(finding.notes):
                about.setdefault(note, []).append(finding.deployment)
        for note, names in about.items():
            if len(names) > _MOST_NAMED:
                names[_MOST_NAMED - 1 :] = [f"{plural(len(names) - _MOST_NAMED + 1, 'other')}"]
            yield f"{', '.join(names)}: {note}"

    @property
    def _title(self) -> str:
        failing = sum(not finding.fits for finding in self.findings)
        do_not = "does not" if failing == 1 else "do not"
        verdict = f"{failing} of {plural(len(self.findings), 'deployment')} {do_not} fit" if failing else "all fit"
        verdict = verdict if self.findings else "nothing to check"
        return f"Capacity check: {verdict}{f', {len(self.refused):,} refused' if self.refused else ''}"


def memory_column(*, exact: bool) -> tuple[str, Kind]:
    """Unit and kind of a column of bytes."""
    return ("bytes", "bytes") if exact else ("GiB", "gibibytes")


def refused_row(note: Note) -> dict[str, Cell]:
    """A deployment that cannot be checked, as a row."""
    file, line = place_of(note)
    return {"deployment": note.about, "verdict": "refused", "file": file, "line": line, "notes": note.sentence}


def notice_of(note: Note) -> Notice:
    """A deployment that cannot be checked, as a notice for CI."""
    return Notice(UNREAD, True, note.about, "refused", (note.sentence,), *place_of(note))


def place_of(note: Note) -> tuple[str, int]:
    """File and line of a deployment that cannot be checked."""
    file, _, line = note.where.rpartition(":")
    return (file, int(line)) if line.isascii() and line.isdecimal() else (note.where, 0)
