"""Models on this disk: the caches of Hugging Face, Ollama and LM Studio, each looked up by its users' names.

Sources: huggingface_hub, constants.py and file_download.py (models--ORG--NAME/refs, snapshots); ollama, envconfig and
types/model (manifests of layers, blobs by digest); LM Studio's documentation (models/PUBLISHER/REPOSITORY).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kvcalc.io.documents import parse_json, read_text
from kvcalc.io.files import is_file, is_folder
from kvcalc.io.sources import readable

_GGUF = "application/vnd.ollama.image.model"
_MAIN = "main"


class Stored(NamedTuple):
    """A model on this disk. name: by its store; path: file or folder to read; store: that has it."""

    name: str
    path: Path
    store: str


def stored(name: str) -> Stored | None:
    """The model of that name in the first store that has it."""
    for look in STORES:
        if (found := look(name)) is not None:
            return found
    return None


def hugging_face_cache(name: str) -> Stored | None:
    """A repository in the hub's cache: the snapshot that `main`, or ORG/NAME@REVISION, points to."""
    repository, _, revision = name.partition("@")
    organisation, _, short = repository.partition("/")
    if not (organisation and short) or "/" in short or ".." in name:
        return None
    folder = _hub_folder() / f"models--{organisation}--{short}"
    if not is_folder(folder):
        return None
    commit = folder / "refs" / (revision or _MAIN)
    snapshot = folder / "snapshots" / (read_text(commit).strip() if is_file(commit) else revision or _MAIN)
    path = readable(snapshot)
    return None if path is None else Stored(repository, path, "the Hugging Face cache")


def ollama_store(name: str) -> Stored | None:
    """A tag that Ollama has pulled: the GGUF file among its layers."""
    family, _, tag = name.removeprefix("ollama:").partition(":")
    if not family or ".." in name or name.startswith("/"):
        return None
    models = Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models")
    owner = family if "/" in family else f"library/{family}"
    manifest = models / "manifests" / "registry.ollama.ai" / owner / (tag or "latest")
    if not is_file(manifest):
        return None
    document = parse_json(read_text(manifest), str(manifest)).data
    layers = document.get("layers") if isinstance(document, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        digest = layer.get("digest") if isinstance(layer, dict) and layer.get("mediaType") == _GGUF else None
        if isinstance(digest, str) and is_file(blob := models / "blobs" / digest.replace(":", "-")):
            return Stored(f"{family}:{tag or 'latest'}", blob, "Ollama's store")
    return None


def lm_studio_store(name: str) -> Stored | None:
    """A repository that LM Studio has downloaded."""
    if "/" not in name or ".." in name or name.startswith("/"):
        return None
    for home in (".lmstudio/models", ".cache/lm-studio/models"):
        path = readable(Path.home() / home / name)
        if path is not None:
            return Stored(name, path, "LM Studio's store")
    return None


STORES: tuple[Callable[[str], Stored | None], ...] = (hugging_face_cache, ollama_store, lm_studio_store)


def repository_of(path: Path) -> str | None:
    """Repository of a snapshot in the hub's cache, named by that and never by its commit."""
    for folder in path.resolve().parents if path.suffix else (path.resolve(), *path.resolve().parents):
        if folder.name.startswith("models--") and folder.name.count("--") > 1:
            return "/".join(folder.name.split("--", 2)[1:])
    return None


def _hub_folder() -> Path:
    """Folder of the hub's cache, located as in huggingface_hub."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    if home is None:
        home = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(home) / "hub"
