"""One entry of a plan, with its launcher and place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kvcalc.engines.base import split_version
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.io.documents import Document, Keys
from kvcalc.io.engine_args import Command, read_arguments
from kvcalc.io.plans.form import DeploymentEntry
from kvcalc.io.written import in_short
from kvcalc.report.check import Written

Given = ParamSpec("Given")
Result = TypeVar("Result")

_NO_COMMAND = Command("", "", None, None, None, {}, {}, {})


class Row:
    """Turns an entry into a Deployment.

    known: shared with other entries; args: its command line; called: names of fields that are not in a file, such as
    --gpu.
    """

    def __init__(  # noqa: PLR0913  # its place, and shared state
        self,
        entry: DeploymentEntry,
        document: Document,
        path: Keys,
        file: Path | None,
        known: dict[Hashable, Any],
        command: Command | None = None,
        *,
        hub: bool = False,
        called: Mapping[str, str] | None = None,
    ) -> None:
        self.entry = entry
        self.document = document
        self.path = path
        self.file = "" if file is None else str(file)
        self.folder = Path() if file is None else file.parent
        self.known = known
        self.hub = hub
        self.called = called or {}
        self.args = command or _NO_COMMAND
        self.by_flags = command is not None
        if entry.from_ is not None:
            self.entry, self.args = self.take("from", self._started, entry)
        elif entry.args is not None:
            engine = entry.engine and split_version(entry.engine)[0]
            words = entry.args if isinstance(entry.args, str) else tuple(entry.args)
            self.args = self.take("args", read_arguments, words, engine, self.folder)

    def _started(self, entry: DeploymentEntry) -> tuple[DeploymentEntry, Command]:
        """The entry with the contents of the file it refers to."""
        from kvcalc.io.deployments.referring import referred

        if entry.args is not None:
            raise self.refuse("from and args both say what is started", "give only one of them", "args")
        found = self.once(
            ("from", entry.from_, entry.name), lambda: referred(self.folder, entry.from_ or "", entry.name)
        )
        deployed, command = found
        more = {"model": entry.model or deployed.model}
        if entry.gpu is None and entry.memory is None and entry.budget is None:
            more["gpu"] = deployed.gpu
        return entry.model_copy(update=more), command

    def written(self, name: str, value: object, at: str) -> Written:
        """A deciding field as written; at: its key."""
        lines = self.document.lines
        line = lines.get((*self.path, at), lines.get(self.path, 0))
        return Written(name, in_short(value), self.document.name if self.file else "", line)

    def take(self, field: str, read: Callable[Given, Result], *values: Given.args, **named: Given.kwargs) -> Result:
        """Result of `read`, with errors located at the field."""
        try:
            return read(*values, **named)
        except KvcalcError as error:
            raise error.at(self.where(field)) from None

    def once(self, key: Hashable, read: Callable[[], Result]) -> Result:
        """Result of `read`, shared by entries with the same key."""
        if key not in self.known:
            self.known[key] = read()
        found: Result = self.known[key]
        return found

    def missing(self, name: str) -> InvalidValueError:
        """The error for a missing field."""
        return self.refuse(f"{name} is missing", f"add {name}; `kvcalc schema plan` lists all")

    def refuse(self, what: str, help: str, field: str | None = None) -> InvalidValueError:
        """The error at the entry, or at one of its fields."""
        return InvalidValueError(what, where=self.where(field), help=help)

    def where(self, field: str | None = None) -> str:
        """Place of the entry, or of one of its fields, for an error."""
        if field is not None and field in self.called:
            return self.called[field]
        return self.document.where((*self.path, field) if field else self.path)
