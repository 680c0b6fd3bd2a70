"""Input of `kvcalc check`: plans and existing deployments; a bad file does not affect others."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kvcalc.errors import InvalidValueError, KvcalcError, located
from kvcalc.errors.foreign import listed
from kvcalc.fleet.check import Deployment
from kvcalc.io.deployments import Deployments, read_deployments
from kvcalc.io.deployments.documents import YAML, Source, grammar_of
from kvcalc.io.deployments.given import variables_of
from kvcalc.io.deployments.settling import Settled
from kvcalc.io.deployments.skipping import sorted_notes
from kvcalc.io.deployments.sources import Found, found, opener
from kvcalc.io.deployments.workload import ALL_GPUS
from kvcalc.report.check import CONTAINER, Written
from kvcalc.report.deployments import Note
from kvcalc.units import parse_tokens

_USERS = "concurrency"
_PLAN = re.compile(r"(?m)^(?:deployments|\s*[\"']deployments[\"'])\s*:")
_MOST_MODELS = 5
_MANIFEST = re.compile(r"(?m)^\s*[\"']?(?:apiVersion|kind)[\"']?\s*:")


_OF_DEVICE = ("gpu", "memory", "budget")


class Given(NamedTuple):
    """What the user adds to deployments whose files do not give it.

    fields: of a plan's entry, by name. called: the user's names for them, such as --gpu.
    """

    fields: Mapping[str, object] = {}
    called: Mapping[str, str] = {}
    variables: Mapping[str, str] = {}
    hub: bool = False

    @classmethod
    def of(  # noqa: PLR0913  # what may be added, on the command line and in Python
        cls,
        variables: Sequence[str] = (),
        *,
        hub: bool = False,
        dashes: str = "",
        gpu: str | None = None,
        memory: int | str | None = None,
        budget: int | str | None = None,
        weights: int | str | None = None,
        reserve: int | str | None = None,
        tokens: int | str | None = None,
        batch: int | str | None = None,
    ) -> Given:
        """From values as people write them. dashes: prefix of the names.

        Raises InvalidValueError for an invalid number of users.
        """
        users = None if batch is None else located(f"{dashes}batch", parse_tokens, batch, "batch")
        added = {"gpu": gpu, "memory": memory, "budget": budget, "weights": weights, "reserve": reserve}
        fields = {
            name: value for name, value in {**added, "tokens": tokens, _USERS: users}.items() if value is not None
        }
        called = {name: f"{dashes}{'batch' if name == _USERS else name}" for name in fields}
        given = located(f"{dashes}set" if dashes else "variables", variables_of, variables)
        return cls(fields, called, given, hub)

    @property
    def names_device(self) -> bool:
        """Whether it gives the memory for the cache."""
        return any(name in self.fields for name in _OF_DEVICE)


class Unsized(NamedTuple):
    """A deployment that cannot be sized, and why; without a name all of its file."""

    file: str
    name: str
    notes: tuple[Note, ...]


class ToCheck(NamedTuple):
    """Deployments in the order of their files, and those that cannot be checked. unsized: of the refusals."""

    deployments: tuple[Deployment, ...]
    refused: tuple[Note, ...]
    skipped: tuple[Note, ...]
    unsized: tuple[Unsized, ...] = ()


def to_check(paths: Sequence[str], given: Given) -> ToCheck:
    """Deployments of plans, files, folders, standard input and git revisions."""
    return of_files(found(paths), given)


def of_files(files: Found, given: Given) -> ToCheck:
    """Deployments of the files found, wherever they are."""
    plans = [source for source in files.sources if _is_plan(source, files)]
    others = [source for source in files.sources if source not in plans]
    read = read_deployments(others, given.variables, opener)
    plans += [source for source in others if _may_be_plan(source, read, files)]
    named = {source.name for source in plans}
    notes = sorted_notes(files, read._replace(silent=tuple(name for name in read.silent if name not in named)))
    entries: list[tuple[str, Deployment]] = []
    unsized: list[Unsized] = []
    for source in plans:
        try:
            entries.extend((source.name, each) for each in _of_plan(source, hub=given.hub))
        except KvcalcError as error:
            unsized.append(Unsized(source.name, "", (Note.of(error, source.name),)))
    if "weights" in given.fields:
        _check_weights(read.settled, given.called["weights"])
    known: dict[Hashable, Any] = {}
    for settled in read.settled:
        try:
            entries.extend((_file(settled), each) for each in _of_file(settled, given, known))
        except KvcalcError as error:
            where = settled.deployed.where
            unsized.append(Unsized(_file(settled), settled.deployed.name, (Note.of(error, where),)))
    order = {source.name: number for number, source in enumerate(files.sources)}
    entries.sort(key=lambda entry: order.get(entry[0], len(order)))
    refused = [note for note in notes.refused if not _is_answered(note, given)]
    refused += [note for each in unsized for note in each.notes]
    unsized += [Unsized(_file(each), each.deployed.name, each.refused) for each in read.settled if each.refused]
    skipped = (*notes.skipped, *notes.empty)
    return ToCheck(tuple(each for _, each in entries), tuple(dict.fromkeys(refused)), skipped, tuple(unsized))


def _check_weights(settled: Sequence[Settled], where: str) -> None:
    """Raises InvalidValueError if weights of one model are given, and several are served."""
    models = sorted({each.deployed.model for each in settled if each.deployed.model is not None})
    if len(models) > 1:
        raise InvalidValueError(
            f"is the size of one model, but {len(models):,} are served: {listed(models, _MOST_MODELS)}",
            where=where,
            help="check them separately, or write a plan that refers to them (from: FILE) with the weights of each",
        )


def _is_plan(source: Source, files: Found) -> bool:
    """Whether a file is a plan. One in a folder has a list of deployments or is broken, and is not a template."""
    if grammar_of(source) != YAML or not _PLAN.search(source.words) or _MANIFEST.search(source.words):
        return False
    return source.name not in files.from_folder or ("{{" not in source.words and _lists_deployments(source))


def _lists_deployments(source: Source) -> bool:
    from kvcalc.io.documents import parse_yaml

    try:
        values = parse_yaml(source.words, source.name).data
    except KvcalcError:
        return True
    return isinstance(values, Mapping) and isinstance(values.get("deployments"), list)


def _may_be_plan(source: Source, read: Deployments, files: Found) -> bool:
    """Whether a named file is an invalid plan: the plan's own errors then say what is missing."""
    is_named = source.name not in files.from_folder and source.name in read.formless and source.name not in read.unread
    return is_named and grammar_of(source) == YAML and not _MANIFEST.search(source.words)


def _of_plan(source: Source, *, hub: bool) -> list[Deployment]:
    from kvcalc.io.documents import parse_yaml
    from kvcalc.io.plans import parse_plan

    return parse_plan(parse_yaml(source.words, source.name), Path(source.name), hub=hub)


def _file(settled: Settled) -> str:
    return settled.deployed.where.rpartition(":")[0]


def _is_answered(note: Note, given: Given) -> bool:
    """Whether the user gives the device; the engine's ranks decide how many of the visible ones are used."""
    return (note.about == "GPU" and given.names_device) or note.why == ALL_GPUS


def _of_file(settled: Settled, given: Given, known: dict[Hashable, Any]) -> Iterator[Deployment]:
    """The deployment, unless something in it is refused, which is already reported."""
    from kvcalc.io.plans import DeploymentEntry, deployment_of

    deployed, command = settled.deployed, settled.command
    if settled.refused or command is None or deployed.model is None:
        return
    said: dict[str, object] = {"name": deployed.name, "model": deployed.model}
    if "budget" not in given.fields:
        said["gpu"] = deployed.gpu
    entry = DeploymentEntry.model_validate({**said, **given.fields})
    folder = Path(_file(settled)).parent
    found = deployment_of(entry, command, deployed.where, folder, known, hub=given.hub, called=given.called)
    found = replace(found, written=tuple(_placed(each, settled) for each in found.written))
    workload = settled.workload
    if workload.memory_bytes is not None and workload.container_gpus:
        limit = (workload.memory_bytes, workload.container_gpus, CONTAINER)
        found = replace(found, host=found.host.of_container(*limit))
    yield found


def _placed(field: Written, settled: Settled) -> Written:
    """A field at the line of its own argument, rather than of what starts the engine."""
    own = field.file == _file(settled) or not field.file
    return field._replace(line=settled.lines.get(field.field, field.line)) if own else field
