"""`kvcalc verify`: the cache built from torch modules, run, and compared with the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._verifying import NOT_EQUAL, measured, needs, verified
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError, UnknownNameError


def run(
    *,
    tokens: Sequence[str],
    named: str | None,
    preset: str | None,
    model: str | None,
    batch: str,
    dtype: str,
    attention: str | None,
    method: Sequence[str],
    assume: str | None,
    mtp: bool,
    hub: bool,
    tp: int,
    pp: int,
    dp: int,
    device: str | None,
    layers: int | None,
    decode_steps: int,
    attended_tokens: int | None,
    encoder_tokens: int | None,
    timeout: int | None,
    against: str | None,
    format: str,
) -> int:
    """Runs `kvcalc verify`."""
    check_output_format(format)
    counts = asking.token_counts(tokens)
    if len(counts) > 1:
        raise InvalidValueError("--tokens: verify needs a single token count", help="run it once per token count")
    terms = asking.terms(batch, dtype, "ideal", None)
    asked: dict[str, Any] = {
        "tokens": counts[0],
        "sequences": terms.sequences,
        "kv_dtype": terms.kv_dtype.name,
        "decode_steps": decode_steps,
        "encoder_tokens": encoder_tokens,
    }
    if against:
        ours = {
            "--preset": preset,
            "--attention": attention,
            "--method": method,
            "--assume": assume,
            "--mtp": mtp,
            "--hub": hub,
            "--layers": layers,
            "--timeout": timeout,
        }
        shares = {"--tp": tp > 1, "--pp": pp > 1, "--dp": dp > 1, "--attended-tokens": attended_tokens}
        _check_against(against, model, ours | shares)
        needs("torch", "psutil", "transformers")
        work = "kvcalc.verify.against_transformers:against_transformers"
        result: Any = measured(work, Path(str(model)), device=device or "cpu", **asked)
    else:
        chosen = asking.one_model(named, preset, model, attention, assume, mtp=mtp, hub=hub, methods=method)
        asked |= {"attended_tokens": attended_tokens, "layers": layers, "device": device or None}
        result = verified(chosen, asking.parallel(tp, pp, dp), timeout_seconds=timeout, **asked).of_model(chosen.notes)
    show(result, format)
    return 0 if result.equal else NOT_EQUAL


def _check_against(against: str, model: str | None, ours: dict[str, Any]) -> None:
    """Raises KvcalcError if --against is not transformers, or an option applies to kvcalc's own modules only."""
    if against != "transformers":
        raise UnknownNameError.among("library to verify against", against, ["transformers"]).at("--against")
    given = [option for option, value in ours.items() if value]
    if given or model is None:
        raise InvalidValueError(
            f"{given[0]} applies to kvcalc's own modules only"
            if given
            else "the library's class is built from a config.json",
            where="--against transformers",
            help="name the model by its config: --model path/to/config.json",
        )


COMMAND = Command(
    help="Build the model's attention in torch, run it and compare its cache with the prediction. Exit code 1: they "
    "differ.",
    epilog="Example: kvcalc verify --preset r1 --tokens 100000 --device meta",
    takes=(
        options.TOKENS._replace(required=True),
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.BATCH,
        options.DTYPE,
        options.ATTENTION,
        options.METHOD,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.TP,
        options.PP,
        options.DP,
        options.DEVICE,
        options.LAYERS,
        options.DECODE_STEPS,
        options.ATTENDED_TOKENS,
        options.ENCODER_TOKENS,
        options.TIMEOUT,
        options.AGAINST,
        options.FORMAT,
    ),
    run=run,
)
