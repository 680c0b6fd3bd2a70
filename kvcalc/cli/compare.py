"""`kvcalc compare`: variants of one model, or several models, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    pass


def run(
    *,
    models: Sequence[str],
    tokens: Sequence[str],
    preset: str | None,
    model: str | None,
    attention: str | None,
    variants: str,
    methods: str | None,
    assume: str | None,
    mtp: bool,
    hub: bool,
    batch: str,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    explain: bool,
    format: str,
) -> int:
    """Runs `kvcalc compare`."""
    check_output_format(format, charts=True)
    given = asking.token_counts(tokens)
    terms = asking.terms(batch, dtype, engine, engine_set)

    if models and (preset or model):
        raise InvalidValueError(
            "models are named both by arguments and by an option",
            help="name several models as arguments, or one with --preset or --model",
        )
    if explain and not methods:
        raise InvalidValueError(
            "--explain needs --methods", where="--explain", help="add --methods all, or use kvcalc size --explain"
        )
    if attention and variants != options.VARIANTS.default:
        raise InvalidValueError(
            "--attention and --variants both choose what the model is compared as", help="pass only one of them"
        )
    loaded = asking.all_models(models, preset, model, assume, mtp=mtp, hub=hub, engine=terms.engine)

    from kvcalc.answers.compare import compare
    from kvcalc.io.asked import usual_lengths

    # A default variant may not suit this model; a requested one must.
    asked = None if variants == options.VARIANTS.default else variants
    place = "--methods" if methods else "" if asked is None else "--variants"
    if attention and (methods or len(loaded) > 1):
        loaded = [asking.with_attention(each, attention) for each in loaded]
    elif attention:
        asked, place = attention, "--attention"
    counts = given or usual_lengths(loaded)
    questions = [terms.of(each, counts[0]) for each in loaded]
    named = {"variants": asked, "methods": methods}
    show(asking.located(place, compare, questions, counts, **named, explained=explain), format)
    return 0


COMMAND = Command(
    help="One model as MHA, GQA, MQA and MLA (--preset or --model), or several models by name.",
    epilog=(
        "Examples: kvcalc compare r1 --tokens 100000, kvcalc compare r1 llama3-70b gpt-oss-120b --tokens 128K, "
        "kvcalc compare llama3-8b --methods snapkv,kivi --tokens 4K,32K -f latex"
    ),
    takes=(
        options.MODELS,
        options.TOKENS,
        options.PRESET,
        options.MODEL,
        options.ATTENTION._replace(help="Replace the attention: mqa, gqa:8, mla:512+64; applies to every model."),
        options.VARIANTS,
        options.METHODS,
        options.ASSUME,
        options.MTP,
        options.HUB,
        options.BATCH,
        options.DTYPE,
        options.ENGINE,
        options.ENGINE_SET,
        options.EXPLAIN._replace(help="With --methods: formula and source of each."),
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
