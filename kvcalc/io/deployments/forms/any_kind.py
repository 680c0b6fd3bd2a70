"""Kubernetes kinds without a separate form that contain pods: a Rollout, a job of several pods, any other.

A leader and its workers side by side are one replica: the leader starts the engine, and GPUs are summed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.leader_worker_set import gpus_of_pod
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Workload

_NO_DEPLOYMENTS = ("CustomResourceDefinition", "LLMInferenceServiceConfig", "PodTemplate")
"""Kinds that describe pods without starting any."""
_DEEPEST = 14
_LEADER = re.compile(r"leader|entry|head|master|launcher|driver", re.IGNORECASE)
_WORKER = re.compile(r"worker", re.IGNORECASE)
_HALVES = ("prefill", "decode")


class _Found(NamedTuple):
    """A pod. name: of its role; replicas: of the enclosing object; more_gpus: of its workers."""

    spec: Node
    name: str
    replicas: int | None
    more_gpus: int = 0


def _is_own(document: Document) -> bool:
    root = document.root
    known = bool(root.at("apiVersion").text) and bool(document.kind) and document.kind not in _NO_DEPLOYMENTS
    return known and next(_pods(root.at("spec"), "", 1, 0), None) is not None


def _pods(node: Node, name: str, replicas: int | None, depth: int) -> Iterator[_Found]:
    """Pods below a node, in order."""
    if depth > _DEEPEST:
        return
    if any("image" in container for container in node.at("containers").each()):
        yield _Found(node, name, replicas)
        return
    said = node.at("replicas").count
    times = replicas if said is None else None if replicas is None else replicas * said
    workers = [key for key, _ in node.items() if _WORKER.search(key)]
    leads = bool(workers) and any(_LEADER.search(key) for key, _ in node.items())
    for key, inner in node.items():
        if leads and key in workers:
            continue
        for found in _pods(inner, name, times, depth + 1):
            more = sum(_gpus_of_workers(node, node.at(each)) for each in workers) if leads else 0
            yield found._replace(more_gpus=found.more_gpus + more)
    for item in node.each():
        yield from _pods(item, str(item.at("name").text) or name, replicas, depth + 1)


def _gpus_of_workers(holder: Node, worker: Node) -> int:
    """GPUs of all workers of a leader, numbered at the workers or at the leader."""
    groups = worker.each() or [worker]
    otherwise = holder.at("workerReplicas").count
    total = 0
    for group in groups:
        count = group.at("replicas").count
        count = (1 if otherwise is None else otherwise) if count is None else count
        total += sum(count * gpus_of_pod(found.spec) for found in _pods(group, "", 1, 0))
    return total


def _read(document: Document, around: Around) -> Iterator[Read]:
    for found in _pods(document.root.at("spec"), "", 1, 0):
        name = f"{document.name}/{found.name}" if found.name else document.name
        half = next((half for half in _HALVES if half in found.name.lower()), None)
        pod = Pod(name, found.replicas, half, more_gpus=found.more_gpus)
        for read in workloads(document, found.spec, pod, around):
            yield read._replace(part="") if isinstance(read, Workload) and found.name else read


FORM = Form("another Kubernetes kind", YAML, _is_own, _read, general=True)
