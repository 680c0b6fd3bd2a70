"""LocalAI: a model's file, with the context, the cache's formats, and options of its backend.

Source: localai.io/advanced, model configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Refused, Workload

_KEYS = (
    "context_size",
    "cache_type_k",
    "cache_type_v",
    "flash_attention",
    "max_model_len",
    "gpu_memory_utilization",
    "tensor_parallel_size",
    "swap_space",
    "no_kv_offloading",
)
_OPTIONS = ("parallel",)


def _is_own(document: Document) -> bool:
    root = document.root
    return bool(root.at("parameters", "model").text) and ("backend" in root or "context_size" in root)


def _read(document: Document, around: Around) -> Iterator[Read]:  # noqa: ARG001
    root = document.root
    settings: dict[str, object] = {key: root.at(key).plain() for key in _KEYS if root.at(key)}
    for option in root.at("options").each():
        name, _, value = option.text.partition(":")
        if name in _OPTIONS and value.isdecimal():
            settings[name] = int(value)
    model = root.at("parameters", "model")
    yield Workload(
        name=str(root.at("name").text) or document.stem,
        line=_first(root),
        program="localai",
        model=model.text,
        settings=settings,
        says=tuple(_file(model)),
    )


def _first(root: Node) -> int:
    return next((root.at(key).line for key in _KEYS if root.at(key)), root.line)


def _file(model: Node) -> Iterator[Refused]:
    if model.text.endswith(".gguf") and "/" not in model.text:
        yield Refused(model.line, "model", "a GGUF file beside the server: give its path, or --model")


FORM = Form("LocalAI", YAML, _is_own, _read)
