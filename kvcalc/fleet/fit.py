"""How much of a model's cache fits on GPUs: the question and its complete answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kvcalc.answers.changed import before_change
from kvcalc.answers.planned import in_words, said
from kvcalc.answers.tiers import tiers_of
from kvcalc.engines import Engine
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.base.plan import Plan, Planner
from kvcalc.engines.base.versions import rules_read
from kvcalc.errors import InvalidValueError, KvcalcError, NotApplicableError
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.fewest import Fewest, fewest_gpus
from kvcalc.fleet.memory import Memory, share_of
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import divided_words
from kvcalc.hardware import gpu_named
from kvcalc.hardware.written import with_memory
from kvcalc.parallel import Parallel
from kvcalc.report.blocks import BlocksReport
from kvcalc.report.gpu_fit import AtBest, GpuFit
from kvcalc.report.pool import PoolReport
from kvcalc.report.tiers import NodeTier
from kvcalc.units import plural, shown

if TYPE_CHECKING:
    from kvcalc.engines.base.beside import Beside
    from kvcalc.engines.base.plan import Fitted


ZERO_RESERVE = "reserve is set to 0: activations, CUDA graphs and the rest are not counted, so this is an upper bound"
NOTHING_BESIDE = "no other memory is counted besides weights and cache: measure it and pass it as --reserve"


def beside_words(counted: Beside | str) -> str:
    """What is estimated, as a note: with the bounds of each term, or only in words."""
    return f"other memory: {counted}; --reserve replaces the estimate"


def device_asked_for(gpu: str | None, memory: int | str | None) -> str:
    """The device as read by `gpu_named`. Raises InvalidValueError if neither is given."""
    if not gpu and memory is None:
        raise InvalidValueError(
            "no GPU given",
            field="gpu",
            help="name it (h100-80gb; `kvcalc gpus` lists them), or pass its memory: 64GB",
        )
    return with_memory(gpu, memory)


def layout_of(num_gpus: int | None, parallel: Parallel | None) -> Parallel:
    """The ranks, one on each GPU. Raises InvalidValueError if their number differs from the GPUs'."""
    ranks = parallel or Parallel()
    if num_gpus is not None and num_gpus != ranks.num_ranks:
        raise InvalidValueError(
            f"{shown(num_gpus)} GPUs, but tp {ranks.tp:,} x pp {ranks.pp:,} x dp {ranks.dp:,} needs "
            f"{ranks.num_ranks:,}",
            field="gpus",
            help=f"say how they share the model: tp {num_gpus} (heads), pp (layers) or dp (replicas)",
        )
    return ranks


def engine_on(gpu: str, engine: str, settings: Mapping[str, object] | None, utilization: object = None) -> Engine:
    """The engine with its settings on a GPU. Raises InvalidValueError if they contradict each other."""
    given = dict(settings or {})
    default = Engine.of(engine)
    known_device(type(default), gpu)
    if not isinstance(default, Planner):
        return Engine.of(engine, given)
    if "gpu" in given and gpu_named(str(given["gpu"])) != gpu_named(gpu):
        raise InvalidValueError(
            f"the engine setting gpu ({given['gpu']}) differs from the requested GPU ({gpu})",
            field="gpu",
            help="remove the setting",
        )
    given["gpu"] = gpu
    if utilization is not None:
        if default.SHARE in given:
            raise InvalidValueError(
                f"utilization and {default.SHARE} are the same setting, and both are given",
                field="utilization",
                help="pass only one of them",
            )
        given[default.SHARE] = float(share_of(utilization, "utilization"))
    return Engine.of(engine, given)


def fitted(question: OnGpus, ranks: Parallel, tokens: int | None) -> GpuFit:
    """The complete answer. tokens: context of each user, if requested. Raises the engine's refusals."""
    asked, sequences = question.asked, question.asked.sequences
    memory, plan = question.memory(ranks), question.plan(ranks)
    users = users_of_replica(sequences, ranks)
    longest = plan.max_tokens(users, memory.cache_bytes)
    fits = most = needed = None
    fewest = Fewest()
    if tokens is not None:
        fits = plan.fits(tokens, users, memory.cache_bytes)
        most = plan.max_sequences(tokens, memory.cache_bytes)
        needed = plan.needed(tokens, users)
        fewest = fewest_gpus(question, ranks.dcp, tokens)
    blocks = plan.blocks(tokens, memory.cache_bytes)
    report, remarks = _engines_own(question, plan, ranks, memory, tokens)
    return GpuFit(
        model=asked.model.name,
        engine=asked.engine.name,
        engine_version=asked.engine.release_words,
        engine_settings=tuple(asked.engine.settings_by_name().items()),
        gpu=question.gpu.name,
        gpu_source=question.gpu.source,
        gpu_memory_from=question.gpu.memory_from,
        num_gpus=ranks.num_ranks,
        parallel=str(ranks),
        kv_dtype=asked.engine.cache_format(asked.model, asked.kv_dtype),
        tokens=tokens,
        sequences=sequences,
        share=memory.share,
        gpu_bytes=memory.gpu_bytes,
        taken_bytes=memory.taken_bytes,
        weights_bytes=memory.weights_bytes,
        weights_source=question.weights.source,
        reserve_bytes=memory.reserve_bytes,
        cache_bytes=memory.cache_bytes,
        needed_bytes=needed,
        fits=fits,
        max_tokens=longest,
        max_sequences=most if most is None else most * ranks.dp,
        num_blocks=None if blocks is None else blocks.num_blocks,
        block_bytes=() if blocks is None else blocks.block_bytes,
        request_blocks=None if blocks is None else blocks.request_blocks,
        fewest=fewest.gpus,
        fewest_layout=str(fewest.layout) if fewest.gpus and fewest.gpus > 1 else "",
        fewest_by_tp=fewest.gpus_by_tp,
        usual_gpus=fewest.usual_gpus,
        usual_layout=str(fewest.usual) if (fewest.usual_gpus or 1) > 1 else "",
        shares_context=asked.engine.SHARES_CONTEXT,
        max_model_len=asked.model.max_model_len,
        binds=limiting_term(memory, plan, longest, users),
        planned=report,
        at_best=_at_best(question, plan, ranks, tokens, users),
        weights_estimate=question.weights.estimate,
        others=question.others,
        tiers=_tiers(question, ranks, tokens or _longest(question, longest)),
        unreserved=question.reserve_bytes is None and question.beside(ranks) is None,
        notes=(*_notes(question, ranks, sequences, longest), *_policies(question, ranks, longest), *remarks),
    )


def _longest(question: OnGpus, longest: int | None) -> int:
    """Default tokens: as many as fit memory and model."""
    known = [length for length in (longest, question.asked.model.max_model_len) if length]
    return min(known, default=1)


def _tiers(question: OnGpus, ranks: Parallel, tokens: int) -> tuple[NodeTier, ...]:
    """Upper bound of caches off the devices; none if the engine would not start, which is reported elsewhere."""
    asked, cache_bytes = question.asked._replace(tokens=tokens), question.memory(ranks, at_best=True).cache_bytes
    try:
        return tiers_of(asked, ranks, cache_bytes, at_most=question.beside(ranks) is not None)
    except NotApplicableError:
        return ()


def _at_best(question: OnGpus, plan: Plan, ranks: Parallel, tokens: int | None, users: int) -> AtBest | None:
    """What fits at the lower bound of other memory; None without an estimate."""
    beside = question.beside(ranks)
    if beside is None:
        return None
    cache_bytes = question.memory(ranks, at_best=True).cache_bytes
    most = None if tokens is None else plan.max_sequences(tokens, cache_bytes)
    return AtBest(
        beside_bytes=(beside.low_bytes, beside.high_bytes),
        words=f"{beside.words}; {beside.source}",
        terms=beside.terms,
        cache_bytes=cache_bytes,
        max_tokens=plan.max_tokens(users, cache_bytes),
        max_sequences=most if most is None else most * ranks.dp,
        fits=None if tokens is None else plan.fits(tokens, users, cache_bytes),
    )


def _policies(question: OnGpus, ranks: Parallel, longest: int | None) -> Iterator[str]:
    """Results of the engine's other policies for the same memory, if different."""
    asked = question.asked
    users, cache_bytes = users_of_replica(asked.sequences, ranks), question.memory(ranks).cache_bytes
    for words, other in asked.engine.other_policies().items():
        try:
            most = plan_of(asked.model, other, asked.kv_dtype, ranks).max_tokens(users, cache_bytes)
        except KvcalcError:
            continue
        if most != longest:
            held = "any context" if most is None else plural(most, "token")
            yield f"{asked.engine.policy}; with {words} memory holds {held}"


def users_of_replica(sequences: int, ranks: Parallel) -> int:
    """Users of the fullest replica."""
    return -(-sequences // ranks.dp)


def limiting_term(memory: Memory, plan: Plan, longest: int | None, users: int) -> str:
    """The limiting factor, and where it applies."""
    if memory.cache_bytes <= 0:
        alone = memory.weights_bytes >= memory.taken_bytes
        return "weights" if alone else "reserve"
    if longest is None:
        return "nothing"
    if longest == plan.max_model_len:
        return "model" if plan.speaks_for_engine else "settings"
    needed = plan.needed(longest + 1, users)
    tightest = [stage for stage, each_bytes in enumerate(needed) if each_bytes == max(needed)]
    if len(tightest) == len(needed):
        return "cache"
    return f"cache of stage {', '.join(map(str, tightest))}"


def _engines_own(
    question: OnGpus, plan: Plan, ranks: Parallel, memory: Memory, tokens: int | None
) -> tuple[Fitted | None, tuple[str, ...]]:
    """The engine's own report for this memory; or its own message why it would not start."""
    if memory.cache_bytes <= 0:
        return None, ()
    available = (memory.cache_bytes,) * ranks.pp
    try:
        with rules_read() as read:
            report = plan.fit(available, longest=tokens)
    except NotApplicableError as error:
        return None, (f"{question.asked.engine.name} would not start: {error.what}",)
    if report is None:
        return None, ()

    def ask(engine: Engine) -> Fitted:
        asked = question.asked
        before = plan_of(asked.model, engine, asked.kv_dtype, ranks).fit(available, longest=tokens)
        assert before is not None  # the same engine reports
        return before

    remarks = in_words(*before_change(question.asked.engine, report, question.rules | read, ask, said))
    if isinstance(report, PoolReport) and any(len(pools) > 1 for pools in report.stages):
        first = "users are counted by the tokens of the largest pool; other pools may limit them further"
        remarks = (first, *remarks)
    if isinstance(report, BlocksReport):
        remarks = (f"{report.engine} keeps {report.kept_words}", *remarks)
    named = tuple(question.asked.engine.settings_by_name().items())
    return report._replace(engine_settings=named, parallel=str(ranks) if ranks.num_ranks > 1 else ""), remarks


def _notes(question: OnGpus, ranks: Parallel, sequences: int, longest: int | None) -> tuple[str, ...]:
    """Notes on how the numbers were derived."""
    model, engine, shared = question.asked.model, question.asked.engine, ranks.tp * ranks.pp
    found = [*model.notes, *engine.version_notes, *engine.caveats(model), *question.gpu.remarks()]
    found.extend(question.weights.words())
    if question.others:
        taken = [(each.model, each.most_bytes) for each in question.others]
        found.append(engine.together(model.name, question.gpu.memory_bytes, taken))
    beside = question.beside(ranks)
    if beside is not None:
        found.append(beside_words(beside))
    elif question.reserve_bytes == 0:
        found.append(ZERO_RESERVE)
    elif question.reserve_bytes is None:
        found.append(NOTHING_BESIDE)
    if shared > 1:
        found.append(divided_words(question.weights, ranks))
    if model.prompt_cut is not None:
        found.append("the request is counted at its peak during prefill, with all prompts prefilled at once")
    if ranks.dp > 1 and sequences % ranks.dp:
        found.append(f"one of {ranks.dp:,} replicas has {users_of_replica(sequences, ranks):,} of the users")
    if not isinstance(engine, Planner) and question.utilization == 1:
        found.append("all of the GPU's memory is counted; engines leave a share of it unused (--utilization)")
    if engine.SHARES_CONTEXT:
        found.append("tokens count the one context that all users share")
    elif model.max_model_len is not None and (longest or 0) > model.max_model_len:
        found.append(f"the model's context is {plural(model.max_model_len, 'token')}")
    return tuple(found)
