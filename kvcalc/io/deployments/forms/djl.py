"""serving.properties of DJL's large model inference.

Source: docs.djl.ai, LMI configurations.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import PROPERTIES, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.own import djl_properties
from kvcalc.io.deployments.workload import Refused, Workload


def _is_own(document: Document) -> bool:
    return "option." in document.text


def _read(document: Document, around: Around) -> Iterator[Read]:  # noqa: ARG001
    settings, model = djl_properties(document.text)
    line = model.line if model is not None else 1
    yield Workload(
        name=document.stem,
        line=line,
        program="djl",
        model=model,
        settings=settings,
        says=(Refused(line, "engine", "DJL is not modelled: give the engine's own arguments"),),
    )


FORM = Form("DJL", PROPERTIES, _is_own, _read)
