"""Values of the production stack's Helm chart: servingEngineSpec.modelSpec, one deployment each.

Source: github.com/vllm-project/production-stack, helm/README.md and templates/deployment-vllm-multi.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of_pod, kind_of_terms
from kvcalc.io.deployments.pods import absent_sources, environment, kind_of_slice
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.tree import NOTHING, Node
from kvcalc.io.deployments.workload import Told, Workload

_FLAGS = (
    *("enableChunkedPrefill", "enablePrefixCaching", "maxModelLen", "dtype", "tensorParallelSize", "maxNumSeqs"),
    *("gpuMemoryUtilization", "maxLoras", "runner", "convert", "pipelineParallelSize"),
)
"""Settings that the chart's template turns into a flag."""
_NO_FLAGS = ("extraArgs", "v0", "v1", "prometheusMultiprocDir")
_ROLES = {"kv_producer": "prefill", "kv_consumer": "decode"}
_ON_GPU = "cuda"


def _is_own(document: Document) -> bool:
    return document.root.at("servingEngineSpec").is_mapping


def _read(document: Document, around: Around) -> Iterator[Read]:
    for spec in document.root.at("servingEngineSpec", "modelSpec").each():
        cache = spec.at("lmcacheConfig")
        if cache.at("enabled").is_true:
            yield from _of_cache(cache)
        for name, setting in spec.at("vllmConfig").items():
            if name not in (*_FLAGS, *_NO_FLAGS):
                yield Told(setting.line, name, "not a setting of the chart, so it sets no flag: see extraArgs")
        yield _model(document, spec, around)


def _model(document: Document, spec: Node, around: Around) -> Workload:
    config, cache = spec.at("vllmConfig"), spec.at("lmcacheConfig")
    values, secret = environment(spec, around)
    settings = [(name, node) for name, node in config.items() if name in _FLAGS]
    lora = spec.at("enableLoRA")
    switches = (Text.on(lora.line, "--enable-lora"),) if lora.is_true else ()
    asked, visible = spec.at("requestGPU"), cache.at("cudaVisibleDevices")
    gpus = asked.count
    if gpus is None and visible.text:
        gpus = len(str(visible.text).split(","))
    head = spec.at("raySpec", "headNode") if not spec.at("raySpec", "enabled").is_false else NOTHING
    terms = kind_of_terms(spec.at("nodeSelectorTerms"))
    count = spec.at("replicaCount").count
    replicas = 1 if count is None else count
    if head and gpus is not None:  # a Ray cluster: its head, and one worker per replica
        gpus, replicas = gpus * replicas + (head.at("requestGPU").count or 0), 1
    return Workload(
        name=document.prefix + str(spec.at("name").text),
        line=spec.line,
        words=(*switches, *flag_words(settings), *(node.text for node in config.at("extraArgs").each())),
        image=f"{spec.at('repository').text}:{spec.at('tag').text}",
        program="vllm",
        variables=values,
        secret=secret,
        absent=tuple(absent_sources(spec, around)),
        model=spec.at("modelURL").text or None,
        gpus=gpus,
        gpus_line=(asked if asked else visible if visible else spec).line,
        kind=kind_of_slice(spec.at("requestGPUType"), terms or kind_of_pod(spec)),
        replicas=replicas,
        role=_ROLES.get(str(cache.at("kvRole").text)),
    )


def _of_cache(cache: Node) -> Iterator[Told]:
    """Caches kept by LMCache."""
    size = cache.at("nixlBufferSize")
    if size and cache.at("nixlBufferDevice").text == _ON_GPU:
        yield Told(size.line, "nixlBufferSize", "a buffer on the GPU in addition to the cache: part of the reserve")
    host = cache.at("cpuOffloadingBufferSize")
    if host:
        yield Told(host.line, "lmcacheConfig", "a second cache in host memory is not counted")


FORM = Form("values of production-stack", YAML, _is_own, _read)
