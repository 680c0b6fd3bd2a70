"""Candidate layouts: what people run on a number of GPUs, each evaluated as by `fit`, best first.

A question has one device, one format of weights and one of the cache: `choose` takes one per combination. tp within a
node, stages across nodes (or cards without fast links), replicas for the rest; experts divided by tp x dp if there are
replicas; tokens divided by tensor-parallel ranks (dcp) if the engine supports it. Layouts that an engine refuses are
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from fractions import Fraction
from typing import NamedTuple

from kvcalc.answers.spread import Redone, spread
from kvcalc.engines import Engine
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.plan import Plan, least
from kvcalc.errors import KvcalcError
from kvcalc.fleet.fewest import MAX_GPUS, NODE_GPUS
from kvcalc.fleet.fit import NOTHING_BESIDE, ZERO_RESERVE, beside_words, limiting_term, users_of_replica
from kvcalc.fleet.memory import Memory
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import EXPERTS, Weights
from kvcalc.parallel import Parallel
from kvcalc.report.choices import Choice, ChoicesReport
from kvcalc.units import both_units

MAX_STAGES_IN_NODE = 4
"""Most pipeline stages tried within a node, in addition to tensor parallelism."""

DEGREES = (1, 2, 4, 8)
"""Ranks of a node that share heads (tp) or tokens (dcp)."""
ABOUT = "~: counted tensor by tensor in that format, an estimate"
QUALITY = "formats differ in quality, which is not compared here"
USUAL_NUMBERS = (1, 2, 4, 8, 16)
"""Default numbers of GPUs to try."""


def choose(
    questions: Iterable[OnGpus],
    numbers: Sequence[int],
    tokens: int,
    layout: Parallel | None = None,
    executor: Executor | None = None,
) -> ChoicesReport:
    """Every layout of `numbers` GPUs, for each question, best first.

    layout: the only one to try, if given. executor: whose workers get a layout each.
    tokens: context of each user. Layouts that hold the requested users on the fewest GPUs come first; then by users and
    longest context.
    """
    asked = list(questions)
    redone = Redone()
    parts = (_Part(question, ranks, tokens) for question in asked for ranks in _tried(question, numbers, layout))
    outcomes = list(spread(_outcome, parts, executor, redone))
    found = [choice for outcome in outcomes for choice in outcome.choices]
    refused = [error for outcome in outcomes for error in outcome.refused]
    too_small = [ranks for outcome in outcomes for ranks in outcome.too_small]
    if refused and not (found or too_small):
        raise refused[0]
    first = asked[0].asked
    return ChoicesReport(
        model=first.model.name,
        engine=first.engine.name,
        engine_version=first.engine.release_words,
        tokens=tokens,
        sequences=first.sequences,
        choices=tuple(sorted(found, key=_rank)),
        notes=(*_all_notes(asked), *_of_shared(first.engine), *redone.notes),
        shares_context=first.engine.SHARES_CONTEXT,
        weights_format=asked[0].weights.form,
        kv_dtype=first.engine.cache_format(first.model, first.kv_dtype),
        unreserved=NOTHING_BESIDE in _beside_note(asked[0]),
    )


def _of_shared(engine: Engine) -> Iterator[str]:
    if engine.SHARES_CONTEXT:
        yield f"users of {engine.name} share one context: max users divide its tokens among them"


class _Part(NamedTuple):
    """A layout to try, as a worker gets it."""

    question: OnGpus
    ranks: Parallel
    tokens: int


class _Outcome(NamedTuple):
    """What became of it, as `_choice` says."""

    choices: list[Choice]
    refused: list[KvcalcError]
    too_small: list[Parallel]


def _outcome(part: _Part) -> _Outcome:
    refused: list[KvcalcError] = []
    too_small: list[Parallel] = []
    return _Outcome([*_choice(*part, refused, too_small)], refused, too_small)


def choose_usual(questions: Iterable[OnGpus], tokens: int, executor: Executor | None = None) -> ChoicesReport:
    """The same of usual numbers of GPUs; where none of them is enough, of as many as hold all users."""
    asked = list(questions)
    report = first = choose(asked, USUAL_NUMBERS, tokens, None, executor)
    number = max(USUAL_NUMBERS)
    while not report.fits:
        number = _more(report, number)
        if number > MAX_GPUS:
            return first
        report = choose(asked, (number,), tokens, None, executor)
    return report if number in USUAL_NUMBERS else _on_fewest(asked, report, tokens)


def _on_fewest(asked: Sequence[OnGpus], report: ChoicesReport, tokens: int) -> ChoicesReport:
    """The layouts of the fewest nodes on which the best choice's formats hold all users."""
    best = report.choices[0]
    question = question_of(best, asked)
    low, high = max(USUAL_NUMBERS) // NODE_GPUS, -(-best.num_gpus // NODE_GPUS)
    while high - low > 1:
        nodes = (low + high) // 2
        held = choose([question], (nodes * NODE_GPUS,), tokens).fits
        low, high = (low, nodes) if held else (nodes, high)
    number = high * NODE_GPUS
    return report if number >= best.num_gpus else choose(asked, (number,), tokens)


def _more(report: ChoicesReport, tried: int) -> int:
    """GPUs of as many replicas of some layout as hold all users; twice as many as were tried where none holds one."""
    enough = [
        -(-report.sequences // choice.max_sequences) * choice.num_gpus
        for choice in report.choices
        if choice.max_sequences
    ]
    return min(enough, default=2 * tried)


def question_of(choice: Choice, questions: Iterable[OnGpus]) -> OnGpus:
    """The question that a choice answers."""
    return next(each for each in questions if choice.formats == _formats(each))


def _formats(question: OnGpus) -> tuple[str, str, str]:
    asked = question.asked
    stored = asked.engine.cache_format(asked.model, asked.kv_dtype)
    return question.gpu.name, question.weights.form, stored


def _tried(question: OnGpus, numbers: Sequence[int], layout: Parallel | None) -> Iterator[Parallel]:
    if layout is not None:
        yield layout
        return
    for number in numbers:
        yield from layouts(number, experts=_has_experts(question))


def layouts(gpus: int, *, experts: bool = False) -> Iterator[Parallel]:
    """Common layouts of a number of GPUs."""
    for tp in DEGREES:
        for pp in range(1, gpus // tp + 1):
            dp, rest = divmod(gpus, tp * pp)
            usual = pp == 1 or pp <= MAX_STAGES_IN_NODE or tp == NODE_GPUS
            if rest or not usual:
                continue
            for dcp in (degree for degree in DEGREES if degree <= tp):
                yield Parallel(tp, pp, dp, dcp)
                if experts and dp > 1:
                    yield Parallel(tp, pp, dp, dcp, ep=tp * dp)


def _has_experts(question: OnGpus) -> bool:
    return any(part.name == EXPERTS for part in question.weights.parts)


def _choice(
    question: OnGpus,
    ranks: Parallel,
    tokens: int,
    refused: list[KvcalcError],
    too_small: list[Parallel],
) -> Iterator[Choice]:
    """The answer for one layout; or why there is none: the engine refuses it, or weights leave no room (too_small)."""
    users = users_of_replica(question.asked.sequences, ranks)
    try:
        memory, plan = question.memory(ranks), question.plan(ranks)
        if memory.cache_bytes <= 0:
            too_small.append(ranks)
            return
        most = plan.max_sequences(tokens, memory.cache_bytes)
        longest = plan.max_tokens(users, memory.cache_bytes)
        fits = plan.fits(tokens, users, memory.cache_bytes)
        best = _at_best(question, memory, ranks)
        most_at_best = most if best is None else plan.max_sequences(tokens, best)
        longest_at_best = longest if best is None else plan.max_tokens(users, best)
        copies = _copies(question, plan, ranks, tokens)
    except KvcalcError as error:
        refused.append(error)
        return
    asked, weights = question.asked, question.weights
    beside = question.beside(ranks)
    yield Choice(
        gpu=question.gpu.name,
        num_gpus=ranks.num_ranks,
        parallel=str(ranks),
        weights_format=weights.form,
        weights_repository=weights.repository,
        weights_estimate=weights.estimate,
        kv_dtype=asked.engine.cache_format(asked.model, asked.kv_dtype),
        max_sequences=most if most is None else most * ranks.dp,
        max_sequences_at_best=most_at_best if most_at_best is None else most_at_best * ranks.dp,
        max_context=least((longest, asked.model.max_model_len)),
        max_context_at_best=least((longest_at_best, asked.model.max_model_len)),
        fits=fits,
        weights_bytes=memory.weights_bytes,
        beside_bytes=(memory.reserve_bytes,) * 2 if beside is None else (beside.low_bytes, beside.high_bytes),
        estimate=weights.estimate or beside is not None,
        cache_bytes=memory.cache_bytes,
        copies=copies,
        limited_by=limiting_term(memory, plan, longest, users),
        degrees=tuple(asdict(ranks).items()),
    )


def _at_best(question: OnGpus, memory: Memory, ranks: Parallel) -> int | None:
    """Bytes of the cache at the lower bound of other memory; None without an estimate."""
    beside = question.beside(ranks)
    return None if beside is None else memory.cache_bytes + beside.high_bytes - beside.low_bytes


def _copies(question: OnGpus, plan: Plan, ranks: Parallel, tokens: int) -> Fraction | None:
    """Copies of the cache within a replica: latents and KV heads that every rank holds."""
    try:
        alone = _of_request(question.plan(Parallel()), tokens)
        held = _of_request(plan, tokens) * ranks.tp
    except KvcalcError:
        return None
    return Fraction(held, alone) if alone else None


def _of_request(plan: Plan, tokens: int) -> int:
    """Bytes of a request on a rank of each stage, all together; of blocks without what is kept outside them."""
    blocks = plan.blocks(tokens, 0)
    if blocks is None or blocks.request_blocks is None:
        return sum(plan.needed(tokens, 1))
    return blocks.request_blocks * sum(blocks.block_bytes)


def _rank(choice: Choice) -> tuple[object, ...]:
    """Sort key, best first: holds the request, on fewer GPUs; more users, longer contexts; the simpler layout."""
    users = float("inf") if choice.max_sequences is None else choice.max_sequences
    context = float("inf") if choice.max_context is None else choice.max_context
    degrees = dict(choice.degrees)
    simpler = tuple(degrees[name] for name in ("pp", "dcp", "ep", "dp"))
    return (not choice.fits, choice.num_gpus if choice.fits else 0, -users, -context, simpler)


def _all_notes(asked: Sequence[OnGpus]) -> tuple[str, ...]:
    """Notes on the weights, each once: the first in detail, the others in one line."""
    first = asked[0]
    found = dict.fromkeys(note for question in asked for note in _notes(question))
    found.update(dict.fromkeys(first.weights.words()))
    found.update(dict.fromkeys(_short(each.weights) for each in asked if each.weights != first.weights))
    found.update(dict.fromkeys(_beside_note(first)))
    if any(question.weights.estimate for question in asked):
        found[ABOUT] = None
    formats = {(question.weights.form, question.asked.kv_dtype, repr(question.asked.engine)) for question in asked}
    if len(formats) > len({question.gpu.name for question in asked}):
        found[QUALITY] = None
    return tuple(found)


def _short(weights: Weights) -> str:
    where = f" ({weights.repository})" if weights.repository else ""
    return f"{'~' if weights.estimate else ''}{weights.form or 'given'}{where}: {both_units(weights.bytes)}"


def _notes(question: OnGpus) -> Iterator[str]:
    model, engine = question.asked.model, question.asked.engine
    yield from (*model.notes, *engine.version_notes, *engine.caveats(model), *question.gpu.remarks())


def _beside_note(question: OnGpus) -> Iterator[str]:
    if question.reserve_bytes == 0:
        yield ZERO_RESERVE
    elif (beside := _some_beside(question)) is not None:
        yield beside_words(f"{beside.words} ({beside.source})")
    elif question.reserve_bytes is None:
        yield NOTHING_BESIDE


def _some_beside(question: OnGpus) -> Beside | None:
    try:
        return question.beside(Parallel())
    except KvcalcError:
        return None
