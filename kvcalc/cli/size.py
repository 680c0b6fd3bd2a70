"""`kvcalc size`: the bytes of one model's cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.model import Model
    from kvcalc.question import Question
    from kvcalc.report.methods import MethodEntry
    from kvcalc.report.size import Report


def run(
    *,
    named: str | None,
    length: str | None,
    tokens: Sequence[str],
    preset: str | None,
    model: str | None,
    batch: str,
    dtype: str,
    attention: str | None,
    method: Sequence[str],
    assume: str | None,
    mtp: bool,
    draft_model: str | None,
    hub: bool,
    engine: str,
    engine_set: Sequence[str],
    tp: int,
    pp: int,
    dp: int,
    dcp: int,
    by_layer: bool,
    explain: bool,
    verify: bool,
    format: str,
) -> int:
    """Runs `kvcalc size`."""
    check_output_format(format, charts=True)
    if by_layer and explain:
        raise InvalidValueError("--by-layer and --explain cannot be combined", help="pass only one of them")
    asked = asking.token_counts((*tokens, *([length] if length else ())))
    terms = asking.terms(batch, dtype, engine, engine_set)
    parallel = asking.parallel(tp, pp, dp, dcp)
    if verify:
        _check_verifiable(terms.engine, several=len(asked) != 1 or by_layer or explain)
    chosen = asking.one_model(
        named,
        preset,
        model,
        attention,
        assume,
        mtp=mtp,
        hub=hub,
        methods=method,
        engine=terms.engine,
        draft=draft_model,
    )
    counts = asked or asking.usual_token_counts(terms.engine, chosen)

    from kvcalc.answers.size import sized_and_before, sized_at

    question = terms.of(chosen, counts[0], parallel)
    alone = len(counts) == 1 and not verify
    reports = (sized_and_before(question.at(counts[0])),) if alone else sized_at(question, counts)
    if verify:
        return _verify(question, reports[0], format)
    if len(reports) == 1 and not (by_layer or explain):
        show(reports[0], format)
        return 0

    from kvcalc.report.sheet import Stack
    from kvcalc.report.views import Explanation, Layers, Lengths

    if not (by_layer or explain):
        show(Lengths(reports), format)
        return 0
    explained = _explained(chosen) if explain else ()
    views = tuple(Layers(report) if by_layer else Explanation(report, explained) for report in reports)
    show(views[0] if len(views) == 1 else Stack(views), format)
    return 0


def _explained(model: Model) -> tuple[MethodEntry, ...]:
    """The methods applied to the model, with their parameters."""
    from kvcalc.methods._entry import entry_of

    return tuple(entry_of(applied.name, applied.arguments) for applied in model.methods)


def _check_verifiable(engine: Engine, *, several: bool) -> None:
    """Raises InvalidValueError for options that do not apply to torch modules."""
    if several:
        raise InvalidValueError(
            "--verify needs a single answer",
            where="--verify",
            help="pass one --tokens, and neither --by-layer nor --explain",
        )

    from kvcalc.engines.ideal import Ideal

    if not isinstance(engine, Ideal) or engine != Ideal(encoder_tokens=engine.encoder_tokens):
        raise InvalidValueError(
            "the torch modules allocate what the model itself needs, which is the ideal engine with its defaults",
            where="--verify",
            help="remove --engine and its settings; for transformers: kvcalc verify --against transformers",
        )


def _verify(question: Question, report: Report, format: str) -> int:
    """The size and, below it, the measurement; exit code 1 if they differ."""
    from kvcalc.cli._verifying import NOT_EQUAL, verified
    from kvcalc.report.sheet import Stack

    result = verified(
        question.model,
        question.parallel,
        tokens=report.tokens,
        sequences=report.sequences,
        kv_dtype=question.kv_dtype.name,
        encoder_tokens=question.engine.settings_by_name()["encoder_tokens"],
    )
    show(Stack((report, result)), format)
    return 0 if result.equal else NOT_EQUAL


COMMAND = Command(
    help="Bytes of a model's KV cache: total, per sequence, per token, by layer group and tensor.",
    epilog="Example: kvcalc size --preset r1 --tokens 100000 --batch 8 --explain",
    takes=(
        options.NAMED,
        options.LENGTH,
        options.TOKENS,
        options.PRESET,
        options.MODEL,
        options.BATCH,
        options.DTYPE,
        options.ATTENTION,
        options.METHOD,
        options.ASSUME,
        options.MTP,
        options.DRAFT_MODEL,
        options.HUB,
        options.ENGINE,
        options.ENGINE_SET,
        options.TP,
        options.PP,
        options.DP,
        options.DCP,
        options.BY_LAYER,
        options.EXPLAIN,
        options.VERIFY,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
