"""Layouts to choose from: what people run on so many GPUs, each asked as `fit` asks one, best first.

tp within a node, stages over nodes (or over cards without fast links), replicas for the rest; experts shared by all of
tp x dp where there are replicas; tokens shared by tensor-parallel ranks (dcp) where the engine does that. What an
engine refuses is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines.base.plan import Plan
from kvcalc.errors import KvcalcError
from kvcalc.fleet.fewest import NODE_GPUS
from kvcalc.fleet.fit import limiting_term, users_of_replica
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import EXPERTS
from kvcalc.parallel import Parallel
from kvcalc.report.choices import Choice, ChoicesReport

MAX_STAGES_IN_NODE = 4
"""Most stages within a node that are tried beside tensor parallelism."""


USUAL_NUMBERS = (1, 2, 4, 8, 16)
"""GPUs that are tried where nobody says how many."""


def choose(
    questions: Iterable[OnGpus],
    numbers: Sequence[int],
    tokens: int,
    kv_dtypes: Sequence[Dtype],
    layout: Parallel | None = None,
) -> ChoicesReport:
    """Every layout of `numbers` GPUs, of each of the questions (a device with its weights) in each format, best first.

    layout: the only one to try, where it is given.
    tokens: context of each user. First those that hold the users who are asked about, on the fewest GPUs; then by users
    and by the longest context.
    """
    asked = list(questions)
    refused: list[KvcalcError] = []
    too_small: list[Parallel] = []
    found = [
        choice
        for question in asked
        for ranks in _tried(question, numbers, layout)
        for kv_dtype in kv_dtypes
        for choice in _choice(question, ranks, tokens, kv_dtype, refused, too_small)
    ]
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
        notes=tuple(dict.fromkeys(note for question in asked for note in _notes(question))),
    )


def _tried(question: OnGpus, numbers: Sequence[int], layout: Parallel | None) -> Iterator[Parallel]:
    if layout is not None:
        yield layout
        return
    for number in numbers:
        yield from layouts(number, experts=_has_experts(question))


def layouts(gpus: int, *, experts: bool = False) -> Iterator[Parallel]:
    """Layouts of so many GPUs as people run them."""
    for tp in (1, 2, 4, 8):
        for pp in range(1, gpus // tp + 1):
            dp, rest = divmod(gpus, tp * pp)
            usual = pp == 1 or pp <= MAX_STAGES_IN_NODE or tp == NODE_GPUS
            if rest or not usual:
                continue
            for dcp in (degree for degree in (1, 2, 4, 8) if degree <= tp):
                yield Parallel(tp, pp, dp, dcp)
                if experts and dp > 1:
                    yield Parallel(tp, pp, dp, dcp, ep=tp * dp)


def _has_experts(question: OnGpus) -> bool:
    return any(part.name == EXPERTS for part in question.weights.parts)


def _choice(
    question: OnGpus,
    ranks: Parallel,
    tokens: int,
    kv_dtype: Dtype,
    refused: list[KvcalcError],
    too_small: list[Parallel],
) -> Iterator[Choice]:
    """The answer of one layout; else why there is none: the engine refuses it, or weights leave no room (too_small)."""
    question = question.in_format(kv_dtype)
    users = users_of_replica(question.asked.sequences, ranks)
    try:
        memory, plan = question.memory(ranks), question.plan(ranks)
        if memory.cache_bytes <= 0:
            too_small.append(ranks)
            return
        most = plan.max_sequences(tokens, memory.cache_bytes)
        longest = plan.max_tokens(users, memory.cache_bytes)
        fits = plan.fits(tokens, users, memory.cache_bytes)
        copies = _copies(question, plan, ranks, tokens)
    except KvcalcError as error:
        refused.append(error)
        return
    own = question.asked.model.max_model_len
    yield Choice(
        gpu=question.gpu.name,
        num_gpus=ranks.num_ranks,
        parallel=str(ranks),
        kv_dtype=question.asked.engine.cache_format(question.asked.model, kv_dtype),
        max_sequences=most if most is None else most * ranks.dp,
        max_context=min((length for length in (longest, own) if length is not None), default=None),
        fits=fits,
        weights_bytes=memory.weights_bytes,
        cache_bytes=memory.cache_bytes,
        copies=copies,
        limited_by=limiting_term(memory, plan, longest, users),
        degrees=tuple(asdict(ranks).items()),
    )


def _copies(question: OnGpus, plan: Plan, ranks: Parallel, tokens: int) -> Fraction | None:
    """How often a replica's ranks hold what one GPU would hold once: latents and heads that are copied."""
    try:
        alone = sum(question.plan(Parallel()).needed(tokens, 1))
        held = sum(plan.needed(tokens, 1)) * ranks.tp
    except KvcalcError:
        return None
    return Fraction(held, alone) if alone else None


def _rank(choice: Choice) -> tuple[object, ...]:
    """Best first: holds what is asked, on fewer GPUs; more users, longer contexts; the simpler layout."""
    users = float("inf") if choice.max_sequences is None else choice.max_sequences
    context = float("inf") if choice.max_context is None else choice.max_context
    degrees = dict(choice.degrees)
    simpler = tuple(degrees[name] for name in ("pp", "dcp", "ep", "dp"))
    return (not choice.fits, choice.num_gpus if choice.fits else 0, -users, -context, simpler)


def _notes(question: OnGpus) -> Iterator[str]:
    model, engine = question.asked.model, question.asked.engine
    yield from (*model.notes, *engine.version_notes, *engine.caveats(model), *question.gpu.remarks())
    yield from question.weights.words()
