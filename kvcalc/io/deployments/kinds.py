"""The GPU requested by a file: Kubernetes labels and names of clouds and schedulers, mapped to kvcalc's devices.

Ambiguous names are refused with candidates, unless the platform defines them: on GKE, SkyPilot and Modal a bare A100 is
the 40 GB card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from kvcalc.errors import KvcalcError
from kvcalc.hardware import gpu_named
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind
from kvcalc.io.engine_args import is_credential

GKE = "cloud.google.com/gke-accelerator"
_LABELS = (
    "nvidia.com/gpu.product",
    GKE,
    "nvidia.com/gpu.family",
    "gpu.nvidia.com/model",
    "gpu.nvidia.com/class",
    "amd.com/gpu.product-name",
    "amd.com/gpu.product",
    "k8s.amazonaws.com/accelerator",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.k8s.aws/instance-gpu-name",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "gpu-type",
    "accelerator",
    "gpu",
    "gpu.type",
)
_INSTANCE_LABELS = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_BARE = {"a100": "a100-40gb", "v100": "v100-16gb"}
"""Meaning of bare names on platforms that name the other sizes explicitly."""
_ON_GKE = {
    "nvidia-tesla-a100": "a100-40gb",
    "nvidia-tesla-v100": "v100-16gb",
    "nvidia-h100-mega-80gb": "h100-80gb",
    "nvidia-h200-141gb": "h200",
}
"""Source: cloud.google.com/kubernetes-engine/docs/how-to/gpus, GPU types."""
_INSTANCES = (
    # AWS: aws.amazon.com/ec2/instance-types, accelerated computing
    (r"p3\.2xlarge", "v100-16gb", 1),
    (r"p3\.8xlarge", "v100-16gb", 4),
    (r"p3\.16xlarge", "v100-16gb", 8),
    (r"p3dn\.24xlarge", "v100-32gb", 8),
    (r"p4d\.24xlarge", "a100-40gb", 8),
    (r"p4de\.24xlarge", "a100-80gb", 8),
    (r"p5\.48xlarge", "h100-80gb", 8),
    (r"p5\.4xlarge", "h100-80gb", 1),
    (r"p5en?\.48xlarge", "h200", 8),
    (r"p6-b200\.48xlarge", "b200", 8),
    (r"g4dn\.(?:x|2x|4x|8x|16x)large", "t4", 1),
    (r"g4dn\.12xlarge", "t4", 4),
    (r"g5\.(?:x|2x|4x|8x|16x)large", "a10g", 1),
    (r"g5\.(?:12x|24x)large", "a10g", 4),
    (r"g5\.48xlarge", "a10g", 8),
    (r"g6\.(?:x|2x|4x|8x|16x)large", "l4", 1),
    (r"g6\.(?:12x|24x)large", "l4", 4),
    (r"g6\.48xlarge", "l4", 8),
    (r"g6e\.(?:x|2x|4x|8x|16x)large", "l40s", 1),
    (r"g6e\.(?:12x|24x)large", "l40s", 4),
    (r"g6e\.48xlarge", "l40s", 8),
    # Azure: learn.microsoft.com/azure/virtual-machines/sizes, GPU accelerated
    (r"standard_nc24ads_a100_v4", "a100-80gb", 1),
    (r"standard_nc48ads_a100_v4", "a100-80gb", 2),
    (r"standard_nc96ads_a100_v4", "a100-80gb", 4),
    (r"standard_nd96asr_v4", "a100-40gb", 8),
    (r"standard_nd96amsr_a100_v4", "a100-80gb", 8),
    (r"standard_nc40ads_h100_v5", "h100-94gb", 1),
    (r"standard_nc80adis_h100_v5", "h100-94gb", 2),
    (r"standard_nd96isr_h100_v5", "h100-80gb", 8),
    (r"standard_nd96isr_h200_v5", "h200", 8),
    (r"standard_nv36ad(?:m)?s_a10_v5", "a10", 1),
    (r"standard_nv72ads_a10_v5", "a10", 2),
    (r"standard_nc(?:4|8|16)as_t4_v3", "t4", 1),
    (r"standard_nc64as_t4_v3", "t4", 4),
    (r"standard_nc6s_v3", "v100-16gb", 1),
    (r"standard_nc12s_v3", "v100-16gb", 2),
    (r"standard_nc24r?s_v3", "v100-16gb", 4),
    # Google: cloud.google.com/compute/docs/gpus
    (r"a2-highgpu-(?P<count>[1248])g", "a100-40gb", 0),
    (r"a2-megagpu-16g", "a100-40gb", 16),
    (r"a2-ultragpu-(?P<count>[1248])g", "a100-80gb", 0),
    (r"a3-(?:high|mega|edge)gpu-(?P<count>[1248])g", "h100-80gb", 0),
    (r"a3-ultragpu-8g", "h200", 8),
    (r"a4-highgpu-8g", "b200", 8),
    (r"g2-standard-(?:4|8|12|16|32)", "l4", 1),
    (r"g2-standard-24", "l4", 2),
    (r"g2-standard-48", "l4", 4),
    (r"g2-standard-96", "l4", 8),
)
"""Cloud machine types, with kind and number of GPUs."""
_COUNT = "count"
_TOLD = "it could be any of several GPUs"


def kind_of(said: Text | str, line: int, *, key: str = "", bare: bool = False) -> Kind:
    """The device for a word. key: of its label; bare: whether a bare A100 is the 40 GB card."""
    words = str(said).strip()
    if is_credential(words):
        return Kind(None, line, "a name that is not shown because it could be a secret")
    machine = instance(words)
    if machine is not None:
        return Kind(machine[0], line)
    known = _ON_GKE.get(words.lower()) if key == GKE else None
    if bare:
        known = _BARE.get(words.lower().removeprefix("nvidia-").removeprefix("tesla-"))
    name, why = (known, "") if known else _named(words)
    if name is None and key in _INSTANCE_LABELS:
        why = "a cloud machine whose GPUs are unknown"
    return Kind(name, line, why)


@cache
def _named(words: str) -> tuple[str | None, str]:
    """The device of that name, or why there is none."""
    try:
        return gpu_named(words.replace("_", " ")).name, ""
    except KvcalcError as error:
        return None, f"{error.what}; {error.help}"


def instance(words: str) -> tuple[str, int] | None:
    """Kind and number of GPUs of a cloud machine type."""
    name = words.strip().lower().removeprefix("ml.")
    for pattern, gpu, count in _INSTANCES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return gpu, count or int(match[_COUNT])
    return None


def kind_of_pod(pod: Node) -> Kind | None:
    """The GPU in a pod's selector or required affinity; several are refused."""
    for label, node in pod.at("nodeSelector").items():
        if label in _LABELS and (found := _kind_of_label(label, (node,))):
            return found
    return kind_of_terms(
        pod.at("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    )


def kind_of_terms(terms: Node) -> Kind | None:
    """The GPU that node selector terms allow."""
    for term in terms.each():
        for expression in term.at("matchExpressions").each():
            label = str(expression.at("key").text)
            if label in _LABELS and expression.at("operator").text == "In":
                found = _kind_of_label(label, expression.at("values").each())
                if found is not None:
                    return found
    return None


def _kind_of_label(label: str, values: Iterable[Node]) -> Kind | None:
    nodes = [node for node in values if node.text]
    if not nodes:
        return None
    kinds = [kind_of(node.text, node.line, key=label) for node in nodes]
    names = {kind.name for kind in kinds}
    if len(names) == 1:
        return kinds[0] if kinds[0].name or _speaks_of_gpus(label) else None
    sure = sorted(name for name in names if name)
    return Kind(None, nodes[0].line, f"{_TOLD}: {', '.join(sure)}; choose one with --gpu")


def _speaks_of_gpus(label: str) -> bool:
    return "/" in label and label not in _INSTANCE_LABELS


def kind_of_labels(labels: Mapping[str, Node]) -> Kind | None:
    """The GPU in labels."""
    return next((kind for key, node in labels.items() if (kind := _kind_of_label(key, (node,)))), None)
