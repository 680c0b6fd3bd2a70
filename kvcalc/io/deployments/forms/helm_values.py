"""Values of other Helm charts: a mapping with an image and args, wherever in the file, makes a container.

Charts differ, and their templates are not read: what a chart adds to the arguments is not known, which is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.pods import Pod, workload_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, text_node
from kvcalc.io.deployments.workload import Told

_ARGS = ("args", "extraArgs", "command")
_DEEPEST = 6
_ADDS = "values of a chart: what its templates add to the arguments is not known; helm template ... | kvcalc check -"


def _is_own(document: Document) -> bool:
    root = document.root
    if not root.is_mapping or ("apiVersion" in root and "kind" in root) or "deployments" in root or "services" in root:
        return False
    return next(_containers(root, "", 0), None) is not None


def _containers(node: Node, name: str, depth: int) -> Iterator[tuple[str, Node]]:
    """Mappings with an image and arguments, with the key that holds them."""
    if depth > _DEEPEST:
        return
    holders = (node, node.at("image"))
    if "image" in node and any(each.at(key).each() or each.at(key).text for each in holders for key in _ARGS):
        yield name, node
        return
    for key, inner in node.items():
        yield from _containers(inner, key, depth + 1)
    for item in node.each():
        if item.is_mapping:
            yield from _containers(item, str(item.at("name").text) or name, depth + 1)


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    yield Told(root.line, "values", _ADDS)
    for name, node in _containers(root, "", 0):
        count = next(
            (
                each.count
                for each in (node.first("replicaCount", "replicas"), root.first("replicaCount", "replicas"))
                if each
            ),
            1,
        )
        selector = node if node.at("nodeSelector") else root
        pod = Pod(name or document.stem, 1 if count is None else count, kind=kind_of_pod(selector))
        yield workload_of(document, _as_container(node), node, pod, around)._replace(part="")


def _as_container(node: Node) -> Node:
    """The mapping with its image as a text."""
    image = node.at("image")
    named = image.text
    if image.is_mapping:
        parts = [str(image.at(key).text) for key in ("registry", "repository") if image.at(key).text]
        tag = str(image.at("tag").text)
        named = Text.on(image.line, "/".join(parts) + (f":{tag}" if tag else ""))
    args = [*image.at("args").each(), *node.at("args").each(), *node.at("extraArgs").each()]
    values = {key: inner for key, inner in node.items() if key not in ("image", "extraArgs", "args")}
    if image.at("command") and not node.at("command"):
        values["command"] = image.at("command")
    values["image"] = text_node(named)
    if args:
        values["args"] = Node(args, args[0].line)
    return Node(values, node.line)


FORM = Form("values of a Helm chart", YAML, _is_own, _read, general=True)
