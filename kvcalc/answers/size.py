"""Exact bytes of a model's cache: the answer to `size`, with its details.

bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots(t)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvcalc.answers.changed import asked_before
from kvcalc.answers.stored import Layers, stored_by_stage
from kvcalc.answers.tiers import tiers_of
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.size import GroupReport, RankReport, Report, TensorReport
from kvcalc.units import both_units, count


def sized(question: Question) -> Report:
    """The answer to one question. Raises NotApplicableError for what its engine refuses."""
    return _Allocated(question).at(question.tokens)


def sized_and_before(question: Question) -> Report:
    """The same, with a note if a recent change of the engine's rules affects it."""
    now, since, before = asked_before(
        question.engine, lambda engine: sized(question._replace(engine=engine)), lambda report: report.total_bytes
    )
    if before is None:
        return now
    times = f" ({before.total_bytes / now.total_bytes:.2f}x)" if now.total_bytes else ""
    return now._replace(notes=(*now.notes, f"before {since}: {both_units(before.total_bytes)}{times}"))


def sized_at(question: Question, token_counts: Sequence[int | None]) -> tuple[Report, ...]:
    """The same at several token counts, with a single allocation; None: the model's context."""
    return tuple(map(_Allocated(question).at, token_counts))


class _Allocated:
    """A model allocated by an engine, for any token count."""

    def __init__(self, question: Question) -> None:
        self.engine = question.serving
        self.question = question = question.of_model(self.engine.served(question.model))
        model, kv_dtype = question.model, question.kv_dtype
        allocation = self.engine.allocate(model, kv_dtype)
        self.longest = self.engine.longest(model, kv_dtype)
        self.layers = [(group, 0, tensors) for group, tensors in zip(model.groups, allocation, strict=True)]
        self.footprint = Footprint.of_tensors(model, allocation, kv_dtype, self.engine.copies)
        self.others = dict(_others(question))
        self.ranks = _Ranks(question, question.parallel, self.engine) if question.parallel else None

    def at(self, tokens: int | None) -> Report:
        """The report for one token count."""
        question, engine, footprint = self.question.at(tokens), self.engine, self.footprint
        model, sequences, times, tokens = question.model, question.sequences, question.times_held, question.tokens
        if self.longest:
            self.longest.check(tokens)
        total = times * footprint.bytes(tokens)
        other_policies = {words: times * other.bytes(tokens) for words, other in self.others.items()}
        return Report(
            model=model.name,
            tokens=tokens,
            sequences=sequences,
            kv_dtype=engine.cache_format(model, question.kv_dtype),
            engine=engine.name,
            engine_version=engine.release_words,
            engine_settings=tuple(engine.settings_by_name().items()),
            next_token_bytes=footprint.bytes(tokens + 1) - footprint.bytes(tokens),
            growth=(footprint.growth(tokens), footprint.period),
            later_growth=_later_growth(footprint, tokens),
            fixed_bytes_per_sequence=times * footprint.bytes(0) // sequences,
            groups=_group_reports(self.layers, question, times * engine.copies),
            model_type=model.model_type,
            source=model.source,
            num_layers_origin=model.origins.get("num_layers", ""),
            policy=question.engine.policy,
            other_policies=tuple((words, other) for words, other in other_policies.items() if other != total),
            **_while_read(question),
            notes=(
                *model.notes,
                *engine.version_notes,
                *engine.notes(model),
                *engine.caveats(model),
                *_of_indexers(self.layers, question),
                *beyond_the_model(model, tokens * times // sequences),
                *(self.ranks.remarks if self.ranks else ()),
            ),
            shares_context=engine.SHARES_CONTEXT,
            copies=engine.copies,
            parallel=str(question.parallel or ""),
            per_rank=self.ranks.reports(question) if self.ranks else (),
            dcp=question.parallel.dcp if question.parallel else 1,
            tiers=tiers_of(question, question.parallel or Parallel()),
        )


_INDEX = "index_"
"""Prefix of the names of an indexer's tensors."""


class _Ranks:
    """Each rank's share as a model; remarks: notes on how they share it."""

    def __init__(self, question: Question, parallel: Parallel, engine: Engine) -> None:
        from kvcalc.parallel import rank_models, rounded_heads

        if engine.SHARES_CONTEXT:
            raise NotApplicableError(
                f"engine {engine.name} holds one context in one process, so there are no ranks",
                help="remove --tp, --pp and --dp (parallel), or use another engine",
            )
        model, kv_dtype = question.model, question.kv_dtype
        self.sequences = parallel.sequences_of_rank(question.sequences)
        self.copies = engine.copies
        self.ranks = rank_models(model, parallel, engine.sharing)
        self.stages = stored_by_stage(engine, model, kv_dtype, self.ranks, parallel)
        self.remarks = rounded_heads(model, parallel.tp, engine.sharing)

    def reports(self, question: Question) -> tuple[RankReport, ...]:
        """Each rank at one length; ranks of a stage hold the same."""
        stages = [_group_reports(stage, question, self.sequences * self.copies) for stage in self.stages]
        return tuple(
            RankReport(rank.rank, rank.tp_rank, rank.pp_rank, rank.dp_rank, self.sequences, stages[rank.pp_rank])
            for rank in self.ranks
        )


def _others(question: Question) -> Iterator[tuple[str, Footprint]]:
    """Results of the other policies, in words, except those that the engine refuses with these settings."""
    for words, other in question.engine.other_policies().items():
        try:
            yield words, other.serving(question.sequences).footprint(question.model, question.kv_dtype)
        except KvcalcError:
            continue


def _while_read(question: Question) -> dict[str, int]:
    """Peaks during prefill if a method cuts the prompt; nothing otherwise."""
    cut = question.model.prompt_cut
    if cut is None:
        return {}

    from kvcalc.answers.peaks import prefill_peak_bytes, score_workspace_bytes

    return {
        "prefill_peak_bytes": prefill_peak_bytes(question, cut),
        "score_workspace_bytes": score_workspace_bytes(question, cut),
    }


def _later_growth(footprint: Footprint, tokens: int) -> tuple[tuple[int, int], ...]:
    """For each later token count at which a window fills, the growth from then on."""
    found: list[tuple[int, int]] = []
    before = footprint.growth(tokens)
    for kink in footprint.kinks:
        after = footprint.growth(kink)
        if kink > tokens and after != before:
            found.append((kink, after))
            before = after
    return tuple(found)


def _group_reports(layers: Layers, question: Question, copies: int) -> tuple[GroupReport, ...]:
    """Each group as it is stored, `copies` times."""
    return tuple(
        GroupReport(
            name=group.name,
            attention=group.label,
            layers=tuple(first_layer + layer for layer in group.layers),
            tensors=tuple(_tensor_report(tensor, len(group.layers), question, copies) for tensor in tensors),
            origins=tuple((name, value, group.origins.get(name, "")) for name, value in group.facts.items()),
        )
        for group, first_layer, tensors in layers
    )


def _tensor_report(tensor: CacheTensor, num_layers: int, question: Question, copies: int) -> TensorReport:
    slots = tensor.slot_rule.slots(question.tokens)
    slot_bytes = tensor.bytes_per_slot(question.kv_dtype)
    dtype = tensor.stored_as(question.kv_dtype)
    storage_rule = tensor.storage_rule or tensor.slot_rule
    return TensorReport(
        name=tensor.name,
        dims=tuple((dim.name, dim.size) for dim in tensor.dims),
        dtype=dtype.name,
        element_cost=dtype.cost,
        slots=slots,
        slot_rule=str(tensor.slot_rule),
        saturates_at=tensor.slot_rule.saturates_at,
        bytes_per_slot=slot_bytes,
        bytes=copies * num_layers * slots * slot_bytes,
        storage_bytes=copies * num_layers * storage_rule.slots(question.tokens) * slot_bytes,
    )


def _of_indexers(layers: Layers, question: Question) -> tuple[str, ...]:
    """A remark if a quantised cache also quantises an indexer's keys, which many engines do not."""
    dtype = question.kv_dtype
    tensors = [tensor for _, _, own in layers for tensor in own if tensor.name.startswith(_INDEX)]
    if dtype.is_computed_in or not any(tensor.stored_as(dtype) == dtype for tensor in tensors):
        return ()
    apart = "index_dtype" in question.engine.setting_names()
    return (f"keys of the indexer are in {dtype} as well" + (" (index_dtype sets their format)" if apart else ""),)


def beyond_the_model(model: Model, tokens: int) -> tuple[str, ...]:
    """A remark if a sequence exceeds the model's context."""
    if model.max_model_len is None or tokens <= model.max_model_len:
        return ()
    return (f"exceeds the model's {count(model.max_model_len)}-token context",)
