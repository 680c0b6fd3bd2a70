"""`kvcalc compare`: variants of one model, or several models, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.question import Question
    from kvcalc.report.method_comparison import MethodComparison


def run(
    *,
    models: Sequence[str],
    tokens: Sequence[str],
    preset: str | None,
    model: str | None,
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
    check_output_format(format)
    counts = asking.token_counts(tokens)
    terms = asking.terms(batch, dtype, engine, engine_set)

    from kvcalc.answers.compare import compare_models, compare_variants
    from kvcalc.io.loading import load

    if models and (preset or model):
        raise InvalidValueError(
            "models are named both as arguments and by an option",
            help="name several models as arguments, or one by --preset or --model",
        )
    if explain and not methods:
        raise InvalidValueError("only methods are explained here", where="--explain", help="add --methods all")
    loaded = [asking.located("MODEL", load, name, assume=assume, mtp=mtp, hub=hub) for name in models]
    optional = variants == options.VARIANTS.default
    if len(loaded) > 1:
        _check_several(variants=not optional, methods=bool(methods))
        show(compare_models([terms.of(each, counts[0]) for each in loaded], counts), format)
        return 0
    one = loaded[0] if loaded else asking.one_model(None, preset, model, None, assume, mtp=mtp, hub=hub)
    if methods:
        show(_under_methods(terms.of(one, counts[0]), methods, several=len(counts) > 1, explained=explain), format)
        return 0
    asked = [spec.strip() for spec in variants.split(",") if spec.strip()]
    # Of the usual variants, what this model cannot have is left out and noted; what was asked for must be built.
    question = terms.of(one, counts[0])
    show(asking.located("--variants", compare_variants, question, asked, counts, optional=optional), format)
    return 0


def _check_several(**given: bool) -> None:
    """Raises InvalidValueError where several models are named beside what one model is compared as."""
    option = next((name for name, is_given in given.items() if is_given), None)
    if option is not None:
        raise InvalidValueError(
            "one model is compared as others, and several are named",
            where=f"--{option}",
            help=f"name one model, or leave --{option} out",
        )


def _under_methods(question: Question, methods: str, *, several: bool, explained: bool) -> MethodComparison:
    """The model under all methods, or under those that were named."""
    from kvcalc.engines.ideal import Ideal

    if several or question.engine != Ideal():
        raise InvalidValueError(
            "methods are compared at one length, in the ideal engine",
            where="--methods",
            help="give one --tokens, and no --engine",
        )

    from kvcalc.answers.compare import compare_methods

    specs = None if methods.strip() == "all" else [spec.strip() for spec in methods.split(";") if spec.strip()]
    return asking.located("--methods", compare_methods, question, specs, explained=explained)


COMMAND = Command(
    help="One model as MHA, GQA, MQA and MLA (--preset or --model), or several models by name.",
    epilog=(
        "Examples: kvcalc compare --preset r1 --tokens 100000, kvcalc compare r1 llama3-70b gpt-oss-120b --tokens 128K"
    ),
    takes=(
        options.MODELS,
        options.TOKENS._replace(required=True),
        options.PRESET,
        options.MODEL,
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
        options.FORMAT,
    ),
    run=run,
)
