"""JSON Schemas: of plan and preset files, for editors that complete and check them, and of answers, for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, TypeAlias, get_type_hints

from kvcalc.attention import KINDS, kind_named, meanings_of
from kvcalc.cache.dtypes import DTYPES
from kvcalc.engines import ENGINES
from kvcalc.engines.base import OTHER_NAMES
from kvcalc.errors import UnknownNameError
from kvcalc.hardware.catalogue import namings
from kvcalc.io.answer_schemas import ANSWERS, answer_schema
from kvcalc.io.plans import PlanFile
from kvcalc.io.presets import MAX_WEIGHTS_BYTES, MODEL_FIELDS
from kvcalc.report.sheet import Json
from kvcalc.report.versions import VERSIONS
from kvcalc.units import MAX_COUNT

Rules: TypeAlias = dict[str, Mapping[str, Json]]
"""Schema of each field, by its name."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HOME = "https://github.com/kvcalc/kvcalc/schemas"
"""Identifier of the schemas, not a URL to read them from; the number is the plan's `version`."""
_NAMES: Mapping[str, Json] = {"type": "array", "items": {"type": "string"}}
_COUNT: Mapping[str, Json] = {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}
_OF_PLAN = "A capacity plan: `kvcalc check` says whether each deployment's cache fits."
_OF_DEPLOYMENT = "One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."

_OF_WORKLOAD = "Requests that differ in length: `trace`, or `prompt` and `output`."


def schema(kind: str) -> dict[str, Json]:
    """JSON Schema of a file (`plan`, `preset`) or of an answer (`size`, `fit` ...).

    Raises UnknownNameError for another kind.
    """
    if kind not in SCHEMAS:
        raise UnknownNameError.among("schema", kind, SCHEMAS)
    return {"$schema": _DIALECT, "$id": f"{_HOME}/{kind}-{VERSIONS.get(kind, 1)}.json", **SCHEMAS[kind]()}


def _plan() -> dict[str, Json]:
    plan = PlanFile.model_json_schema()
    entry = plan["$defs"]["DeploymentEntry"]
    for field, arms in _known_names().items():
        _narrowed(entry["properties"][field], arms)
    workload = _described(plan["$defs"]["WorkloadEntry"], _OF_WORKLOAD)
    definitions = {"DeploymentEntry": _described(entry, _OF_DEPLOYMENT), "WorkloadEntry": workload}
    return _described({**plan, "$defs": definitions, "title": "kvcalc capacity plan"}, _OF_PLAN)


def _known_names() -> dict[str, list[Json]]:
    """Allowed texts in fields with names: the names, for completion in editors, and other spellings.

    An engine's name may have a version, and names ignore case. Devices are recognised by rules, which no list covers:
    any text may be one.
    """
    engines = sorted({*(name.replace("-", "_") for name in ENGINES.names()), *OTHER_NAMES})
    dtypes = [name for dtype in DTYPES for name in (dtype.name, *dtype.aliases)]
    return {
        "engine": [{"enum": engines}, {"type": "string", "pattern": f"^{_any_case(engines)}(@.+)?$"}],
        "kv_dtype": [{"enum": dtypes}, {"type": "string", "pattern": f"^{_any_case(dtypes)}$"}],
        "gpu": [{"enum": sorted(_devices())}, {"type": "string", "minLength": 1}],
    }


def _devices() -> set[str]:
    """Unambiguous names and aliases of devices, alone or with memory."""
    named = (naming for naming in namings() if not naming.candidates and not naming.memory_of)
    return {name for naming in named for name in (naming.name, *naming.aliases)}


def _any_case(names: Iterable[str]) -> str:
    """A pattern of names ignoring case; the dialect has no flag for that."""
    each = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else f"[{c}]" for c in name.lower()) for name in names)
    return f"({'|'.join(each)})"


def _narrowed(field: dict[str, Any], arms: list[Json]) -> None:
    """Puts `arms` instead of any text."""
    given = field.pop("anyOf", None) or [{"type": field.pop("type")}]
    field["anyOf"] = [*arms, *(arm for arm in given if arm.get("type") != "string")]


def _described(schema: Mapping[str, Json], words: str) -> dict[str, Json]:
    """The schema with description `words`, instead of a docstring, which `python -OO` removes."""
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
        "index_topk": _COUNT,
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
        # Without `layers` the top level is the only layer, so all fields of the kind are required.
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


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "plan": _plan,
    "preset": _preset,
    **{kind: partial(answer_schema, kind) for kind in ANSWERS},
}
"""Kinds of file and of answer that have a schema."""
