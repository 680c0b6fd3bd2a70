"""`kvcalc explain`: does the prediction agree with an engine's log, error or running server?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import KvcalcError

_OF_WEIGHTS = ("weights", "gpu")
"""Fields that an error about the memory left by --weights may name."""
_EXIT_CODES = {"agrees": 0, "explained": 0, "differs": 1, "undecided": 2}


def run(
    *,
    log: str,
    named: str | None,
    preset: str | None,
    model: str | None,
    assume: str | None,
    mtp: bool,
    draft_model: str | None,
    hub: bool,
    engine: str | None,
    engine_set: Sequence[str],
    tp: int | None,
    pp: int | None,
    gpu: str | None,
    weights: str | None,
    reserve: str,
    format: str,
) -> int:
    """Runs `kvcalc explain`."""
    check_output_format(format)

    from kvcalc.engines.base import split_version
    from kvcalc.fleet.explain import explain
    from kvcalc.io.said import drafted_as_said, model_or_answer, read_said
    from kvcalc.model import Model

    name, version = split_version(engine or "")
    reading, where = asking.located("", read_said, log, name or None)
    if named or preset or model:
        served = asking.one_model(named, preset, model, None, assume, mtp=mtp, hub=hub)
    else:
        found = asking.located("--mtp" if mtp else "", model_or_answer, reading, where, mtp=mtp)
        if not isinstance(found, Model):
            show(found, format)
            return _EXIT_CODES[found.outcome]
        served = found
    ranks: dict[str, Any] = {name: number for name, number in (("tp", tp), ("pp", pp)) if number is not None}
    settings = {**asking.settings(reading.engine, engine_set), **_on_gpu(gpu)} | (
        {"version": version} if version else {}
    )
    of_draft = "--draft-model" if draft_model else "--engine-set"
    served = asking.located(of_draft, drafted_as_said, served, reading, settings, draft_model, hub=hub)
    beside = reading._replace(**_beside(weights, reserve))
    try:
        report = explain(served, beside, file=where, settings=settings, ranks=ranks)
    except KvcalcError as error:
        raise error.at("--weights" if getattr(error, "field", "") in _OF_WEIGHTS else "--engine-set") from None
    show(report, format)
    return _EXIT_CODES[report.outcome]


def _on_gpu(gpu: str | None) -> dict[str, Any]:
    """The setting that names the GPU."""
    if gpu is None:
        return {}

    from kvcalc.hardware import gpu_named

    return {"gpu": asking.located("--gpu", gpu_named, gpu).written}


def _beside(weights: str | None, reserve: str) -> dict[str, Any]:
    """Memory besides the cache, as given by the log."""
    if weights is None:
        return {}

    from kvcalc.io.weights import read_weights
    from kvcalc.units import parse_bytes

    return {
        "weights_bytes": asking.located("--weights", read_weights, weights).bytes,
        "reserve_bytes": asking.located("--reserve", parse_bytes, reserve, "reserve"),
    }


COMMAND = Command(
    help=(
        "Check a prediction against an engine's start-up log, its start-up error, or its running server; if they "
        "differ, find the setting that explains it.\n\nWHAT is a file, - for a pipe, the pasted text, or an address "
        "such as http://127.0.0.1:8000, the only host contacted. An error is answered with ways to fix it, a server "
        "with the capacity it has left. Name the model if the log does not. Exit code 0: the prediction agrees, 1: it "
        "does not, 2: the log is not sufficient to tell, or bad input."
    ),
    epilog="Example: kvcalc explain vllm.log qwen3-14b",
    takes=(
        options.LOG,
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.ASSUME,
        options.MTP,
        options.DRAFT_MODEL,
        options.HUB,
        options.LOGGED_ENGINE,
        options.ENGINE_SET,
        options.TP._replace(help="Tensor-parallel ranks; overrides the log.", default=None),
        options.PP._replace(help="Pipeline stages; overrides the log.", default=None),
        options.GPU,
        options.WEIGHTS._replace(help="Weights of the whole model, to derive vLLM's cache memory."),
        options.RESERVE._replace(help="With --weights: other memory on each GPU."),
        options.FORMAT,
    ),
    run=run,
)
