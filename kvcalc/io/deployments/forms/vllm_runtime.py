"""VLLMRuntime of the production stack's operator.

Source: github.com/vllm-project/production-stack, operator/api/v1alpha1/vllmruntime_types.go.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.pods import environment
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.workload import Workload

_OF_MODEL = ("maxModelLen", "dtype", "maxNumSeqs")
_NO_FLAGS = ("extraArgs", "env", "port", "v1", "enableLora")


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    model, config, deployment = spec.at("model"), spec.at("vllmConfig"), spec.at("deploymentConfig")
    resources = deployment.at("resources")
    values, secret = environment(config, around)
    settings = [(name, model.at(name)) for name in _OF_MODEL if model.at(name)]
    settings += [(name, node) for name, node in config.items() if name not in _NO_FLAGS]
    replicas = deployment.at("replicas").count
    yield Workload(
        name=document.name,
        line=model.line,
        words=(*flag_words(settings), *(node.text for node in config.at("extraArgs").each())),
        image=str(deployment.at("image", "name").text),
        program="vllm",
        variables=values,
        secret=secret,
        model=model.at("modelURL").text or None,
        gpus=resources.at("gpu").count,
        gpus_line=resources.line,
        replicas=1 if replicas is None else replicas,
    )


FORM = Form("VLLMRuntime", YAML, of_kinds("VLLMRuntime"), _read)
