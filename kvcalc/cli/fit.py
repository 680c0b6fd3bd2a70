"""`kvcalc fit`: how much of a model's cache fits on GPUs next to its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._launching import engine_of, show_best, show_one
from kvcalc.cli._others import others_on
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.cli._fits import Asked
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.traffic.mix import Mix
    from kvcalc.fleet.weights import Weights
    from kvcalc.parallel import Parallel
    from kvcalc.report.choices import ChoicesReport

TOO_LARGE = 1
_MOST_NUMBERS = 64


def run(
    *,
    gpu: str | None,
    memory: str | None,
    named: str | None,
    preset: str | None,
    model: str | None,
    weights: str | None,
    weights_dtype: str | None,
    reserve: str | None,
    gpus: str | None,
    tokens: str | None,
    batch: str,
    workload: str | None,
    output: str | None,
    quantile: str,
    shared_prefix: str | None,
    prefixes: int,
    active: str,
    on: str | None,
    dtype: str | None,
    attention: str | None,
    method: Sequence[str],
    assume: str | None,
    mtp: bool,
    draft_model: str | None,
    hub: bool,
    engine: str,
    engine_set: Sequence[str],
    utilization: str | None,
    tp: int | None,
    pp: int | None,
    dp: int | None,
    dcp: int | None,
    ep: int | None,
    others: Sequence[str],
    launch: str | None,
    format: str,
) -> int:
    """Runs `kvcalc fit`."""
    check_output_format(format, charts=True)
    if launch is not None:
        engine, engine_set = engine_of(launch, engine, engine_set)
    from kvcalc.cli._fits import alone, fits, gpu_terms

    given = gpu_terms(gpu, memory, weights, weights_dtype, reserve, utilization, dtype, batch, engine, engine_set)
    asked = None if tokens is None else _one(tokens)
    numbers = None if gpus is None else asking.located("--gpus", _numbers, gpus)
    degrees = (tp, pp, dp, dcp, ep)
    free = all(degree is None for degree in degrees)
    mixes = _mixes(workload, asked, output, quantile, shared_prefix, prefixes, active)
    mix = mixes[0].mix if mixes else None
    several = given.are_several or (free and numbers not in (None, [1]))
    layout = None if (several or mix) and free else _layout(None if mix else numbers, *degrees)
    models = asking.several_models(
        named,
        preset,
        model,
        attention,
        assume,
        mtp=mtp,
        hub=hub,
        methods=method,
        engine=given.terms[0].engine,
        draft=draft_model,
    )
    if len(models) > 1 or len(mixes) > 1:
        alone({"--as": launch, "--with": others, "--weights": weights if len(models) > 1 else None})
        return fits(models, mixes, given, asked, numbers, None if free else layout, on, format)
    (chosen,) = models
    questions, (whole, *more) = given.asked_of(chosen, asked, layout)
    terms = given.terms
    if others and (several or mix is not None or launch is not None):
        raise InvalidValueError(
            "--with needs one GPU and one layout",
            where="--with",
            help="remove --gpus, --workload and --as, and name one --gpu",
        )
    if mix is not None:
        if launch is not None:
            raise InvalidValueError(
                "a workload does not give the longest request that --as needs",
                where="--as",
                help="pass --tokens instead of --workload",
            )
        return _replicas(questions, mix, layout, numbers, on, format)
    formats = [whole, *more] if weights or weights_dtype else None
    length = asked or chosen.max_model_len
    if several and length is None:
        raise InvalidValueError("no context given", where="--tokens", help="pass the tokens of each user: --tokens 32K")
    if several and length is not None:
        return _show_table(*_table(questions, length, dtype, formats, numbers, layout, on), launch, format)

    from kvcalc.fleet.fit import fitted

    if others:
        questions = [replace(questions[0], others=others_on(others, questions[0], terms[0], asked))]
    ranks = layout or _layout(None)
    one = fitted(questions[0], ranks, asked)
    if free and numbers is None and not others and length is not None:
        report, offers = _table(questions, length, dtype, formats, None, None, on)
        if report.fits and not one.holds:
            return _show_table(report, offers, launch, format)
        one = one._replace(layouts=report.best() if report.choices else None)
    if launch is not None and one.holds:
        show_one(one, questions[0], ranks, launch)
    else:
        show(one, format)
    return 0 if one.holds else TOO_LARGE


def _table(
    on: Sequence[OnGpus],
    tokens: int,
    dtype: str | None,
    weights: Sequence[Weights] | None,
    numbers: Sequence[int] | None,
    layout: Parallel | None,
    address: str | None,
) -> tuple[ChoicesReport, list[OnGpus]]:
    """Layouts, best first, and the questions they answer.

    Each device, with the requested weights or all that are published; the cache has the requested format, by default
    bf16 and 8 bits.
    """
    from kvcalc.cli._mix import workers
    from kvcalc.fleet.choose import USUAL_NUMBERS, choose, choose_usual
    from kvcalc.io.offers import all_offers

    offers = all_offers(on, tokens, weights, usual=dtype is None)
    with workers(address) as executor:
        if numbers is None and layout is None:
            return choose_usual(offers, tokens, executor), offers
        return choose(offers, numbers or USUAL_NUMBERS, tokens, layout, executor), offers


def _show_table(report: ChoicesReport, offers: Sequence[OnGpus], launch: str | None, format: str) -> int:
    """Shows the layouts, or how the best of them is started; and the exit code."""
    if launch is not None and report.fits:
        show_best(report, offers, launch)
    else:
        show(report, format)
    return 0 if report.fits else TOO_LARGE


def _mixes(
    workload: str | None,
    tokens: int | None,
    output: str | None,
    quantile: str,
    shared_prefix: str | None,
    prefixes: int,
    active: str,
) -> list[Asked]:
    """The workloads given by --workload, none without it. Raises InvalidValueError if --tokens is given, too."""
    if workload is None:
        if output is not None:
            raise InvalidValueError(
                "this option needs --workload", where="--output", help="add --workload, or remove this option"
            )
        return []
    if tokens is not None:
        raise InvalidValueError(
            "--workload already gives the length of requests", where="--tokens", help="remove one of them"
        )
    from kvcalc.cli._fits import mixes_of

    return mixes_of(workload, output, quantile, shared_prefix, prefixes, active)


def _replicas(
    questions: Sequence[OnGpus],
    mix: Mix,
    layout: Parallel | None,
    numbers: Sequence[int] | None,
    on: str | None,
    format: str,
) -> int:
    """Replicas that serve a workload, and the exit code."""
    from kvcalc.cli._mix import at_option, workers
    from kvcalc.fleet.replicas import replicas_of

    if layout is not None and layout.ep > 1:
        raise InvalidValueError(
            "--ep shares experts among replicas, and --workload asks for the number of replicas",
            where="--ep",
            help="remove --ep",
        )
    given = max(numbers) if numbers else None
    if given is None and layout is not None and layout.dp > 1:
        given = layout.num_ranks
    try:
        with workers(on) as executor:
            report = replicas_of(questions, mix, layout, given, executor)
    except InvalidValueError as error:
        raise at_option(error, "--workload") from None
    show(report, format)
    return 0 if report.fits else TOO_LARGE


def _numbers(text: str) -> list[int]:
    """Numbers of GPUs: 8, 4,8 or 1-16. Raises InvalidValueError."""
    from kvcalc.fleet.fewest import MAX_GPUS
    from kvcalc.units import positive_int, shown

    first, between, last = text.replace("..", "-").partition("-")
    try:
        found = list(range(int(first), int(last) + 1)) if between else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len(found) > _MOST_NUMBERS:
        raise InvalidValueError(f"expected a number of GPUs, not {shown(text)}", help="write 8, 4,8 or 1-16")
    return [positive_int(number, "gpus", most=MAX_GPUS) for number in found]


def _one(tokens: str) -> int:
    first, *others = asking.token_counts([tokens])
    if others:
        raise InvalidValueError(
            "expected a single context", where="--tokens", help="pass one, for example --tokens 32K"
        )
    return first


def _layout(numbers: Sequence[int] | None, *degrees: int | None) -> Parallel:
    """The layout, with as many ranks as GPUs. degrees: tp, pp, dp, dcp, ep; None is 1."""
    from kvcalc.fleet.fit import layout_of
    from kvcalc.parallel import Parallel

    ranks = asking.located(
        "--tp, --pp, --dp, --dcp, --ep", Parallel, *(1 if degree is None else degree for degree in degrees)
    )
    for number in numbers or ():
        asking.located("--gpus", layout_of, number, ranks)
    return ranks


COMMAND = Command(
    help=(
        "Contexts, users and GPUs that fit next to the weights, and the limiting factor. Without a layout: layouts and "
        "formats, best first. Exit code 1: it does not fit."
    ),
    epilog="Example: kvcalc fit --preset r1 --engine vllm --gpu h200 --gpus 8 --tp 8 --weights 671GB --tokens 128K",
    takes=(
        options.GPU._replace(help=f"{options.GPU.help} Several: h100,h200."),
        options.MEMORY,
        options.NAMED._replace(help=f"{options.NAMED.help} Several: r1,llama3-8b."),
        options.PRESET,
        options.MODEL,
        options.WEIGHTS,
        options.WEIGHTS_DTYPE,
        options.ESTIMATED_RESERVE,
        options.GPUS._replace(
            help="Total GPUs: 8, or several counts: 4,8 or 1-16. Without a layout, all layouts are tried.",
            kind=options.TEXT,
        ),
        options.TOKENS._replace(
            help="Context of each user (in llama_cpp and ollama, of all together); answers how many users fit.",
            kind=options.TEXT,
        ),
        options.BATCH._replace(
            flags=("--batch", "-b", "--users"), help="Concurrent users; answers which context fits."
        ),
        options.WORKLOAD,
        options.OUTPUT._replace(help=f"With --workload: {options.OUTPUT.help[0].lower()}{options.OUTPUT.help[1:]}"),
        options.QUANTILE._replace(help="With --workload: share of the time without preemption."),
        options.SHARED_PREFIX,
        options.PREFIXES,
        options.ACTIVE,
        options.ON,
        options.DTYPE._replace(
            default=None, help=f"{options.DTYPE.help} Default: bf16; tables of layouts also try 8 bits."
        ),
        options.ATTENTION,
        options.METHOD,
        options.ASSUME,
        options.MTP,
        options.DRAFT_MODEL,
        options.HUB,
        options.ENGINE,
        options.ENGINE_SET,
        options.UTILIZATION,
        options.TP._replace(default=None),
        options.PP._replace(default=None),
        options.DP._replace(default=None),
        options.DCP._replace(default=None),
        options.EP._replace(default=None),
        options.WITH,
        options.LAUNCH,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
