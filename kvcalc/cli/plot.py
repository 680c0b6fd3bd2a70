"""`kvcalc plot`: bytes, or users that fit, as curves over the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, format_of, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.fleet.weights import Weights
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.io.asked import Terms
    from kvcalc.model import Model


def run(
    *,
    models: Sequence[str],
    tokens: Sequence[str],
    preset: str | None,
    model: str | None,
    methods: str | None,
    assume: str | None,
    mtp: bool,
    hub: bool,
    batch: str,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    gpu: str | None,
    memory: str | None,
    max_users: bool,
    weights: str | None,
    weights_dtype: str | None,
    reserve: str | None,
    utilization: str | None,
    tp: int,
    pp: int,
    dp: int,
    dcp: int,
    ep: int,
    linear: bool,
    out: str | None,
    format: str | None,
) -> int:
    """Runs `kvcalc plot`."""
    chosen_format = format_of(format, out, "chart")
    check_output_format(chosen_format, charts=True, to_file=out is not None)
    between = asking.token_counts(tokens)
    cards = _cards(gpu, memory, users=max_users)
    given = {
        "--weights": weights,
        "--weights-dtype": weights_dtype,
        "--reserve": reserve,
        "--utilization": utilization,
        "--tp, --pp, --dp, --dcp, --ep": asking.parallel(tp, pp, dp, dcp, ep),
    }
    _check_used(given, users=max_users)

    from kvcalc.io.plots import Names, Room, Wanted, curves_of, of_all

    names = Names("--tokens", "--methods", "--engine-set")
    share, reserve_bytes = _shares(utilization, reserve)

    def terms(card: Gpu | None, each: str, name: str) -> Terms:
        if card is None:
            return asking.terms(batch, each, name, engine_set)
        return asking.terms_on(card.written, share, batch, each, name, engine_set)

    def weighed(model: Model) -> Weights:
        return asking.weights(model, weights, weights_dtype)

    on_cards = cards if max_users else ()
    asked = of_all(engine.split(","), dtype.split(","), on_cards, terms, engine_set, names)

    from kvcalc.methods import specs_in

    specs = specs_in(methods) if methods else ()
    loaded = asking.all_models(models, preset, model, assume, mtp=mtp, hub=hub)
    layout = asking.parallel(tp, pp, dp, dcp, ep)
    room = Room(weighed, reserve_bytes, share, layout) if max_users else None
    wanted = Wanted(loaded, asked, specs, between, linear, cards, room)
    show(curves_of(wanted, names), chosen_format, out)
    return 0


def _check_used(given: Mapping[str, object], *, users: bool) -> None:
    """Raises InvalidValueError for an option about GPUs that bytes do not depend on."""
    for option, value in given.items():
        if value is not None and not users:
            raise InvalidValueError("the bytes of a cache do not depend on it", where=option, help="add --max-users")


def _shares(utilization: str | None, reserve: str | None) -> tuple[Fraction | None, int | None]:
    """The share of a GPU's memory that is used, and what is reserved of it."""
    from kvcalc.fleet.memory import share_of
    from kvcalc.units import parse_bytes

    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    return share, None if reserve is None else asking.located("--reserve", parse_bytes, reserve, "reserve")


def _cards(gpu: str | None, memory: str | None, *, users: bool) -> Sequence[Gpu]:
    """Devices of --gpu and --memory; none if bytes are plotted and neither is given."""
    if not (gpu or memory or users):
        return ()
    return [asking.device(name, memory) for name in (gpu.split(",") if gpu else [None])]


COMMAND = Command(
    help=(
        "Curves over the context: bytes of models, engines, versions, formats and methods, or users that fit.\n\n"
        "Draws a chart in the terminal, or with --out a file: .svg, .png, .tex, .csv, .json. Other charts: --format "
        "chart or svg of size, compare and fit."
    ),
    epilog=(
        "Examples: kvcalc plot r1 llama3-70b gpt-oss-120b --tokens 128K, "
        "kvcalc plot r1 --max-users --gpu h200 --tp 8 -o users.svg"
    ),
    takes=(
        options.MODELS,
        options.TOKENS._replace(
            help="Last token count (128K), or first and last (1K,128K); default: the model's context."
        ),
        options.PRESET,
        options.MODEL,
        options.METHODS,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.BATCH,
        options.DTYPE._replace(help=f"{options.DTYPE.help} Several: bf16,fp8."),
        options.ENGINE._replace(help=f"{options.ENGINE.help} Several: ideal,vllm@0.25.1,vllm."),
        options.ENGINE_SET,
        options.GPU._replace(
            help=f"{options.GPU.help} Several: h100,h200. Without --max-users, draws its memory as a line."
        ),
        options.MEMORY,
        options.MAX_USERS,
        options.WEIGHTS,
        options.WEIGHTS_DTYPE,
        options.ESTIMATED_RESERVE,
        options.UTILIZATION,
        options.TP,
        options.PP,
        options.DP,
        options.DCP,
        options.EP,
        options.LINEAR,
        options.OUT,
        options.FORMAT_OF_CHARTS._replace(default=None),
    ),
    run=run,
)
