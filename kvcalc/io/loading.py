"""Loading of a Model: from a name, a path, or a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.errors.foreign import name_shown
from kvcalc.io.documents import Document, parse_json, parse_yaml, read_text
from kvcalc.io.files import is_file, is_folder
from kvcalc.io.presets import load_preset, parse_preset
from kvcalc.io.resolve import FILE_SUFFIXES, STDIN, TEXT_SUFFIXES, Resolved, repository_named, resolve
from kvcalc.io.sources import (
    ADAPTER,
    CONFIG,
    FOLDER_FILES,
    ORIGINAL,
    Folder,
    Source,
    gguf_files,
    is_pipeline,
    nothing_in,
    readable,
)
from kvcalc.model import Model, with_draft_layers
from kvcalc.units import shown

if TYPE_CHECKING:
    from kvcalc.io.hub import HubWeights
    from kvcalc.io.resolve.reference import Reference

_QUANTISATION, _SECTION = "hf_quant_config.json", "quantization_config"
_REMEMBERED = 64
"""Cached models, by file."""


def load(
    source: str | os.PathLike[str] | Mapping[str, object],
    *,
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
) -> Model:
    """Model from a name, a path, or a mapping.

    source: a shipped preset or its alias (`r1`), a hub id (`Qwen/Qwen3-8B`), an Ollama tag (`qwen3:8b`), the path of a
    preset YAML, a config.json, a folder with one, or a GGUF file, whose metadata is read; or a dict in any of these
    forms. Lookup order: `kvcalc.io.resolve`.
    assume: how to read a config.json of an unknown model_type: gqa, mha or mla; a note then says so. mtp: with the
    layers for multi-token prediction, if the model has any. hub: read a name that is not a path from the Hugging Face
    Hub, at one commit: its config and the headers of its weights, for their size. The network is never used without it.
    Raises UnknownNameError, InvalidFileError, InvalidValueError, UnknownArchitectureError.
    """
    model = _load(source, assume, hub)
    return with_draft_layers(model) if mtp else model


class _How(NamedTuple):
    """How a model is read. assume: as for `load`. is_base: it is the base of an adapter, and not an adapter."""

    assume: str | None = None
    is_base: bool = False


def _load(source: object, assume: str | None, hub: bool) -> Model:
    if isinstance(source, Mapping):
        name = str(source.get("name") or source.get("_name_or_path") or "model")
        return _parse(Document("model", dict(source)), name, assume)
    if isinstance(source, str):
        return load_named(source, assume=assume, hub=hub)
    if isinstance(source, os.PathLike):
        return load_path(source if isinstance(source, Path) else Path(source), assume=assume)
    raise InvalidValueError(
        f"a model is a preset's name, a path or a mapping, not {shown(source)}", help="for example kvcalc.load('r1')"
    )


def load_named(name: str, folder: Path = Path(), *, assume: str | None = None, hub: bool = False) -> Model:
    """Model by a user's name for it: a path, a preset, a repository, a tag (`kvcalc.io.resolve`).

    hub: a repository is read from the Hub. Raises as `load` does, and NotApplicableError for a name close to another
    model's.
    """
    return _of_resolved(resolve(name, folder, hub=hub), _How(assume))


def load_path(path: Path, *, assume: str | None = None) -> Model:
    """Model from a preset YAML, a config.json or params.json, a directory with one, or a GGUF file.

    Raises as `load` does.
    """
    return _of_path(path, _How(assume))


def _of_resolved(found: Resolved, how: _How) -> Model:
    if found.reference is not None:
        return found.applied_to(_of_hub(found.reference, how))
    if found.path is None:
        return found.applied_to(load_preset(found.preset))
    if str(found.path) == STDIN:
        return _of_stdin(how.assume)
    return found.applied_to(_of_path(found.path, how))


def _of_path(path: Path, how: _How) -> Model:
    model = _read_path(path, how)
    return model if model.checkpoint.path else replace(model, checkpoint=model.checkpoint._replace(path=str(path)))


def _read_path(path: Path, how: _How) -> Model:
    if path.suffix not in FILE_SUFFIXES and is_folder(path):
        return _of_folder(path, how)
    if path.suffix not in TEXT_SUFFIXES:
        from kvcalc.io.gguf.header import is_gguf, read_metadata

        if is_gguf(path):
            return _parse_gguf(read_metadata(path), path.stem, how.assume)
    if path.name in FOLDER_FILES:
        return _of_file(Folder(_name_of_folder(path.parent), path.parent), path.name, how)
    return _model_of_text(read_text(path), str(path), path.stem, how.assume)


def config_values(path: Path) -> Mapping[str, object] | None:
    """The config.json of a model's file or folder; None for anything else."""
    file = path / CONFIG if path.suffix not in FILE_SUFFIXES and is_folder(path) else path
    values = parse_json(read_text(file), str(file)).data if file.suffix == ".json" and is_file(file) else None
    return values if is_hf_config(values) else None


def _of_folder(path: Path, how: _How) -> Model:
    found = readable(path)
    if found is None:
        pipeline, ggufs = is_pipeline(path), [file.name for file in gguf_files(path)]
        raise nothing_in(str(path), pipeline, ggufs)
    if found == path:
        return _of_source(Folder(_name_of_folder(path), path), how)
    return _of_path(found, how)


def _of_source(source: Source, how: _How) -> Model:
    """Model of a folder or a repository that has one of FOLDER_FILES."""
    return _of_file(source, next(filter(source.has, FOLDER_FILES)), how)


def _of_file(source: Source, file: str, how: _How) -> Model:
    """Model of one of FOLDER_FILES."""
    if file == ADAPTER:
        return _of_adapter(source, how)
    quantised = file == CONFIG and source.has(_QUANTISATION)
    beside = (source.place(_QUANTISATION), source.text(_QUANTISATION)) if quantised else None
    return _model_of_text(source.text(file), source.place(file), source.name, how.assume, beside)


def _of_adapter(source: Source, how: _How) -> Model:
    """The base model of an adapter: a path or a name, on a hub only a repository."""
    from kvcalc.io.adapters import base_of, refuse_chain

    place = source.place(ADAPTER)
    base = base_of(parse_json(source.text(ADAPTER), place))
    if how.is_base:
        raise refuse_chain(base.name, place)
    try:
        found = repository_named(base.name, base.revision) if source.is_remote else resolve(base.name)
        model = _of_resolved(found, how._replace(is_base=True))
    except KvcalcError as error:
        raise error.at(f"{place}: base_model_name_or_path") from None
    note = f"{name_shown(source.name)} is an adapter of {name_shown(base.name)}: the cache is the base model's"
    return replace(model, notes=(note, *model.notes))


def _of_hub(reference: Reference, how: _How) -> Model:
    """Model of a repository, with the size of its weights if known from headers, and the commit in its notes."""
    from kvcalc.io.hub import gguf_of, pinned, weights_of

    repository = pinned(reference)
    if (found := gguf_of(repository, reference.file, reference.quantisation)) is not None:
        model = _parse_gguf(found.metadata, Path(found.name).stem, how.assume)
        weights: HubWeights | None = found.weights
    else:
        model = _of_source(repository, how)
        weights = weights_of(repository)
    model = replace(model, notes=(repository.where, *model.notes))
    if not model.source.startswith(repository.place("")):  # the base of an adapter, whose weights are already known
        return model
    return replace(
        model,
        weights_bytes=weights.bytes if weights else None,
        weights_source=weights.source if weights else "",
        checkpoint=model.checkpoint._replace(repository=repository.name),
    )


def _name_of_folder(path: Path) -> str:
    """Name of a folder's model: its repository if it is in a hub cache, else the folder."""
    from kvcalc.io.resolve.stores import repository_of

    folder = path.resolve()
    return repository_of(folder) or (folder.parent.name if folder.name == ORIGINAL else folder.name)


def _of_stdin(assume: str | None) -> Model:
    """Model of a config.json or a preset on standard input."""
    text = read_text(Path("/dev/stdin"))
    name = "stdin.json" if text.lstrip().startswith("{") else "stdin.yaml"
    return _model_of_text(text, name, "stdin", assume)


@lru_cache(maxsize=_REMEMBERED)
def _model_of_text(text: str, path: str, name: str, assume: str | None, beside: tuple[str, str] | None = None) -> Model:
    """Model of a file's text; the same text is parsed once, since a Model never changes.

    `beside`: path and text of ModelOpt's quantisation file next to it.
    """
    document = parse_json(text, path) if path.endswith(".json") else parse_yaml(text, path)
    return _parse(document if beside is None else _with_quantisation(document, *beside), name, assume)


def _with_quantisation(document: Document, path: str, text: str) -> Document:
    """`document` with that file's quantisation, if it has none itself.

    As published by ModelOpt up to 0.29, and read by engines: vLLM, transformers_utils/config.py.
    """
    values = document.data
    if not isinstance(values, Mapping) or values.get(_SECTION) is not None:
        return document
    return document._replace(data={**values, _SECTION: parse_json(text, path).data})


def _parse(document: Document, name: str, assume: str | None) -> Model:
    if isinstance(document.data, Mapping) and "general.architecture" in document.data:
        return _parse_gguf(document, name, assume)
    from kvcalc.io.other_configs import check_is_model

    check_is_model(document)
    if is_hf_config(document.data) or assume is not None:
        from kvcalc.io.hf_config import parse_hf_config  # not for presets, which are loaded most

        return parse_hf_config(document, name, assume=assume)
    return parse_preset(document)


def _parse_gguf(document: Document, name: str, assume: str | None) -> Model:
    from kvcalc.io.gguf import parse_gguf

    if assume is not None:
        raise InvalidValueError(
            "GGUF metadata does not need it", where="--assume", help="remove --assume for a GGUF file"
        )
    return parse_gguf(document, name)


def forget() -> None:
    """Forgets the models of files read before."""
    _model_of_text.cache_clear()


def is_hf_config(values: object) -> TypeGuard[Mapping[str, object]]:
    """Whether a mapping is a config.json rather than a preset, which names its attention."""
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
