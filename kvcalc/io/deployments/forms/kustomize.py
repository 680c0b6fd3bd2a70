"""Kustomize: an overlay is built of the files that were given with it; strategic patches, replicas and images.

A list of a patch replaces the list, but that of containers, which are merged by name.
Source: kubectl.docs.kubernetes.io/references/kustomize/kustomization.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Told

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_BY_NAME = ("containers", "initContainers", "env", "volumes")
_MOST = 100
"""Most kustomizations that one is built of."""


def _is_own(document: Document) -> bool:
    return document.stem in NAMES or document.kind == "Kustomization"


def used_by(around: Around) -> frozenset[str]:
    """Files that a kustomization builds: they are read through it."""
    found: set[str] = set()
    for document in around.documents:
        if _is_own(document):
            found |= _files(document, around) - {document.file}
    return frozenset(found)


def _files(document: Document, around: Around) -> set[str]:
    """All files that a kustomization names, and those of its bases."""
    seen: set[str] = set()
    left = [document]
    while left:
        held = left.pop()
        if held.file in seen:
            continue
        seen.add(held.file)
        patches = [patch for patch, _ in _patches(held, around)]
        seen.update(each.file for each in patches)
        for each in _resources(held, around):
            if _is_own(each):
                left.append(each)
            else:
                seen.add(each.file)
    return seen


def _read(document: Document, around: Around) -> Iterator[Read]:
    yield from built(document, around, set())
    for name in ("helmCharts", "components"):
        if document.root.at(name).each():
            yield Told(document.root.at(name).line, name, "not built: give what `kustomize build` prints")


def built(document: Document, around: Around, seen: set[str]) -> Iterator[Document]:
    """Documents of a kustomization, patched. seen: kustomizations that are built already, each of which is once."""
    if document.file in seen or len(seen) > _MOST:
        return
    seen.add(document.file)
    patches = list(_patches(document, around))
    for resource in _resources(document, around):
        for each in built(resource, around, seen) if _is_own(resource) else [resource]:
            yield _patched(each, patches, document.root)


def _resources(document: Document, around: Around) -> Iterator[Document]:
    folder = document.folder
    for entry in (*document.root.at("resources").each(), *document.root.at("bases").each()):
        path = f"{folder}{entry.text}"
        found = list(around.files(path))
        if not found:
            found = [each for name in NAMES for each in around.files(f"{path}/{name}")]
        yield from found


def _patches(document: Document, around: Around) -> Iterator[tuple[Document, Node]]:
    """Patches, each with the target that it names."""
    folder = document.folder
    for entry in document.root.at("patchesStrategicMerge").each():
        yield from ((each, Node(None, entry.line)) for each in around.files(f"{folder}{entry.text}"))
    for entry in document.root.at("patches").each():
        if entry.at("path").text:
            yield from ((each, entry.at("target")) for each in around.files(f"{folder}{entry.at('path').text}"))
        elif entry.at("patch").text:
            for root in yaml.documents(entry.at("patch").text, document.file):
                yield document.inside(root), entry.at("target")
    for entry in document.root.at("patchesJson6902").each():
        yield from ((each, entry.at("target")) for each in around.files(f"{folder}{entry.at('path').text}"))


def _patched(document: Document, patches: list[tuple[Document, Node]], overlay: Node) -> Document:
    root, file = document.root, document.file
    for patch, target in patches:
        same = patch.kind == document.kind and patch.name == document.name
        named = target.at("kind").text == document.kind and target.at("name").text in ("", document.name)
        if patch.root.each() and target and named:
            for operation in patch.root.each():
                root = _operated(root, operation, str(operation.at("path").text).strip("/").split("/"))
        elif patch.root.is_mapping and (same or (target and named)):
            root = _merged(root, patch.root, "")
            file = patch.file
    for entry in overlay.at("replicas").each():
        if entry.at("name").text == document.name:
            root = _merged(root, _nested(entry.at("count"), "spec", "replicas"), "")
    return document._replace(root=root, file=file, text=document.text)


def _operated(node: Node, operation: Node, steps: list[str]) -> Node:
    """A value with one operation of a JSON patch: add, replace or remove."""
    if not steps or len(steps) > yaml.MAX_DEPTH:
        return operation.at("value")
    key, rest = steps[0].replace("~1", "/").replace("~0", "~"), steps[1:]
    removes, adds = operation.at("op").text == "remove", operation.at("op").text == "add"
    if isinstance(node.value, Mapping):
        values = dict(node.value)
        if removes and not rest:
            values.pop(key, None)
        else:
            values[key] = _operated(values.get(key, Node(None, node.line)), operation, rest)
        return Node(values, node.line)
    items = list(node.each())
    at = int(key) if key.isdecimal() and len(key) <= len(str(len(items))) else len(items)
    if rest and at < len(items):
        items[at] = _operated(items[at], operation, rest)
    elif not rest and removes:
        del items[at : at + 1]
    elif not rest:
        items[at : at if adds else at + 1] = [operation.at("value")]
    return Node(items, node.line)


def _nested(node: Node, *keys: str) -> Node:
    for key in reversed(keys):
        node = Node({key: node}, node.line)
    return node


def _merged(base: Node, patch: Node, key: str, depth: int = 0) -> Node:
    """A value with what a strategic patch says of it."""
    if depth > yaml.MAX_DEPTH:
        return base
    if isinstance(base.value, Mapping) and isinstance(patch.value, Mapping):
        values = dict(base.value)
        for name, node in patch.value.items():
            if node.value is None:
                values.pop(name, None)
            else:
                values[name] = _merged(values[name], node, name, depth + 1) if name in values else node
        return Node(values, patch.line)
    if key in _BY_NAME and base.each() and patch.each():
        by_name = {str(item.at("name").text): item for item in base.each()}
        for item in patch.each():
            name = str(item.at("name").text)
            by_name[name] = _merged(by_name[name], item, "", depth + 1) if name in by_name else item
        return Node(list(by_name.values()), patch.line)
    return patch


FORM = Form("kustomize", YAML, _is_own, _read)
