"""Terraform: workloads of its Kubernetes provider, manifests, values of charts, and containers of its Docker provider.

Variables are those of the module, which is the folder: their defaults, which are noted, and the values of its tfvars.
Source: registry.terraform.io, hashicorp/kubernetes kubernetes_deployment and kubernetes_manifest, hashicorp/helm
helm_release, alekc/kubectl kubectl_manifest; kreuzwerker/docker docker_container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

from kvcalc.io.deployments.documents import HCL, YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.nomad import defaults, filled
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading import hcl, yaml
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import MAX_DEPTH, Node, text_node
from kvcalc.io.deployments.workload import ALL_GPUS, Refused, Told, Workload

_OF_KUBERNETES = re.compile(r"kubernetes_(?:deployment|stateful_set|pod|job|daemon_set?|daemonset)(?:_v1)?")
_DOCKER = "docker_container"
_LOCALS = "locals"
_MANIFEST, _MANIFESTS, _CHART = "kubernetes_manifest", "kubectl_manifest", "helm_release"
_USED = re.compile(r"\bvar\.(\w+)")
_VALUES = ("terraform.tfvars", "terraform.tfvars.json")


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = hcl.parse(document.text, document.file)
    module = _Module.of(document, root, around)
    known = module.known
    for resource in root.at("resource").each():
        labels = [str(each.text) for each in resource.at(hcl.LABELS).each()]
        found: list[Read] = []
        if labels and _OF_KUBERNETES.fullmatch(labels[0]):
            found = list(_kubernetes(document, resource, labels[-1], known, around))
        elif labels and labels[0] == _DOCKER:
            found = [_container(resource, labels[-1], known)]
        elif labels:
            found = list(_documents(document, resource, labels[0], known))
        yield from found
        if found:
            yield from module.told(root, resource)


class _Module(NamedTuple):
    """Values of variables and locals by their references, and the variables whose defaults are used."""

    known: Mapping[str, Text]
    by_default: frozenset[str]

    @classmethod
    def of(cls, document: Document, root: Node, around: Around) -> Self:
        """Those of all files in the folder, overridden by tfvars, then by the user."""
        by_default: dict[str, Text] = {}
        written: dict[str, Text] = {}
        said: dict[str, Text] = {}
        for each in _files(document, around):
            body = root if each.file == document.file else hcl.parse(each.text, each.file)
            by_default |= defaults(body)
            for block in body.at(_LOCALS).each():
                written |= {name: node.text for name, node in block.items() if node.text}
        for name in _VALUES:
            for each in around.beside(document, name):
                body = hcl.parse(each.text, each.file) if each.grammar == HCL else each.root
                said |= {key: node.text for key, node in body.items() if node.text}
        said |= around.given
        known = {f"var.{name}": value for name, value in (by_default | said).items()}
        known |= {f"local.{name}": filled(value, known) for name, value in written.items()}
        return cls(known, frozenset(by_default) - frozenset(said))

    def told(self, root: Node, resource: Node) -> Iterator[Told]:
        """Defaults that a resource uses, at their place, or at the resource's if they are in another file."""
        used = dict.fromkeys(name for each in resource.walk() for name in _USED.findall(each.text))
        places = {str(block.at(hcl.LABELS, 0).text): block.line for block in root.at("variable").each()}
        for name in used:
            if name in self.by_default:
                yield Told(places.get(name, resource.line), name, "its default is used; tfvars may override it")


def _files(document: Document, around: Around) -> Iterator[Document]:
    """Files in the same folder; of those not given, only the customary file for variables."""
    given = [each for each in around.documents if each.grammar == HCL and each.folder == document.folder]
    if not any(each.stem == "variables.tf" for each in given):
        yield from around.beside(document, "variables.tf")
    yield from given


def _documents(document: Document, resource: Node, kind: str, known: Mapping[str, Text]) -> Iterator[Document]:
    """Kubernetes documents, or values of a chart, in a resource."""
    if kind == _MANIFEST and resource.at("manifest").is_mapping:
        yield document.inside(_filled(resource.at("manifest"), known))._replace(grammar=YAML)
    texts = [resource.at("yaml_body").text] if kind == _MANIFESTS else []
    texts += [each.text for each in resource.at("values").each()] if kind == _CHART else []
    for text in texts:
        if "\n" in text:
            for inner in yaml.documents(text, document.file):
                yield document.inside(_filled(inner, known))._replace(grammar=YAML)


def _filled(node: Node, known: Mapping[str, Text], depth: int = 0) -> Node:
    """A value with variables expanded."""
    if depth > MAX_DEPTH:
        return node
    if node.is_mapping:
        return Node({key: _filled(each, known, depth + 1) for key, each in node.items()}, node.line)
    if node.each():
        return Node([_filled(each, known, depth + 1) for each in node.each()], node.line)
    return text_node(filled(node.text, known)) if "${" in node.text else node


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
    """A pod's spec in Kubernetes' spelling."""
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
    """A map of texts; the first block if there are several."""
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
