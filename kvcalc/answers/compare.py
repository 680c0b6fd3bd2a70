"""Comparisons: one model as if built with other attention, or several models."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.answers.peaks import decode_peak_bytes, step_copy_bytes
from kvcalc.answers.size import sized, sized_at
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.ideal import Ideal
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods import METHODS, apply_method, parameters, specs_in
from kvcalc.methods._selection import kind_of
from kvcalc.methods._traits import WHOLE
from kvcalc.model import Model
from kvcalc.question import Question
from kvcalc.report.comparison import Comparison, ComparisonRow, LeftOut
from kvcalc.report.method_comparison import MethodComparison, MethodRow
from kvcalc.report.notes import once
from kvcalc.report.size import policy_remarks
from kvcalc.units import count, plural

USUAL_VARIANTS = ("mha", "gqa:16", "gqa:8", "mqa", "mla")
ALL_METHODS = "all"
_NAMES = {"mha": "MHA", "mqa": "MQA", "mla": "MLA", "mla-naive": "MLA naive"}


def compare(
    questions: Sequence[Question],
    token_counts: Sequence[int],
    *,
    variants: str | Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
    explained: bool = False,
) -> Comparison | MethodComparison:
    """Compares several models; or one as each of `variants`, or under each of `methods`.

    variants: `mha,gqa:8` or a list; None: the defaults. methods: `all`, or `snapkv,kivi:bits=2` or a list. What does
    not apply to the model becomes a row with the reason. Raises UnknownNameError, and InvalidValueError for conflicting
    arguments or a bad parameter.
    """
    if len(questions) == 1:
        (question,) = questions
        if methods:
            return _under_methods(question, methods, token_counts, explained=explained)
        return compare_variants(question, _specs(variants or USUAL_VARIANTS), token_counts, optional=variants is None)
    for field, given in (("variants", variants is not None), ("methods", bool(methods))):
        if given:
            raise InvalidValueError(
                f"{field} compares one model, but several are named",
                field=field,
                help=f"name one model, or remove {field}",
            )
    return compare_models(questions, token_counts)


def _specs(given: str | Sequence[str]) -> Sequence[str]:
    """Variants or methods, possibly written as one text."""
    return specs_in(given) if isinstance(given, str) else given


def _under_methods(
    question: Question, methods: str | Sequence[str], token_counts: Sequence[int], *, explained: bool
) -> MethodComparison:
    """A model under all methods, or under the named ones."""
    if question.engine != Ideal():
        raise InvalidValueError(
            f"methods are compared in the ideal engine, not in {question.engine.name}",
            field="methods",
            help="remove the engine; `kvcalc size --method` sizes one method in an engine",
        )
    specs = _specs(methods)
    named = None if list(specs) == [ALL_METHODS] else specs
    return compare_methods(question, named, token_counts, explained=explained)


def compare_variants(
    question: Question, variants: Sequence[str], token_counts: Sequence[int], *, optional: bool = False
) -> Comparison:
    """A model with the attention of each of `variants` (`mha`, `gqa:8` ...); ratios refer to the first one.

    The variant equal to the model itself is marked; without one, the model is added as the last row. Variants that the
    model or its engine cannot have are left out with the reason.
    optional: also those whose parameter does not suit the model. Raises UnknownNameError, InvalidValueError for a bad
    parameter.
    """
    model = question.model
    rows: list[ComparisonRow] = []
    left_out: list[LeftOut] = []
    notes: dict[str, None] = {}  # in order, without duplicates
    for spec in variants:
        try:
            variant = apply_method(model, spec)
            itself = all(a.tensors == b.tensors for a, b in zip(model.groups, variant.groups, strict=True))
            rows.append(_row(_label(spec), question.of_model(variant), token_counts, as_built=itself))
        except (InvalidValueError, NotApplicableError) as error:
            if isinstance(error, InvalidValueError) and not optional:
                raise
            left_out.append(LeftOut(_label(spec), error.what))
            continue
        notes.update(dict.fromkeys(note for note in variant.notes if note not in model.notes))
    if not any(row.as_built for row in rows):
        labels = " / ".join(dict.fromkeys(group.label for group in model.groups))
        rows.append(_row(labels, question, token_counts, as_built=True))
    title = f"{model.name} as if built with"
    return _comparison(title, "attention", rows, token_counts, (*model.notes, *notes), left_out)


def compare_models(questions: Sequence[Question], token_counts: Sequence[int]) -> Comparison:
    """The same for several models; ratios refer to the first one that the engine supports, and it must support one."""
    rows: list[ComparisonRow] = []
    left_out: list[LeftOut] = []
    refused: NotApplicableError | None = None
    for question in questions:
        name = question.model.name
        try:
            rows.append(_row(name, question, token_counts)._replace(made_of=_made_of(question.model)))
        except NotApplicableError as error:
            refused = refused or error
            left_out.append(LeftOut(name, error.what))
    if refused and not rows:
        raise refused
    notes = once(
        (row.label, remark)
        for row in rows
        for remark in (*(note for report in row.reports for note in report.notes), *policy_remarks(row.reports))
    )
    return _comparison("Models side by side", "model", rows, token_counts, notes, left_out)


def _made_of(model: Model) -> str:
    """Kinds of the caching layers, such as `36 Gated DeltaNet, 12 GQA-2`."""
    layers: dict[str, int] = {}
    for group in model.groups:
        if group.tensors:
            layers[group.label] = layers.get(group.label, 0) + len(group.layers)
    return ", ".join(f"{number} {label}" for label, number in layers.items())


def _label(spec: str) -> str:
    name, _, argument = spec.partition(":")
    return _NAMES.get(name, name.upper()) + (f"-{argument}" if name == "gqa" else f" {argument}" if argument else "")


def _row(label: str, question: Question, token_counts: Sequence[int], *, as_built: bool = False) -> ComparisonRow:
    return ComparisonRow(label, sized_at(question, token_counts), as_built)


def _comparison(
    title: str,
    row_title: str,
    rows: list[ComparisonRow],
    token_counts: Sequence[int],
    notes: tuple[str, ...],
    left_out: list[LeftOut],
) -> Comparison:
    first = rows[0].reports[0]
    between = "for" if first.shares_context else "x"
    users = plural(first.sequences, "sequence")
    workload = f"{_lengths(token_counts)} {between} {users}, {first.kv_dtype}, {first.engine_words}"
    return Comparison(f"{title}: {workload}", row_title, tuple(rows), rows[0].label, notes, tuple(left_out))


def _lengths(token_counts: Sequence[int]) -> str:
    """`1,024 / 8,192 tokens`."""
    if len(token_counts) == 1:
        return plural(token_counts[0], "token")
    return f"{' / '.join(map(count, token_counts))} tokens"


def compare_methods(
    question: Question,
    specs: Sequence[str] | None,
    token_counts: Sequence[int] = (),
    *,
    explained: bool = False,
) -> MethodComparison:
    """A model without and with each method of `specs`; None: every method. Those that do not apply say why.

    token_counts: default: the question's. explained: with the formula and the source of each. Raises UnknownNameError,
    and InvalidValueError for a method requested by name with a bad parameter.
    """
    model = question.model
    questions = [question.at(tokens) for tokens in token_counts or (question.tokens,)]
    rows = [_method_row("", each, model) for each in questions]
    notes: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    for spec in METHODS.names() if specs is None else specs:
        if specs is None and ... in parameters(METHODS.module(spec).apply).values():
            left_out.append(LeftOut(spec, f"it needs a parameter, see `kvcalc methods show {spec}`"))
            continue
        try:
            changed = apply_method(model, spec)
        except (InvalidValueError, NotApplicableError) as error:
            if isinstance(error, InvalidValueError) and specs is not None:
                raise
            left_out.append(LeftOut(spec, error.what))
            continue
        rows += [_method_row(spec, each.of_model(changed), model) for each in questions]
        notes += [(spec, note) for note in changed.notes if note not in model.notes]
    first = rows[0].report
    lengths = _lengths([each.tokens for each in questions])
    title = f"{model.name} under methods: {lengths} x {plural(first.sequences, 'sequence')}, {first.kv_dtype}"
    return MethodComparison(title, tuple(rows), (*model.notes, *once(notes)), explained, tuple(left_out))


def _method_row(spec: str, question: Question, before: Model) -> MethodRow:
    """A method's row at one token count. question: with the method applied. before: the model without it."""
    report = sized(question)
    peak = report.total_bytes if report.prefill_peak_bytes is None else report.prefill_peak_bytes
    step = decode_peak_bytes(question)
    if not spec:
        return MethodRow("", "", report, peak, step)
    method = METHODS.module(spec.partition(":")[0].strip().lower())
    traits = method.TRAITS
    copied = traits.step_copy and step_copy_bytes(question, whole=traits.step_copy == WHOLE)
    return MethodRow(
        spec=spec,
        kind=traits.kind,
        report=report,
        prefill_peak_bytes=peak,
        decode_peak_bytes=step,
        step_copy_bytes=copied or 0,
        title=traits.title,
        source=traits.source,
        formula=traits.formula,
        state=_state(question.model, before),
        flash_attention=traits.flash_attention,
        retraining=traits.retraining,
        per_head_paging=traits.per_head_paging,
        caveat=traits.caveat,
    )


def _state(model: Model, before: Model) -> str:
    """Tensors that the method added to those of the parts, by name, except keys and values of some heads."""
    own = {tensor.name for group in model.groups for tensor in group.own_tensors}
    known = own | {tensor.name for group in before.groups for tensor in group.tensors}
    added = (t for group in model.groups for t in group.tensors if t.name not in known and not _of_some_heads(t))
    return ", ".join(dict.fromkeys(tensor.name for tensor in added))


def _of_some_heads(tensor: CacheTensor) -> bool:
    """Whether it holds the model's own keys or values, of heads that keep the same number of tokens."""
    return kind_of(tensor) in ("k", "v") and tensor.dtype is None and tensor.quantizable
