"""`kvcalc verify`: the cache built from torch modules, run, and held against the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError, KvcalcError

if TYPE_CHECKING:
    from kvcalc.model import Model
    from kvcalc.report.verification import Verification

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
    mtp: _options.Mtp = False,
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
        tokens=counts[0],
        sequences=question["sequences"],
        kv_dtype=question["kv_dtype"],
        device=device or None,
        decode_steps=steps,
        attended_tokens=attended,
        encoder_tokens=encoder or None,
        layers=layers or None,
    )
    show(result, format)
    return 0 if result.equal else NOT_EQUAL


def verified(model: Model, **question: Any) -> Verification:
    """The model's cache, measured in a fresh process, with a progress bar on a terminal."""
    from kvcalc.formats._progress import progress_bar
    from kvcalc.verify.child import in_child

    needs("torch", "psutil")
    with progress_bar("filling caches, layer by layer") as progress:
        result: Verification = in_child(
            "kvcalc.verify.measure:verify", model, progress=progress, fresh_process=True, **question
        )
    return result


def needs(*libraries: str) -> None:
    """Raises KvcalcError with the command that installs the first library that is not there."""
    from importlib.util import find_spec

    for library in libraries:
        try:
            there = find_spec(library) is not None
        except ValueError:  # a module without a spec, or None in its place
            there = False
        if not there:
            raise KvcalcError(f"verify needs {library}, which is not installed: pip install 'kvcalc[verify]'", help="")
