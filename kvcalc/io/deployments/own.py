"""Servers configured without a command line: NIM, DJL, LocalAI; their images and variables.

Source: docs.nvidia.com/nim/large-language-models, configuration; docs.djl.ai, LMI configurations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kvcalc.io.deployments.reading.flags import names
from kvcalc.io.deployments.reading.text import Text
from kvcalc.io.deployments.reading.units import entries

_NIM = re.compile(r"(?:^|/)nvcr\.io/nim/([\w.-]+/[\w.-]+)|^nim/([\w.-]+/[\w.-]+)")
_DJL = re.compile(r"(?:djl-serving|djl-inference|deepjavalibrary/djl)[\w.-]*(?::|$)")
_LOCAL_AI = re.compile(r"(?:^|/)local-?ai/local-?ai(?::|$)")
_DJL_KEYS = names("""
    max_model_len tensor_parallel_degree pipeline_parallel_degree gpu_memory_utilization max_rolling_batch_size
    rolling_batch quantize dtype kv_cache_dtype enable_prefix_caching max_rolling_batch_prefill_tokens engine
""")
_NUMBER = re.compile(r"-?\d{1,18}")
_DECIMAL = re.compile(r"-?\d{1,18}\.\d{1,18}")


class Own(NamedTuple):
    """A server, recognised by its image. model: from its image or variables."""

    engine: str
    why: str
    args: Mapping[str, object]
    model: Text | None


def own_server(image: str, variables: Mapping[str, Text], line: int) -> Own | None:
    """The server of an image; None for engines with a command line and other images."""
    name = image.partition("@")[0]
    if match := _NIM.search(name):
        model = (match[1] or match[2]).partition(":")[0]
        args = _chosen(variables, lambda key: key in _OF_NIM, str)
        return Own("nim", "NIM chooses vLLM or TensorRT-LLM itself, by its profile", args, Text.on(line, model))
    if _DJL.search(name):
        args = _chosen(variables, _is_of_djl, lambda key: key.removeprefix("OPTION_").lower())
        return Own(
            "djl",
            "DJL is not modelled: its own settings decide the engine and the cache",
            args,
            variables.get("HF_MODEL_ID"),
        )
    if _LOCAL_AI.search(name):
        return Own("localai", "LocalAI is not modelled: give its model's file", {}, None)
    return None


_OF_NIM = (
    "NIM_MAX_MODEL_LEN",
    "NIM_MODEL_PROFILE",
    "NIM_KVCACHE_PERCENT",
    "NIM_TENSOR_PARALLEL_SIZE",
    "NIM_KV_CACHE_DTYPE",
)


def _is_of_djl(key: str) -> bool:
    return key.startswith("OPTION_") and key.removeprefix("OPTION_").lower() in _DJL_KEYS


def _chosen(
    variables: Mapping[str, Text], is_own: Callable[[str], bool], named: Callable[[str], str]
) -> dict[str, object]:
    return {named(key): plain(value) for key, value in variables.items() if is_own(key)}


def djl_properties(text: Text) -> tuple[dict[str, object], Text | None]:
    """Contents of serving.properties: settings that decide the cache, and the model."""
    found: dict[str, object] = {}
    model: Text | None = None
    for entry in entries(text):
        name = entry.name.removeprefix("option.")
        if name == "model_id":
            model = entry.value
        elif name in _DJL_KEYS:
            found[name] = plain(entry.value)
    return found, model


def plain(text: str) -> object:
    """Numbers and switches parsed, any other word unchanged."""
    words = text.strip()
    if _NUMBER.fullmatch(words):
        return int(words)
    if _DECIMAL.fullmatch(words):
        return float(words)
    return {"true": True, "false": False}.get(words.lower(), words)
