"""Workloads of Kubernetes: Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob.

Source: kubernetes.io/docs/reference/kubernetes-api/workload-resources.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.pods import Pod, role_of, workloads
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Refused, Workload

_KINDS = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")


def _pod_of(document: Document) -> Node:
    spec = document.root.at("spec")
    match document.kind:
        case "Pod":
            return spec
        case "CronJob":
            return spec.at("jobTemplate", "spec", "template", "spec")
    return spec.at("template", "spec")


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    replicas = 1
    if document.kind in ("Deployment", "StatefulSet", "ReplicaSet") and "replicas" in spec:
        count = spec.at("replicas").count
        replicas = 1 if count is None else count
    if document.kind == "Job":
        replicas = spec.at("parallelism").count or 1
    labels = spec.at("template", "metadata", "labels") or document.root.at("metadata", "labels")
    pod = Pod(document.name, replicas, role_of(labels))
    for read in workloads(document, _pod_of(document), pod, around):
        if isinstance(read, Workload) and _is_patch(read):
            yield Refused(read.line, read.part, "a patch without an image: pass the manifest that it changes as well")
        else:
            yield read


def _is_patch(read: Workload) -> bool:
    """Whether it only patches a container of another file."""
    return not read.image and not (read.words and not read.words[0].startswith("-"))


FORM = Form("Kubernetes", YAML, of_kinds(*_KINDS), _read)
