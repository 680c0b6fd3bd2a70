"""systemd units with an ExecStart, and quadlets of Podman; a line may set several variables.

Drop-ins of Ollama contain only variables, and belong to a Modelfile (`modelfile.py`).
Source: man systemd.exec, systemd.service, podman-systemd.unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import UNIT, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.units import Entry, entries, variables
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import ALL_GPUS, Absent, Refused, Workload

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$([A-Za-z_]\w*)")
_PREFIXES = "@-:+!|"
_STEM = re.compile(r"@?\.(?:service|container|conf|pod|kube)$")
_DEVICE = re.compile(r"nvidia\.com/gpu=(\w+)")


def unit_variables(found: list[Entry], document: Document, around: Around) -> dict[str, Text]:
    """Variables of a unit: those of its files first, then its own."""
    values: dict[str, Text] = {}
    for entry in found:
        if entry.name == "EnvironmentFile":
            for each in around.beside(document, entry.value.lstrip("-").rpartition("/")[2]):
                values.update(variables(each.text))
    for entry in found:
        if entry.name == "Environment":
            for word in split(entry.value):
                name, equals, _ = word.partition("=")
                if equals:
                    values[name] = word.part(len(name) + 1, len(word))
    return {**values, **around.given}


def _absent(found: list[Entry], document: Document, around: Around) -> Iterator[Absent]:
    """Files of variables that are not there; one with a dash in front may be missing."""
    for entry in found:
        path = entry.value.lstrip("-")
        if entry.name == "EnvironmentFile" and not around.beside(document, path.rpartition("/")[2]):
            yield Absent(entry.value.line, f"EnvironmentFile {path}", path != entry.value)


def _read(document: Document, around: Around) -> Iterator[Read]:
    found = list(entries(document.text))
    values = unit_variables(found, document, around)
    name = _STEM.sub("", document.stem)
    absent = tuple(_absent(found, document, around))
    for entry in found:
        if entry.section == "Service" and entry.name == "ExecStart" and entry.value:
            words = split(entry.value.part(len(entry.value) - len(entry.value.lstrip(_PREFIXES)), len(entry.value)))
            yield Workload(
                name,
                entry.value.line,
                tuple(_words(words, values)),
                variables=values,
                group=id(document.text),
                absent=absent,
            )
    if any(entry.section == "Container" for entry in found):
        yield _quadlet(name, found, values, document)._replace(absent=absent)


def _quadlet(name: str, found: list[Entry], values: dict[str, Text], document: Document) -> Workload:
    """A Podman container, whose Exec is the words after its image."""
    held = {entry.name: entry.value for entry in found if entry.section == "Container"}
    nothing = Text.on(1, "")
    devices = [
        match[1]
        for entry in found
        if entry.name in ("AddDevice", "PodmanArgs") and (match := _DEVICE.search(entry.value))
    ]
    words = (*split(held.get("Entrypoint", nothing)), *split(held.get("Exec", nothing)))
    return Workload(
        name=str(held.get("ContainerName", name)),
        line=held.get("Exec", held.get("Image", nothing)).line,
        words=tuple(_words(list(words), values)),
        image=str(held.get("Image", "")),
        variables=values,
        gpus=len(devices) if devices and "all" not in devices else None,
        group=id(document.text),
        says=(Refused(1, "GPUs", ALL_GPUS),) if "all" in devices else (),
    )


def _words(words: list[Text], values: Mapping[str, Text]) -> Iterator[Text]:
    """Words with variables expanded: $NAME as a whole word is split at blanks, ${NAME} is not."""
    for word in words:
        alone = re.fullmatch(r"\$([A-Za-z_]\w*)", word)
        if alone is not None and alone[1] in values:
            yield from (Text.on(word.line, part) for part in values[alone[1]].split())
        else:
            yield Text.on(word.line, _VARIABLE.sub(lambda match: _value(match, values), word))


def _value(match: re.Match[str], values: Mapping[str, Text]) -> str:
    found = values.get(match[1] or match[2])
    return match[0] if found is None else str(found)


FORM = Form("systemd unit", UNIT, lambda _: True, _read)
