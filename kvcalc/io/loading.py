"""From whatever names a model to the Model: a name, a path, or a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.io.documents import Document, parse_json, parse_yaml, read_text
from kvcalc.io.files import exists, is_file, is_folder
from kvcalc.io.presets import load_preset, parse_preset
from kvcalc.io.resolve import FILE_SUFFIXES, FOLDER_FILES, STDIN, TEXT_SUFFIXES, resolve
from kvcalc.model import Model, with_draft_layers
from kvcalc.units import shown

_CONFIG, _QUANTISATION, _SECTION = "config.json", "hf_quant_config.json", "quantization_config"
_REMEMBERED = 64
"""Files whose models are remembered."""


def load(
    source: str | os.PathLike[str] | Mapping[str, object], *, assume: str | None = None, mtp: bool = False
) -> Model:
    """Model from whatever names it, or from a mapping.

    source: a shipped preset or its alias (`r1`), a hub id (`Qwen/Qwen3-8B`), an Ollama tag (`qwen3:8b`), the path of a
    preset YAML, a config.json, a folder that holds one, or a GGUF file, of which the metadata alone is read; or a dict
    in any of these forms. What is looked up, and in which order: `kvcalc.io.resolve`.
    assume: what a config.json of an unknown model_type shall be taken for: gqa, mha or mla; a note then says so.
    mtp: with the layers that predict further tokens, if the model has any.
    Raises UnknownNameError, InvalidFileError, InvalidValueError, UnknownArchitectureError.
    """
    model = _load(source, assume)
    return with_draft_layers(model) if mtp else model


def _load(source: object, assume: str | None) -> Model:
    if isinstance(source, Mapping):
        name = str(source.get("name") or source.get("_name_or_path") or "model")
        return _parse(Document("model", dict(source)), name, assume)
    if isinstance(source, str):
        return load_named(source, assume=assume)
    if isinstance(source, os.PathLike):
        return load_path(source if isinstance(source, Path) else Path(source), assume=assume)
    raise InvalidValueError(
        f"a model is a preset's name, a path or a mapping, not {shown(source)}", help="for instance kvcalc.load('r1')"
    )


def load_named(name: str, folder: Path = Path(), *, assume: str | None = None) -> Model:
    """Model of whatever a person calls it: a path, a preset, a repository, a tag (`kvcalc.io.resolve`).

    Raises as `load` does, and NotApplicableError for a name that is nearly another model's.
    """
    found = resolve(name, folder)
    if found.path is None:
        return found.applied_to(load_preset(found.preset))
    if str(found.path) == STDIN:
        return _of_stdin(assume)
    return found.applied_to(load_path(found.path, assume=assume))


def load_path(path: Path, *, assume: str | None = None) -> Model:
    """Model from a preset YAML, a config.json or params.json, a directory with one, or a GGUF file.

    Raises as `load` does.
    """
    model = _load_path(path, assume)
    return replace(model, checkpoint=model.checkpoint._replace(path=str(path)))


def _load_path(path: Path, assume: str | None) -> Model:
    if path.suffix not in FILE_SUFFIXES and is_folder(path):
        found = next((path / name for name in FOLDER_FILES if exists(path / name)), None)
        if found is None:
            raise InvalidFileError(
                "is a directory without a config.json", where=str(path), help="pass the folder of a downloaded model"
            )
        path = found
    if path.suffix not in TEXT_SUFFIXES:
        from kvcalc.io.gguf.header import is_gguf, read_metadata

        if is_gguf(path):
            return _parse_gguf(read_metadata(path), path.stem, assume)
    text = read_text(path)
    if path.name not in FOLDER_FILES:
        return _model_of_text(text, str(path), path.stem, assume)
    beside = path.with_name(_QUANTISATION)
    quantised = (str(beside), read_text(beside)) if path.name == _CONFIG and is_file(beside) else None
    return _model_of_text(text, str(path), _name_of_config(path), assume, quantised)


def config_values(path: Path) -> Mapping[str, object] | None:
    """The config.json of a model's file or folder; None where that is something else."""
    file = path / _CONFIG if path.suffix not in FILE_SUFFIXES and is_folder(path) else path
    values = parse_json(read_text(file), str(file)).data if file.suffix == ".json" and is_file(file) else None
    return values if is_hf_config(values) else None


def _name_of_config(path: Path) -> str:
    """What the model of a config.json is called: its repository, where a hub's cache holds it, or its folder."""
    from kvcalc.io.resolve.stores import repository_of

    return repository_of(path) or path.resolve().parent.name


def _of_stdin(assume: str | None) -> Model:
    """Model of a config.json or a preset on standard input."""
    text = read_text(Path("/dev/stdin"))
    name = "stdin.json" if text.lstrip().startswith("{") else "stdin.yaml"
    return _model_of_text(text, name, "stdin", assume)


@lru_cache(maxsize=_REMEMBERED)
def _model_of_text(text: str, path: str, name: str, assume: str | None, beside: tuple[str, str] | None = None) -> Model:
    """Model of a file's text; the same text is parsed once, since a Model never changes.

    beside: path and text of the file in which ModelOpt writes how it quantised a checkpoint.
    """
    document = parse_json(text, path) if path.endswith(".json") else parse_yaml(text, path)
    return _parse(document if beside is None else _with_quantisation(document, *beside), name, assume)


def _with_quantisation(document: Document, path: str, text: str) -> Document:
    """`document` with that file's quantisation in the place of its own, of which it says nothing.

    As ModelOpt up to 0.29 published it, and engines read it: vLLM, transformers_utils/config.py.
    """
    values = document.data
    if not isinstance(values, Mapping) or values.get(_SECTION) is not None:
        return document
    return document._replace(data={**values, _SECTION: parse_json(text, path).data})


def _parse(document: Document, name: str, assume: str | None) -> Model:
    if isinstance(document.data, Mapping) and "general.architecture" in document.data:
        return _parse_gguf(document, name, assume)
    if is_hf_config(document.data) or assume is not None:
        from kvcalc.io.hf_config import parse_hf_config  # not for presets, which are most of what is loaded

        return parse_hf_config(document, name, assume=assume)
    return parse_preset(document)


def _parse_gguf(document: Document, name: str, assume: str | None) -> Model:
    from kvcalc.io.gguf import parse_gguf

    if assume is not None:
        raise InvalidValueError(
            "GGUF metadata says itself what it is", where="--assume", help="leave --assume out for a GGUF file"
        )
    return parse_gguf(document, name)


def forget() -> None:
    """Forgets the models of files read before."""
    _model_of_text.cache_clear()


def is_hf_config(values: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a mapping is a config.json rather than a preset, which says what its attention is."""
    if not isinstance(values, Mapping) or "attention" in values or isinstance(values.get("layers"), Mapping):
        return False
    return (
        "architectures" in values
        or _is_params(values)
        or ("model_type" in values and not ("num_layers" in values and "source" in values))
    )


def _is_params(values: Mapping[str, object]) -> bool:
    from kvcalc.io.families._names import mistral_type

    return "dim" in values and bool(mistral_type(values))
