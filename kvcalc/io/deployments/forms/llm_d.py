"""Values of llm-d's modelservice chart: decode and prefill, with parallelism from which the chart writes GPUs.

Source: github.com/llm-d-incubation/llm-d-modelservice, charts/llm-d-modelservice/values.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of_labels, kind_of_pod
from kvcalc.io.deployments.pods import Pod, workload_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind

_HALVES = ("decode", "prefill")
_DEGREES = {"tensor": "tensor-parallel-size", "pipeline": "pipeline-parallel-size", "data": "data-parallel-size"}


def _is_own(document: Document) -> bool:
    root = document.root
    return root.at("modelArtifacts").is_mapping and any(root.at(half).is_mapping for half in _HALVES)


def _read(document: Document, around: Around) -> Iterator[Read]:
    artifacts = document.root.at("modelArtifacts")
    uri = artifacts.at("uri").text
    name = artifacts.at("name").text
    model = name if name else Text.on(uri.line, uri.partition("://")[2] or str(uri)) if uri else None
    for half in _HALVES:
        spec = document.root.at(half)
        if not spec.is_mapping or spec.at("create").is_false:
            continue
        parallelism = spec.at("parallelism")
        replicas = spec.at("replicas").count
        pod = Pod(half, 1 if replicas is None else replicas, half, model=model, kind=_kind(spec, document.root))
        for container in spec.at("containers").each():
            read = workload_of(document, container, spec, pod, around)
            serves = container.at("modelCommand").text in ("vllmServe", "")
            words = [
                Text.on(parallelism.at(key).line, f"--{flag}={parallelism.at(key).text}")
                for key, flag in _DEGREES.items()
                if (parallelism.at(key).count or 1) > 1
            ]
            yield read._replace(
                words=(*words, *read.words) if serves else read.words,
                program="vllm" if serves and not _is_command(read.words) else "",
                gpus=_ranks(parallelism) if read.gpus is None else read.gpus,
                gpus_line=parallelism.line,
            )


def _is_command(words: tuple[Text, ...]) -> bool:
    return bool(words) and not words[0].startswith("-")


def _ranks(parallelism: Node) -> int:
    counts = (
        parallelism.at("tensor").count or 1,
        parallelism.at("dataLocal").count or parallelism.at("data").count or 1,
    )
    return counts[0] * counts[1]


def _kind(spec: Node, root: Node) -> Kind | None:
    types = spec.at("acceleratorTypes")
    values = types.at("labelValues").each()
    if types.at("labelKey").text and len(values) == 1:
        return kind_of_labels({str(types.at("labelKey").text): values[0]})
    return kind_of_pod(spec) or kind_of_pod(root)


FORM = Form("values of llm-d", YAML, _is_own, _read)
