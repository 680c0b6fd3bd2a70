"""Baselines: findings of `kvcalc check`, kept in a file next to the plans for later comparison.

Plain JSON in a fixed order, so that changes are readable in a pull request. Paths are relative to the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from json import dumps
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvcalc import __version__
from kvcalc.errors import InvalidValueError
from kvcalc.io.documents import Keys, parse_json, read_text
from kvcalc.io.files import write_whole
from kvcalc.report.check import Finding, Written
from kvcalc.units import shown

_WRITE_AGAIN = "rewrite it: kvcalc check ... --baseline FILE --update-baseline"
_BYTES = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_COUNT = Annotated[int, Field(ge=0, lt=2**63)]
_MOST = 100_000
MAX_BASELINE_BYTES = 64 * 2**20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Facts(_Strict):
    file: str
    fields: dict[str, str]


class _Entry(_Strict):
    deployment: str
    file: str
    model: str
    engine: str
    engine_version: str
    parallel: str
    tokens: _COUNT
    sequences: _COUNT
    kv_dtype: str
    needed_bytes: _COUNT
    available_bytes: _BYTES
    max_tokens: _COUNT | None
    max_sequences: _COUNT | None
    fits: bool
    fields: dict[str, str]
    facts: dict[str, _Facts] = {}


class _File(_Strict):
    version: Literal[1]
    kvcalc: str
    findings: list[_Entry] = Field(max_length=_MOST)


class Baseline(NamedTuple):
    """Kept findings. kvcalc: the version that found them."""

    kvcalc: str
    findings: tuple[Finding, ...]


def read_baseline(path: Path) -> Baseline:
    """A baseline, with paths relative to the current folder. Raises InvalidFileError and InvalidValueError, located."""
    document = parse_json(read_text(path, most=MAX_BASELINE_BYTES), str(path))
    try:
        file = _File.model_validate(document.data)
    except ValidationError as error:
        first = error.errors()[0]
        keys: Keys = tuple(first["loc"])
        raise InvalidValueError(
            f"is not a baseline of this version: {first['msg']}, not {shown(first['input'])}",
            where=document.where(keys),
            help=_WRITE_AGAIN,
        ) from None
    return Baseline(file.kvcalc, tuple(_finding(entry, path.parent) for entry in file.findings))


def _finding(entry: _Entry, folder: Path) -> Finding:
    file = _from_here(entry.file, folder)
    written = [Written(field, value, file) for field, value in entry.fields.items()]
    for of, facts in entry.facts.items():
        path = _from_here(facts.file, folder)
        written += [Written(field, value, path, 0, of) for field, value in facts.fields.items()]
    values = {name: value for name, value in entry if name not in ("file", "fields", "facts")}
    return Finding(file=file, limit=("as it was kept",), written=tuple(written), **values)


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Writes findings to a file, atomically. Raises InvalidFileError if it cannot."""
    entries = sorted((_entry(finding, path.parent) for finding in findings), key=lambda each: str(each["file"]))
    text = dumps({"version": 1, "kvcalc": __version__, "findings": entries}, indent=1) + "\n"
    write_whole(path, text.encode("ascii"))


def _entry(finding: Finding, folder: Path) -> dict[str, object]:
    numbers = {name: getattr(finding, name) for name in _Entry.model_fields if name in Finding._fields}
    facts: dict[str, dict[str, object]] = {}
    for of in dict.fromkeys(each.of for each in finding.written if each.of):
        own = [each for each in finding.written if each.of == of]
        facts[of] = {
            "file": _from_folder(own[0].file, folder),
            "fields": {each.field: each.value for each in own},
        }
    fields = {each.field: each.value for each in finding.written if not each.of}
    return {
        **numbers,
        "file": _from_folder(finding.file, folder),
        "fields": fields,
        **({"facts": facts} if facts else {}),
    }


def _from_folder(file: str, folder: Path) -> str:
    return os.path.relpath(file, folder) if file else ""


def _from_here(file: str, folder: Path) -> str:
    return os.path.normpath(folder / file) if file else ""


def known_as(file: str) -> str:
    """The common name of a file in a baseline and a check: its absolute path."""
    return os.path.abspath(file) if file else ""  # noqa: PTH100  # as text: it may not exist
