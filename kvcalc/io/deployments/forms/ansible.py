"""Ansible: tasks that start a container or a command, with {{ }} for variables.

Source: docs.ansible.com, community.docker.docker_container; containers.podman.podman_container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import ALL_GPUS, Refused, Workload

_CONTAINERS = ("docker_container", "podman_container")
_SHELLS = ("shell", "command")
_BLOCKS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block")
_DEEPEST = 6
_TEMPLATE = re.compile(
    r"\{\{\s*(?P<name>[A-Za-z_]\w*)\s*"
    r"(?:\|\s*default\(\s*(?:'(?P<text>[^'{}]*)'|(?P<number>[\d.]+))\s*\)\s*)?(?:\|\s*(?:string|int)\s*)?\}\}"
)
Values: TypeAlias = Mapping[str, Text]
_NO_VALUES: Values = {}


def _is_own(document: Document) -> bool:
    return next(_tasks(document.root, 0), None) is not None


def _tasks(node: Node, depth: int, outer: Values = _NO_VALUES) -> Iterator[tuple[str, Node, Node, Values]]:
    """Modules that start something: the module, its arguments, the task, and variables of the enclosing plays."""
    if depth > _DEEPEST:
        return
    for task in node.each():
        values = {**outer, **{name: each.text for name, each in task.at("vars").items() if each.text}}
        for key, given in task.items():
            module = key.rpartition(".")[2]
            if module in _CONTAINERS or (module in _SHELLS and "name" in task):
                yield module, given, task, values
        for block in _BLOCKS:
            yield from _tasks(task.at(block), depth + 1, values)


def _read(document: Document, around: Around) -> Iterator[Read]:
    for module, given, task, said in _tasks(document.root, 0):
        values = {**said, **around.given}
        name = str(filled(given.at("name").text, values)) or str(task.at("name").text)
        if module in _SHELLS:
            script = filled(given.at("cmd").text or given.text, values)
            yield Workload(name, given.line, script=script, variables=dict(around.given), group=id(given.value))
            continue
        command = given.at("command")
        words = tuple(filled(node.text, values) for node in command.each())
        variables = {key: filled(node.text, values) for key, node in given.at("env").items() if node.text}
        gpus, kinds = _gpus(given.at("device_requests"))
        yield Workload(
            name=name,
            line=(command if command else given).line,
            words=words or tuple(split(_whole(filled(command.text, values)))),
            image=str(filled(given.at("image").text, values)),
            variables={**variables, **around.given},
            gpus=gpus,
            gpus_line=given.at("device_requests").line,
            says=kinds,
        )


def _gpus(requests: Node) -> tuple[int | None, tuple[Refused, ...]]:
    """GPUs that a Docker container requests: a number, a list, or all."""
    for request in requests.each():
        ids, count = request.at("device_ids").each(), request.at("count").count
        if ids:
            return len(ids), ()
        if count is not None and count < 0:
            return None, (Refused(request.line, "GPUs", ALL_GPUS),)
        if count is not None:
            return count, ()
    return None, ()


def filled(text: Text, values: Values, depth: int = 0) -> Text:
    """Words with {{ name }} and {{ name | default(x) }} expanded; other templates stay as written."""
    if "{{" not in text or depth > _DEEPEST:
        return text
    pieces, at = [], 0
    for match in _TEMPLATE.finditer(text):
        default = match["text"] if match["text"] is not None else match["number"]
        value = values.get(match["name"])
        line = text.line_at(match.start())
        if value is None and default is not None:
            value = Text.on(line, default)
        if value is not None:
            pieces += [text.part(at, match.start()), Text.on(line, str(filled(value, values, depth + 1)))]
            at = match.end()
    return Text.joined((*pieces, text.part(at, len(text)))) if pieces else text


def _whole(text: Text) -> Text:
    """Words with blanks removed from templates, so that each stays one word."""
    pieces, at = [], 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start)) >= 0:
        line = text.line_at(start)
        pieces += [text.part(at, start), Text.on(line, text[start : end + 2].replace(" ", ""))]
        at = end + 2
    return Text.joined((*pieces, text.part(at, len(text)))) if pieces else text


FORM = Form("Ansible", YAML, _is_own, _read)
