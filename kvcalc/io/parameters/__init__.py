"""Tensors of a model from its config.json by arithmetic: which there are, with their shapes, to the parameter.

`classes.py` describes the classes of transformers, one row each, and `towers.py` what those with a tower for images
have besides. A config that its row does not understand completely is not counted: a model type without a row, a class
of another task, another tower, or a field that no row knows.
"""

from __future__ import annotations

from kvcalc.errors import KvcalcError
from kvcalc.io.families._config import Config, TypeEntry
from kvcalc.io.parameters._building import not_counted, text_tensors, tower_tensors
from kvcalc.io.parameters._facts import Facts
from kvcalc.io.parameters.classes import CLASSES
from kvcalc.io.parameters.towers import TEXTS, TOWERED, Towered
from kvcalc.model.checkpoint import Inventory, WeightTensor
from kvcalc.units import shown

_TIED = "tie_word_embeddings"
_TEXT, _VISION = "text_config", "vision_config"
_EXPERTS = "experts"


def tensors_of(config: Config, num_layers: int) -> Inventory | str:
    """Tensors of a config's class with this many layers; the reason in words if they are not counted."""
    try:
        if config.path or config.values is not config.top.values:
            return _towered(config, num_layers)
        return _alone(config, num_layers)
    except KvcalcError as error:
        return error.what


def _alone(config: Config, num_layers: int) -> Inventory:
    """Tensors of a class that generates text."""
    row = CLASSES.get(config.model_type)
    if row is None:
        raise not_counted(f"no tensors of model_type {shown(config.model_type)} are known")
    _check_class(config, row.name)
    facts = Facts(config, row.fields, row.ignored)
    tensors = tuple(text_tensors(row, facts, num_layers, tied=facts.holds(_TIED)))
    return _understood(row.name, tensors, facts)


def _towered(config: Config, num_layers: int) -> Inventory:
    """Tensors of a class that has a tower for images in front of its text model."""
    top_type = config.top.text("model_type")
    row = TOWERED.get(top_type)
    if row is None or config.path != (_TEXT,) or config.model_type not in row.texts:
        raise not_counted(f"{shown(top_type)} has towers besides its text model")
    if _VISION not in config.top:
        raise not_counted(f"{_VISION} is missing")
    whole = Config(config.document, (), top_type, TypeEntry(defaults=row.own_defaults))
    if row.has_text_class and "architectures" not in whole:
        raise not_counted(f"architectures is missing, and {top_type} has a class with a tower and one without")
    _check_class(whole, row.name)
    text_row = TEXTS.get(config.model_type) or CLASSES[config.model_type]
    text = Facts(config, text_row.fields, (*text_row.ignored, _TIED))
    tower = Facts(_tower_config(config, row), row.fields, derived=row.derived)
    tower_type = tower.value("model_type")
    if tower_type is not None and tower_type not in row.towers:
        raise not_counted(f"model_type of {_VISION} is {shown(tower_type)}")
    widths = {"tower": tower.size("hidden"), "text": text.size("hidden")}
    own = Facts(whole, row.fields, (_TEXT, _VISION), row.derived, widths)
    tied = own.holds(_TIED)
    if own.value(_TIED) is None:  # what its class has by default is not what is published
        raise not_counted(f"{_TIED} is missing")
    if config.values.get(_TIED) not in (None, tied):
        raise not_counted(f"{_TIED} is not that of {_TEXT}")
    tensors = (*tower_tensors(row, tower, own), *text_tensors(text_row, text, num_layers, tied=tied))
    return _understood(row.name, tensors, text, tower, own)


def _tower_config(config: Config, row: Towered) -> Config:
    return Config(config.document, (_VISION,), row.towers[0], TypeEntry(defaults=row.defaults))


def _check_class(config: Config, name: str) -> None:
    """Raises NotApplicableError if the config names another class."""
    named = config.texts("architectures")
    if named and name.lower() not in map(str.lower, named):
        raise not_counted(f"architectures names {shown(named[0])}, not {name}")


def _understood(name: str, tensors: tuple[WeightTensor, ...], text: Facts, *others: Facts) -> Inventory:
    """The tensors, if every field of the config is understood."""
    for facts in (text, *others):
        if unread := facts.unread():
            raise not_counted(f"a {name} has no {unread}")
    picked = text.picked() if any(tensor.part == _EXPERTS for tensor in tensors) else 0
    left_out = ", ".join(f"{field} {value:,}" for facts in (text, *others) for field, value in facts.left_out())
    by_default = f" with its defaults {left_out}" if left_out else ""
    return Inventory(tensors, f"{name}{by_default}, counted from its config", picked)
