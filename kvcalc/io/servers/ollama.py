"""Ollama's `/api/ps`, `/api/version` and `/api/show`: the loaded model, its context, and its metadata.

    {"models": [{"name": "gemma3:12b", "size": 11234567890, "size_vram": 11234567890, "context_length": 8192, ...}]}

`size` is weights, cache and buffers together. `/api/show` has the metadata of the GGUF file, which name the model.
"""

from __future__ import annotations

import json
from typing import Any

from kvcalc.errors import InvalidFileError
from kvcalc.fleet.explain import Load, Reading
from kvcalc.fleet.explain.ollama import TOKENS
from kvcalc.io.servers import Get, Pages, asked, entry, json_of, whole
from kvcalc.report.sheet import Json

PAGES = ("/api/ps", "/api/version", "/api/show")
_RUNNING, _VERSION, _SHOW = PAGES


def ask(get: Get) -> Pages:
    """The loaded model, and then its metadata."""
    found = dict(asked(get, (_RUNNING,)))
    name = entry(json_of(found.get(_RUNNING)), "models", 0, "name")
    if not isinstance(name, str):
        return found
    found |= asked(get, (_VERSION,))
    shown = get(_SHOW, json.dumps({"model": name}).encode())
    return found if shown is None else {**found, _SHOW: shown}


def read(pages: Pages) -> Reading | None:
    """The context of the first model that is loaded."""
    models = entry(json_of(pages.get(_RUNNING)), "models")
    first = entry(models, 0)
    if models == [] and pages[_RUNNING].strip().startswith('{"models"'):
        raise InvalidFileError("no model is loaded, so there is no cache", help="load one first: ollama run NAME")
    if not isinstance(models, list) or not isinstance(first, dict) or not {"size", "size_vram"} <= first.keys():
        return None
    tokens = whole(entry(first, "context_length"))
    settings: dict[str, Json] = {TOKENS: tokens} if tokens else {}
    version = entry(json_of(pages.get(_VERSION)), "version")
    if isinstance(version, str) and version.replace(".", "").isdecimal():
        settings["version"] = version
    name, size = first.get("name"), whole(first.get("size"))
    others = f"; the first of {len(models)} loaded models" if len(models) > 1 else ""
    notes = (
        f"Ollama reports the total of weights, cache and buffers ({size or 0:,} bytes), but neither the cache alone "
        f"nor the number of sequences{others}",
        *(() if tokens else ("this version of Ollama does not report its context; its start-up log does",)),
    )
    return Reading(
        "ollama",
        (),
        settings,
        {},
        name if isinstance(name, str) else "",
        load=Load(),
        notes=notes,
        metadata=_metadata(json_of(pages.get(_SHOW))),
    )


def _metadata(shown: Any) -> dict[str, object]:
    """Metadata of the GGUF file, without the vocabulary."""
    facts = entry(shown, "model_info")
    if not isinstance(facts, dict) or "general.architecture" not in facts:
        return {}
    return {key: value for key, value in facts.items() if not key.startswith("tokenizer.")}
