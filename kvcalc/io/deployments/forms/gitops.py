"""GitOps: an Argo CD Application, an ApplicationSet, or a HelmRelease of Flux with the values of a chart.

Source: argo-cd.readthedocs.io, Helm; fluxcd.io/flux/components/helm/helmreleases.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Told


def _read(document: Document, around: Around) -> Iterator[Read]:  # noqa: ARG001
    spec = document.root.at("spec")
    spec = spec.at("template", "spec") if spec.at("template", "spec") else spec
    if spec.at("values").is_mapping:
        yield document.inside(spec.at("values"))
    for source in (*spec.at("sources").each(), spec.at("source")):
        helm = source.at("helm")
        if helm.at("valuesObject").is_mapping:
            yield document.inside(helm.at("valuesObject"))
        if helm.at("values").text:
            for root in yaml.documents(helm.at("values").text, document.file):
                yield document.inside(root)
        yield from _elsewhere(helm)


def _elsewhere(helm: Node) -> Iterator[Told]:
    if helm.at("parameters").each():
        yield Told(helm.at("parameters").line, "parameters", "individual chart parameters are not read")


FORM = Form("GitOps", YAML, of_kinds("Application", "ApplicationSet", "HelmRelease"), _read)
