"""KubeAI's Model: url, engine, args, and a resource profile with the number of its units.

Source: www.kubeai.org/reference/kubernetes-api, and its chart's resourceProfiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.pods import environment, expanded
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Kind, Workload

_PROFILE = re.compile(r"(?:(?:nvidia|amd)-gpu-)(.+?):(\d+)")
_URL = re.compile(r"(hf|ollama)://([^?]+)(?:\?model=(.+))?")
_PROGRAMS = {"VLLM": "vllm", "OLlama": "ollama"}


def _read(document: Document, around: Around) -> Iterator[Read]:
    spec = document.root.at("spec")
    values, secret = environment(spec, around)
    url = _URL.fullmatch(spec.at("url").text)
    profile = spec.at("resourceProfile")
    count, kind = _profile(profile)
    replicas = spec.at("minReplicas").count
    fixed = spec.at("replicas").count
    engine = str(spec.at("engine").text)
    yield Workload(
        name=document.name,
        line=(spec.at("args") if spec.at("args") else spec.at("url")).line,
        words=tuple(expanded(node.text, values) for node in spec.at("args").each()),
        program=_PROGRAMS.get(engine, "" if engine else "vllm"),
        variables=values,
        secret=secret,
        model=Text.on(spec.at("url").line, url[3] or url[2]) if url else spec.at("url").text or None,
        gpus=count,
        gpus_line=profile.line,
        kind=kind,
        replicas=fixed if fixed is not None else replicas if replicas is not None else 1,
        replicas_max=spec.at("maxReplicas").count,
    )


def _profile(profile: Node) -> tuple[int | None, Kind | None]:
    match = _PROFILE.fullmatch(profile.text)
    if match is None:
        return None, None
    return int(match[2]), kind_of(match[1], profile.line)


FORM = Form("KubeAI", YAML, of_kinds("Model", group="kubeai.org"), _read)
