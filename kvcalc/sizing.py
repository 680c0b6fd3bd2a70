"""Bytes of a model's cache, exact.

    bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots(t)

Tensors of the same slot rule are added up first, so a model of any depth is a handful of terms. Between kinks the sum
grows by the same bytes with each period of tokens, which is what lets `capacity` invert it without a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model
from kvcalc.report.size import GroupReport, RankReport, Report, TensorReport
from kvcalc.tensors import CacheTensor, Once, SlotRule
from kvcalc.units import plural, shown
from kvcalc.workload import Workload

if TYPE_CHECKING:
    from kvcalc.parallel import Parallel
    from kvcalc.tensors import Tokens


class Footprint(NamedTuple):
    """Bytes of one sequence as a function of its cached tokens: each slot rule with its bytes per slot, all layers."""

    terms: tuple[tuple[SlotRule, int], ...]

    @classmethod
    def of(cls, model: Model, engine: Engine, kv_dtype: Dtype) -> Footprint:
        """Footprint of `model` as `engine` stores it in `kv_dtype`."""
        copies = engine.copies
        bytes_by_rule: dict[SlotRule, int] = {}
        for group, tensors in zip(model.groups, engine.allocate(model, kv_dtype), strict=True):
            for tensor in tensors:
                slot_bytes = copies * len(group.layers) * tensor.bytes_per_slot(kv_dtype)
                bytes_by_rule[tensor.slot_rule] = bytes_by_rule.get(tensor.slot_rule, 0) + slot_bytes
        return cls(tuple(bytes_by_rule.items()))

    def bytes(self, tokens: Tokens) -> Tokens:
        """Bytes of one sequence with `tokens` tokens, an int or an int64 array (which must not overflow)."""
        if not self.terms:
            return 0 * tokens
        first, *rest = (rule.slots(tokens) * slot_bytes for rule, slot_bytes in self.terms)
        for term in rest:
            first = first + term
        return first

    def most(self, tokens: int) -> int:
        """No fewer bytes than a sequence of up to `tokens` tokens ever took."""
        return sum(rule.most(tokens) * slot_bytes for rule, slot_bytes in self.terms)

    @property
    def period(self) -> int:
        """Tokens after which the growth repeats, between two kinks."""
        return lcm(*(rule.period for rule, _ in self.terms))

    def kinks(self) -> list[int]:
        """Token counts, ascending, after which the growth changes."""
        return sorted({kink for rule, _ in self.terms for kink in rule.kinks})

    def stretches(self) -> Iterator[tuple[int, int | None]]:
        """First token count and the one after the last of each stretch between kinks; the last stretch has no end."""
        borders = sorted({0, *self.kinks()})
        yield from pairwise(borders)
        yield borders[-1], None


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
    return Report(
        model=model.name,
        tokens=tokens,
        sequences=sequences,
        kv_dtype=workload.kv_dtype.name,
        engine=engine,
        engine_settings=tuple(with_settings.settings_by_name().items()),
        bytes_per_token=footprint.bytes(tokens + 1) - footprint.bytes(tokens),
        growth=(_growth(footprint, tokens), footprint.period),
        later_growth=_later_growth(footprint, tokens),
        fixed_bytes_per_sequence=times * footprint.bytes(0) // sequences,
        groups=_group_reports(model, with_settings, workload, times),
        model_type=model.model_type,
        source=model.source,
        num_layers_origin=model.origins.get("num_layers", ""),
        policy=as_asked.policy,
        other_policies=tuple((words, other) for words, other in other_policies.items() if other != total),
        prefill_peak_bytes=_prefill_peak(model, with_settings, workload),
        notes=(*model.notes, *with_settings.notes(model), *_beyond_the_model(model, tokens * times // sequences)),
        shares_context=with_settings.is_shared,
        parallel=str(parallel or ""),
        per_rank=_per_rank(model, parallel, workload, with_settings) if parallel else (),
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


def _per_rank(model: Model, parallel: Parallel, workload: Workload, engine: Engine) -> tuple[RankReport, ...]:
    """Each rank, sized as the model that it is."""
    from kvcalc.parallel import rank_models

    if engine.is_shared:
        raise NotApplicableError(
            f"the engine {engine.name} holds one context in one process, which no ranks share",
            help="leave --tp, --pp and --dp (parallel) out, or take another engine",
        )
    sequences = parallel.sequences_of_rank(workload.sequences)
    ranks = rank_models(model, parallel)
    stages = [
        _group_reports(rank.model, engine, workload, sequences, rank.first_layer)
        for rank in ranks[: parallel.tp * parallel.pp : parallel.tp]
    ]
    return tuple(
        RankReport(rank.rank, rank.tp_rank, rank.pp_rank, rank.dp_rank, sequences, stages[rank.pp_rank])
        for rank in ranks
    )


def decode_peak_bytes(
    model: Model, *, tokens: int, sequences: int = 1, kv_dtype: str | Dtype = "bf16", engine: str = "ideal"
) -> int:
    """Most that the cache takes in the step after `tokens` tokens.

    Every layer keeps what it will keep of tokens + 1, and the one at hand a token more where its method chooses only
    once that is there. Copies that code makes on the way are not counted.
    """
    workload = Workload.of(tokens, sequences, kv_dtype)
    with_settings = Engine.of(engine).serving(workload.sequences)
    after = Footprint.of(model, with_settings, workload.kv_dtype).bytes(workload.tokens + 1)
    extra = [
        sum(
            tensor.bytes_per_slot(workload.kv_dtype)
            for tensor in tensors
            if tensor.slot_rule.evicts_after and tensor.slot_rule.slots(workload.tokens + 1) <= workload.tokens
        )
        for tensors in with_settings.allocate(model, workload.kv_dtype)
    ]
    return with_settings.times_held(workload.sequences) * (after + max(extra))


def _prefill_peak(model: Model, engine: Engine, workload: Workload) -> int | None:
    """Most that the caches take while a prompt is read that a method cuts; None where none does.

    Cut layer by layer: max over layers l of (what those before l keep + the whole prompt in l). Cut after the last: the
    whole prompt in all of them, and one layer's copy of what it keeps.
    """
    cut = model.prompt_cut
    if cut is None:
        return None
    whole = replace(model, groups=tuple(replace(group, tensors=group.uncut or group.tensors) for group in model.groups))
    prompt = replace(workload, tokens=min(workload.tokens, cut.prompt_tokens or workload.tokens))
    kept, full = (_bytes_by_layer(held, engine, prompt) for held in (model, whole))
    if not cut.layer_by_layer:
        return sum(full) + max(kept)
    before = accumulate(kept, initial=0)
    return max(done + layer for done, layer in zip(before, full, strict=False))


def _bytes_by_layer(model: Model, engine: Engine, workload: Workload) -> list[int]:
    """What each layer holds of all sequences."""
    copies = engine.times_held(workload.sequences) * engine.copies
    by_layer = {
        layer: copies * sum(t.slot_rule.slots(workload.tokens) * t.bytes_per_slot(workload.kv_dtype) for t in tensors)
        for group, tensors in zip(model.groups, engine.allocate(model, workload.kv_dtype), strict=True)
        for layer in group.layers
    }
    return [by_layer[layer] for layer in range(model.num_layers)]


def _growth(footprint: Footprint, tokens: int) -> int:
    """Bytes that a sequence grows by from here on in one period of tokens, as if no window filled meanwhile."""
    return sum(
        slot_bytes * (rule.slots(tokens + rule.period) - rule.slots(tokens)) * (footprint.period // rule.period)
        for rule, slot_bytes in footprint.terms
        if not isinstance(rule, Once)  # it comes at once, and stays
    )


def _later_growth(footprint: Footprint, tokens: int) -> tuple[tuple[int, int], ...]:
    """For each later length at which a window fills, the growth from there on."""
    found: list[tuple[int, int]] = []
    before = _growth(footprint, tokens)
    for kink in footprint.kinks():
        after = _growth(footprint, kink)
        if kink > tokens and after != before:
            found.append((kink, after))
            before = after
    return tuple(found)


def _group_reports(
    model: Model, engine: Engine, workload: Workload, sequences: int, first_layer: int = 0
) -> tuple[GroupReport, ...]:
    """Each group as the engine stores it; layers are counted from first_layer on."""
    copies = sequences * engine.copies
    return tuple(
        GroupReport(
            name=group.name,
            attention=group.label,
            layers=tuple(first_layer + layer for layer in group.layers),
            tensors=tuple(_tensor_report(tensor, len(group.layers), workload, copies) for tensor in tensors),
            origins=tuple((name, value, group.origins.get(name, "")) for name, value in group.facts.items()),
        )
        for group, tensors in zip(model.groups, engine.allocate(model, workload.kv_dtype), strict=True)
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


def _beyond_the_model(model: Model, tokens: int) -> tuple[str, ...]:
    if model.max_model_len is None or tokens <= model.max_model_len:
        return ()
    return (f"longer than the {plural(model.max_model_len, 'token')} that the model was made for",)
