"""Bytes of a model's cache, exact: the answer to `size`, with all that a reader asks of it.

bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots(t)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvcalc.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.footprint import Footprint
from kvcalc.model import Model
from kvcalc.report.size import GroupReport, RankReport, Report, TensorReport
from kvcalc.tensors import CacheTensor
from kvcalc.units import plural, shown
from kvcalc.workload import Workload

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel


def size(  # noqa: PLR0913  # what is asked, and of whom
    model: Model,
    *,
    tokens: int | None,
    sequences: int = 1,
    kv_dtype: str | Dtype = "bf16",
    engine: str = "ideal",
    engine_settings: Mapping[str, Any] | None = None,
    parallel: Parallel | None = None,
) -> Report:
    """Size of the cache of `model` with `sequences` sequences of `tokens` cached tokens each.

    tokens: in an engine with one context for all sequences, such as llama_cpp, those of the whole context; None there:
    as many as the model was made for. kv_dtype: either spelling, bf16 or bfloat16. engine, engine_settings: who
    allocates, and how. parallel: ranks that share the model, each of which the report then has, too.
    Returns a Report of exact ints, in bytes.
    Raises InvalidValueError, UnknownNameError.
    """
    if not isinstance(model, Model):
        raise InvalidValueError(f"size takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    as_asked = Engine.of(engine, engine_settings)
    if tokens is None and as_asked.is_shared:
        tokens = _own_context(model)
    workload = Workload.of(tokens, sequences, kv_dtype)  # type: ignore[arg-type]  # it refuses None
    tokens, sequences = workload.tokens, workload.sequences
    with_settings = as_asked.serving(sequences)
    footprint = Footprint.of(model, with_settings, workload.kv_dtype)
    times = with_settings.times_held(sequences)
    total = times * footprint.bytes(tokens)
    other_policies = {
        words: times * Footprint.of(model, other.serving(sequences), workload.kv_dtype).bytes(tokens)
        for words, other in as_asked.other_policies().items()
    }
    per_rank, remarks = _per_rank(model, parallel, workload, with_settings) if parallel else ((), ())
    return Report(
        model=model.name,
        tokens=tokens,
        sequences=sequences,
        kv_dtype=workload.kv_dtype.name,
        engine=engine,
        engine_settings=tuple(with_settings.settings_by_name().items()),
        bytes_per_token=footprint.bytes(tokens + 1) - footprint.bytes(tokens),
        growth=(footprint.growth(tokens), footprint.period),
        later_growth=_later_growth(footprint, tokens),
        fixed_bytes_per_sequence=times * footprint.bytes(0) // sequences,
        groups=_group_reports(model, with_settings, workload, times),
        model_type=model.model_type,
        source=model.source,
        num_layers_origin=model.origins.get("num_layers", ""),
        policy=as_asked.policy,
        other_policies=tuple((words, other) for words, other in other_policies.items() if other != total),
        **_while_read(model, with_settings, workload),
        notes=(
            *model.notes,
            *with_settings.notes(model),
            *beyond_the_model(model, tokens * times // sequences),
            *remarks,
        ),
        shares_context=with_settings.is_shared,
        copies=with_settings.copies,
        parallel=str(parallel or ""),
        per_rank=per_rank,
        dcp=parallel.dcp if parallel else 1,
    )


def _own_context(model: Model) -> int:
    """The context that `model` was made for. Raises InvalidValueError where nobody says."""
    if model.max_model_len is None:
        raise InvalidValueError(
            f"nothing says what context {model.name} was made for, and no tokens are given",
            field="tokens",
            help="give the tokens of the context, for instance tokens=8192",
        )
    return model.max_model_len


def _per_rank(
    model: Model, parallel: Parallel, workload: Workload, engine: Engine
) -> tuple[tuple[RankReport, ...], tuple[str, ...]]:
    """Each rank, sized as the model that it is; and what a reader must know of how they share it."""
    from kvcalc.parallel import rank_models, rounded_heads

    if engine.is_shared:
        raise NotApplicableError(
            f"the engine {engine.name} holds one context in one process, which no ranks share",
            help="leave --tp, --pp and --dp (parallel) out, or take another engine",
        )
    sequences = parallel.sequences_of_rank(workload.sequences)
    ranks = rank_models(model, parallel, engine.sharing)
    planned = engine.allocate_rank(model, workload.kv_dtype, parallel)
    by_group = None if planned is None else {group.name: own for group, own in zip(model.groups, planned, strict=True)}
    stages = [
        _group_reports(rank.model, engine, workload, sequences, rank.first_layer, by_group)
        for rank in ranks[: parallel.tp * parallel.pp : parallel.tp]
    ]
    reports = tuple(
        RankReport(rank.rank, rank.tp_rank, rank.pp_rank, rank.dp_rank, sequences, stages[rank.pp_rank])
        for rank in ranks
    )
    return reports, rounded_heads(model, parallel.tp, engine.sharing)


def _while_read(model: Model, engine: Engine, workload: Workload) -> dict[str, int]:
    """What is held while a prompt is read that a method cuts; nothing where none does."""
    if model.prompt_cut is None:
        return {}

    from kvcalc.peaks import prefill_peak_bytes, score_workspace_bytes

    return {
        "prefill_peak_bytes": prefill_peak_bytes(model, model.prompt_cut, engine, workload),
        "score_workspace_bytes": score_workspace_bytes(model, model.prompt_cut, workload),
    }


def _later_growth(footprint: Footprint, tokens: int) -> tuple[tuple[int, int], ...]:
    """For each later length at which a window fills, the growth from there on."""
    found: list[tuple[int, int]] = []
    before = footprint.growth(tokens)
    for kink in footprint.kinks:
        after = footprint.growth(kink)
        if kink > tokens and after != before:
            found.append((kink, after))
            before = after
    return tuple(found)


def _group_reports(
    model: Model,
    engine: Engine,
    workload: Workload,
    sequences: int,
    first_layer: int = 0,
    planned: Mapping[str, tuple[CacheTensor, ...]] | None = None,
) -> tuple[GroupReport, ...]:
    """Each group as the engine stores it, or has planned it by name; layers are counted from first_layer on."""
    copies = sequences * engine.copies
    if planned is None:
        allocation = engine.allocate(model, workload.kv_dtype)
    else:
        allocation = tuple(planned[group.name] for group in model.groups)
    return tuple(
        GroupReport(
            name=group.name,
            attention=group.label,
            layers=tuple(first_layer + layer for layer in group.layers),
            tensors=tuple(_tensor_report(tensor, len(group.layers), workload, copies) for tensor in tensors),
            origins=tuple((name, value, group.origins.get(name, "")) for name, value in group.facts.items()),
        )
        for group, tensors in zip(model.groups, allocation, strict=True)
    )


def _tensor_report(tensor: CacheTensor, num_layers: int, workload: Workload, copies: int) -> TensorReport:
    slots = tensor.slot_rule.slots(workload.tokens)
    slot_bytes = tensor.bytes_per_slot(workload.kv_dtype)
    dtype = tensor.stored_as(workload.kv_dtype)
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
        storage_bytes=copies * num_layers * storage_rule.slots(workload.tokens) * slot_bytes,
    )


def beyond_the_model(model: Model, tokens: int) -> tuple[str, ...]:
    """A remark where a sequence is longer than the model was made for."""
    if model.max_model_len is None or tokens <= model.max_model_len:
        return ()
    return (f"longer than the {plural(model.max_model_len, 'token')} that the model was made for",)
