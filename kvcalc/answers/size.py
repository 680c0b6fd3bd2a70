"""Bytes of a model's cache, exact: the answer to `size`, with all that a reader asks of it.

bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots(t)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.report.size import GroupReport, RankReport, Report, TensorReport
from kvcalc.units import plural, positive_int, shown
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
    engine_settings: Mapping[str, object] | None = None,
    parallel: Parallel | None = None,
) -> Report:
    """Size of the cache of `model` with `sequences` sequences of `tokens` cached tokens each.

    tokens: in an engine with one context for all sequences, such as llama_cpp, those of the whole context; None there:
    as many as the model was made for. kv_dtype: either spelling, bf16 or bfloat16. engine, engine_settings: who
    allocates, and how. parallel: ranks that share the model, each of which the report then has, too.
    Returns a Report of exact ints, in bytes.
    Raises InvalidValueError, UnknownNameError.
    """
    (report,) = sizes(
        model,
        token_counts=(tokens,),
        sequences=sequences,
        kv_dtype=kv_dtype,
        engine=engine,
        engine_settings=engine_settings,
        parallel=parallel,
    )
    return report


def sizes(  # noqa: PLR0913  # what is asked, and of whom
    model: Model,
    *,
    token_counts: Sequence[int | None],
    sequences: int = 1,
    kv_dtype: str | Dtype = "bf16",
    engine: str = "ideal",
    engine_settings: Mapping[str, object] | None = None,
    parallel: Parallel | None = None,
) -> tuple[Report, ...]:
    """`size` at several lengths, for which the engine allocates once."""
    if not isinstance(model, Model):
        raise InvalidValueError(f"size takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    as_asked = Engine.of(engine, engine_settings)
    if as_asked.SHARES_CONTEXT:
        token_counts = [_own_context(model) if tokens is None else tokens for tokens in token_counts]
    workloads = [Workload.of(positive_int(tokens, "tokens"), sequences, kv_dtype) for tokens in token_counts]
    asked = _Asked(model, as_asked, workloads[0], parallel)
    return tuple(map(asked.at, workloads))


class _Asked:
    """A model in an engine that has allocated it, whatever the length."""

    def __init__(self, model: Model, as_asked: Engine, workload: Workload, parallel: Parallel | None) -> None:
        self.model = model
        self.as_asked = as_asked
        self.engine = as_asked.serving(workload.sequences)
        self.times = self.engine.times_held(workload.sequences)
        allocation = self.engine.allocate(model, workload.kv_dtype)
        self.layers = [(group, 0, tensors) for group, tensors in zip(model.groups, allocation, strict=True)]
        self.footprint = Footprint.of_tensors(model, allocation, workload.kv_dtype, self.engine.copies)
        self.others = {
            words: other.serving(workload.sequences).footprint(model, workload.kv_dtype)
            for words, other in as_asked.other_policies().items()
        }
        self.parallel = parallel
        self.ranks = _Ranks(model, parallel, workload, self.engine) if parallel else None

    def at(self, workload: Workload) -> Report:
        """The report of one length."""
        model, engine, footprint, times = self.model, self.engine, self.footprint, self.times
        tokens, sequences = workload.tokens, workload.sequences
        total = times * footprint.bytes(tokens)
        other_policies = {words: times * other.bytes(tokens) for words, other in self.others.items()}
        return Report(
            model=model.name,
            tokens=tokens,
            sequences=sequences,
            kv_dtype=workload.kv_dtype.name,
            engine=engine.name,
            engine_version=engine.release_words,
            engine_settings=tuple(engine.settings_by_name().items()),
            bytes_per_token=footprint.bytes(tokens + 1) - footprint.bytes(tokens),
            growth=(footprint.growth(tokens), footprint.period),
            later_growth=_later_growth(footprint, tokens),
            fixed_bytes_per_sequence=times * footprint.bytes(0) // sequences,
            groups=_group_reports(self.layers, workload, times * engine.copies),
            model_type=model.model_type,
            source=model.source,
            num_layers_origin=model.origins.get("num_layers", ""),
            policy=self.as_asked.policy,
            other_policies=tuple((words, other) for words, other in other_policies.items() if other != total),
            **_while_read(model, engine, workload),
            notes=(
                *model.notes,
                *engine.notes(model),
                *beyond_the_model(model, tokens * times // sequences),
                *(self.ranks.remarks if self.ranks else ()),
            ),
            shares_context=engine.SHARES_CONTEXT,
            copies=engine.copies,
            parallel=str(self.parallel or ""),
            per_rank=self.ranks.reports(workload) if self.ranks else (),
            dcp=self.parallel.dcp if self.parallel else 1,
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


Layers = list[tuple[LayerGroup, int, tuple[CacheTensor, ...]]]
"""Groups of equal layers, each with the index that its layer 0 has in the whole model, and what a layer stores."""


class _Ranks:
    """What each rank holds, as the model that it is; remarks: what a reader must know of how they share it."""

    def __init__(self, model: Model, parallel: Parallel, workload: Workload, engine: Engine) -> None:
        from kvcalc.parallel import rank_models, rounded_heads

        if engine.SHARES_CONTEXT:
            raise NotApplicableError(
                f"the engine {engine.name} holds one context in one process, which no ranks share",
                help="leave --tp, --pp and --dp (parallel) out, or take another engine",
            )
        self.sequences = parallel.sequences_of_rank(workload.sequences)
        self.copies = engine.copies
        self.ranks = rank_models(model, parallel, engine.sharing)
        planned = engine.allocate_rank(model, workload.kv_dtype, parallel)
        by_group = planned and {group.name: own for group, own in zip(model.groups, planned, strict=True)}
        self.stages: list[Layers] = []
        for rank in self.ranks[: parallel.tp * parallel.pp : parallel.tp]:
            groups = rank.model.groups
            own = [by_group[g.name] for g in groups] if by_group else engine.allocate(rank.model, workload.kv_dtype)
            self.stages.append([(g, rank.first_layer, tensors) for g, tensors in zip(groups, own, strict=True)])
        self.remarks = rounded_heads(model, parallel.tp, engine.sharing)

    def reports(self, workload: Workload) -> tuple[RankReport, ...]:
        """Each rank at one length; ranks of a stage hold the same."""
        stages = [_group_reports(stage, workload, self.sequences * self.copies) for stage in self.stages]
        return tuple(
            RankReport(rank.rank, rank.tp_rank, rank.pp_rank, rank.dp_rank, self.sequences, stages[rank.pp_rank])
            for rank in self.ranks
        )


def _while_read(model: Model, engine: Engine, workload: Workload) -> dict[str, int]:
    """What is held while a prompt is read that a method cuts; nothing where none does."""
    if model.prompt_cut is None:
        return {}

    from kvcalc.answers.peaks import prefill_peak_bytes, score_workspace_bytes

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


def _group_reports(layers: Layers, workload: Workload, copies: int) -> tuple[GroupReport, ...]:
    """Each group as it is stored, `copies` times."""
    return tuple(
        GroupReport(
            name=group.name,
            attention=group.label,
            layers=tuple(first_layer + layer for layer in group.layers),
            tensors=tuple(_tensor_report(tensor, len(group.layers), workload, copies) for tensor in tensors),
            origins=tuple((name, value, group.origins.get(name, "")) for name, value in group.facts.items()),
        )
        for group, first_layer, tensors in layers
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
