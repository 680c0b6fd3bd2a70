"""`kvcalc decode`: bytes of cache and weights that one decode step reads, and the time floor set by bandwidth."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError


def run(
    *,
    named: str | None,
    tokens: Sequence[str],
    preset: str | None,
    model: str | None,
    batch: str,
    dtype: str,
    attention: str | None,
    method: Sequence[str],
    assume: str | None,
    hub: bool,
    engine: str,
    engine_set: Sequence[str],
    quest: str | None,
    gpu: str | None,
    bandwidth: str | None,
    weights: str | None,
    weights_dtype: str | None,
    tp: int,
    pp: int,
    dp: int,
    ep: int,
    format: str,
) -> int:
    """Runs `kvcalc decode`."""
    check_output_format(format, charts=True)
    from kvcalc.io.asked import bandwidth_of

    ranks = asking.parallel(tp, pp, dp, ep=ep)
    if gpu is None or engine == options.ENGINE.default:
        terms = asking.terms(batch, dtype, engine, engine_set)
    else:
        terms = asking.terms_on(asking.device(gpu, None).written, None, batch, dtype, engine, engine_set)
    device, rate = asking.located("--bandwidth" if bandwidth else "--gpu", bandwidth_of, gpu, bandwidth)
    chosen = asking.one_model(named, preset, model, attention, assume, hub=hub, methods=method, engine=terms.engine)
    counts = asking.token_counts(tokens) or ([chosen.max_model_len] if chosen.max_model_len else [])
    if len(counts) != 1:
        raise InvalidValueError("expected a single token count", where="--tokens", help="pass one, for example 8K")

    from kvcalc.answers.decode import Quest
    from kvcalc.fleet.decode import decode_step
    from kvcalc.fleet.weights import loaded

    pages = None if quest is None else asking.located("--quest", Quest.of, quest)
    found = asking.known_weights(chosen, weights, weights_dtype)
    whole = None if found is None else loaded(found, terms.engine.served(chosen))
    question = terms.of(chosen, counts[0], ranks)
    place = "--tp, --pp, --ep" if ranks else ""
    show(asking.located(place, decode_step, question, whole, device, rate, pages), format)
    return 0


COMMAND = Command(
    help=(
        "Bytes of cache and weights that one decode step reads, the time floor set by memory bandwidth, and the "
        "context at which the cache costs more than the weights."
    ),
    epilog="Example: kvcalc decode llama-3.1-8b --tokens 32K --batch 16 --gpu h100",
    takes=(
        options.NAMED,
        options.TOKENS,
        options.PRESET,
        options.MODEL,
        options.BATCH._replace(help="Sequences decoded in one step."),
        options.DTYPE,
        options.ATTENTION,
        options.METHOD,
        options.ASSUME,
        options.HUB,
        options.ENGINE,
        options.ENGINE_SET,
        options.QUEST,
        options.GPU,
        options.BANDWIDTH,
        options.WEIGHTS,
        options.WEIGHTS_DTYPE,
        options.TP,
        options.PP,
        options.DP,
        options.EP,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
