"""Capacity-planning files: which model, how much of it, and what there is to hold it.

deployments:
  - name: chat
    model: llama-3.1-8b
    tokens: 128K
    sequences: 2
    gpu: h100-80gb
    gpu_memory_utilization: 0.9
    weights: 16.1GB
    reserve: 2GiB
  - name: reasoning
    model: r1
    tokens: 128K
    sequences: 8
    budget: 80GB
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.hardware import gpu_named
from kvcalc.io.documents import Document, Keys, read_yaml
from kvcalc.io.loading import is_path, load, load_path
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.plan import DEFAULT_UTILIZATION, Deployment, Limit
from kvcalc.units import parse_bytes, parse_tokens, shown
from kvcalc.workload import Workload

Tokens = Annotated[
    int | str, Field(description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000).")
]
Bytes = Annotated[int | str, Field(description="Bytes: 80GB (10^9 each), 80GiB (2^30 each), or a plain number.")]


class DeploymentEntry(BaseModel):
    """One deployment: a model, a workload, and either `budget` or `gpu` with `weights`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(
        description="Name of the deployment, unique in its file.", min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    model: str = Field(
        description="A preset's name, or the path of a preset YAML or config.json, relative to this file."
    )
    attention: str | None = Field(
        None, description="What if it had this attention: mha, mqa, gqa:8, mla:512+64, mla-naive."
    )
    tokens: Tokens
    sequences: int = Field(1, description="Sequences cached at the same time.")
    kv_dtype: str = Field("bf16", description="Format of the cache: bf16, fp8, int8, int4 ...")
    engine: str = Field("ideal", description="Who allocates the cache.")
    engine_settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings, named as that engine names them."
    )
    budget: Bytes | None = Field(None, description="Bytes that the cache may take.")
    gpu: str | None = Field(None, description="GPU that holds the cache, by its name in presets/gpus.yaml.")
    gpu_memory_utilization: float | int | None = Field(
        None, description=f"Share of the GPU's memory in use, {float(DEFAULT_UTILIZATION)} if not given."
    )
    weights: Bytes | None = Field(None, description="Bytes of the weights on this GPU.")
    reserve: Bytes | None = Field(None, description="Bytes for activations, graphs and everything else on this GPU.")


class PlanFile(BaseModel):
    """A capacity plan: `kvcalc check` says of each deployment whether its cache fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    deployments: list[DeploymentEntry] = Field(min_length=1)


def load_plan(path: Path) -> list[Deployment]:
    """Deployments of a plan file. Raises KvcalcError with file, line and path of what is wrong."""
    document = read_yaml(path)
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise _first(error, document) from None
    names: dict[str, int] = {}
    for index, entry in enumerate(plan.deployments):
        where: Keys = ("deployments", index, "name")
        if entry.name in names:
            first = document.lines[("deployments", names[entry.name], "name")]
            raise InvalidValueError(
                f"the name {entry.name!r} is taken by the deployment on line {first}",
                where=document.where(where),
                help="give each deployment its own name",
            )
        names[entry.name] = index
    return [_deployment(entry, document, ("deployments", index), path) for index, entry in enumerate(plan.deployments)]


def _deployment(entry: DeploymentEntry, document: Document, path: Keys, file: Path) -> Deployment:
    def take(field: str, read: Any, *values: Any) -> Any:
        """Result of `read`, its errors located at the field."""
        try:
            return read(*values)
        except KvcalcError as error:
            raise error.at(document.where((*path, field))) from None

    model: Model = take("model", _model, entry.model, file.parent)
    if entry.attention is not None:
        model = take("attention", apply_method, model, entry.attention)
    tokens = take("tokens", parse_tokens, entry.tokens)
    dtype_and_all = take("kv_dtype", Workload.of, tokens, 1, entry.kv_dtype).kv_dtype
    return Deployment(
        name=entry.name,
        model=model,
        workload=take("sequences", Workload.of, tokens, entry.sequences, dtype_and_all),
        engine=take(
            "engine" if not entry.engine_settings else "engine_settings", Engine.of, entry.engine, entry.engine_settings
        ),
        limit=_limit(entry, document, path, take),
        file=str(file),
        line=document.lines[path],
    )


def _limit(entry: DeploymentEntry, document: Document, path: Keys, take: Any) -> Limit:
    def refuse(what: str, help: str, field: str | None = None) -> InvalidValueError:
        return InvalidValueError(what, where=document.where((*path, field) if field else path), help=help)

    if entry.budget is not None:
        for field in ("gpu", "gpu_memory_utilization", "weights", "reserve"):
            if getattr(entry, field) is not None:
                raise refuse(
                    f"{field} and budget cannot both be given", "a budget is what is left for the cache", field
                )
        return Limit.of_budget(take("budget", parse_bytes, entry.budget, "budget"))
    if entry.gpu is None:
        raise refuse("there is neither a budget nor a gpu", "add budget: 80GB, or gpu: h100-80gb with weights: 16GB")
    if entry.weights is None:
        raise refuse("gpu is given without weights", "add weights: and the bytes of the weights on this GPU")
    given = entry.gpu_memory_utilization
    utilization = DEFAULT_UTILIZATION if given is None else take("gpu_memory_utilization", _fraction, given)
    return take(  # type: ignore[no-any-return]
        "gpu_memory_utilization",
        Limit.of_gpu,
        take("gpu", gpu_named, entry.gpu),
        utilization,
        take("weights", parse_bytes, entry.weights, "weights"),
        take("reserve", parse_bytes, entry.reserve or 0, "reserve"),
    )


def _fraction(value: float) -> Fraction:
    """The decimal as it was written, 0.9 as 9/10: a float is never multiplied."""
    try:
        return Fraction(repr(value))
    except ValueError:
        raise InvalidValueError(
            f"gpu_memory_utilization must be a number, not {shown(value)}", help="write a share such as 0.9"
        ) from None


def _model(name: str, folder: Path) -> Model:
    return load_path(folder / name) if is_path(name) else load(name)


def _first(error: ValidationError, document: Document) -> KvcalcError:
    """The first of pydantic's errors in the project's words."""
    found = error.errors()[0]
    path = tuple(step for step in found["loc"] if step not in ("int", "str", "float"))  # arms of a union, not keys
    where = document.where(path)
    name = str(path[-1]) if path else document.name
    match found["type"]:
        case "extra_forbidden":
            known = DeploymentEntry.model_fields if len(path) > 1 else PlanFile.model_fields
            return UnknownNameError.among("field of a plan", name, known).at(where)
        case "missing":
            holder = document.where(path[:-1])
            return InvalidValueError(
                f"{name} is missing", where=holder, help=f"add {name}; `kvcalc schema plan` lists all"
            )
        case "model_type" | "model_attributes_type":
            what = "must be a mapping of names to values"
        case "too_short" | "list_type":
            what = "must be a list of deployments"
        case _:
            what = found["msg"].replace("Input should be", "must be")
    return InvalidValueError(
        f"{name} {what}, not {shown(found['input'])}", where=where, help="`kvcalc schema plan` describes the file"
    )


def load_plans(paths: Sequence[Path]) -> list[Deployment]:
    """Deployments of several plan files, in order."""
    return [deployment for path in paths for deployment in load_plan(path)]
