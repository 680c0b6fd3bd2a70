"""Existing deployments: manifests, compose files, Helm values, scripts and units, read as the engines they start.

    file ──► Document ──► form ──► Workload ──► settle (kvcalc.io.engine_args) ──► Deployed
    sources.py  documents.py  forms/   workload.py     settling.py                     report/deployments.py

A file is parsed by its grammar (`reading/`), keeping the line of every word, even in YAML nested in a YAML string. A
form (`forms/`, one file each) recognises its documents and extracts what they may start. Resolving that (variables,
launchers, arguments) is one step for all forms. A bad file does not affect others, and nothing is ever run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import KvcalcError
from kvcalc.io.deployments.documents import Around, Document, Source, documents_of
from kvcalc.io.deployments.forms import Form, form_of, forms
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.settling import Outcome, Settled, settle
from kvcalc.io.deployments.workload import Refused, Told, Workload
from kvcalc.io.engine_args import HIDDEN, is_credential
from kvcalc.report.deployments import Note

_DEEPEST = 8
"""Deepest nesting of documents."""


class Deployments(NamedTuple):
    """The result of reading all files.

    unread: unreadable files, by name. silent: files without an engine and without notes. formless: those of them that
    no form recognised.
    """

    settled: tuple[Settled, ...]
    refused: tuple[Note, ...]
    told: tuple[Note, ...]
    unread: Mapping[str, Note]
    silent: tuple[str, ...]
    formless: frozenset[str]


def read_deployments(
    sources: Iterable[Source],
    given: Mapping[str, str] | None = None,
    opener: Callable[[str], str | None] = lambda _: None,
) -> Deployments:
    """Every engine that files start. given: variables set by the user; opener: reads files next to them."""
    documents: list[Document] = []
    unread: dict[str, Note] = {}
    names: list[str] = []
    for source in sources:
        names.append(source.name)
        try:
            documents.extend(documents_of(source))
        except KvcalcError as error:
            unread[source.name] = _without_credentials(Note.of(error, source.name))
    variables = {name: Text.on(1, value) for name, value in (given or {}).items()}
    around = Around.of(documents, variables, opener)
    made = [document for form in forms() for document in form.makes(around)]
    reader = _Reader(Around.of(documents, variables, opener, made) if made else around)
    for document in documents:
        reader.read(document)
    spoken = {note.where.rpartition(":")[0] for note in (*reader.refused, *reader.told)}
    spoken |= (
        {each.deployed.where.rpartition(":")[0] for each in reader.settled}
        | set(unread)
        | reader.built
        | reader.handed_on
    )
    return Deployments(
        tuple(_named(_once(reader.settled))),
        _unique(reader.refused),
        _unique(reader.told),
        unread,
        tuple(name for name in dict.fromkeys(names) if name not in spoken),
        frozenset(names) - reader.formed,
    )


class _Reader:
    """Turns documents into deployments."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._forms: list[Form] = forms()
        self.built = frozenset().union(*(form.uses(around) for form in self._forms))
        self.settled: list[Settled] = []
        self.refused: list[Note] = []
        self.told: list[Note] = []
        self.formed = set(self.built)
        self.handed_on: set[str] = set()

    def read(self, document: Document, depth: int = 0) -> None:
        """Everything a document starts, and nested documents."""
        if depth == 0 and document.file in self.built:
            return
        form = form_of(document, self._forms)
        if form is None or depth > _DEEPEST:
            return
        self.formed.add(document.file)
        try:
            for found in form.read(document, self._around._replace(here=document)):
                if isinstance(found, Document):
                    self.handed_on.add(document.file)
                    self.read(found, depth + 1)
                else:
                    self._take(found, document)
        except KvcalcError as error:
            self.refused.append(Note.of(error, document.file))

    def _take(self, found: Workload | Told | Refused, document: Document) -> None:
        if isinstance(found, Workload):
            folder = Path(document.file).parent
            outcome: Outcome = settle(found, document.file, folder)
            self.settled.extend(outcome.settled)
            self.refused.extend(outcome.refused)
            self.told.extend(outcome.told)
        else:
            notes = self.refused if isinstance(found, Refused) else self.told
            notes.append(Note(f"{document.file}:{found.line}", found.about, found.why))


def _once(settled: Iterable[Settled]) -> list[Settled]:
    """Deployments without duplicates: overlays may repeat an unchanged one."""
    found: dict[str, Settled] = {}
    for each in settled:
        found.setdefault(repr(each.deployed), each)
    return list(found.values())


def _named(settled: Sequence[Settled]) -> Iterator[Settled]:
    """Deployments, with part names if a pod or a script starts several."""
    groups = Counter((each.workload.group, each.workload.name) for each in settled if each.workload.group)
    numbers: Counter[tuple[int, str]] = Counter()
    for each in settled:
        group = each.workload.group, each.workload.name
        if groups[group] < 2:  # noqa: PLR2004
            yield each
            continue
        numbers[group] += 1
        part = each.workload.part or str(numbers[group])
        own = each.deployed
        if each.workload.part or own.name == each.workload.name:
            own = own._replace(name=f"{own.name}/{part}")
        yield each._replace(deployed=own)


def _unique(notes: Iterable[Note]) -> tuple[Note, ...]:
    return tuple(dict.fromkeys(map(_without_credentials, notes)))


def _without_credentials(note: Note) -> Note:
    """A note without secrets: a form may quote a key, a name, a preset."""
    if not is_credential(note.why) and not is_credential(note.about):
        return note
    return note._replace(about=_shown(note.about), why=_shown(note.why), help=_shown(note.help))


def _shown(sentence: str) -> str:
    return " ".join(HIDDEN if is_credential(word) else word for word in sentence.split(" "))
