"""SkyPilot: a task with resources.accelerators, envs, and a run command. A100 means the 40 GB card there.

Source: docs.skypilot.co, YAML reference.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind, Workload


def _is_own(document: Document) -> bool:
    root = document.root
    return bool(root.at("run").text) and any(
        name in root for name in ("resources", "service", "setup", "num_nodes", "envs")
    )


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    count, kind, line = _accelerators(root.at("resources"))
    nodes = root.at("num_nodes").count or 1
    variables = {name: node.text for name, node in root.at("envs").items() if node.text}
    variables["SKYPILOT_NUM_NODES"] = Text.on(line, str(nodes))
    variables["SKYPILOT_NODE_RANK"] = Text.on(line, "0")  # the head, which starts the server
    if count is not None:
        variables["SKYPILOT_NUM_GPUS_PER_NODE"] = Text.on(line, str(count))
    service = root.at("service")
    replicas = service.at("replicas").count
    policy = service.at("replica_policy")
    yield Workload(
        name=str(root.at("name").text) or document.stem,
        line=root.at("run").line,
        script=root.at("run").text,
        variables={**variables, **around.given},
        gpus=None if count is None else count * nodes,
        gpus_line=line,
        kind=kind,
        image=str(root.at("resources", "image_id").text).removeprefix("docker:"),
        replicas=next((each for each in (replicas, policy.at("min_replicas").count) if each is not None), 1),
        replicas_max=policy.at("max_replicas").count,
        group=id(root.value),
    )


def _accelerators(resources: Node) -> tuple[int | None, Kind | None, int]:
    """Number and kind of GPUs per node; if alternatives are given, none is chosen."""
    node = resources.at("accelerators")
    several = resources.at("any_of").each() or resources.at("ordered").each()
    named = [_said(each.at("accelerators").text) for each in several if each.at("accelerators").text]
    if not node and several:
        node = Node(None, several[0].line)
    named += [(key, value.count or 1) if value else _said(key) for key, value in node.items()]  # {A:1, B:1} is a set
    named += [_said(item.text) for item in node.each()]
    if node.text:
        named.append(_said(node.text))
    if not named:
        return None, None, resources.line
    counts = {count for _, count in named}
    count = counts.pop() if len(counts) == 1 else None
    if len(named) > 1 or len(several) > 1:
        return count, Kind(None, node.line, f"any of several GPUs: {', '.join(name for name, _ in named)}"), node.line
    return count, kind_of(named[0][0], node.line, bare=True), node.line


def _said(text: str) -> tuple[str, int]:
    name, _, count = text.partition(":")
    return name, int(count) if count.isdecimal() else 1


FORM = Form("SkyPilot", YAML, _is_own, _read)
