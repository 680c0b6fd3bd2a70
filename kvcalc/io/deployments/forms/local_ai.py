"""LocalAI: a model's file, with the context, the cache's formats, and options of its backend.

Source: localai.io/advanced, model configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
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
_FLAGS = {
    "context_size": "ctx-size",
    "cache_type_k": "cache-type-k",
    "cache_type_v": "cache-type-v",
    "flash_attention": "flash-attn",
    "parallel": "parallel",
}
_ON_LLAMA_CPP = ("", "llama-cpp", "llama")
_CONTEXT = 512
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
        words=tuple(_as_llama_cpp(settings, _first(root))) if root.at("backend").text in _ON_LLAMA_CPP else (),
        model=model.text,
        settings=settings,
        says=tuple(_file(model)),
    )


def _as_llama_cpp(settings: dict[str, object], line: int) -> Iterator[Text]:
    """The same as llama.cpp flags; LocalAI's default context is 512 tokens."""
    for name, value in {"context_size": _CONTEXT, **settings}.items():
        if name in _FLAGS:
            said = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
            yield Text.on(line, f"--{_FLAGS[name]}={said}")


def _first(root: Node) -> int:
    return next((root.at(key).line for key in _KEYS if root.at(key)), root.line)


def _file(model: Node) -> Iterator[Refused]:
    if model.text.endswith(".gguf") and "/" not in model.text:
        yield Refused(
            model.line, "model", "a GGUF file on the server: give its path in a plan (from: FILE, model: PATH)"
        )


FORM = Form("LocalAI", YAML, _is_own, _read)
