"""`kvcalc size`: the bytes of one model's cache."""

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError

app = command_app()


@app.command(epilog="Example: kvcalc size --preset r1 --tokens 100000 --batch 8 --explain")
def size(
    tokens: _options.Tokens,
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    batch: _options.Batch = "1",
    dtype: _options.DtypeName = "bf16",
    attention: _options.Attention = None,
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    engine: _options.EngineName = "ideal",
    engine_set: _options.EngineSet = None,
    tp: _options.TensorParallel = 1,
    pp: _options.PipelineParallel = 1,
    dp: _options.DataParallel = 1,
    by_layer: bool = typer.Option(False, "--by-layer", help="A row for each layer."),
    explain: bool = typer.Option(False, "--explain", help="The formula with its numbers, and where each came from."),
    format: _options.Format = "table",
) -> None:
    """Bytes of a model's KV cache: total, per sequence, per token, by layer group and tensor."""
    check_output_format(format)
    if by_layer and explain:
        raise InvalidValueError("--by-layer and --explain are two views", help="ask for one of them")
    counts = _options.token_counts(tokens)
    question = _options.question(batch, dtype, engine, engine_set)
    parallel = _options.parallel(tp, pp, dp)
    chosen = _options.one_model(preset, model, attention, assume, mtp=mtp)

    from kvcalc.sizing import size as size_of

    reports = tuple(size_of(chosen, tokens=count, parallel=parallel, **question) for count in counts)
    if len(reports) == 1 and not (by_layer or explain):
        show(reports[0], format)
        return

    from kvcalc.report.sheet import Stack
    from kvcalc.report.views import Explanation, Layers, Lengths

    if not (by_layer or explain):
        show(Lengths(reports), format)
        return
    views = tuple(Layers(report) if by_layer else Explanation(report) for report in reports)
    show(views[0] if len(views) == 1 else Stack(views), format)
