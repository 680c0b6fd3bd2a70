"""Terraform: workloads of its Kubernetes provider, containers of its Docker provider; defaults of variables are told.

Source: registry.terraform.io, hashicorp/kubernetes kubernetes_deployment; kreuzwerker/docker docker_container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import HCL, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.nomad import defaults, filled
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading import hcl
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, text_node
from kvcalc.io.deployments.workload import ALL_GPUS, Refused, Told, Workload

_OF_KUBERNETES = re.compile(r"kubernetes_(?:deployment|stateful_set|pod|job|daemon_set?|daemonset)(?:_v1)?")
_DOCKER = "docker_container"
_LOCALS = "locals"


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = hcl.parse(document.text, document.file)
    known = {f"var.{name}": value for name, value in defaults(root).items()}
    for block in root.at(_LOCALS).each():
        known |= {f"local.{name}": node.text for name, node in block.items() if node.text}
    known |= {f"var.{name}": value for name, value in around.given.items()}
    for resource in root.at("resource").each():
        labels = [str(each.text) for each in resource.at(hcl.LABELS).each()]
        if labels and _OF_KUBERNETES.fullmatch(labels[0]):
            yield from _kubernetes(document, resource, labels[-1], known, around)
        elif labels and labels[0] == _DOCKER:
            yield _container(resource, labels[-1], known)
    for block in root.at("variable").each():
        if block.at("default").text:
            yield Told(block.line, str(block.at(hcl.LABELS, 0).text), "its default is used, and tfvars may set another")


def _kubernetes(
    document: Document, resource: Node, name: str, known: Mapping[str, Text], around: Around
) -> Iterator[Read]:
    spec = resource.at("spec", 0)
    template = spec.at("template", 0, "spec", 0)
    pod_spec = template if template else spec
    shape = _as_pod(pod_spec, known)
    named = resource.at("metadata", 0, "name").text
    replicas = spec.at("replicas").text
    count = filled(replicas, known) if replicas else "1"
    pod = Pod(str(filled(named, known)) if named else name, int(count) if count.isdecimal() else 1)
    yield from workloads(document, shape, pod, around)


def _as_pod(spec: Node, known: Mapping[str, Text]) -> Node:
    """A pod's spec as Kubernetes writes it."""
    containers = [_as_container(each, known) for each in spec.at("container").each()]
    inits = [_as_container(each, known) for each in spec.at("init_container").each()]
    values = {
        "containers": Node(containers, spec.line),
        "initContainers": Node(inits, spec.line),
        "nodeSelector": _texts(spec.at("node_selector"), known),
    }
    return Node(values, spec.line)


def _as_container(container: Node, known: Mapping[str, Text]) -> Node:
    values: dict[str, Node] = {}
    for key in ("name", "image"):
        if container.at(key).text:
            values[key] = text_node(filled(container.at(key).text, known))
    for key in ("command", "args"):
        node = container.at(key)
        if node.each():
            values[key] = Node([text_node(filled(item.text, known)) for item in node.each()], node.line)
    env = [
        Node(
            {key: text_node(filled(each.at(key).text, known)) for key in ("name", "value") if each.at(key).text},
            each.line,
        )
        for each in container.at("env").each()
    ]
    values["env"] = Node(env, container.line)
    resources = container.at("resources", 0)
    values["resources"] = Node(
        {part: _texts(resources.at(part), known) for part in ("limits", "requests")}, resources.line
    )
    return Node(values, container.line)


def _texts(node: Node, known: Mapping[str, Text]) -> Node:
    """A map of texts; of a block its first."""
    node = node.at(0) if node.each() else node
    return Node({key: text_node(filled(each.text, known)) for key, each in node.items() if each.text}, node.line)


def _container(resource: Node, name: str, known: Mapping[str, Text]) -> Workload:
    command, image = resource.at("command"), resource.at("image").text
    return Workload(
        name=str(filled(resource.at("name").text, known)) or name,
        line=(command if command else resource).line,
        words=tuple(filled(item.text, known) for item in command.each()),
        image=str(filled(image, known)),
        says=_all_gpus(resource),
    )


def _all_gpus(resource: Node) -> tuple[Refused, ...]:
    asked = resource.at("gpus")
    return (Refused(asked.line, "GPUs", ALL_GPUS),) if asked.text == "all" else ()


FORM = Form("Terraform", HCL, lambda _: True, _read, general=True)
