"""Scenarios of llm-d-benchmark: stacks with a model, and halves with their own command and parallelism.

A half without a command gets the one from the benchmark's templates, which is unknown.
Source: github.com/llm-d/llm-d-benchmark, config/scenarios and config/templates/values/defaults.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.llm_d import Ranks
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Refused, Workload

_METHODS = ("modelservice", "standalone")
_HALVES = ("decode", "prefill")
_OF_MODEL = {
    "name": "MODEL_NAME",
    "path": "MODEL_PATH",
    "maxModelLen": "VLLM_MAX_MODEL_LEN",
    "blockSize": "VLLM_BLOCK_SIZE",
    "gpuMemoryUtilization": "VLLM_ACCELERATOR_MEM_UTIL",
}
"""Variables that the benchmark sets from a scenario's model."""
_WRITTEN = "its command is written by the benchmark's templates: check the output of `llmdbenchmark plan`"


def _is_own(document: Document) -> bool:
    stacks = document.root.at("scenario").each()
    return any(each.at("common").is_mapping or each.at(method).is_mapping for each in stacks for method in _METHODS)


def _read(document: Document, around: Around) -> Iterator[Read]:
    for stack in document.root.at("scenario").each():
        for method in _METHODS:
            holder = stack.at(method)
            if holder.is_mapping and not holder.at("enabled").is_false:
                yield from _halves(document, stack, holder, around)


def _halves(document: Document, stack: Node, holder: Node, around: Around) -> Iterator[Read]:
    name = str(stack.at("name").text) or document.stem
    halves = [(half, holder.at(half)) for half in _HALVES if holder.at(half).is_mapping] or [("", holder)]
    model = stack.at("common", "model")
    for half, spec in halves:
        if spec.at("enabled").is_false:
            continue
        command = spec.at("vllm", "customCommand").text
        ranks = Ranks.of(spec.at("parallelism"))
        count = spec.at("replicas").count
        of_model = {_OF_MODEL[key]: node.text for key, node in model.items() if key in _OF_MODEL and node.text}
        yield Workload(
            name=f"{name}/{half}" if half else name,
            line=command.line if command else spec.line,
            script=command or None,
            program="" if command else "vllm",
            variables={**(of_model | ranks.variables() if command else {}), **around.given},
            model=model.at("huggingfaceId").text or model.at("name").text or None,
            gpus=ranks.gpus if spec.at("parallelism") else None,
            gpus_line=ranks.line,
            replicas=1 if count is None else count,
            role=half if half and len(halves) > 1 else None,
            group=id(stack.value),
            says=() if command else (Refused(spec.line, "arguments", _WRITTEN),),
        )


FORM = Form("scenario of llm-d-benchmark", YAML, _is_own, _read)
