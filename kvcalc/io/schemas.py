"""JSON Schemas of plan and preset files, for editors that complete and check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TypeAlias, get_type_hints

from kvcalc.attention import KINDS, kind_named, meanings_of
from kvcalc.errors import UnknownNameError
from kvcalc.io.plans import PlanFile
from kvcalc.io.presets import MAX_WEIGHTS_BYTES, MODEL_FIELDS
from kvcalc.report.sheet import Json
from kvcalc.units import MAX_COUNT

Rules: TypeAlias = dict[str, Mapping[str, Json]]
"""Schema of each field, by its name."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES: Mapping[str, Json] = {"type": "array", "items": {"type": "string"}}
_COUNT: Mapping[str, Json] = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}
_OF_PLAN = "A capacity plan: `kvcalc check` says of each deployment whether its cache fits."
_OF_DEPLOYMENT = "One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."


def schema(kind: str) -> dict[str, Json]:
    """JSON Schema of a `plan` or a `preset`. Raises UnknownNameError for another kind."""
    if kind not in SCHEMAS:
        raise UnknownNameError.among("schema", kind, SCHEMAS)
    return {"$schema": _DIALECT, **SCHEMAS[kind]()}


def _plan() -> dict[str, Json]:
    plan = PlanFile.model_json_schema()
    definitions = {"DeploymentEntry": _described(plan["$defs"]["DeploymentEntry"], _OF_DEPLOYMENT)}
    return _described({**plan, "$defs": definitions, "title": "kvcalc capacity plan"}, _OF_PLAN)


def _described(schema: Mapping[str, Json], words: str) -> dict[str, Json]:
    """The schema under `words`, in place of a docstring, which `python -OO` leaves out."""
    return {"description": words, **{name: rule for name, rule in schema.items() if name != "description"}}


def _preset() -> dict[str, Json]:
    kinds = {name: kind_named(name) for name in KINDS.names()}
    fields_of = {name: _properties(kind) for name, kind in kinds.items()}
    every_field = {field: rule for properties in fields_of.values() for field, rule in properties.items()}
    attention: Mapping[str, Json] = {
        "anyOf": [{"enum": list(kinds)}, {"type": "array", "items": {"enum": list(kinds)}, "minItems": 1}]
    }
    layer: Mapping[str, Json] = {
        "type": "object",
        "properties": {"attention": attention, **every_field},
        "additionalProperties": False,
    }
    own: Rules = {
        "name": {"type": "string"},
        "aliases": _NAMES,
        "source": {"type": "string"},
        "model_type": {"type": "string"},
        "max_model_len": _COUNT,
        "vocab_size": _COUNT,
        "weights_bytes": {**_COUNT, "maximum": MAX_WEIGHTS_BYTES},
        "weights_source": {"type": "string"},
        "weights_format": {"type": "string"},
        "num_layers": _COUNT,
        "layer_pattern": _NAMES,
        "layer_types": _NAMES,
        "layers": {"type": "object", "additionalProperties": layer},
        "attention": attention,
        "num_mtp_layers": _COUNT,
        "mtp_layer": {"type": "string"},
    }
    described: Rules = {field: {**rule, "description": MODEL_FIELDS[field]} for field, rule in own.items()}
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


def _properties(kind: type) -> Rules:
    types = get_type_hints(kind)
    meanings = meanings_of(kind)
    return {name: {**_rule(kind, name, types[name]), "description": f"{meanings[name]}."} for name in meanings}


def _rule(kind: type, field: str, type_: object) -> Mapping[str, Json]:
    """Schema of one fact."""
    if type_ is bool:
        return {"type": "boolean"}
    if type_ in (str, str | None):
        return {"type": "string"}
    return {**_COUNT, "minimum": 0} if field in getattr(kind, "MAY_BE_ZERO", ()) else _COUNT


SCHEMAS = {"plan": _plan, "preset": _preset}
"""Kinds of file that have a schema."""
