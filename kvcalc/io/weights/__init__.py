"""Bytes of a model's weights.

The first of these with a size decides, and the answer names it:

    given           671GB, 70B x 4.5bit, or a path (`written`)
    in a format     --weights-dtype: the preset's tensors, each in that format (an estimate)
    its own files   the GGUF file or the folder that names the model (`files`)
    published       the hub's headers, the preset's own size, or that of the repository (`published`)
    counted         the tensors of the preset (`inventories`) or of a config.json (`kvcalc.io.parameters`), in the
                    format in its name or config

Otherwise the size must be given. Source of each format: `kvcalc.model.weight_formats`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.errors import InvalidValueError
from kvcalc.errors.extras import install
from kvcalc.fleet.weights import (
    GIVEN,
    HOW_TO_SAY,
    Weights,
    counted,
    loaded,
    rebuilt_as,
    unknown_weights,
    weights_of,
    with_drafter,
)
from kvcalc.io.files import is_folder
from kvcalc.io.weights.files import bytes_of_path
from kvcalc.io.weights.inventories import inventory_of
from kvcalc.io.weights.published import of_row, published_size
from kvcalc.io.weights.written import read_weights
from kvcalc.model import DRAFTS

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.model import Model
    from kvcalc.model.checkpoint import Checkpoint, Inventory

__all__ = ["bytes_of_path", "find_weights", "read_weights", "served_weights"]
_GGUF = ".gguf"
_FORMAT_BY_DEFAULT = "bf16"


def find_weights(
    model: Model,
    given: str | int | Weights | None = None,
    form: str | None = None,
    folder: Path = Path(),
    inventory: Inventory | None = None,
) -> Weights:
    """The weights of a model, and the source of their size.

    given: as written, relative to `folder` if it is a path. form: a format to count in. inventory: tensors of a model
    that is not a preset. Raises InvalidValueError if their size is unknown, UnknownNameError for a format,
    InvalidFileError for a file.
    """
    tensors = inventory or _tensors_known(model)
    if given is not None and form is not None:
        raise InvalidValueError(
            f"weights are given ({given}), and a format to count them in as well ({form})",
            field="weights",
            help="remove one of them",
        )
    if given is not None:
        read = read_weights(given, folder) if isinstance(given, str) else weights_of(model, given)
        return _with_tensors(read, tensors, model)
    if form is not None:
        return _in_format(model, form, tensors)
    found = _of_files(model) or _published(model)
    if found is not None:
        return _with_tensors(found, tensors, model)
    if tensors is None:
        return _unknown(model)
    return _by_name(model, tensors)


def _tensors_known(model: Model) -> Inventory | None:
    """Tensors of the preset, or those counted from the config."""
    own = model.checkpoint
    return None if rebuilt_as(model) else inventory_of(own.preset) or own.inventory


def _unknown(model: Model) -> Weights:
    """Raises InvalidValueError, with the reason for which nothing was counted."""
    why = model.checkpoint.not_counted
    if why and not rebuilt_as(model) and model.weights_bytes is None:
        raise unknown_weights(f": {why}", f"{HOW_TO_SAY}; `{install('against')}` counts by the class itself")
    return weights_of(model)


def served_weights(
    weights: Weights, model: Model, engine: Engine, folder: Path = Path(), *, reserved: bool = False
) -> Weights:
    """The part of a model's weights that `engine` loads, plus those of a draft checkpoint.

    reserved: whether a reserve covers the latter if their size is unknown. Raises InvalidValueError, for the field
    `drafts`, if their size is unknown.
    """
    own, drafter = loaded(weights, engine.served(model)), model.drafter
    if drafter is None or all(group.name == DRAFTS for group in model.draft_groups):
        return own
    try:
        drafts = find_weights(_as_stored(drafter), folder=folder)
    except InvalidValueError as error:
        if reserved:
            return own
        raise InvalidValueError(
            f"draft model {drafter.name}: {error.what}",
            field="drafts",
            help="also reserve memory for them, or remove the drafts",
        ) from None
    return with_drafter(own, drafts, drafter.name)


def _as_stored(drafter: Model) -> Model:
    """A checkpoint that drafts, without tensors of its config: it may lack embeddings, and have others."""
    return replace(drafter, checkpoint=drafter.checkpoint._replace(inventory=None, not_counted=""))


def _with_tensors(weights: Weights, inventory: Inventory | None, model: Model) -> Weights:
    """The same bytes with their tensors, if known, else with the widths of activations."""
    if inventory is None:
        return weights if rebuilt_as(model) else weights._replace(widths=model.checkpoint.widths)
    from kvcalc.model.weight_formats import find_format, weight_format

    own = counted(inventory, find_format(model.checkpoint.format) or weight_format(_FORMAT_BY_DEFAULT), "")
    if weights.source.startswith(GIVEN):
        own = loaded(own, model)  # given weights are what an engine loads
    return weights._replace(tensors=own.tensors, widths=own.widths, experts_per_token=own.experts_per_token)


def _in_format(model: Model, form: str, inventory: Inventory | None) -> Weights:
    from kvcalc.model.weight_formats import weight_format

    chosen = weight_format(form)
    if inventory is None:
        raise unknown_weights(f", because the tensors of {model.name} are unknown", HOW_TO_SAY)
    found = counted(inventory, chosen, f"in {form}")
    return found._replace(form=form, repository=_repository(model.checkpoint, form))


def _repository(own: Checkpoint, form: str) -> str:
    """Where weights are published in a format; empty if unknown."""
    if form == own.format:
        return own.repository
    from kvcalc.io.weights.repositories import repositories_of

    return repositories_of(own).get(form, "")


def _of_files(model: Model) -> Weights | None:
    """Weights in the model's file or folder; None if there is only a config."""
    path = Path(model.checkpoint.path)
    if not model.checkpoint.path or rebuilt_as(model):
        return None
    holder = path if path.suffix == _GGUF or is_folder(path) else path.parent
    if is_folder(holder) and not any(
        next(holder.glob(f"*{end}"), None) for end in (".safetensors", "s.index.json", _GGUF)
    ):
        return None
    return Weights(bytes_of_path(holder), f"read from {model.checkpoint.path}")


def _published(model: Model) -> Weights | None:
    """From the hub, the preset or the table of published checkpoints."""
    if rebuilt_as(model):
        return None
    if model.weights_bytes is not None:
        own = model.checkpoint
        return weights_of(model)._replace(form=own.format, repository=own.repository)
    row = published_size(model.checkpoint.repository)
    return None if row is None else of_row(row)


def _by_name(model: Model, inventory: Inventory) -> Weights:
    """The preset's tensors in the format given by the model's name; an estimate if it gives none."""
    from kvcalc.model.weight_formats import find_format

    form = model.checkpoint.format
    known = find_format(form or _FORMAT_BY_DEFAULT)
    if known is None:
        raise unknown_weights(
            f", because {model.name} comes in several formats",
            "choose one: --weights-dtype q4_k_m, or pass --weights 4.9GB",
        )
    found = counted(inventory, known, f"in {form or _FORMAT_BY_DEFAULT}")
    found = found._replace(form=form or _FORMAT_BY_DEFAULT, repository=model.checkpoint.repository)
    return found if form else found._replace(estimate=True, source=f"{found.source}, an assumed format")
