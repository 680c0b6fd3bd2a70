"""Ansible: tasks that start a container, or a command, with {{ }} where a variable stands.

Source: docs.ansible.com, community.docker.docker_container; containers.podman.podman_container.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import Workload

_CONTAINERS = ("docker_container", "podman_container")
_SHELLS = ("shell", "command")
_BLOCKS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block")
_DEEPEST = 6


def _is_own(document: Document) -> bool:
    return next(_tasks(document.root, 0), None) is not None


def _tasks(node: Node, depth: int) -> Iterator[tuple[str, Node, Node]]:
    """Modules that start something: which, what it is given, and the task."""
    if depth > _DEEPEST:
        return
    for task in node.each():
        for key, given in task.items():
            module = key.rpartition(".")[2]
            if module in _CONTAINERS or (module in _SHELLS and "name" in task):
                yield module, given, task
        for block in _BLOCKS:
            yield from _tasks(task.at(block), depth + 1)


def _read(document: Document, around: Around) -> Iterator[Read]:
    for module, given, task in _tasks(document.root, 0):
        name = str(given.at("name").text) or str(task.at("name").text)
        if module in _SHELLS:
            script = given.at("cmd").text or given.text
            yield Workload(name, given.line, script=script, variables=dict(around.given), group=id(given.value))
            continue
        command = given.at("command")
        words = tuple(node.text for node in command.each()) or tuple(split(_whole(command.text)))
        variables = {key: node.text for key, node in given.at("env").items() if node.text}
        yield Workload(
            name=name,
            line=(command if command else given).line,
            words=words,
            image=str(given.at("image").text),
            variables={**variables, **around.given},
        )


def _whole(text: Text) -> Text:
    """Words in which a template has no blanks, so that it stays one word."""
    pieces, at = [], 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start)) >= 0:
        line = text.line_at(start)
        pieces += [text.part(at, start), Text.on(line, text[start : end + 2].replace(" ", ""))]
        at = end + 2
    return Text.joined((*pieces, text.part(at, len(text)))) if pieces else text


FORM = Form("Ansible", YAML, _is_own, _read)
