"""`kvcalc verify`: the cache built from torch modules, run, and held against the prediction."""

import sys

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError, KvcalcError

NOT_EQUAL = 1
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
    device: str = typer.Option("", "--device", metavar="NAME", help="cpu, cuda, or meta: shapes of any size."),
    layers: int = typer.Option(0, "--layers", metavar="N", help="Only the first N layers of the model."),
    steps: int = typer.Option(2, "--decode-steps", metavar="N", help="Tokens that come one by one."),
    format: _options.Format = "table",
) -> int:
    """Builds the model's attention in torch, runs it, and compares what its cache took: exit 1 where it differs."""
    check_output_format(format)
    counts = _options.token_counts(tokens)
    if len(counts) > 1:
        raise InvalidValueError("--tokens: verify takes one token count", help="run it once for each")
    question = _options.question(batch, dtype, "ideal", None)
    chosen = _options.one_model(preset, model, attention, assume)
    try:
        from kvcalc.verify.measure import verify as run
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise KvcalcError("verify needs torch, which is not installed", help="pip install 'kvcalc[verify]'") from None

    result = run(
        chosen,
        tokens=counts[0],
        sequences=question["sequences"],
        kv_dtype=question["kv_dtype"],
        device=device or None,
        decode_steps=steps,
        layers=layers or None,
        progress=_progress if sys.stderr.isatty() else lambda _done, _all: None,
    )
    show(result, format)
    return 0 if result.equal else NOT_EQUAL


def _progress(done: int, all_layers: int) -> None:
    """One line on the terminal that tells how far it is, and goes when it is done."""
    end = "\r" if done < all_layers else "\r" + " " * len(f"layer {done:,} of {all_layers:,}") + "\r"
    typer.echo(f"\rlayer {done:,} of {all_layers:,}{end}", err=True, nl=False)
