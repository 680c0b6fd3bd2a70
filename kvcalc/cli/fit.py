"""`kvcalc fit`: what GPUs hold of a model's cache beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel

TOO_LARGE = 1


def run(
    *,
    gpu: str | None,
    memory: str | None,
    named: str | None,
    preset: str | None,
    model: str | None,
    weights: str | None,
    reserve: str,
    gpus: int | None,
    tokens: str | None,
    batch: str,
    dtype: str,
    attention: str | None,
    method: Sequence[str],
    assume: str | None,
    mtp: bool,
    hub: bool,
    engine: str,
    engine_set: Sequence[str],
    utilization: str | None,
    tp: int,
    pp: int,
    dp: int,
    dcp: int,
    format: str,
) -> int:
    """Runs `kvcalc fit`."""
    check_output_format(format)
    from fractions import Fraction

    from kvcalc.fleet.memory import share_of

    card = asking.device(gpu, memory)
    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    terms = asking.terms_on(card.written, share, batch, dtype, engine, engine_set)
    asked = None if tokens is None else _one(tokens)
    layout = asking.located("--tp, --pp, --dp, --dcp", _layout, gpus, tp, pp, dp, dcp)
    from kvcalc.fleet.weights import weights_of
    from kvcalc.io.weights import read_weights
    from kvcalc.units import parse_bytes

    reserve_bytes = asking.located("--reserve", parse_bytes, reserve, "reserve")
    given = None if weights is None else asking.located("--weights", read_weights, weights)
    chosen = asking.one_model(named, preset, model, attention, assume, mtp=mtp, hub=hub, methods=method)
    whole = asking.located("--weights", weights_of, chosen, given)

    from kvcalc.fleet.fit import fitted
    from kvcalc.fleet.on_gpus import OnGpus

    question = terms.of(chosen, asked or 1, layout)
    report = fitted(OnGpus(question, card, whole, reserve_bytes, share or Fraction(1)), layout, asked)
    show(report, format)
    return TOO_LARGE if report.fits is False else 0


def _one(tokens: str) -> int:
    first, *others = asking.token_counts([tokens])
    if others:
        raise InvalidValueError("one context is asked about at a time", where="--tokens", help="give one number")
    return first


def _layout(gpus: int | None, tp: int, pp: int, dp: int, dcp: int) -> Parallel:
    """The ranks, as many as there are GPUs."""
    from kvcalc.fleet.fit import layout_of
    from kvcalc.parallel import Parallel

    return layout_of(gpus, Parallel(tp, pp, dp, dcp))


COMMAND = Command(
    help=(
        "Contexts, users and GPUs that fit beside the weights, and what binds. Exit code 1: what is asked does not fit."
    ),
    epilog="Example: kvcalc fit --preset r1 --engine vllm --gpu h200 --gpus 8 --tp 8 --weights 671GB --tokens 128K",
    takes=(
        options.GPU,
        options.MEMORY,
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.WEIGHTS,
        options.RESERVE,
        options.GPUS,
        options.TOKENS._replace(help="Context of each user: how many users fit?", kind=options.TEXT),
        options.BATCH._replace(help="Users: which context fits?"),
        options.DTYPE,
        options.ATTENTION,
        options.METHOD,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.ENGINE,
        options.ENGINE_SET,
        options.UTILIZATION,
        options.TP,
        options.PP,
        options.DP,
        options.DCP,
        options.FORMAT,
    ),
    run=run,
)
