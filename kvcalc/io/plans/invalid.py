"""Errors of a plan's schema, in the project's words."""

from __future__ import annotations

from pydantic import ValidationError

from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.io.documents import Document
from kvcalc.io.engine_args import could_be_secret
from kvcalc.io.plans.form import DeploymentEntry, PlanFile, WorkloadEntry
from kvcalc.units import shown

_ARMS = ("int", "str", "float", WorkloadEntry.__name__)
"""Names of union members in an error's path, which are not keys."""


def first_error(error: ValidationError, document: Document) -> KvcalcError:
    """The first of pydantic's errors in the project's words."""
    found = error.errors()[0]
    in_workload = (each for each in error.errors() if WorkloadEntry.__name__ in each["loc"][:-1])
    found = next((each for each in in_workload if each["loc"][:3] == found["loc"][:3]), found)
    *above, last = found["loc"] or ("",)
    path = tuple(step for step in above if step not in _ARMS and "[" not in str(step))
    is_key = found["type"] in ("extra_forbidden", "missing")  # which may have any spelling
    path = (*path, last) if last != "" and (is_key or (last not in _ARMS and "[" not in str(last))) else path
    where = document.where(path)
    name = str(path[-1]) if path else document.name
    match found["type"]:
        case "extra_forbidden":
            of = WorkloadEntry if "workload" in path[:-1] else DeploymentEntry if len(path) > 1 else PlanFile
            known = [field.alias or name for name, field in of.model_fields.items()]
            return UnknownNameError.among("field of a plan", name, known).at(where)
        case "missing":
            holder = document.where(path[:-1])
            return InvalidValueError(
                f"{name} is missing", where=holder, help=f"add {name}; `kvcalc schema plan` lists all"
            )
        case "model_type" | "model_attributes_type":
            what = "must be a mapping of names to values"
        case "too_long":
            return InvalidValueError(
                f"{name} has {len(found['input']):,} entries; the limit is {found['ctx']['max_length']:,}",
                where=where,
                help="split it into several files",
            )
        case "too_short" | "list_type":
            what = "must be a list of deployments"
        case _:
            what = found["msg"].replace("Input should be", "must be")
    return InvalidValueError(
        f"{name} {what}, not {_shown(found['input'])}", where=where, help="`kvcalc schema plan` describes the file"
    )


def _shown(value: object) -> str:
    """A value of the wrong type, safe for messages: contents of lists and mappings are not shown."""
    if isinstance(value, list | dict) and any(mark in repr(value) for mark in "'\""):
        return "a list" if isinstance(value, list) else "a mapping"
    return "a word that is not shown" if could_be_secret(str(value)) else shown(value)
