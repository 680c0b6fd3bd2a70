"""dstack: services and tasks with commands, and resources.gpu as NAME:MEMORY:COUNT.

Source: dstack.ai/docs/reference/dstack.yml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind, Workload

_TYPES = ("service", "task", "dev-environment")
_MEMORY = re.compile(r"\d+(?:\.\d+)?GB", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)?\.\.(\d+)?")
_MEMORIES = re.compile(r"(?:\d+(?:\.\d+)?(?:GB)?)?\.\.(?:\d+(?:\.\d+)?(?:GB)?)?", re.IGNORECASE)
_ANY = "any GPU with that memory; choose one with --gpu"


def _is_own(document: Document) -> bool:
    return document.root.at("type").text in _TYPES and ("commands" in document.root or "image" in document.root)


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    gpu = root.at("resources", "gpu")
    count, kind = _gpu(gpu)
    variables = dict(_env(root.at("env")))
    if count is not None:
        variables["DSTACK_GPUS_NUM"] = variables["DSTACK_GPUS_PER_NODE"] = Text.on(gpu.line, str(count))
    nodes = root.at("nodes").count or 1
    variables |= {"DSTACK_NODES_NUM": Text.on(gpu.line, str(nodes)), "DSTACK_NODE_RANK": Text.on(gpu.line, "0")}
    least, most = _replicas(root.at("replicas"))
    commands = root.at("commands").each()
    pieces = [piece for node in commands for piece in (node.text, Text.on(node.line, "\n"))]
    yield Workload(
        name=str(root.at("name").text) or document.stem,
        line=commands[0].line if commands else root.at("image").line,
        script=Text.joined(pieces) if pieces else None,
        image=str(root.at("image").text),
        variables={**variables, **around.given},
        gpus=None if count is None else count * nodes,
        gpus_line=gpu.line,
        kind=kind,
        replicas=least,
        replicas_max=most,
        group=id(root.value),
    )


def _env(node: Node) -> Iterator[tuple[str, Text]]:
    for item in node.each():
        name, equals, _ = item.text.partition("=")
        if equals:
            yield name, item.text.part(len(name) + 1, len(item.text))
    yield from ((name, value.text) for name, value in node.items() if value.text)


def _gpu(node: Node) -> tuple[int | None, Kind | None]:
    """Number and kind of GPUs."""
    if node.is_mapping:
        name, count = node.at("name").text, node.at("count")
        fixed = count.count if count else 1
        size = node.at("memory").text
        return fixed, _kind(str(name), str(size), node.line) if name else Kind(None, node.line, _ANY) if size else None
    if node.count is not None:
        return node.count, None
    parts = [part for part in node.text.split(":") if part]
    if not parts:
        return None, None
    counts = [part for part in parts[1:] if part.isdecimal()]
    ranges = any(_RANGE.fullmatch(part) for part in parts[1:])
    memory = next((part for part in parts if _MEMORY.fullmatch(part)), "")
    by_memory = _MEMORY.fullmatch(parts[0]) or _MEMORIES.fullmatch(parts[0])
    kind = Kind(None, node.line, _ANY) if by_memory else _kind(parts[0], memory, node.line)
    return None if ranges else int(counts[0]) if counts else 1, kind


def _kind(name: str, memory: str, line: int) -> Kind:
    if "," in name:
        return Kind(None, line, f"any of several GPUs: {name}")
    return kind_of(f"{name}-{memory}" if _MEMORY.fullmatch(memory) else name, line)


def _replicas(node: Node) -> tuple[int, int | None]:
    match = _RANGE.fullmatch(node.text)
    if match is None:
        return node.count or 1, None
    return int(match[1] or 0), int(match[2]) if match[2] else None


FORM = Form("dstack", YAML, _is_own, _read)
