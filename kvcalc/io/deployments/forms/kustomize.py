"""Kustomize: an overlay is built from the files given with it; strategic patches, replicas and images.

A list in a patch replaces the list, except containers, which are merged by name. Components are applied in order to
what was built before; the overlay's own patches come last.
Source: kubectl.docs.kubernetes.io/references/kustomize/kustomization.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import MAX_DEPTH, Node, merged, text_node
from kvcalc.io.deployments.reading.units import variables
from kvcalc.io.deployments.workload import Told

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_BY_NAME = ("containers", "initContainers", "env", "volumes")
_TAG = re.compile(r"(?::[^/@]*)?(?:@.*)?$")
_MOST = 100
"""Most kustomizations in one build."""


def _is_own(document: Document) -> bool:
    return document.stem in NAMES or document.kind in ("Kustomization", "Component")


def _used(around: Around) -> frozenset[str]:
    """Files used by a kustomization: they are read through it."""
    found: set[str] = set()
    for document in around.documents:
        if _is_own(document):
            found |= _files(document, around) - {document.file}
    return frozenset(found)


def _files(document: Document, around: Around) -> set[str]:
    """All files of a kustomization and its bases."""
    seen: set[str] = set()
    left = [document]
    while left:
        held = left.pop()
        if held.file in seen:
            continue
        seen.add(held.file)
        patches = [patch for patch, _ in _patches(held, around)]
        seen.update(each.file for each in patches)
        for each in (*_resources(held, around), *_components(held, around)):
            if _is_own(each):
                left.append(each)
            else:
                seen.add(each.file)
    return seen


def _read(document: Document, around: Around) -> Iterator[Read]:
    yield from _built(document, around, set())
    if (charts := document.root.at("helmCharts")).each():
        yield Told(charts.line, "helmCharts", "not built: pass the output of `kustomize build`")


def _built(document: Document, around: Around, seen: set[str], before: Sequence[Document] = ()) -> list[Document]:
    """Documents of a kustomization, patched; for a component including those `before` it, which it changes.

    seen: kustomizations already built.
    """
    if document.file in seen or len(seen) > _MOST:
        return list(before)
    seen.add(document.file)
    held = list(before)
    for resource in _resources(document, around):
        held += _built(resource, around, seen) if _is_own(resource) else [resource]
    for component in _components(document, around):
        held = _built(component, around, seen, held)
    patches = list(_patches(document, around))
    return [_patched(each, patches, document.root) for each in held]


def _made(around: Around) -> Iterator[Document]:
    """ConfigMaps and Secrets that kustomizations generate; of Secrets the names alone."""
    for document in around.documents:
        if _is_own(document):
            for kind in ("ConfigMap", "Secret"):
                for entry in document.root.at(f"{kind[0].lower()}{kind[1:]}Generator").each():
                    data = dict(_generated(document, entry, around))
                    if kind == "Secret":
                        data = {key: text_node(Text.on(node.line, "")) for key, node in data.items()}
                    yield document.inside(_object(kind, entry, data))


def _object(kind: str, entry: Node, data: Mapping[str, Node]) -> Node:
    named = Node({"name": entry.at("name")}, entry.line)
    return Node(
        {"kind": text_node(Text.on(entry.line, kind)), "metadata": named, "data": Node(data, entry.line)}, entry.line
    )


def _generated(document: Document, entry: Node, around: Around) -> Iterator[tuple[str, Node]]:
    """Entries of literals, of files of variables, and of whole files."""
    for item in entry.at("literals").each():
        name, _, value = item.text.partition("=")
        yield name, text_node(Text.on(item.line, value.strip("\"'")))
    for item in (*entry.at("envs").each(), *([entry.at("env")] if entry.at("env").text else [])):
        for each in around.beside(document, item.text)[:1]:
            yield from ((name, text_node(value)) for name, value in variables(each.text).items())
    for item in entry.at("files").each():
        key, equals, path = item.text.partition("=")
        path = path if equals else key
        for each in around.beside(document, path)[:1]:
            yield (key if equals else path.rpartition("/")[2]), text_node(each.text)


def _resources(document: Document, around: Around) -> Iterator[Document]:
    yield from _named(document, around, "resources", "bases")


def _components(document: Document, around: Around) -> Iterator[Document]:
    yield from (each for each in _named(document, around, "components") if _is_own(each))


def _named(document: Document, around: Around, *keys: str) -> Iterator[Document]:
    """Documents of the files and folders in the entries."""
    for entry in (each for key in keys for each in document.root.at(key).each()):
        yield from around.beside(document, entry.text) or [
            each for name in NAMES for each in around.beside(document, f"{entry.text}/{name}")
        ]


def _patches(document: Document, around: Around) -> Iterator[tuple[Document, Node]]:
    """Patches with their targets."""
    for entry in document.root.at("patchesStrategicMerge").each():
        yield from ((each, Node(None, entry.line)) for each in around.beside(document, entry.text))
    for entry in document.root.at("patches").each():
        if entry.at("path").text:
            yield from ((each, entry.at("target")) for each in around.beside(document, entry.at("path").text))
        elif entry.at("patch").text:
            for root in yaml.documents(entry.at("patch").text, document.file):
                yield document.inside(root), entry.at("target")
    for entry in document.root.at("patchesJson6902").each():
        yield from ((each, entry.at("target")) for each in around.beside(document, entry.at("path").text))


def _patched(document: Document, patches: list[tuple[Document, Node]], overlay: Node) -> Document:
    root, file = document.root, document.file
    for patch, target in patches:
        same = patch.kind == document.kind and patch.name == document.name
        named = target.at("kind").text == document.kind and target.at("name").text in ("", document.name)
        if patch.root.each() and target and named:
            for operation in patch.root.each():
                root = operated(root, operation, str(operation.at("path").text).strip("/").split("/"))
        elif patch.root.is_mapping and (same or (target and named)):
            root = merged(root, patch.root, _by_name)
            file = patch.file
    for entry in overlay.at("replicas").each():
        if entry.at("name").text == document.name:
            root = merged(root, _nested(entry.at("count"), "spec", "replicas"), _by_name)
    images = {str(entry.at("name").text): entry for entry in overlay.at("images").each()}
    root = _with_images(root, images) if images else root
    return document._replace(root=root, file=file, text=document.text)


def operated(node: Node, operation: Node, steps: list[str]) -> Node:
    """A value after one JSON patch operation: add, replace or remove."""
    if not steps or len(steps) > MAX_DEPTH:
        return operation.at("value")
    key, rest = steps[0].replace("~1", "/").replace("~0", "~"), steps[1:]
    removes, adds = operation.at("op").text == "remove", operation.at("op").text == "add"
    if isinstance(node.value, Mapping) or (node.value is None and not key.isdecimal()):
        values = dict(node.value) if isinstance(node.value, Mapping) else {}
        if removes and not rest:
            values.pop(key, None)
        else:
            values[key] = operated(values.get(key, Node(None, node.line)), operation, rest)
        return Node(values, node.line)
    items = list(node.each())
    at = int(key) if key.isdecimal() and len(key) <= len(str(len(items))) else len(items)
    if rest and at <= len(items):
        items[at : at + 1] = [operated(items[at] if at < len(items) else Node(None, node.line), operation, rest)]
    elif not rest and removes:
        del items[at : at + 1]
    elif not rest:
        items[at : at if adds else at + 1] = [operation.at("value")]
    return Node(items, node.line)


def _with_images(node: Node, images: Mapping[str, Node], depth: int = 0) -> Node:
    """A value with container images or tags replaced."""
    if depth > MAX_DEPTH:
        return node
    if node.is_mapping:
        values = {key: _with_images(each, images, depth + 1) for key, each in node.items()}
        if (entry := images.get(_repository(node.at("image").text))) is not None:
            values["image"] = text_node(_renamed(node.at("image").text, entry))
        return Node(values, node.line)
    return Node([_with_images(each, images, depth + 1) for each in node.each()], node.line) if node.each() else node


def _repository(image: str) -> str:
    """An image without its tag and digest."""
    return _TAG.sub("", image)


def _renamed(image: Text, entry: Node) -> Text:
    name, tag, digest = (entry.at(key).text for key in ("newName", "newTag", "digest"))
    version = f"@{digest}" if digest else f":{tag}" if tag else image[len(_repository(image)) :]
    return Text.on(image.line_at(0), f"{name or _repository(image)}{version}")


def _nested(node: Node, *keys: str) -> Node:
    for key in reversed(keys):
        node = Node({key: node}, node.line)
    return node


def _by_name(key: str, base: Node, patch: Node) -> Node | None:
    """Containers and similar lists, merged by name."""
    if key not in _BY_NAME or not (base.each() and patch.each()):
        return None
    by_name = {str(item.at("name").text): item for item in base.each()}
    for item in patch.each():
        name = str(item.at("name").text)
        by_name[name] = merged(by_name[name], item, _by_name) if name in by_name else item
    return Node(list(by_name.values()), patch.line)


FORM = Form("kustomize", YAML, _is_own, _read, uses=_used, makes=_made)
