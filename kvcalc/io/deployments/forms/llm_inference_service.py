"""LLMInferenceService of KServe: the controller starts `vllm serve` with VLLM_ADDITIONAL_ARGS and parallelism.

Source: kserve.github.io/website, reference of the API, v1alpha1 and v1alpha2.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.forms.kserve import model_of_uri
from kvcalc.io.deployments.forms.leader_worker_set import gpus_of_pod
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import Workload

_ADDITIONAL = "VLLM_ADDITIONAL_ARGS"
_DEGREES = {"tensor": "tensor-parallel-size", "pipeline": "pipeline-parallel-size", "data": "data-parallel-size"}


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    model = model_of_uri(spec.at("model", "uri").text)
    prefill = spec.at("prefill")
    halves = [(spec, "decode" if prefill else None, "")] + ([(prefill, "prefill", "/prefill")] if prefill else [])
    for half, role, suffix in halves:
        nodes = _nodes(half)
        replicas = half.at("replicas").count
        pod = Pod(
            document.name + suffix,
            1 if replicas is None else replicas,
            role,
            more_gpus=(nodes - 1) * gpus_of_pod(half.at("worker")),
            model=model,
        )
        if not half.at("template", "containers").each():
            yield _bare(pod, half, spec)
        for read in workloads(document, half.at("template"), pod, around):
            yield _served(read, half) if isinstance(read, Workload) else read


def _bare(pod: Pod, half: Node, spec: Node) -> Workload:
    """The controller's default command."""
    start = spec.at("model", "uri")
    return _served(Workload(pod.name, start.line, model=pod.model, replicas=pod.replicas, role=pod.role), half)


def _nodes(half: Node) -> int:
    """Pods of one replica: with workers one for each share of the data ranks, or for each pipeline stage; else one."""
    if not half.at("worker"):
        return 1
    degrees = half.at("parallelism")
    data, local = degrees.at("data").count, degrees.at("dataLocal").count
    if data and local:
        return max(1, data // local)
    return degrees.at("pipeline").count or 2


def _served(read: Workload, half: Node) -> Workload:
    """The engine's container, with arguments added by the controller."""
    if read.words and not read.words[0].startswith("-"):
        return read
    additional = read.variables.get(_ADDITIONAL)
    words = [*read.words, *(split(additional) if additional is not None else ())]
    parallelism = half.at("parallelism")
    words += [
        Text.on(parallelism.at(name).line, f"--{flag}={parallelism.at(name).text}")
        for name, flag in _DEGREES.items()
        if parallelism.at(name)
    ]
    if parallelism.at("expert").is_true:
        words.append(Text.on(parallelism.at("expert").line, "--enable-expert-parallel"))
    line = read.line if additional is None else additional.line - 1
    variables = {name: value for name, value in read.variables.items() if name != _ADDITIONAL}
    return read._replace(words=tuple(words), program="vllm", line=line, variables=variables)


FORM = Form("LLMInferenceService", YAML, of_kinds("LLMInferenceService"), _read)
