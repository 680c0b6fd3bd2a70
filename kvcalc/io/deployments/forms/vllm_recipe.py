"""Recipes of vLLM's own collection: a model with arguments, and variants of other checkpoints.

GPUs and parallelism depend on the hardware chosen on its site.
Source: github.com/vllm-project/recipes, CONTRIBUTING.md and src/lib/command-synthesis.js.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Refused, Workload

_DEFAULT = "default"
_CHOSEN = "a recipe: GPUs and parallelism depend on the chosen hardware; write the command"


def _is_own(document: Document) -> bool:
    root = document.root
    return bool(root.at("model", "model_id").text) and root.at("variants").is_mapping


def _read(document: Document, around: Around) -> Iterator[Read]:
    model, features = document.root.at("model"), document.root.at("features")
    chosen = {str(each.text) for each in document.root.at("opt_in_features").each()}
    common = [*_words(model, "base_args")]
    for name, feature in features.items():
        common += _words(feature, "args") if name not in chosen else []
    for name, variant in document.root.at("variants").items():
        held = (model.at("base_env"), variant.at("extra_env"))
        served = variant.at("model_id") or model.at("model_id")
        yield Workload(
            name=document.stem if name == _DEFAULT else f"{document.stem}/{name}",
            line=variant.line,
            words=tuple(each.text for each in (*common, *_words(variant, "extra_args"))),
            program="vllm",
            variables={key: node.text for each in held for key, node in each.items()} | dict(around.given),
            model=served.text,
            says=(Refused(variant.line, "parallelism", _CHOSEN),),
        )


def _words(node: Node, key: str) -> list[Node]:
    return [each for each in node.at(key).each() if each.text]


FORM = Form("recipe of vLLM", YAML, _is_own, _read)
