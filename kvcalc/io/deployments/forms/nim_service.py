"""NIMService of NVIDIA's NIM operator: an image, its GPUs and variables; its engine is NIM's own choice.

Source: docs.nvidia.com/nim-operator, NIM services.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.pods import Pod, image_of, workload_of
from kvcalc.io.deployments.reading.tree import Node, text_node


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    count = spec.at("replicas").count
    scale = spec.at("scale", "hpa")
    pod = Pod(
        document.name,
        1 if count is None else count,
        replicas_max=scale.at("maxReplicas").count if scale else None,
        kind=kind_of_pod(spec),
    )
    container = Node({**dict(spec.items()), "image": text_node(image_of(spec.at("image")))}, spec.at("image").line)
    yield workload_of(document, container, spec, pod, around)._replace(part="")


FORM = Form("NIM operator", YAML, of_kinds("NIMService"), _read)
