"""LeaderWorkerSet: a group of pods that serves one model, started by the leader's command, on the GPUs of all pods.

Source: lws.sigs.k8s.io/docs/reference, LeaderWorkerSetSpec.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.pods import Pod, gpus_of, role_of, workloads
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    template = spec.at("leaderWorkerTemplate")
    worker = template.at("workerTemplate", "spec")
    leader = template.at("leaderTemplate", "spec")
    leader = leader if leader else worker
    size = template.at("size").count or 1
    pod = Pod(
        document.name,
        _replicas(spec),
        role_of(template.first("leaderTemplate", "workerTemplate").at("metadata", "labels")),
        more_gpus=(size - 1) * gpus_of_pod(worker),
        more={name: Text.on(template.line, value) for name, value in leads(size).items()},
    )
    yield from workloads(document, leader, pod, around)


def leads(size: int) -> dict[str, str]:
    """Variables that the controller sets for the leader of a group."""
    return {"LWS_GROUP_SIZE": str(size), "LWS_WORKER_INDEX": "0"}


def gpus_of_pod(spec: Node) -> int:
    """GPUs of all containers of a pod."""
    return sum(gpus_of(container)[0] or 0 for container in spec.at("containers").each())


def _replicas(spec: Node) -> int:
    count = spec.at("replicas").count
    return 1 if count is None else count


FORM = Form("LeaderWorkerSet", YAML, of_kinds("LeaderWorkerSet"), _read)
