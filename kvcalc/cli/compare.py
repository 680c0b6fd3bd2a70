"""`kvcalc compare`: variants of one model, or several models, side by side."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.model import Model
    from kvcalc.report.method_comparison import MethodComparison

DEFAULT_VARIANTS = "mha,gqa:16,gqa:8,mqa,mla"


app = command_app()


@app.command(
    help="One model as MHA, GQA, MQA and MLA (--preset or --model), or several models by name.",
    epilog=(
        "Examples: kvcalc compare --preset r1 --tokens 100000, kvcalc compare r1 llama3-70b gpt-oss-120b --tokens 128K"
    ),
)
def compare(
    tokens: _options.Tokens,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Presets or paths.", autocompletion=_options.complete_preset),
    ] = None,
    preset: _options.Preset = None,
    model: _options.ModelPath = None,
    variants: str = typer.Option(
        DEFAULT_VARIANTS, "--variants", metavar="LIST", help="What one model is compared as, separated by commas."
    ),
    methods: str = typer.Option(
        "", "--methods", metavar="LIST", help="all, or methods separated by semicolons: one model under each of them."
    ),
    assume: _options.Assume = None,
    mtp: _options.Mtp = False,
    batch: _options.Batch = "1",
    dtype: _options.DtypeName = "bf16",
    engine: _options.EngineName = "ideal",
    engine_set: _options.EngineSet = None,
    explain: bool = typer.Option(False, "--explain", help="With --methods: formula and source of each."),
    format: _options.Format = "table",
) -> None:
    """Runs `kvcalc compare`."""
    check_output_format(format)
    counts = _options.token_counts(tokens)
    question = _options.question(batch, dtype, engine, engine_set)

    from kvcalc.answers.compare import compare_models, compare_variants
    from kvcalc.io.loading import load
    from kvcalc.question import Question

    if models:
        if preset or model:
            raise InvalidValueError(
                "models are named both as arguments and by an option",
                help="name several models as arguments, or one by --preset or --model",
            )
        loaded = [_options.located("MODEL", load, name, assume=assume, mtp=mtp) for name in models]
        show(compare_models([Question.of(each, tokens=counts[0], **question) for each in loaded], counts), format)
        return
    if explain and not methods:
        raise InvalidValueError("only methods are explained here", where="--explain", help="add --methods all")
    one = _options.one_model(preset, model, None, assume, mtp=mtp)
    if methods:
        show(_under_methods(one, methods, counts, question, explained=explain), format)
        return
    asked = [spec.strip() for spec in variants.split(",") if spec.strip()]
    # Of the usual variants, what this model cannot have is left out and noted; what was asked for must be built.
    optional = variants == DEFAULT_VARIANTS
    of_one = Question.of(one, tokens=counts[0], **question)
    show(_options.located("--variants", compare_variants, of_one, asked, counts, optional=optional), format)


def _under_methods(
    model: "Model", methods: str, counts: list[int], question: dict[str, Any], *, explained: bool
) -> "MethodComparison":
    """The model under all methods, or under those that were named."""
    if len(counts) > 1 or question["engine"] != "ideal" or question["engine_settings"]:
        raise InvalidValueError(
            "methods are compared at one length, in the ideal engine",
            where="--methods",
            help="give one --tokens, and no --engine",
        )

    from kvcalc.answers.compare import compare_methods
    from kvcalc.question import Question

    specs = None if methods.strip() == "all" else [spec.strip() for spec in methods.split(";") if spec.strip()]
    asked = Question.of(model, tokens=counts[0], **question)
    return _options.located("--methods", compare_methods, asked, specs, explained=explained)
