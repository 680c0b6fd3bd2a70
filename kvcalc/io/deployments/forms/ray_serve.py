"""Ray Serve: applications with llm_configs, in a config file or as a string in a RayService.

Source: docs.ray.io, ray.serve.llm.LLMConfig; RayService of KubeRay.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvcalc.io.deployments.documents import YAML, Around, Document
from kvcalc.io.deployments.forms import Form, Read
from kvcalc.io.deployments.kinds import kind_of
from kvcalc.io.deployments.reading import yaml
from kvcalc.io.deployments.reading.flags import flag_words
from kvcalc.io.deployments.reading.tree import Node
from kvcalc.io.deployments.workload import Told, Workload

_CONFIGS = "llm_configs"


def _is_own(document: Document) -> bool:
    root = document.root
    return document.kind == "RayService" or bool(root.at("applications").each()) or bool(root.at("llm_configs").each())


def _read(document: Document, around: Around) -> Iterator[Read]:
    held = document.root.at("spec", "serveConfigV2").text
    roots = yaml.documents(held, document.file) if held else [document.root]
    for root in roots:
        for application in root.at("applications").each() or [root]:
            args = application.at("args") if application.at("args") else application
            for config in args.at(_CONFIGS).each():
                if config.is_mapping:
                    yield _config(config, around)
                else:
                    yield Told(config.line, str(config.text), "a Ray Serve file: pass it as well")


def _config(config: Node, around: Around) -> Workload:
    loading, engine = config.at("model_loading_config"), config.at("engine_kwargs")
    name = loading.at("model_id")
    source = loading.at("model_source") if loading.at("model_source").text else name
    scaling = config.at("deployment_config", "autoscaling_config")
    fixed = config.at("deployment_config", "num_replicas").count
    card = config.at("accelerator_type")
    variables = {key: node.text for key, node in config.at("runtime_env", "env_vars").items()}
    words = tuple(flag_words(engine.items()))
    return Workload(
        name=str(name.text),
        line=config.line,
        words=words,
        program="vllm",
        variables={**variables, **around.given},
        model=source.text or None,
        gpus=_ranks(engine),
        gpus_line=engine.line,
        kind=kind_of(card.text, card.line) if card.text else None,
        replicas=fixed if fixed is not None else scaling.at("min_replicas").count or 1,
        replicas_max=scaling.at("max_replicas").count,
    )


def _ranks(engine: Node) -> int:
    """Ray places one worker per rank of the engine."""
    return (engine.at("tensor_parallel_size").count or 1) * (engine.at("pipeline_parallel_size").count or 1)


FORM = Form("Ray Serve", YAML, _is_own, _read)
