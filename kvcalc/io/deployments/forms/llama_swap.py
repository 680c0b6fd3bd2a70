"""llama-swap: models with a cmd in which macros are expanded; a model's macros override the file's.

Source: github.com/mostlygeek/llama-swap, config.example.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.words import split
from kvcalc.io.deployments.workload import Workload

_MACRO = re.compile(r"\$\{([\w.-]+)\}")
_DEEPEST, _LONGEST = 8, 64 * 1024
_FIRST_PORT = "5800"


def _is_own(document: Document) -> bool:
    models = document.root.at("models")
    return models.is_mapping and any("cmd" in each for _, each in models.items())


def _read(document: Document, around: Around) -> Iterator[Read]:
    root = document.root
    common = {name: node.text for name, node in root.at("macros").items()}
    common.setdefault("PORT", Text.on(root.line, _FIRST_PORT))
    for name, model in root.at("models").items():
        own = {key: node.text for key, node in model.at("macros").items()}
        macros = {**common, "MODEL_ID": Text.on(model.line, name), **own, **around.given}
        command = model.at("cmd").text
        variables = dict(_pair(item.text) for item in model.at("env").each())
        yield Workload(
            name=name,
            line=(model.at("cmd") if model.at("cmd") else model).line,
            words=tuple(split(_without_comments(filled(command, macros)))),
            variables=variables,
        )


def filled(text: Text, macros: Mapping[str, Text]) -> Text:
    """Words with macros expanded recursively; cycles stay as written."""
    for _ in range(_DEEPEST):
        pieces, at = [], 0
        for match in _MACRO.finditer(text):
            value = macros.get(match[1])
            if value is not None:
                line = text.line_at(match.start())
                pieces += [text.part(at, match.start()), Text.on(line, value.strip())]
                at = match.end()
        if not pieces or sum(map(len, pieces)) > _LONGEST:
            return text
        text = Text.joined((*pieces, text.part(at, len(text))))
    return text


def _without_comments(text: Text) -> Text:
    kept: list[Text] = []
    for line in text.by_line():
        if not line.lstrip().startswith("#"):
            kept += [line, Text.on(line.line, "\n")]
    return Text.joined(kept)


def _pair(text: Text) -> tuple[str, Text]:
    name = text.partition("=")[0]
    return str(name), text.part(len(name) + 1, len(text))


FORM = Form("llama-swap", YAML, _is_own, _read)
