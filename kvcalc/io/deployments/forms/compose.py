"""docker-compose: services with a command, an environment and devices; variables from .env, with ${NAME:-default}.

A service that extends another inherits its fields, and an override file given with its base adds more.
Source: github.com/compose-spec/compose-spec, spec.md, and its interpolation, merge, include and deploy documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import NOTHING, Node, merged, placed, text_node
from kvcalc.io.deployments.reading.units import variables
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import ALL_GPUS, Absent, Refused, Workload

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:?[-?+])([^{}]*))?\}|\$([A-Za-z_]\w*)")
_KEYS = ("image", "command", "entrypoint", "build", "extends")
_BASES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_ADDED = ("devices", "env_file", "volumes")
"""Lists that are appended; environment is merged by name, all others are replaced."""
_MOST_EXTENDED = 20
_CDI = re.compile(r"nvidia\.com/gpu=(\w+)")


def _is_own(document: Document) -> bool:
    services = document.root.at("services")
    return services.is_mapping and any(
        each.is_mapping and any(key in each for key in _KEYS) for _, each in services.items()
    )


def filled(text: Text, values: Mapping[str, Text]) -> Text:
    """Words with compose's substitutions; unset variables stay as written."""
    if "$" not in text:
        return text
    pieces, at = [], 0
    for match in _VARIABLE.finditer(text):
        found = "$" if match[0] == "$$" else _value(match, values)
        if found is not None:
            line = text.line_at(match.start())
            pieces += [text.part(at, match.start()), Text.on(line, found)]
            at = match.end()
    return Text.joined((*pieces, text.part(at, len(text)))) if pieces else text


def _value(match: re.Match[str], values: Mapping[str, Text]) -> str | None:
    known = values.get(match[1] or match[4])
    operator, word = match[2] or "", match[3] or ""
    is_set = known is not None and (known != "" or not operator.startswith(":"))
    if operator.endswith("+"):
        return word if is_set else ""
    if is_set or (known is not None and not operator):
        return str(known)
    return word if operator.endswith("-") else None


def _used(around: Around) -> frozenset[str]:
    """Override files next to their base."""
    return frozenset(over.file for base in around.documents for over in _overrides(base, around))


def _overrides(document: Document, around: Around) -> Sequence[Document]:
    """Files that compose merges into this one automatically."""
    if document.stem not in _BASES:
        return ()
    stem, _, suffix = document.stem.rpartition(".")
    beside = dict.fromkeys((f"{stem}.override.{suffix}", f"{stem}.override.yaml", f"{stem}.override.yml"))
    return [each for name in beside for each in around.files(document.folder + name)][:1]


def _read(document: Document, around: Around) -> Iterator[Read]:
    values: dict[str, Text] = {}
    for each in around.beside(document, ".env"):
        values.update(variables(each.text))
    values.update(around.given)
    for path in _included(document.root):
        if not around.files(document.folder + path):  # otherwise read like any other
            yield from (each for each in around.beside(document, path) if _is_own(each))
    root = document.root
    for over in _overrides(document, around):
        root = merged(root, placed(over.root, root.at("services").line), _lists)
    for name, service in root.at("services").items():
        if service.is_mapping:
            whole, missing = _extended(document, service, values, around)
            if missing:
                yield missing
            start = document.root.at("services", name)
            yield _service(document, name, whole, start, values, around)


def _included(root: Node) -> Iterator[str]:
    for entry in root.at("include").each():
        path = entry.at("path") if entry.is_mapping else entry
        yield from (str(each.text) for each in (path.each() or [path]) if each.text)


def _extended(
    document: Document, service: Node, values: Mapping[str, Text], around: Around
) -> tuple[Node, Refused | None]:
    """A service with the fields it extends, and notes on missing ones."""
    layers, root, here, seen = [service], document.root, document.file, 0
    while (extends := layers[-1].at("extends")) and seen < _MOST_EXTENDED:
        seen += 1
        file = str(filled(extends.at("file").text, values))
        name = str(filled(extends.at("service").text if extends.is_mapping else extends.text, values))
        if file:
            document = next(iter(around.beside(document, file)), document._replace(root=NOTHING))
            root = document.root
        base = root.at("services", name)
        if not base.is_mapping:
            place = f"{name} of {file}" if file else name
            return service, Refused(extends.line, "extends", f"there is no service {place}; pass the file that has it")
        layers.append(placed(base, extends.line) if document.file != here else base)
    whole = layers.pop()
    while layers:
        whole = merged(whole, layers.pop(), _lists)
    return whole, None


def _lists(key: str, base: Node, over: Node) -> Node | None:
    if key == "environment":
        named = {**_by_name(base), **_by_name(over)}
        return Node(list(named.values()), over.line)
    if key in _ADDED and over:
        return Node([*(base.each() or [base]), *(over.each() or [over])], over.line)
    return None


def _by_name(environment: Node) -> dict[str, Node]:
    """Entries of an environment list, by name."""
    if environment.each():
        return {item.text.partition("=")[0]: item for item in environment.each()}
    return {
        name: text_node(Text.joined((Text.on(node.line, f"{name}="), node.text)) if node else Text.on(node.line, name))
        for name, node in environment.items()
    }


def _service(
    document: Document, name: str, service: Node, written: Node, values: Mapping[str, Text], around: Around
) -> Workload:
    """What a service starts. written: its text in this file, without other files."""
    own, missing = _environment(document, service, values, around)
    command, entry = service.at("command"), service.at("entrypoint")
    words = (*_words(entry, values), *_words(command, values))
    gpus, line, refused = _gpus(service, values)
    start = written.first("command", "entrypoint") or (written if written else service)
    scale = service.at("deploy", "replicas").count
    scale = service.at("scale").count if scale is None else scale
    return Workload(
        name=name,
        line=start.line,
        words=words,
        is_command=bool(entry),
        image=str(filled(service.at("image").text, values)),
        variables={**own, **around.given},
        secret=missing,
        absent=tuple(_absent(document, service.at("env_file"), around)),
        gpus=gpus,
        gpus_line=line,
        replicas=1 if scale is None else scale,
        says=refused,
    )


def _words(node: Node, values: Mapping[str, Text]) -> tuple[Text, ...]:
    if node.each():
        return tuple(filled(item.text, values) for item in node.each())
    return tuple(split(filled(node.text, values)))


def _environment(
    document: Document, service: Node, values: Mapping[str, Text], around: Around
) -> tuple[dict[str, Text], frozenset[str]]:
    found: dict[str, Text] = {}
    for file in _files(service.at("env_file")):
        for each in around.beside(document, str(file)):
            found.update(variables(each.text))
    entries: list[tuple[str, Text | None]] = []
    for item in service.at("environment").each():
        name, equals, _ = item.text.partition("=")
        entries.append((name, item.text.part(len(name) + 1, len(item.text)) if equals else None))
    for name, node in service.at("environment").items():
        entries.append((name, node.text if node.text else None))
    missing = set()
    for name, written in entries:
        value = values.get(name) if written is None else filled(written, values)
        if value is None or (written is not None and _VARIABLE.search(value) and "$" not in str(values.get(name, ""))):
            missing.add(name)
        else:
            found[name] = value
    return found, frozenset(missing)


def _absent(document: Document, node: Node, around: Around) -> Iterator[Absent]:
    """Files of variables that are not there."""
    for entry in node.each() or [node]:
        path = entry.at("path").text if entry.is_mapping else entry.text
        if path and not around.beside(document, str(path)):
            yield Absent(entry.line, f"env_file {path}", entry.at("required").is_false)


def _files(node: Node) -> list[Text]:
    files = node.each() or [node]
    return [text for file in files if (text := file.at("path").text if file.is_mapping else file.text)]


def _gpus(service: Node, values: Mapping[str, Text]) -> tuple[int | None, int, tuple[Refused, ...]]:
    """GPUs requested by a service, their line, and what is unknown."""
    for device in service.at("deploy", "resources", "reservations", "devices").each():
        ids, count = device.at("device_ids"), device.at("count")
        if ids.each():
            return len(ids.each()), ids.line, ()
        if count.text:
            return _counted(filled(count.text, values), count.line)
    asked = service.at("gpus")
    if asked:
        return _counted(asked.at(0, "count").text if asked.each() else asked.text, asked.line)
    named = [match[1] for item in service.at("devices").each() if (match := _CDI.search(item.text))]
    return len(named) if named and "all" not in named else None, service.at("devices").line, ()


def _counted(said: Text, line: int) -> tuple[int | None, int, tuple[Refused, ...]]:
    return (int(said), line, ()) if said.isdecimal() else (None, line, (Refused(line, "GPUs", ALL_GPUS),))


FORM = Form("docker-compose", YAML, _is_own, _read, uses=_used)
