"""Modelfiles of Ollama, with its server's variables if a drop-in or an .env is also given.

num_ctx of the model overrides OLLAMA_CONTEXT_LENGTH; the cache is num_ctx for each of OLLAMA_NUM_PARALLEL requests.
Source: docs.ollama.com/modelfile; envconfig/config.go of ollama.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kvcalc.io.deployments.documents import ENV, MODELFILE, UNIT, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.forms.systemd import unit_variables
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.units import Entry, entries, variables
from kvcalc.io.deployments.workload import Workload

_FROM = re.compile(r"\s*FROM\s+(?:\"([^\"]+)\"|(\S+))", re.IGNORECASE)
_PARAMETER = re.compile(r"\s*PARAMETER\s+(\w+)\s+(\S+)", re.IGNORECASE)
_QUOTES = '"""'
_CONTEXT = "num_ctx"


def _read(document: Document, around: Around) -> Iterator[Read]:
    model: Text | None = None
    context: Text | None = None
    inside = False
    for line in document.text.by_line():
        was = inside
        inside ^= line.count(_QUOTES) % 2 == 1
        if was:
            continue
        if match := _FROM.match(line):
            model = Text.on(line.line, match[1] or match[2])
        elif (match := _PARAMETER.match(line)) and match[1].lower() == _CONTEXT:
            context = Text.on(line.line, match[2])
    server = {name: value for each in _beside(document, around) for name, value in _server(each, around).items()}
    settings: dict[str, object] = {}
    if context is not None and context.isdecimal():
        server["OLLAMA_CONTEXT_LENGTH"] = context
        settings[_CONTEXT] = int(context)
    yield Workload(
        name=document.stem,
        line=model.line if model is not None else 1,
        program="ollama",
        variables={**server, **around.given},
        model=model,
        settings=settings,
    )


def _beside(document: Document, around: Around) -> Iterator[Document]:
    """Files in the same folder that were also given."""
    return (each for each in around.documents if each.folder == document.folder and each.grammar in (UNIT, ENV))


def _server(document: Document, around: Around) -> Mapping[str, Text]:
    """Variables of Ollama's server in a drop-in or an .env."""
    if document.grammar == UNIT:
        found = list(entries(document.text))
        return {} if _starts(found) else unit_variables(found, document, around)
    return variables(document.text) if document.grammar == ENV else {}


def _starts(found: list[Entry]) -> bool:
    return any(entry.name in ("ExecStart", "Exec") for entry in found)


FORM = Form("Modelfile", MODELFILE, lambda _: True, _read)
