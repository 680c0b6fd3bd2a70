"""`kvcalc verify`: the cache built from torch modules, run, and held against the prediction."""

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._verifying import NOT_EQUAL, verified
from kvcalc.errors import InvalidValueError

app = command_app()


@app.command(epilog="Example: kvcalc verify --preset r1 --tokens 100000 --device meta")
def verify(
    tokens: _options.Tokens,
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    batch: _options.Batch = "1",
    dtype: _options.DtypeName = "bf16",
    attention: _options.Attention = None,
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    tp: _options.TensorParallel = 1,
    pp: _options.PipelineParallel = 1,
    dp: _options.DataParallel = 1,
    device: str = typer.Option("", "--device", metavar="NAME", help="cpu, cuda, or meta: shapes of any size."),
    layers: int = typer.Option(0, "--layers", metavar="N", help="Only the first N layers of the model."),
    steps: int = typer.Option(2, "--decode-steps", metavar="N", help="Tokens that come one by one."),
    attended: int = typer.Option(256, "--attended-tokens", metavar="N", help="Longest prompt that attends too."),
    encoder: int = typer.Option(0, "--encoder-tokens", metavar="N", help="What cross-attention looks at."),
    format: _options.Format = "table",
) -> int:
    """Builds the model's attention in torch, runs it, and compares what its cache took: exit 1 where it differs."""
    check_output_format(format)
    counts = _options.token_counts(tokens)
    if len(counts) > 1:
        raise InvalidValueError("--tokens: verify takes one token count", help="run it once for each")
    question = _options.question(batch, dtype, "ideal", None)
    chosen = _options.one_model(preset, model, attention, assume, mtp=mtp)
    result = verified(
        chosen,
        _options.parallel(tp, pp, dp),
        tokens=counts[0],
        sequences=question["sequences"],
        kv_dtype=question["kv_dtype"].name,
        device=device or None,
        decode_steps=steps,
        attended_tokens=attended,
        encoder_tokens=encoder or None,
        layers=layers or None,
    )
    show(result, format)
    return 0 if result.equal else NOT_EQUAL
