"""Nomad jobs: tasks with a driver's config, variables, and devices.

Source: developer.hashicorp.com/nomad/docs/job-specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import HCL, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading import hcl
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind, Workload

_JOB = re.compile(r"(?m)^\s*job\s+\"")
_MODEL = "device.model"
_REFERENCE = re.compile(r"\$\{([\w.-]+)\}")


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = hcl.parse(document.text, document.file)
    variables = {f"var.{name}": value for name, value in (defaults(root) | dict(around.given)).items()}
    for job in root.at("job").each():
        for group in job.at("group").each():
            count = group.at("count").count
            for task in group.at("task").each():
                yield _task(f"{label(job)}/{label(task)}", task, 1 if count is None else count, variables)


def label(block: Node) -> str:
    """The last label of a block."""
    labels = block.at(hcl.LABELS).each()
    return str(labels[-1].text) if labels else ""


def defaults(root: Node) -> dict[str, Text]:
    """Variables of a file with their defaults."""
    return {label(block): block.at("default").text for block in root.at("variable").each() if block.at("default").text}


def filled(text: Text, variables: Mapping[str, Text]) -> Text:
    """Words with variables expanded; unset ones stay as written."""
    return Text.on(text.line, _REFERENCE.sub(lambda match: str(variables.get(match[1], match[0])), text))


def _task(name: str, task: Node, count: int, variables: Mapping[str, Text]) -> Workload:
    config = task.at("config", 0)
    device = task.at("resources", 0, "device", 0)
    environment = {key: filled(node.text, variables) for key, node in task.at("env", 0).items() if key != hcl.LABELS}
    command = config.at("command").text
    words = [filled(node.text, variables) for node in config.at("args").each()]
    if command:
        words.insert(0, filled(command, variables))
    gpus = device.at("count").count if device.at("count") else 1 if device else None
    return Workload(
        name=name,
        line=config.at("args").line if config.at("args") else config.line,
        words=tuple(words),
        is_command=bool(command),
        image=str(filled(config.at("image").text, variables)),
        variables=environment,
        gpus=gpus,
        gpus_line=device.line,
        kind=_kind(device),
        replicas=count,
    )


def _kind(device: Node) -> Kind | None:
    """The device of a constraint, or of the device's own name: nvidia/gpu/Tesla T4."""
    for constraint in (*device.at("constraint").each(), *device.at("affinity").each()):
        if _MODEL in constraint.at("attribute").text:
            return kind_of(constraint.at("value").text, constraint.at("value").line)
    parts = label(device).split("/")
    return kind_of(parts[2], device.line) if len(parts) > 2 else None  # noqa: PLR2004  # vendor/type/model


FORM = Form("Nomad job", HCL, lambda document: _JOB.search(document.text) is not None, _read)
