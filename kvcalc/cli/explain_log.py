"""`kvcalc explain-log`: does the prediction agree with what an engine's start-up log says of its cache?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError, KvcalcError

app = command_app()
_OF_WEIGHTS = ("weights", "gpu")
"""Fields that an error about what --weights leave may name."""
_EXIT_CODES = {"agrees": 0, "differs": 1, "undecided": 2}


@app.command(
    help=(
        "Whether kvcalc predicts the cache that a log reports; if not, which setting would explain it.\n\n"
        "A log does not say which model it served: give --preset or --model. Exit code 0: it does, 1: it does not, "
        "2: the log does not say enough to tell, or bad input."
    ),
    epilog="Example: kvcalc explain-log vllm.log --preset qwen3-14b",
)
def explain_log(
    log: Annotated[Path, typer.Argument(metavar="FILE", help="Start-up log of vLLM, llama.cpp, SGLang, TensorRT-LLM.")],
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    engine: Annotated[
        str | None, typer.Option("--engine", "-e", metavar="NAME", help="Whose log it is, where that is not plain.")
    ] = None,
    engine_set: _options.EngineSet = None,
    tp: Annotated[int | None, typer.Option("--tp", metavar="N", help="Tensor-parallel ranks, over the log's.")] = None,
    pp: Annotated[int | None, typer.Option("--pp", metavar="N", help="Pipeline stages, over the log's.")] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="GPU by its name in gpus.yaml, or its driver's.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="BYTES|PATH", help="Of the whole model, where vLLM's memory follows from it."
        ),
    ] = None,
    reserve: Annotated[
        str, typer.Option("--reserve", metavar="BYTES", help="With --weights: what else lies on each GPU.")
    ] = "0",
    format: _options.Format = "table",
) -> int:
    """Runs `kvcalc explain-log`."""
    check_output_format(format)

    from kvcalc.engines.base import split_version
    from kvcalc.fleet.explain import explain
    from kvcalc.io.engine_logs import read_engine_log

    name, version = split_version(engine or "")
    reading = _options.located("FILE", read_engine_log, log, name or None)
    if preset is None and model is None:
        named = f" ({reading.model})" if reading.model else ""
        raise InvalidValueError(
            f"this log of {reading.engine} does not say what its model is made of{named}",
            where=str(log),
            help=f"name it: --preset {_preset_like(reading.model)}, or --model path/to/config.json",
        )
    served = _options.one_model(preset, model, None, assume, mtp=mtp)
    ranks: dict[str, Any] = {name: number for name, number in (("tp", tp), ("pp", pp)) if number is not None}
    settings = {**_options.settings(reading.engine, engine_set), **_on_gpu(gpu)} | (
        {"version": version} if version else {}
    )
    beside = reading._replace(**_beside(weights, reserve))
    try:
        report = explain(served, beside, file=str(log), settings=settings, ranks=ranks)
    except KvcalcError as error:
        raise error.at("--weights" if getattr(error, "field", "") in _OF_WEIGHTS else "--engine-set") from None
    show(report, format)
    return _EXIT_CODES[report.outcome]


def _on_gpu(gpu: str | None) -> dict[str, Any]:
    """The setting that names the GPU."""
    if gpu is None:
        return {}

    from kvcalc.hardware import gpu_named

    return {"gpu": _options.located("--gpu", gpu_named, gpu).name}


def _beside(weights: str | None, reserve: str) -> dict[str, Any]:
    """What lies beside the cache, as a reading has it."""
    if weights is None:
        return {}

    from kvcalc.io.weights import read_weights
    from kvcalc.units import parse_bytes

    return {
        "weights_bytes": _options.located("--weights", read_weights, weights).bytes,
        "reserve_bytes": _options.located("--reserve", parse_bytes, reserve, "reserve"),
    }


def _preset_like(model: str) -> str:
    """The preset that is called as the last part of a model's path, or any."""
    from kvcalc.io.presets import preset_aliases, preset_names

    name = model.rpartition("/")[2].lower()
    return name if name in {*preset_names(), *preset_aliases()} else "r1"
