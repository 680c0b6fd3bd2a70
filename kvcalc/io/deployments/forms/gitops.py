"""GitOps: an Argo CD Application, an ApplicationSet, or a HelmRelease of Flux with the values of a chart.

Source: argo-cd.readthedocs.io, Helm; fluxcd.io/flux/components/helm/helmreleases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.forms.kustomize import operated
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.tree import Node, merged, placed
from kvcalc.io.deployments.workload import Told

_STEP = re.compile(r"[^.\[\]]+")


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    spec = spec.at("template", "spec") if spec.at("template", "spec") else spec
    values, told = _of_flux(spec, around)
    yield from told
    if values.is_mapping:
        yield document.inside(values)
    for source in (*spec.at("sources").each(), spec.at("source")):
        helm = source.at("helm")
        for entry in helm.at("valueFiles").each():
            yield Told(entry.line, str(entry.text), "a file of values, of the chart's repository, is not read")
        root = _values(helm, document)
        if root.is_mapping or helm.at("parameters").each():
            yield document.inside(_with_parameters(root, helm))


def _of_flux(spec: Node, around: Around) -> tuple[Node, list[Told]]:
    """Values of a HelmRelease: of the objects that it names, in their order, then its own."""
    values, told = Node(None, spec.line), []
    for entry in spec.at("valuesFrom").each():
        kind, name = str(entry.at("kind").text), str(entry.at("name").text)
        found = around.named((kind,), name) if kind == "ConfigMap" else None
        if found is None:
            told.append(Told(entry.line, "valuesFrom", f"{kind} {name} is not read; it may set other values"))
            continue
        held = found.root.at("data", str(entry.at("valuesKey").text) or "values.yaml").text
        for root in yaml.documents(held, found.file):
            values = merged(values, placed(root, entry.line), _replaced) if values else placed(root, entry.line)
    own = spec.at("values")
    return (merged(values, own, _replaced) if values and own.is_mapping else own if own.is_mapping else values), told


def _values(helm: Node, document: Document) -> Node:
    """Values of an Argo application, as an object or as a text; the object wins."""
    if helm.at("valuesObject").is_mapping:
        return helm.at("valuesObject")
    text = helm.at("values").text
    return next(iter(yaml.documents(text, document.file)), Node(None, helm.line)) if text else Node(None, helm.line)


def _with_parameters(root: Node, helm: Node) -> Node:
    """Values with those that are set one by one, which win: `a.b[0].c`."""
    for entry in helm.at("parameters").each():
        steps = _STEP.findall(entry.at("name").text)
        if steps and entry.at("value"):
            root = operated(root, Node({"value": entry.at("value")}, entry.line), steps)
    return root


def _replaced(_key: str, _base: Node, _over: Node) -> None:
    """Lists of values replace one another."""


FORM = Form("GitOps", YAML, of_kinds("Application", "ApplicationSet", "HelmRelease"), _read)
