"""`kvcalc explain-log`: does the prediction agree with what an engine's start-up log says of its cache?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError, KvcalcError

_OF_WEIGHTS = ("weights", "gpu")
"""Fields that an error about what --weights leave may name."""
_EXIT_CODES = {"agrees": 0, "differs": 1, "undecided": 2}


def run(
    *,
    log: str,
    named: str | None,
    preset: str | None,
    model: str | None,
    assume: str | None,
    mtp: bool,
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
    """Runs `kvcalc explain-log`."""
    check_output_format(format)

    from kvcalc.engines.base import split_version
    from kvcalc.fleet.explain import explain
    from kvcalc.io.engine_logs import read_engine_log

    name, version = split_version(engine or "")
    reading = asking.located("FILE", read_engine_log, Path(log), name or None)
    if preset is None and model is None:
        named = f" ({reading.model})" if reading.model else ""
        raise InvalidValueError(
            f"this log of {reading.engine} does not say what its model is made of{named}",
            where=log,
            help=f"name it: --preset {_preset_like(reading.model)}, or --model path/to/config.json",
        )
    served = asking.one_model(named, preset, model, None, assume, mtp=mtp, hub=hub)
    ranks: dict[str, Any] = {name: number for name, number in (("tp", tp), ("pp", pp)) if number is not None}
    settings = {**asking.settings(reading.engine, engine_set), **_on_gpu(gpu)} | (
        {"version": version} if version else {}
    )
    beside = reading._replace(**_beside(weights, reserve))
    try:
        report = explain(served, beside, file=log, settings=settings, ranks=ranks)
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
    """What lies beside the cache, as a reading has it."""
    if weights is None:
        return {}

    from kvcalc.io.weights import read_weights
    from kvcalc.units import parse_bytes

    return {
        "weights_bytes": asking.located("--weights", read_weights, weights).bytes,
        "reserve_bytes": asking.located("--reserve", parse_bytes, reserve, "reserve"),
    }


def _preset_like(model: str) -> str:
    """The preset that is called as the last part of a model's path, or any."""
    from kvcalc.io.presets import preset_aliases, preset_names

    name = model.rpartition("/")[2].lower()
    return name if name in {*preset_names(), *preset_aliases()} else "r1"


COMMAND = Command(
    help=(
        "Whether kvcalc predicts the cache that a log reports; if not, which setting would explain it.\n\n"
        "A log does not say which model it served: give --preset or --model. Exit code 0: it does, 1: it does not, "
        "2: the log does not say enough to tell, or bad input."
    ),
    epilog="Example: kvcalc explain-log vllm.log --preset qwen3-14b",
    takes=(
        options.LOG,
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.LOGGED_ENGINE,
        options.ENGINE_SET,
        options.TP._replace(help="Tensor-parallel ranks, over the log's.", default=None),
        options.PP._replace(help="Pipeline stages, over the log's.", default=None),
        options.GPU,
        options.WEIGHTS._replace(help="Of the whole model, where vLLM's memory follows from it."),
        options.RESERVE._replace(help="With --weights: what else lies on each GPU."),
        options.FORMAT,
    ),
    run=run,
)
