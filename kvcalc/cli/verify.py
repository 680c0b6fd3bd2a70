"""`kvcalc verify`: the cache built from torch modules, run, and held against the prediction."""

from pathlib import Path
from typing import Any

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._verifying import NOT_EQUAL, measured, needs, verified
from kvcalc.errors import InvalidValueError, UnknownNameError

app = command_app()


@app.command(
    help="Builds the model's attention in torch, runs it, and compares what its cache took: exit 1 where it differs.",
    epilog="Example: kvcalc verify --preset r1 --tokens 100000 --device meta",
)
def verify(
    tokens: _options.Tokens,
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    batch: _options.Batch = "1",
    dtype: _options.DtypeName = "bf16",
    attention: _options.Attention = None,
    method: _options.Method = None,
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    tp: _options.TensorParallel = 1,
    pp: _options.PipelineParallel = 1,
    dp: _options.DataParallel = 1,
    device: str = typer.Option("", "--device", metavar="NAME", help="cpu, cuda, or meta: shapes of any size."),
    layers: int | None = typer.Option(None, "--layers", metavar="N", help="Only the first N layers of the model."),
    steps: int = typer.Option(2, "--decode-steps", metavar="N", help="Tokens that come one by one."),
    attended: int | None = typer.Option(None, "--attended-tokens", metavar="N", help="Longest prompt to attend; 256."),
    encoder: int | None = typer.Option(None, "--encoder-tokens", metavar="N", help="What cross-attention looks at."),
    against: str = typer.Option("", "--against", metavar="NAME", help="Another's classes: transformers."),
    format: _options.Format = "table",
) -> int:
    """Runs `kvcalc verify`."""
    check_output_format(format)
    counts = _options.token_counts(tokens)
    if len(counts) > 1:
        raise InvalidValueError("--tokens: verify takes one token count", help="run it once for each")
    question = _options.question(batch, dtype, "ideal", None)
    asked: dict[str, Any] = {
        "tokens": counts[0],
        "sequences": question["sequences"],
        "kv_dtype": question["kv_dtype"].name,
        "decode_steps": steps,
        "encoder_tokens": encoder,
    }
    if against:
        ours = {
            "--preset": preset,
            "--attention": attention,
            "--method": method,
            "--assume": assume,
            "--mtp": mtp,
            "--layers": layers,
        }
        shares = {"--tp": tp > 1, "--pp": pp > 1, "--dp": dp > 1, "--attended-tokens": attended}
        _check_against(against, model, ours | shares)
        needs("torch", "psutil", "transformers")
        work = "kvcalc.verify.against_transformers:against_transformers"
        result: Any = measured(work, Path(str(model)), device=device or "cpu", **asked)
    else:
        chosen = _options.one_model(preset, model, attention, assume, mtp=mtp, methods=method)
        asked |= {"attended_tokens": attended, "layers": layers, "device": device or None}
        result = verified(chosen, _options.parallel(tp, pp, dp), **asked)
    show(result, format)
    return 0 if result.equal else NOT_EQUAL


def _check_against(against: str, model: str | None, ours: dict[str, Any]) -> None:
    """Raises KvcalcError where --against is not transformers, or an option is for kvcalc's own modules."""
    if against != "transformers":
        raise UnknownNameError.among("library to verify against", against, ["transformers"]).at("--against")
    given = [option for option, value in ours.items() if value]
    if given or model is None:
        raise InvalidValueError(
            f"{given[0]} is for kvcalc's own modules" if given else "the library's class is built from a config.json",
            where="--against transformers",
            help="name the model by its config: --model path/to/config.json",
        )
