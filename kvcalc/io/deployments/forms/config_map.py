"""ConfigMaps with the config file of a server: llama-swap's, and Ray Serve's.

Other contents of a ConfigMap (variables, scripts, arguments) are read where they are referenced.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, llama_swap, ray_serve
from kvcalc.io.deployments.reading import yaml

_FORMS = (llama_swap.FORM, ray_serve.FORM)
_SIGNS = ("cmd:", "llm_configs")


def _is_own(document: Document) -> bool:
    return document.kind == "ConfigMap" and any(
        sign in node.text for _, node in document.root.at("data").items() for sign in _SIGNS
    )


def _read(document: Document, around: Around) -> Iterator[Read]:  # noqa: ARG001
    for name, node in document.root.at("data").items():
        if name.endswith((".yaml", ".yml")):
            inner = [document.inside(root) for root in yaml.documents(node.text, document.file)]
            yield from (each for each in inner if any(form.is_own(each) for form in _FORMS))


FORM = Form("ConfigMap", YAML, _is_own, _read)
