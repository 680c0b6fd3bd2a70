"""From whatever names a model to the Model: a preset's name, a path, or a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.io.documents import Document, read_json, read_yaml
from kvcalc.io.presets import load_preset, parse_preset
from kvcalc.model import Model
from kvcalc.units import shown


def load(source: str | os.PathLike[str] | Mapping[str, Any]) -> Model:
    """Model from a preset's name, a path, or a mapping.

    source: name or alias of a shipped preset (`r1`); path of a preset YAML, a config.json, or a directory that holds
    one; or a dict in either form. A string is taken for a path where it has a separator or a suffix of such a file.
    Raises UnknownNameError, InvalidFileError, InvalidValueError, UnknownArchitectureError.
    """
    if isinstance(source, Mapping):
        return _parse(
            Document("model", dict(source)), str(source.get("name") or source.get("_name_or_path") or "model")
        )
    if isinstance(source, str) and not is_path(source):
        return load_preset(source)
    if isinstance(source, str | os.PathLike):
        return load_path(Path(source))
    raise InvalidValueError(
        f"a model is a preset's name, a path or a mapping, not {shown(source)}", help="for instance kvcalc.load('r1')"
    )


def load_path(path: Path) -> Model:
    """Model from a preset YAML, a config.json, or a directory that holds a config.json. Raises as `load` does."""
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InvalidFileError(
                "is a directory without a config.json", where=str(path), help="pass the folder of a downloaded model"
            )
        path = path / "config.json"
    document = read_json(path) if path.suffix == ".json" else read_yaml(path)
    folder_or_file = path.resolve().parent.name if path.name == "config.json" else path.stem
    return _parse(document, folder_or_file)


def _parse(document: Document, name: str) -> Model:
    if _is_hf_config(document.data):
        from kvcalc.io.hf_config import parse_hf_config  # not for presets, which are most of what is loaded

        return parse_hf_config(document, name)
    return parse_preset(document)


def _is_hf_config(values: object) -> bool:
    """Whether a mapping looks like a config.json rather than a preset."""
    return (
        isinstance(values, dict)
        and "num_layers" not in values
        and ("model_type" in values or "architectures" in values)
    )


def is_path(text: str) -> bool:
    """Whether a string names a file rather than a preset: it has a separator or such a file's suffix."""
    return "/" in text or os.sep in text or text.endswith((".yaml", ".yml", ".json")) or text in (".", "..")
