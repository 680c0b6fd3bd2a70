"""OpenShift's Template: Kubernetes objects with parameters `${NAME}`, which have values or must be given.

Source: docs.redhat.com, OpenShift, creating applications, using templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import MAX_DEPTH, Node

_PARAMETER = re.compile(r"\$\{\{?([A-Za-z_]\w*)\}?\}")


def _is_own(document: Document) -> bool:
    return document.kind == "Template" and bool(document.root.at("objects").each())


def _read(document: Document, around: Around) -> Iterator[Read]:
    entries = document.root.at("parameters").each()
    values = {str(each.at("name").text): each.at("value").text for each in entries if each.at("value").text}
    for root in document.root.at("objects").each():
        yield document.inside(_filled(root, {**values, **around.given}))


def _filled(node: Node, values: Mapping[str, Text], depth: int = 0) -> Node:
    """A value with parameters expanded; those without a value stay as written, and must be given."""
    if depth > MAX_DEPTH:
        return node
    if node.is_mapping:
        return Node({key: _filled(each, values, depth + 1) for key, each in node.items()}, node.line)
    if node.each():
        return Node([_filled(each, values, depth + 1) for each in node.each()], node.line)
    text = node.text
    if "${" not in text:
        return node
    pieces, at = [], 0
    for match in _PARAMETER.finditer(text):
        if match[1] in values:
            pieces += [text.part(at, match.start()), Text.on(text.line_at(match.start()), str(values[match[1]]))]
            at = match.end()
    whole = Text.joined((*pieces, text.part(at, len(text)))) if pieces else text
    return Node(whole, node.line, whole)


FORM = Form("Template of OpenShift", YAML, _is_own, _read)
