"""kthena's ModelBooster: a backend with workers, whose config becomes the engine's flags; an empty value is a switch.

The controller starts `replicas` of the backend, each with `replicas` of a worker on `pods` nodes.
Source: github.com/volcano-sh/kthena, pkg/apis/workload/v1alpha1 and pkg/model-booster-controller/convert.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read, of_kinds
from kvcalc.io.deployments.forms.kserve import model_of_uri
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.pods import Pod, workload_of
from kvcalc.io.deployments.reading.flags import flag_name, flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Refused

_PROGRAMS = {"vllm": "vllm", "vllmdisaggregated": "vllm", "sglang": "sglang"}
_HALVES = ("prefill", "decode")
_NO_ENGINES = ("controller", "coordinator")


def _read(document: Document, around: Around) -> Iterator[Read]:
    backend = document.root.at("spec", "backend")
    kind = str(backend.at("type").text)
    program = _PROGRAMS.get(kind.lower(), "")
    if not program:
        yield Refused(backend.at("type").line, "engine", f"{kind or 'the backend'} is not modelled")
        return
    least = backend.first("replicas", "minReplicas").count
    for worker in backend.at("workers").each():
        half = str(worker.at("type").text)
        if half in _NO_ENGINES:
            continue
        count = worker.at("replicas").count
        name = f"{document.name}/{half}" if half in _HALVES else document.name
        pod = Pod(
            name,
            (1 if least is None else least) * (1 if count is None else count),
            half if half in _HALVES else None,
            nodes=max(worker.at("pods").count or 1, 1),
            kind=kind_of_pod(worker),
            replicas_max=backend.at("maxReplicas").count,
            model=model_of_uri(backend.at("modelURI").text),
            program=program,
        )
        shared = {key: backend.at(key) for key in ("env", "envFrom")}
        read = workload_of(document, Node({**dict(worker.items()), **shared}, worker.line), worker, pod, around)
        yield read._replace(words=tuple(_words(worker.at("config"))), part="")


def _words(config: Node) -> Iterator[Text]:
    """Flags written by the controller."""
    for name, node in config.items():
        if node.text or node.value is None or node.is_mapping or node.each():
            yield from flag_words([(name, node)])
        else:
            yield Text.on(node.line, f"--{flag_name(name)}")


FORM = Form("ModelBooster of kthena", YAML, of_kinds("ModelBooster"), _read)
