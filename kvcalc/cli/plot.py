"""`kvcalc plot`: bytes, or users that fit, as curves over the context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, format_of, show
from kvcalc.cli.commands import Command
from kvcalc.cli.compare import models_of
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.fleet.curves import LineOnGpus
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.io.asked import Terms
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel

_USUAL_LAST = 131_072
_BELOW = 4096
"""The last length divided by the default first length."""


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
    room = _room(weights, weights_dtype, reserve, utilization, asking.parallel(tp, pp, dp, dcp, ep), users=max_users)
    asked = _asked(cards if max_users else (), room.share, batch, dtype, engine, engine_set)

    from kvcalc.methods import specs_in

    specs = specs_in(methods) if methods else ()
    loaded = models_of(models, preset, model, assume, mtp=mtp, hub=hub)
    first, last = _range(between, loaded, linear=linear)
    if max_users:
        from kvcalc.fleet.curves import fitting

        lines = [line for each in loaded for line in _lines(each, asked, specs, room)]
        report = fitting(lines, first, last, linear=linear)
    else:
        from kvcalc.answers.curves import growing, lines_of
        from kvcalc.report.chart import Level

        levels = [Level(f"memory of {card.name}", card.memory_bytes) for card in cards]
        questions = [each.of(one, 1) for one in loaded for _, each in asked]
        curves, left_out = asking.located("--methods", lines_of, questions, specs)
        report = growing(curves, first, last, linear=linear, levels=levels)
        report = report._replace(notes=(*report.notes, *left_out))
    show(report, chosen_format, out)
    return 0


class _Room(NamedTuple):
    """Options that decide the room for users on a GPU. share: of its memory; layout: of the ranks."""

    weights: str | None
    weights_dtype: str | None
    reserve_bytes: int | None
    share: Fraction | None
    layout: Parallel | None


def _room(
    weights: str | None,
    weights_dtype: str | None,
    reserve: str | None,
    utilization: str | None,
    layout: Parallel | None,
    *,
    users: bool,
) -> _Room:
    """The options about GPUs, parsed. Raises InvalidValueError for one that bytes do not depend on."""
    from kvcalc.fleet.memory import share_of
    from kvcalc.units import parse_bytes

    options_given = (
        ("--weights", weights),
        ("--weights-dtype", weights_dtype),
        ("--reserve", reserve),
        ("--utilization", utilization),
        ("--tp, --pp, --dp, --dcp, --ep", layout),
    )
    for option, value in options_given:
        if value is not None and not users:
            raise InvalidValueError("the bytes of a cache do not depend on it", where=option, help="add --max-users")
    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    reserve_bytes = None if reserve is None else asking.located("--reserve", parse_bytes, reserve, "reserve")
    return _Room(weights, weights_dtype, reserve_bytes, share, layout)


def _asked(
    cards: Sequence[Gpu], share: Fraction | None, batch: str, dtype: str, engine: str, engine_set: Sequence[str]
) -> list[tuple[Gpu | None, Terms]]:
    """Questions for each model: every engine and format, on every device if any."""
    engines, dtypes = engine.split(","), dtype.split(",")
    if len(engines) > 1 and engine_set:
        raise InvalidValueError(
            "--engine-set applies to one engine, and several are named", where="--engine-set", help="name one --engine"
        )
    named = [(name, each) for name in engines for each in dtypes]
    if not cards:
        return [(None, asking.terms(batch, each, name, engine_set)) for name, each in named]
    return [
        (card, asking.terms_on(card.written, share, batch, each, name, engine_set))
        for card in cards
        for name, each in named
    ]


def _cards(gpu: str | None, memory: str | None, *, users: bool) -> Sequence[Gpu]:
    """Devices of --gpu and --memory; none if bytes are plotted and neither is given."""
    if not (gpu or memory or users):
        return ()
    return [asking.device(name, memory) for name in (gpu.split(",") if gpu else [None])]


def _range(between: Sequence[int], loaded: Sequence[Model], *, linear: bool) -> tuple[int, int]:
    """First and last length. Raises InvalidValueError if they are not a range."""
    if len(between) > 2:  # noqa: PLR2004  # from and to
        raise InvalidValueError(
            f"a range has 2 token counts, and {len(between)} are given",
            where="--tokens",
            help="pass the last (128K) or both (1K,128K)",
        )
    own = max((each.max_model_len or 0 for each in loaded), default=0)
    last = between[-1] if between else own or _USUAL_LAST
    first = between[0] if len(between) > 1 else 1 if linear else max(1, last // _BELOW)
    if first >= last:
        raise InvalidValueError(
            f"the range starts at {first:,} tokens and ends at {last:,}",
            where="--tokens",
            help="put the smaller one first: 1K,128K",
        )
    return first, last


def _lines(
    model: Model, asked: Sequence[tuple[Gpu | None, Terms]], specs: Sequence[str], room: _Room
) -> Iterator[LineOnGpus]:
    """Questions for one model on GPUs: a curve for each device, engine, format and method."""
    from fractions import Fraction

    from kvcalc.answers.curves import lines_of
    from kvcalc.fleet.curves import LineOnGpus
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.weights import loaded
    from kvcalc.parallel import Parallel

    weighed = asking.weights(model, room.weights, room.weights_dtype)
    ranks = room.layout or Parallel()
    for card, terms in asked:
        if card is None:
            continue
        whole = loaded(weighed, terms.engine.served(model))
        lines, _ = asking.located("--methods", lines_of, [terms.of(model, 1, room.layout)], specs)
        for line in lines:
            on = OnGpus(line.question, card, whole, room.reserve_bytes, room.share or Fraction(1))
            yield LineOnGpus(on, ranks, line.method, line.model)


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
