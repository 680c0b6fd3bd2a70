"""Recipes of srt-slurm: workers on Slurm nodes, with the engine's own settings for prefill and decode.

A file with `base` has one job per override. Workers of a role divide the GPUs of its nodes.
Source: github.com/NVIDIA/srt-slurm, docs/config-reference.md and docs/overrides.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading.flags import flag_name, flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node, merged
from kvcalc.io.deployments.workload import Refused, Told, Workload

_CONFIGS = {"vllm_config": "vllm", "sglang_config": "sglang", "trtllm_config": "tensorrt_llm"}
_HALVES = {"prefill": "prefill", "decode": "decode", "aggregated": None}
_COUNTED = {"aggregated": "agg"}
"""Names of the roles among the resources."""
_OVERRIDE, _ZIPPED = "override_", "zip_override_"
_CLUSTER = "srtslurm.yaml"


def _is_own(document: Document) -> bool:
    root = document.root.at("base") or document.root
    configs = any(root.at("backend", key).is_mapping for key in _CONFIGS)
    return configs and root.at("resources").is_mapping and root.at("model").is_mapping


def _read(document: Document, around: Around) -> Iterator[Read]:
    base = document.root.at("base")
    if not base:
        yield from _job(document, document.root, around)
        return
    for key, over in document.root.items():
        if key.startswith(_OVERRIDE):
            whole = merged(base, over, lambda _key, _base, _over: None)
            yield from _job(document, whole, around, f"_{key.removeprefix(_OVERRIDE)}")
        elif key.startswith(_ZIPPED):
            yield Refused(over.line, key, "jobs from zipped lists are not read: `srtctl dry-run` prints them")


def _job(document: Document, root: Node, around: Around, suffix: str = "") -> Iterator[Read]:
    backend, resources = root.at("backend"), root.at("resources")
    name = (str(root.at("name").text) or document.stem) + suffix
    config = next((key for key in _CONFIGS if backend.at(key).is_mapping), None)
    if config is None:
        return
    model, told = _model(root.at("model", "path").text, document, around)
    said = resources.at("gpu_type").text
    for half, settings in backend.at(config).items():
        counted = _COUNTED.get(half, half)
        workers = resources.at(f"{counted}_workers").count
        if half not in _HALVES or not settings.is_mapping or not workers:
            continue
        gpus = _gpus(resources, counted, workers)
        yield Workload(
            name=name if half == "aggregated" else f"{name}/{half}",
            line=settings.line,
            words=tuple(flag_words(_without_model(settings), off=False)),
            program=_CONFIGS[config],
            variables=_variables(root, half, around),
            model=model,
            gpus=gpus,
            gpus_line=resources.line,
            kind=kind_of(said, said.line) if said else None,
            replicas=workers,
            role=_HALVES[half],
            says=told,
        )


def _model(path: Text, document: Document, around: Around) -> tuple[Text | None, tuple[Told, ...]]:
    """The path of the model; a bare word is an alias, resolved by the cluster's own file."""
    aliases = {
        key: node.text
        for each in around.beside(document, _CLUSTER)
        for key, node in each.root.at("model_paths").items()
    }
    if str(path) in aliases:
        return aliases[str(path)], ()
    if path and "/" not in path:
        return path, (Told(path.line, "model", f"an alias that {_CLUSTER} resolves, which is not next to the recipe"),)
    return path or None, ()


def _without_model(settings: Node) -> list[tuple[str, Node]]:
    """Settings without the model's path in the container, which the recipe's own path replaces."""
    return [(key, node) for key, node in settings.items() if flag_name(key) not in ("model", "model-path")]


def _gpus(resources: Node, half: str, workers: int) -> int | None:
    """GPUs of one worker: as given, else its share of its role's nodes."""
    said, each = resources.at(f"gpus_per_{half}").count, resources.at("gpus_per_node").count
    nodes = resources.at(f"{half}_nodes").count
    if said is not None:
        return said
    if half == "decode" and nodes == 0:  # on the nodes of the others, with equally many GPUs
        return _gpus(resources, "prefill", resources.at("prefill_workers").count or workers)
    return nodes * each // workers if nodes and each else None


def _variables(root: Node, half: str, around: Around) -> dict[str, Text]:
    held = (root.at("environment"), root.at("backend", f"{half}_environment"))
    return {name: node.text for each in held for name, node in each.items() if node.text} | dict(around.given)


FORM = Form("recipe of srt-slurm", YAML, _is_own, _read)
