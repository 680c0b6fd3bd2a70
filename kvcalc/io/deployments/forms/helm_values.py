"""Values of other Helm charts: a mapping with an image and arguments, or with settings of an engine, at any depth.

Charts differ, and their templates are not read: arguments added by a chart are unknown, which is reported. Settings are
recognised in any spelling: `maxModelLen`, `max_model_len` and `max-model-len` are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.own import own_server
from kvcalc.io.deployments.pods import Pod, image_of, workload_of
from kvcalc.io.deployments.reading.flags import flag_name, flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, text_node
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import Refused, Told
from kvcalc.io.engine_args import program_of

_ARGS = ("args", "extraArgs", "additionalArgs", "extra_args", "command")
_ADDED = ("args", "extraArgs", "additionalArgs", "extra_args")
_ENVIRONMENTS = ("env", "extraEnv", "extraEnvVars", "envs", "environment")
_OF_CHARTS = frozenset(
    ("image", "replicaCount", "resources", "nodeSelector", "tolerations", "serviceAccount", "ingress")
)
"""Keys in values of a chart."""
_MODELS = ("model", "modelName", "modelId", "modelID", "modelURI", "modelPath", "model_name", "model_id")
_NAMES = ("id", "name", "repo", "repository", "huggingfaceId", "path")
"""Keys for the model in a chart, and in a mapping there."""
_PARTS = ("model", "engine", "args", "serverArgs", "engineArgs", "vllm", "sglang", "config", "settings")
"""Keys that name a part of a server, not the server."""
_PROGRAMS = ("vllm", "sglang")
_SURE = 2
"""Number of settings that decide the cache above which a mapping belongs to an engine."""
_DEEPEST = 6
_ADDS = "values of a chart: arguments added by its templates are unknown; helm template ... | kvcalc check -"
_SCATTERED = (
    "settings of an engine without its image: there may be others elsewhere; helm template ... | kvcalc check -"
)


class _Found(NamedTuple):
    """A mapping that describes a container. above: its parent; program: whose settings it has, if any."""

    name: str
    node: Node
    above: Node
    program: str = ""


def _is_own(document: Document) -> bool:
    root = document.root
    if not root.is_mapping or ("apiVersion" in root and "kind" in root) or "deployments" in root or "services" in root:
        return False
    return next(_containers(root, root, "", 0), None) is not None


def _containers(node: Node, above: Node, name: str, depth: int) -> Iterator[_Found]:
    """Mappings that describe a container, with their key."""
    if depth > _DEEPEST:
        return
    program = _program(node)
    holders = (node, node.at("image"))
    has_args = any(each.at(key).each() or each.at(key).text for each in holders for key in _ARGS)
    is_of_chart = not _OF_CHARTS.isdisjoint(key for key, _ in above.items())
    if ("image" in node and (has_args or _is_server(node))) or (program and ("image" in node or is_of_chart)):
        yield _Found(name, node, above, program)
        return
    for key, inner in node.items():
        called = name if name and key in _PARTS else key
        yield from _containers(
            inner, node if _OF_CHARTS & {each for each, _ in node.items()} else above, called, depth + 1
        )
    for item in node.each():
        if item.is_mapping:
            yield from _containers(item, above, str(item.at("name").text) or name, depth + 1)


def _is_server(node: Node) -> bool:
    """Whether its image is a server's own and needs no arguments."""
    return own_server(str(image_of(node.at("image"))), {}, node.line) is not None


def _program(node: Node) -> str:
    """The engine whose settings a mapping has; empty if too few."""
    given = {flag_name(key) for key, each in node.items() if each.text}
    counts = {name: len(given & set(program_of(name).that_matter)) for name in _PROGRAMS}
    most = max(counts, key=lambda name: counts[name])
    return most if counts[most] >= _SURE else ""


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    yield Told(root.line, "values", _ADDS)
    for found in _containers(root, root, "", 0):
        node = found.node
        holders = (node, found.above, root)
        counts = [each.first("replicaCount", "replicas").count for each in holders]
        count = next((each for each in counts if each is not None), 1)
        selector = next((each for each in holders if each.at("nodeSelector")), root)
        pod = Pod(
            found.name or document.stem,
            count,
            kind=kind_of_pod(selector),
            program=found.program,
            model=next((model for each in holders if (model := _model(each))), None) if found.program else None,
        )
        read = workload_of(document, _as_container(found), node, pod, around)._replace(part="")
        gpus = node.first("gpus", "gpuCount", "requestGPU", "numGpus").count
        says = read.says if read.image else (*read.says, Refused(node.line, "values", _SCATTERED))
        yield read._replace(gpus=gpus if read.gpus is None else read.gpus, says=says)


def _model(node: Node) -> Text | None:
    """The model in a mapping."""
    held = node.first(*_MODELS)
    text = held.first(*_NAMES).text if held.is_mapping else held.text
    return Text.on(text.line, text.removeprefix("hf://")) if text else None


def _as_container(found: _Found) -> Node:
    """The mapping with its image as text, and its settings as arguments."""
    node, image = found.node, found.node.at("image") or found.above.at("image")
    args = [*_settings(found), *(each for holder in (image, node) for key in _ADDED for each in _words(holder.at(key)))]
    values = {key: inner for key, inner in node.items() if key not in ("image", *_ADDED)}
    if image.at("command") and not node.at("command"):
        values["command"] = image.at("command")
    values["image"] = text_node(image_of(image))
    values["env"] = node.first(*_ENVIRONMENTS)
    values["resources"] = node.at("resources") or found.above.at("resources")
    if args:
        values["args"] = Node(args, args[0].line)
    return Node(values, node.line)


def _settings(found: _Found) -> Iterator[Node]:
    """Settings as flags, without the model, which a chart may also name elsewhere."""
    if not found.program:
        return
    known = program_of(found.program).spelled
    settings = [(key, each) for key, each in found.node.items() if flag_name(key) in known and key not in _MODELS]
    yield from map(text_node, flag_words(settings, off=False))


def _words(node: Node) -> list[Node]:
    """Arguments as a list, or as text."""
    return node.each() or [text_node(word) for word in split(node.text)]


FORM = Form("values of a Helm chart", YAML, _is_own, _read, general=True)
