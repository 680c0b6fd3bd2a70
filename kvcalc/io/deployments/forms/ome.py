"""Runtimes and services of OME (and RoleBasedGroup-like engines of it): engineConfig and decoderConfig, each one pod.

Source: docs.sglang.ai/ome, reference of the API, v1beta1.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.pods import Pod, gpus_of, workload_of
from kvcalc.io.deployments.reading.tree import Node

_PARTS = (("engineConfig", "prefill"), ("decoderConfig", "decode"))
_MANY = "a runtime serves every model in its range; the InferenceService names one"


def _is_own(document: Document) -> bool:
    spec = document.root.at("spec")
    return document.kind.endswith("ServingRuntime") and any(spec.at(name).is_mapping for name, _ in _PARTS)


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    taken_apart = all(spec.at(name).is_mapping for name, _ in _PARTS)
    for name, role in _PARTS:
        part = spec.at(name)
        leader = part.at("leader") if part.at("leader") else part
        runner = leader.at("runner")
        if not runner:
            continue
        worker = part.at("worker", "runner")
        size = (part.at("worker", "size").count or 1) if worker else 0
        pod = Pod(
            f"{document.name}/{name.removesuffix('Config')}" if taken_apart else document.name,
            replicas=None,
            role=role if taken_apart else None,
            more_gpus=size * _gpus(worker),
        )
        yield workload_of(document, runner, part, pod, around)._replace(runs_many=_MANY)


def _gpus(runner: Node) -> int:
    return gpus_of(runner)[0] or 0


FORM = Form("OME", YAML, _is_own, _read)
