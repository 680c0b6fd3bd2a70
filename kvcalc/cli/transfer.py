"""`kvcalc transfer`: bytes that prefill sends to decode for one request, by pair of ranks, and the time."""

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
    link: str | None,
    prefill: str,
    decode: str,
    in_flight: int,
    dtype: str,
    method: Sequence[str],
    assume: str | None,
    mtp: bool,
    hub: bool,
    engine: str,
    engine_set: Sequence[str],
    format: str,
) -> int:
    """Runs `kvcalc transfer`."""
    check_output_format(format)
    terms = asking.terms("1", dtype, engine, engine_set)

    from kvcalc.io.asked import layout_written
    from kvcalc.units import parse_rate

    source = asking.located("--from", layout_written, prefill)
    target = asking.located("--to", layout_written, decode)
    rate = None if link is None else asking.located("--link", parse_rate, link, "link")
    chosen = asking.one_model(
        named, preset, model, assume=assume, mtp=mtp, hub=hub, methods=method, engine=terms.engine
    )
    counts = asking.token_counts(tokens) or ([chosen.max_model_len] if chosen.max_model_len else [])
    if len(counts) != 1:
        raise InvalidValueError("expected a single token count", where="--tokens", help="pass one, for example 8K")

    from kvcalc.fleet.transfer import transfer

    question = terms.of(chosen, counts[0])
    report = transfer(question, prefill=source, decode=target, link_bytes_per_second=rate, in_flight=in_flight)
    show(report, format)
    return 0


COMMAND = Command(
    help=(
        "Bytes of one request's cache that go from prefill to decode GPUs, by pair of ranks; seconds on the link, and "
        "what decode reserves meanwhile."
    ),
    epilog="Example: kvcalc transfer kimi-k2.5 --tokens 8150 --dtype fp8 --link 400Gb/s --from tp=4 --to tp=8",
    takes=(
        options.NAMED,
        options.TOKENS,
        options.PRESET,
        options.MODEL,
        options.LINK,
        options.FROM,
        options.TO,
        options.IN_FLIGHT,
        options.DTYPE,
        options.METHOD,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.ENGINE,
        options.ENGINE_SET,
        options.FORMAT,
    ),
    run=run,
)
