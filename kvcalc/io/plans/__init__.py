"""Capacity-planning files: model, workload, and available memory.

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
  - name: served
    args: vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --max-model-len 128K
    concurrency: 4
    gpu: h200
    gpus: 8
    weights: 671GB
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import quoted
from kvcalc.fleet.check import Deployment
from kvcalc.io.documents import Document, Keys, path_text, read_yaml
from kvcalc.io.engine_args import Command
from kvcalc.io.plans.deployed import deployed
from kvcalc.io.plans.form import DeploymentEntry, PlanFile
from kvcalc.io.plans.invalid import first_error
from kvcalc.io.plans.row import Row

__all__ = ["DeploymentEntry", "PlanFile", "deployment_of", "load_plan", "parse_plan"]


def load_plan(path: Path, *, hub: bool = False) -> list[Deployment]:
    """Deployments of a plan file. hub: their models are read from the Hub.

    Raises KvcalcError with file, line and path of the mistake.
    """
    return parse_plan(read_yaml(path), path, hub=hub)


def parse_plan(
    document: Document, path: Path | None = None, *, hub: bool = False, known: dict[Hashable, Any] | None = None
) -> list[Deployment]:
    """Deployments of a plan's values; paths in it are relative to its file, or to the current folder.

    known: shared with other plans: what has been read so far.
    """
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise first_error(error, document) from None
    names: dict[str, int] = {}
    for index, entry in enumerate(plan.deployments):
        where: Keys = ("deployments", index, "name")
        if entry.name in names:
            first: Keys = ("deployments", names[entry.name])
            line = document.lines.get((*first, "name"))
            taken_by = f"the deployment on line {line}" if line else path_text(first)
            raise InvalidValueError(
                f"the name {quoted(entry.name)} is already used by {taken_by}",
                where=document.where(where),
                help="give each deployment its own name",
            )
        names[entry.name] = index
    known = {} if known is None else known
    return [
        deployed(Row(entry, document, ("deployments", index), path, known, hub=hub))
        for index, entry in enumerate(plan.deployments)
    ]


def deployment_of(  # noqa: PLR0913  # its start, and additions
    entry: DeploymentEntry,
    command: Command,
    where: str,
    folder: Path,
    known: dict[Hashable, Any],
    *,
    hub: bool = False,
    called: Mapping[str, str] | None = None,
) -> Deployment:
    """A deployment that a file starts, with additions. where: FILE:LINE; called: names of added fields.

    Raises KvcalcError.
    """
    file, _, line = where.rpartition(":")
    document = Document(file, None, {(): int(line)})
    return deployed(Row(entry, document, (), folder / Path(file).name, known, command, hub=hub, called=called))
