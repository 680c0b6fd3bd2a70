"""DynamoGraphDeployment of NVIDIA Dynamo: services, each with a pod; a frontend is not an engine.

Source: docs.nvidia.com/dynamo, API reference of the Kubernetes operator, v1alpha1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.pods import Pod, environment, workload_of, workloads
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Told, Workload

_CONFIG = "DYN_DEPLOYMENT_CONFIG"
_NO_FLAGS = ("ServiceArgs", "common-configs", "remote-prefill", "conditional-disagg", "router")
_ROLES = ("prefill", "decode")
_NO_ENGINES = ("frontend", "planner", "epp")


def _read(document: Document, around: Around) -> Iterator[Read]:
    common = environment(Node({"env": document.root.at("spec", "envs")}, document.root.line), around).values
    yield from _components(document, common, around)
    for name, service in document.root.at("spec", "services").items():
        pod_spec = service.at("extraPodSpec")
        container = pod_spec.at("mainContainer")
        if service.at("componentType").text == "frontend" and not container.at("args"):
            yield Told(service.line, name, "no engine in it")
            continue
        role = _role(str(service.at("subComponentType").text), name)
        nodes = service.at("multinode", "nodeCount").count or 1
        replicas = service.at("replicas").count
        gpus, line = _gpus(service)
        pod = Pod(
            f"{document.name}/{name}",
            1 if replicas is None else replicas,
            role,
            nodes=nodes,
            kind=kind_of_pod(pod_spec),
            more={name: value for name, value in common.items() if name != _CONFIG},
        )
        read = workload_of(document, container if container else service, pod_spec, pod, around)
        if not read.words:
            read = _of_config(read, document.root.at("spec", "envs"), name)
        own = {**dict(workload_of(document, service, pod_spec, pod, around).variables), **read.variables}
        yield read._replace(
            variables=own,
            part="",
            gpus=read.gpus if gpus is None else gpus * nodes,
            gpus_line=line if gpus is not None else read.gpus_line,
        )


def _components(document: Document, common: Mapping[str, Text], around: Around) -> Iterator[Read]:
    """Components of v1beta1, each with a whole pod; its type is prefill or decode."""
    for component in document.root.at("spec", "components").each():
        name, half = str(component.at("name").text), str(component.at("type").text)
        spec = component.at("podTemplate", "spec")
        replicas = component.at("replicas").count
        nodes = component.at("multinode", "nodeCount").count or 1
        if half in _NO_ENGINES:
            yield Told(component.line, name, "no engine in it")
            continue
        pod = Pod(
            f"{document.name}/{name}",
            1 if replicas is None else replicas,
            _role(half, name),
            nodes=nodes,
            more=common,
        )
        for read in workloads(document, spec, pod, around):
            yield read._replace(part="") if isinstance(read, Workload) else read


def _role(said: str, name: str) -> str | None:
    """The role of a service: from its type, else its name."""
    found = [half for half in _ROLES if half in name.lower()]
    return said if said in _ROLES else found[0] if len(found) == 1 else None


def _of_config(read: Workload, envs: Node, name: str) -> Workload:
    """The settings of a service in the older DYN_DEPLOYMENT_CONFIG, which is JSON in a string."""
    held = next((each.at("value").text for each in envs.each() if each.at("name").text == _CONFIG), None)
    if not held:
        return read
    for root in yaml.documents(held, read.name):
        own, common = root.at(name), root.at("Common")
        wanted = {str(each.text) for each in own.at("common-configs").each()}
        settings = [(key, node) for key, node in common.items() if key in wanted]
        settings += [(key, node) for key, node in own.items() if key not in _NO_FLAGS]
        if settings:
            return read._replace(words=tuple(flag_words(settings)), program="vllm", line=own.line)
    return read


def _gpus(service: Node) -> tuple[int | None, int]:
    """GPUs of a service, which the operator just calls gpu."""
    for part in ("limits", "requests"):
        asked = service.at("resources", part, "gpu")
        if asked.count is not None:
            return asked.count, asked.line
    return None, service.line


FORM = Form("NVIDIA Dynamo", YAML, of_kinds("DynamoGraphDeployment", "DynamoComponentDeployment"), _read)
