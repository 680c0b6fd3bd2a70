"""From whatever names a model to the Model: a preset's name, a path, or a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.io.documents import Document, parse_json, parse_yaml, read_text
from kvcalc.io.files import exists, is_file, is_folder
from kvcalc.io.presets import load_preset, parse_preset
from kvcalc.model import Model, with_draft_layers
from kvcalc.units import shown

_TEXT_SUFFIXES = (".yaml", ".yml", ".json")
_IN_FOLDER = ("config.json", "params.json")
"""Files that describe a model in its folder; the second is Mistral's own."""
_FILE_SUFFIXES = (*_TEXT_SUFFIXES, ".gguf")
_CONFIG, _QUANTISATION, _SECTION = "config.json", "hf_quant_config.json", "quantization_config"
_REMEMBERED = 64
"""Files whose models are remembered."""


def load(
    source: str | os.PathLike[str] | Mapping[str, object], *, assume: str | None = None, mtp: bool = False
) -> Model:
    """Model from a preset's name, a path, or a mapping.

    source: name or alias of a shipped preset (`r1`); path of a preset YAML, a config.json, a directory that holds one,
    or a GGUF file, of which the metadata alone is read; or a dict in any of these forms. A string is taken for a path
    where it has a separator or a suffix of such a file.
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
    if isinstance(source, str) and not is_path(source):
        return load_preset(source)
    if isinstance(source, str | os.PathLike):
        return load_path(source if isinstance(source, Path) else Path(source), assume=assume)
    raise InvalidValueError(
        f"a model is a preset's name, a path or a mapping, not {shown(source)}", help="for instance kvcalc.load('r1')"
    )


def load_path(path: Path, *, assume: str | None = None) -> Model:
    """Model from a preset YAML, a config.json or params.json, a directory with one, or a GGUF file.

    Raises as `load` does.
    """
    if path.suffix not in _FILE_SUFFIXES and is_folder(path):
        found = next((path / name for name in _IN_FOLDER if exists(path / name)), None)
        if found is None:
            raise InvalidFileError(
                "is a directory without a config.json", where=str(path), help="pass the folder of a downloaded model"
            )
        path = found
    if path.suffix not in _TEXT_SUFFIXES:
        from kvcalc.io.gguf.header import is_gguf, read_metadata

        if is_gguf(path):
            return _parse_gguf(read_metadata(path), path.stem, assume)
    text = read_text(path)
    if path.name not in _IN_FOLDER:
        return _model_of_text(text, str(path), path.stem, assume)
    beside = path.with_name(_QUANTISATION)
    quantised = (str(beside), read_text(beside)) if path.name == _CONFIG and is_file(beside) else None
    return _model_of_text(text, str(path), path.resolve().parent.name, assume, quantised)


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


def is_path(text: str) -> bool:
    """Whether a string names a file rather than a preset: it has a separator or such a file's suffix."""
    return "/" in text or os.sep in text or text.endswith(_FILE_SUFFIXES) or text in (".", "..")
