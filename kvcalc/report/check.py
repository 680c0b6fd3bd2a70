"""Verdicts on the deployments of capacity plans."""

from typing import NamedTuple

from kvcalc.report.deployments import Note, notes_sheet
from kvcalc.report.sheet import Column, Json, Sheet, Styled, in_version
from kvcalc.units import both_units, plural


class Finding(NamedTuple):
    """Verdict on one deployment of a plan.

    needed_bytes, available_bytes: on one GPU where several share the model, the one that has least to spare.
    limit: how the available bytes came about, in words.
    max_tokens: longest context at this number of sequences, None where any length fits; 0 where none does.
    max_sequences: most sequences at this length, None where they take nothing.
    fits: whether the cache fits the limit. parallel: how GPUs share the model; empty for one.
    engine_version: whose rules hold, where the engine has versions.
    """

    deployment: str
    model: str
    tokens: int
    sequences: int
    kv_dtype: str
    needed_bytes: int
    available_bytes: int
    limit: str
    max_tokens: int | None
    max_sequences: int | None
    fits: bool
    engine: str = "ideal"
    parallel: str = ""
    file: str = ""
    line: int = 0
    notes: tuple[str, ...] = ()
    engine_version: str = ""

    @property
    def missing_bytes(self) -> int:
        """Bytes that are lacking; 0 where it fits."""
        return max(0, self.needed_bytes - self.available_bytes)

    @property
    def advice(self) -> str:
        """What would fit, largest context first."""
        if not self.max_sequences and not self.max_tokens:
            return "nothing fits: not one token of cache is left after weights and reserve"
        parts = []
        if self.max_tokens:
            parts.append(f"{plural(self.max_tokens, 'token')} x {plural(self.sequences, 'sequence')}")
        if self.max_sequences:
            parts.append(f"{plural(self.tokens, 'token')} x {plural(self.max_sequences, 'sequence')}")
        return f"would fit: {', or '.join(parts)}"

    @property
    def message(self) -> str:
        """The verdict as one sentence."""
        asked = f"{plural(self.tokens, 'token')} x {plural(self.sequences, 'sequence')}"
        on = f" on a GPU of {self.parallel}" if self.parallel else ""
        needs = f"{self.model} needs {both_units(self.needed_bytes)}{on} for {asked}"
        has = f"{both_units(self.available_bytes)} available ({self.limit})"
        if self.fits:
            return f"{needs}; {has}"
        if not self.missing_bytes:
            return f"{needs}; {has}; the settings of {self.engine} allow less; {self.advice}"
        return f"{needs}; {has}; {both_units(self.missing_bytes)} missing; {self.advice}"

    @property
    def verdict(self) -> str:
        """In a word: memory is too small, or what the engine's own settings make of it."""
        return "fits" if self.fits else "TOO LARGE" if self.missing_bytes else "OVER LIMIT"

    def data(self) -> dict[str, Json]:
        """Plain values."""
        return {
            "deployment": self.deployment,
            "fits": self.fits,
            "model": self.model,
            "engine": self.engine,
            **({"engine_version": self.engine_version} if self.engine_version else {}),
            "parallel": self.parallel,
            "workload": {"tokens": self.tokens, "sequences": self.sequences, "kv_dtype": self.kv_dtype},
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "missing_bytes": self.missing_bytes,
            "limit": self.limit,
            "max_tokens": self.max_tokens,
            "max_sequences": self.max_sequences,
            "file": self.file,
            "line": self.line,
            "message": self.message,
            "notes": list(self.notes),
        }


class CheckReport(NamedTuple):
    """Verdicts on all deployments given. refused: what cannot be checked; skipped: files of folders that hold none."""

    findings: tuple[Finding, ...]
    refused: tuple[Note, ...] = ()
    skipped: tuple[Note, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every deployment fits."""
        return all(finding.fits for finding in self.findings)

    def data(self) -> dict[str, Json]:
        """Plain values."""
        values: dict[str, Json] = {"fits": self.fits, "findings": [finding.data() for finding in self.findings]}
        for name, notes in (("refused", self.refused), ("skipped", self.skipped)):
            if notes:
                values[name] = [note.data() for note in notes]
        return values

    def sheets(self) -> tuple[Sheet, ...]:
        """One row for each deployment; a sentence for each that does not fit."""
        failing = [finding for finding in self.findings if not finding.fits]
        verdict = f"{len(failing)} of {plural(len(self.findings), 'deployment')} do not fit" if failing else "all fit"
        verdict = verdict if self.findings else "nothing to check"
        verdict += f", {len(self.refused):,} refused" if self.refused else ""
        columns = (
            Column("deployment"),
            Column("verdict"),
            Column("tokens", "count"),
            Column("sequences", "count"),
            Column("engine", wide=True),
            Column("GPUs", wide=True),
            Column("needed GiB", "gibibytes"),
            Column("available GiB", "gibibytes"),
            Column("notes", for_programs=True),
        )
        rows = tuple(
            (
                finding.deployment,
                finding.verdict if finding.fits else Styled(finding.verdict, "alarm"),
                finding.tokens,
                finding.sequences,
                in_version(finding.engine, finding.engine_version),
                finding.parallel or "1",
                finding.needed_bytes,
                finding.available_bytes,
                "; ".join(finding.notes),
            )
            for finding in self.findings
        )
        problems = [f"{f.file}:{f.line}: {f.deployment}: {f.message}" for f in failing]
        remarks = dict.fromkeys(f"{f.deployment}: {note}" for f in self.findings for note in f.notes)
        named = (("Refused", self.refused), ("Skipped", self.skipped))
        more = [notes_sheet(title, notes) for title, notes in named if notes]
        return (Sheet(f"Capacity check: {verdict}", columns, rows, notes=(*problems, *remarks)), *more)
