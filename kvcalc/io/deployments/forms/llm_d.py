"""Values of llm-d's modelservice chart: decode and prefill, with parallelism from which the chart derives GPUs.

Source: github.com/llm-d-incubation/llm-d-modelservice, charts/llm-d-modelservice/values.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Self

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.leader_worker_set import leads
from kvcalc.io.deployments.kinds import kind_of_labels, kind_of_pod
from kvcalc.io.deployments.pods import Pod, workload_of
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind

_HALVES = ("decode", "prefill")
_SERVES = ("vllmServe", "imageDefault", "")
_SIMULATOR = re.compile(r"llm-d-inference-sim")
_MOUNTED = "/model-cache"
"""Where the chart mounts a volume with models."""


def _is_own(document: Document) -> bool:
    root = document.root
    return root.at("modelArtifacts").is_mapping and any(root.at(half).is_mapping for half in _HALVES)


def _read(document: Document, around: Around) -> Iterator[Read]:
    model = _model(document.root.at("modelArtifacts"))
    for half in _HALVES:
        spec = document.root.at(half)
        if not spec.is_mapping or spec.at("create").is_false:
            continue
        ranks = Ranks.of(spec.at("parallelism"))
        replicas = spec.at("replicas").count
        pod = Pod(
            half,
            1 if replicas is None else replicas,
            half,
            nodes=ranks.workers,
            model=model,
            kind=_kind(spec, document.root),
            more=ranks.variables(),
        )
        for container in spec.at("containers").each():
            read = workload_of(document, container, spec, pod, around)
            serves = container.at("modelCommand").text in _SERVES and not _is_command(read.words)
            serves = serves and not _SIMULATOR.search(read.image)
            yield read._replace(
                words=(*ranks.words(), *read.words) if serves else read.words,
                program="vllm" if serves else "",
                gpus=ranks.gpus if read.gpus is None else read.gpus,
                gpus_line=read.gpus_line if read.gpus is not None else ranks.line,
            )


def _model(artifacts: Node) -> Text | None:
    """The chart's `vllm serve` command; the name is the served name, possibly an alias."""
    uri, name = artifacts.at("uri").text, artifacts.at("name").text
    protocol, _, path = uri.partition("://")
    if not path or "{{" in path:
        return name or (uri if uri else None)
    if protocol == "pvc" and "/" in name:
        return name  # only the name identifies the files of a volume
    if protocol == "pvc":
        mount = str(artifacts.at("mountPath").text) or _MOUNTED
        return Text.on(uri.line, f"{mount}/{path.partition('/')[2]}")
    if protocol == "pvc+hf":
        return Text.on(uri.line, "/".join(path.split("/")[-2:]))
    return Text.on(uri.line, path if protocol == "hf" else str(uri))


def _is_command(words: tuple[Text, ...]) -> bool:
    return bool(words) and not words[0].startswith("-")


class Ranks(NamedTuple):
    """Degrees as the chart derives them: data parallelism, its part per worker and the workers; two give the third."""

    line: int
    tensor: int
    data: int
    local: int
    workers: int

    @classmethod
    def of(cls, parallelism: Node) -> Self:
        """The given degrees, and the derived ones."""
        data, local, workers = (parallelism.at(name).count or 0 for name in ("data", "dataLocal", "workers"))
        tensor = parallelism.at("tensor").count or 1
        whole = data or local * (workers or 1) or 1
        share = local or (data // workers if data and workers else data) or 1
        several = workers or (data // local if data and local else 1)
        return cls(parallelism.line, tensor, whole, share, max(several, 1))

    @property
    def gpus(self) -> int:
        """GPUs of all workers."""
        return self.tensor * self.local * self.workers

    def words(self) -> list[Text]:
        """The flags that the chart writes."""
        said = (("tensor-parallel-size", self.tensor), ("data-parallel-size", self.data))
        return [Text.on(self.line, f"--{flag}={count}") for flag, count in said if count > 1]

    def variables(self) -> dict[str, Text]:
        """The variables that the chart sets, for custom commands."""
        said = {"TP_SIZE": self.tensor, "DP_SIZE": self.data, "DP_SIZE_LOCAL": self.local, **leads(self.workers)}
        return {name: Text.on(self.line, str(count)) for name, count in said.items()}


def _kind(spec: Node, root: Node) -> Kind | None:
    types = spec.at("acceleratorTypes")
    values = types.at("labelValues").each()
    if types.at("labelKey").text and len(values) == 1:
        return kind_of_labels({str(types.at("labelKey").text): values[0]})
    return kind_of_pod(spec) or kind_of_pod(root)


FORM = Form("values of llm-d", YAML, _is_own, _read)
