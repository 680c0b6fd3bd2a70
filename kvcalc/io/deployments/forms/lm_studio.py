"""LM Studio: a model's load settings, in a JSON file whose path is the model's.

Source: lmstudio.ai/docs, per-model defaults; keys as LM Studio writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Workload

_FLAGS = {
    "contextLength": "ctx-size",
    "flashAttention": "flash-attn",
    "kCacheQuantizationType": "cache-type-k",
    "vCacheQuantizationType": "cache-type-v",
    "numParallelSessions": "parallel",
}
_LOAD = "llm.load."


def _is_own(document: Document) -> bool:
    return any(str(field.at("key").text).startswith(_LOAD) for field in document.root.at("load", "fields").each())


def _read(document: Document, around: Around) -> Iterator[Read]:  # noqa: ARG001
    fields = document.root.at("load", "fields").each()
    settings: dict[str, object] = {}
    first = 0
    for field in fields:
        name = str(field.at("key").text).rpartition(".")[2]
        value = _value(field.at("value"))
        if name in _FLAGS and value is not None:
            settings[name] = value
            first = first or field.line
    model = document.file.removesuffix(".json")
    yield Workload(
        name=document.stem.removesuffix(".json"),
        line=first or document.root.line,
        program="lmstudio",
        words=tuple(_as_llama_cpp(settings, first or document.root.line)),
        model=Text.on(1, model),
        settings=settings,
    )


def _as_llama_cpp(settings: dict[str, object], line: int) -> Iterator[Text]:
    """The same as llama.cpp flags."""
    for name, value in settings.items():
        said = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        yield Text.on(line, f"--{_FLAGS[name]}={said}")


def _value(node: Node) -> object:
    """A value, or the value of a checked option."""
    if "checked" in node:
        return node.at("value").plain() if node.at("checked").is_true else None
    return node.plain()


FORM = Form("LM Studio", YAML, _is_own, _read)
