"""`kvcalc fit`: what GPUs hold of a model's cache beside its weights."""

from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel

TOO_LARGE = 1

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel

app = command_app()


@app.command(
    help=(
        "Contexts, users and GPUs that fit beside the weights, and what binds. Exit code 1: what is asked does not fit."
    ),
    epilog="Example: kvcalc fit --preset r1 --engine vllm --gpu h200 --gpus 8 --tp 8 --weights 671GB --tokens 128K",
)
def fit(
    gpu: Annotated[str, typer.Option("--gpu", metavar="NAME", help="GPU by its name in gpus.yaml, or its driver's.")],
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="BYTES|PATH",
            help="Of the whole model: 671GB, 625GiB, or safetensors (index, files, folder) or GGUF to read it from; "
            "else as its authors published them, where the preset knows.",
        ),
    ] = None,
    reserve: Annotated[
        str, typer.Option("--reserve", metavar="BYTES", help="On each GPU for activations, graphs and the rest.")
    ] = "0",
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="GPUs in all: tp x pp x dp.")] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", "-t", metavar="N", help="Context of each user: how many users fit?")
    ] = None,
    batch: Annotated[str, typer.Option("--batch", "-b", metavar="N", help="Users: which context fits?")] = "1",
    dtype: _options.DtypeName = "bf16",
    attention: _options.Attention = None,
    method: _options.Method = None,
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    engine: _options.EngineName = "ideal",
    engine_set: _options.EngineSet = None,
    utilization: Annotated[
        str | None,
        typer.Option("--utilization", metavar="SHARE", help="Share of the GPU's memory in use; default: the engine's."),
    ] = None,
    tp: _options.TensorParallel = 1,
    pp: _options.PipelineParallel = 1,
    dp: _options.DataParallel = 1,
    dcp: _options.ContextParallel = 1,
    format: _options.Format = "table",
) -> None:
    """Runs `kvcalc fit`."""
    check_output_format(format)
    asked = _options.fit_question(batch, dtype, engine, engine_set, gpu, utilization)
    if tokens is not None:
        (asked["tokens"],) = _one(tokens)
    layout = _options.located("--tp, --pp, --dp, --dcp", _layout, gpus, tp, pp, dp, dcp)
    from kvcalc.fleet.weights import weights_of
    from kvcalc.io.weights import read_weights
    from kvcalc.units import parse_bytes

    reserve_bytes = _options.located("--reserve", parse_bytes, reserve, "reserve")
    given = None if weights is None else _options.located("--weights", read_weights, weights)
    chosen = _options.one_model(preset, model, attention, assume, mtp=mtp, methods=method)
    whole = _options.located("--weights", weights_of, chosen, given)

    from kvcalc.fleet.fit import fit_gpus

    report = fit_gpus(chosen, weights_bytes=whole, reserve_bytes=reserve_bytes, parallel=layout, **asked)
    show(report, format)
    raise typer.Exit(TOO_LARGE if report.fits is False else 0)


def _one(tokens: str) -> list[int]:
    counts = _options.token_counts([tokens])
    if len(counts) != 1:
        raise InvalidValueError("one context is asked about at a time", where="--tokens", help="give one number")
    return counts


def _layout(gpus: int | None, tp: int, pp: int, dp: int, dcp: int) -> "Parallel":
    """The ranks, as many as there are GPUs."""
    from kvcalc.fleet.fit import layout_of
    from kvcalc.parallel import Parallel

    return layout_of(gpus, Parallel(tp, pp, dp, dcp))
