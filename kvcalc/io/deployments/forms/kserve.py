"""KServe: an InferenceService with the (Cluster)ServingRuntime it names; the runtime's command, then its own args.

The model of storageUri is mounted at /mnt/models. Source: kserve.github.io/website, reference of the API, v1beta1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of_pod
from kvcalc.io.deployments.pods import Pod, absent_sources, environment, expanded, gpus_of, workload_of
from kvcalc.io.deployments.reading.flags import flag_name
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import NOTHING, Node
from kvcalc.io.deployments.workload import Refused, Told, Workload

RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")
_SERVICE = "InferenceService"
_ENGINES = ("kserve-container",)
_ID = "--model-id="
_HUGGING_FACE = ("huggingface", "vllm")
_OWN_SERVER = re.compile(r"huggingface-?server")
"""KServe's own image for hub models, which passes its arguments to vLLM."""


def model_of_uri(uri: Text) -> Text | None:
    """The model of a storage address: the hub id, else the address."""
    words = uri.removeprefix("hf://")
    return Text.on(uri.line, words) if words else None


def _connected(storage: Node) -> Text | None:
    """The path of a data connection, mounted at /mnt/models; its bucket is in a Secret."""
    path = storage.first("path", "storagePath").text
    words = path.strip("/")
    return Text.on(path.line, words) if words else None


def _is_own(document: Document) -> bool:
    return (document.kind == _SERVICE and document.root.at("spec", "predictor").is_mapping) or (
        document.kind in RUNTIMES and bool(document.root.at("spec", "containers"))
    )


def _read(document: Document, around: Around) -> Iterator[Read]:
    if document.kind == _SERVICE:
        yield from _service(document, around)
    elif not _is_used(document, around):
        spec = document.root.at("spec")
        pod = Pod(document.name, replicas=None)
        for container in spec.at("containers").each():
            yield workload_of(document, container, spec, pod, around)._replace(
                runs_many="a runtime serves many models; the InferenceService names one"
            )


def _is_used(runtime: Document, around: Around) -> bool:
    services = (each for each in around.documents if each.kind == _SERVICE)
    return any(_names(each.root.at("spec", "predictor", "model"), runtime, around) for each in services)


def _names(model: Node, runtime: Document, around: Around) -> bool:
    if model.at("runtime"):
        return model.at("runtime").text == runtime.name
    return _runtime(model, around) is runtime


def _service(document: Document, around: Around) -> Iterator[Read]:
    predictor = document.root.at("spec", "predictor")
    model = predictor.at("model")
    runtime = _runtime(model, around) if model else None
    pod = Pod(
        document.name,
        _count(predictor.at("minReplicas"), 1),
        replicas_max=predictor.at("maxReplicas").count,
        model=model_of_uri(model.at("storageUri").text) or _connected(model.at("storage")),
        kind=kind_of_pod(predictor),
    )
    if not model:  # the predictor contains the pod itself
        for container in predictor.at("containers").each():
            yield workload_of(document, container, predictor, pod, around)
        return
    spec = runtime.root.at("spec") if runtime is not None else NOTHING
    container = _engine_of(spec)
    base = workload_of(document, container, spec, pod, around) if container else None
    values, secret = environment(model, around)
    if base is not None:
        values = {**base.variables, **values}
    words = tuple(_without_names(expanded(node.text, values) for node in model.at("args").each()))
    words = (*words, *_ranks(predictor.at("workerSpec")))
    served = next((word for word in words if word.startswith(_ID)), None)
    if served is not None:
        words = tuple(word for word in words if word is not served)
        pod = pod._replace(model=served.part(len(_ID), len(served)))
    gpus, line = gpus_of(model)
    if base is not None and _OWN_SERVER.search(base.image):
        base = base._replace(words=tuple(_without_names(base.words)), program="vllm")
    inner = base or Workload(document.name, model.line, program=_program(model), replicas=pod.replicas, model=pod.model)
    yield inner._replace(
        line=next((node for node in (model.at("args"), model.at("storageUri"), model) if node), model).line,
        words=(*inner.words, *words),
        variables=values,
        secret=inner.secret | secret,
        absent=(*inner.absent, *absent_sources(model, around)),
        model=pod.model,
        kind=pod.kind or inner.kind,
        replicas_max=pod.replicas_max,
        gpus=inner.gpus if gpus is None else gpus * _nodes(predictor),
        gpus_line=line,
        part="",
        group=id(model.value),
    )
    if runtime is None and model.at("runtime"):
        at, name = model.at("runtime").line, str(model.at("runtime").text)
        if inner.program:
            yield Told(at, name, "the runtime is not among the files, so its command is unknown")
        else:
            yield Refused(at, name, "the runtime is not among the files, so its engine is unknown")


def _runtime(model: Node, around: Around) -> Document | None:
    """The named runtime; if none is, the only one that declares the model's format."""
    if model.at("runtime"):
        return around.named(RUNTIMES, str(model.at("runtime").text))
    wanted = str(model.at("modelFormat", "name").text).lower()
    found = [
        each
        for each in around.documents
        if each.kind in RUNTIMES
        and any(
            taken.at("autoSelect").is_true and str(taken.at("name").text).lower() == wanted
            for taken in each.root.at("spec", "supportedModelFormats").each()
        )
    ]
    return found[0] if wanted and len(found) == 1 else None


def _without_names(words: Iterable[Text]) -> Iterator[Text]:
    """Without KServe's name for the model; its id is the model itself."""
    for word in words:
        name, equals, _ = word.replace("_", "-").partition("=")
        if name == _ID.rstrip("=") and equals:
            yield Text.on(word.line, _ID + word.partition("=")[2])
        elif name != "--model-name":
            yield word


def _ranks(worker: Node) -> Iterator[Text]:
    """Arguments added by the controller for several nodes."""
    for name in ("tensorParallelSize", "pipelineParallelSize"):
        if worker.at(name).count:
            yield Text.on(worker.at(name).line, f"--{flag_name(name)}={worker.at(name).text}")


def _engine_of(spec: Node) -> Node:
    containers = spec.at("containers").each()
    named = [each for each in containers if each.at("name").text in _ENGINES]
    return next(iter((*named, *containers)), NOTHING)


def _program(model: Node) -> str:
    """KServe's own runtime for hub models starts vLLM."""
    return "vllm" if str(model.at("modelFormat", "name").text).lower() in _HUGGING_FACE else ""


def _nodes(predictor: Node) -> int:
    worker = predictor.at("workerSpec")
    return (worker.at("pipelineParallelSize").count or 1) if worker else 1


def _count(node: Node, otherwise: int) -> int:
    return otherwise if node.count is None else node.count


FORM = Form("KServe", YAML, _is_own, _read)
