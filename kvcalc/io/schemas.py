"""JSON Schemas of plan and preset files, for editors that complete and check them."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from kvcalc.attention import KINDS, kind_named
from kvcalc.errors import UnknownNameError
from kvcalc.io.plans import PlanFile
from kvcalc.io.presets import MAX_WEIGHTS_BYTES, MODEL_FIELDS
from kvcalc.units import MAX_COUNT

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = {"type": "array", "items": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a `plan` or a `preset`. Raises UnknownNameError for another kind."""
    schemas = {"plan": _plan, "preset": _preset}
    if kind not in schemas:
        raise UnknownNameError.among("schema", kind, schemas)
    return {"$schema": _DIALECT, **schemas[kind]()}


def _plan() -> dict[str, Any]:
    return {**PlanFile.model_json_schema(), "title": "kvcalc capacity plan"}


def _preset() -> dict[str, Any]:
    kinds = {name: kind_named(name) for name in KINDS.names()}
    fields_of = {name: _properties(kind) for name, kind in kinds.items()}
    every_field = {field: rule for properties in fields_of.values() for field, rule in properties.items()}
    attention = {"anyOf": [{"enum": list(kinds)}, {"type": "array", "items": {"enum": list(kinds)}, "minItems": 1}]}
    layer = {
        "type": "object",
        "properties": {"attention": attention, **every_field},
        "additionalProperties": False,
    }
    own: dict[str, dict[str, Any]] = {
        "name": {"type": "string"},
        "aliases": _NAMES,
        "source": {"type": "string"},
        "model_type": {"type": "string"},
        "max_model_len": _COUNT,
        "weights_bytes": {**_COUNT, "maximum": MAX_WEIGHTS_BYTES},
        "weights_source": {"type": "string"},
        "num_layers": _COUNT,
        "layer_pattern": _NAMES,
        "layer_types": _NAMES,
        "layers": {"type": "object", "additionalProperties": layer},
        "attention": attention,
        "num_mtp_layers": _COUNT,
        "mtp_layer": {"type": "string"},
    }
    described: dict[str, Any] = {field: {**rule, "description": MODEL_FIELDS[field]} for field, rule in own.items()}
    return {
        "title": "kvcalc preset",
        "type": "object",
        "properties": {**described, **every_field},
        "required": ["num_layers"],
        "additionalProperties": False,
        # Without `layers` the top level is the only layer, so the kind's own fields must all be there.
        "allOf": [
            {
                "if": {
                    "properties": {"attention": {"const": name}},
                    "required": ["attention"],
                    "not": {"required": ["layers"]},
                },
                "then": {"required": required},
            }
            for name, kind in kinds.items()
            if (required := [field.name for field in fields(kind) if field.default is MISSING])
        ],
    }


def _properties(kind: type) -> dict[str, Any]:
    meanings = {name: text for base in reversed(kind.__mro__) for name, text in _described(base).items()}
    return {
        field.name: {**_rule(kind, field.name, str(field.type)), "description": meanings.get(field.name, "")}
        for field in fields(kind)
    }


def _rule(kind: type, field: str, annotation: str) -> dict[str, Any]:
    """Schema of one fact; its annotation is text, as `from __future__ import annotations` leaves it."""
    if annotation.startswith("bool"):
        return {"type": "boolean"}
    if annotation.startswith("str"):
        return {"type": "string"}
    return {**_COUNT, "minimum": 0} if field in getattr(kind, "MAY_BE_ZERO", ()) else _COUNT


def _described(kind: type) -> dict[str, str]:
    """Meaning of each field from the lines `name: meaning` of a class's docstring."""
    meanings = {}
    for line in (kind.__doc__ or "").splitlines():
        names, colon, meaning = line.strip().partition(": ")
        if colon:
            meanings.update(dict.fromkeys(names.split(", "), meaning))
    return meanings
