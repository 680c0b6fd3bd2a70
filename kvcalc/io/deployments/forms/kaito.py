"""KAITO: a Workspace or InferenceSet with a preset, a cloud's machine, and a ConfigMap of vLLM's flags.

Source: kaito-project.github.io/kaito/docs, Workspace API and inference configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.kinds import instance
from kvcalc.io.deployments.pods import Pod, workloads
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.workload import Kind, Told, Workload

_CONFIG = "inference_config.yaml"


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    spec = root.at("spec")
    within = spec.at("template") if spec.at("template") else root
    inference, resource = within.at("inference"), within.at("resource")
    machine = resource.at("instanceType")
    known = instance(str(machine.text))
    nodes = resource.at("count").count or 1
    kind = Kind(known[0], machine.line) if known else None
    gpus = known[1] * nodes if known else None
    replicas = spec.at("replicas").count or 1
    if machine and known is None:
        yield Told(machine.line, "GPU", f"the GPUs of machine {machine.text} are unknown")
    if inference.at("template"):
        pod = Pod(document.name, replicas, kind=kind)
        yield from workloads(document, inference.at("template", "spec"), pod, around)
        return
    preset = inference.at("preset", "name")
    yield Workload(
        name=document.name,
        line=preset.line,
        words=(*_ranks(gpus, machine.line), *_config(document, around, str(inference.at("config").text))),
        program="vllm",
        model=preset.text or None,
        gpus=gpus,
        gpus_line=machine.line,
        kind=kind,
        replicas=replicas,
        says=(
            Told(
                preset.line,
                str(preset.text),
                "KAITO's preset; its controller uses all GPUs of the machine",
            ),
        ),
    )


def _ranks(gpus: int | None, line: int) -> tuple[Text, ...]:
    """Arguments added by the controller: one rank on each GPU."""
    return (Text.on(line, f"--tensor-parallel-size={gpus}"),) if gpus else ()


def _config(document: Document, around: Around, name: str) -> Iterator[Text]:
    """VLLM's flags of the ConfigMap, given as YAML in a string."""
    found = around.named(("ConfigMap",), name) if name else None
    held = found.root.at("data", _CONFIG).text if found is not None else None
    if held:
        for root in yaml.documents(held, document.file):
            yield from flag_words(root.at("vllm").items())


FORM = Form("KAITO", YAML, of_kinds("Workspace", "InferenceSet", group="kaito.sh"), _read)
