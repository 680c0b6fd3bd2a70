"""Bytes of a model's cache: exact at one point, exact over arrays of points.

    bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots(t)

Tensors of the same slot rule are added up first, so a model of any depth is a handful of terms. The sum is piecewise
linear in t, which is what lets `capacity` invert it without a search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.dtypes import Dtype, dtype_named
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, MissingExtraError
from kvcalc.model import LayerGroup, Model, facts
from kvcalc.report.size import GroupReport, Report, TensorReport
from kvcalc.tensors import CacheTensor, SlotRule
from kvcalc.units import MAX_COUNT, plural, shown
from kvcalc.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from kvcalc.tensors import Tokens

INT64_MAX = 2**63 - 1
POINTS_AT_ONCE = 2**14
"""Points of a sweep worked on together: few enough that what is between two steps stays in the processor's cache."""


class Footprint(NamedTuple):
    """Bytes of one sequence as a function of its cached tokens: each slot rule with its bytes per slot, all layers."""

    terms: tuple[tuple[SlotRule, int], ...]

    @classmethod
    def of(cls, model: Model, engine: Engine, kv_dtype: Dtype) -> Footprint:
        """Footprint of `model` as `engine` stores it in `kv_dtype`."""
        bytes_by_rule: dict[SlotRule, int] = {}
        for group, tensors in zip(model.groups, engine.allocate(model), strict=True):
            for tensor in tensors:
                slot_bytes = len(group.layers) * tensor.bytes_per_slot(kv_dtype)
                bytes_by_rule[tensor.slot_rule] = bytes_by_rule.get(tensor.slot_rule, 0) + slot_bytes
        return cls(tuple(bytes_by_rule.items()))

    def bytes(self, tokens: Tokens) -> Tokens:
        """Bytes of one sequence with `tokens` tokens, an int or an int64 array (which must not overflow)."""
        first, *rest = (rule.slots(tokens) * slot_bytes for rule, slot_bytes in self.terms)
        for term in rest:
            first = first + term
        return first

    def kinks(self) -> list[int]:
        """Token counts, ascending, after which the growth per token changes."""
        return sorted({kink for rule, _ in self.terms for kink in rule.kinks})


def size(
    model: Model,
    *,
    tokens: int,
    sequences: int = 1,
    kv_dtype: str | Dtype = "bf16",
    engine: str = "ideal",
    engine_settings: Mapping[str, Any] | None = None,
) -> Report:
    """Size of the cache of `model` with `sequences` sequences of `tokens` cached tokens each.

    kv_dtype: either spelling, bf16 or bfloat16. engine, engine_settings: who allocates, and how.
    Returns a Report of exact ints, in bytes.
    Raises InvalidValueError, UnknownNameError.
    """
    if not isinstance(model, Model):
        raise InvalidValueError(f"size takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    workload = Workload.of(tokens, sequences, kv_dtype)
    with_settings = Engine.of(engine, engine_settings)
    footprint = Footprint.of(model, with_settings, workload.kv_dtype)
    policies = {
        words: sequences * Footprint.of(model, other, workload.kv_dtype).bytes(tokens)
        for words, other in with_settings.policies().items()
    }
    (policy, total), *others = policies.items()
    return Report(
        model=model.name,
        tokens=tokens,
        sequences=sequences,
        kv_dtype=workload.kv_dtype.name,
        engine=engine,
        engine_settings=tuple(with_settings.settings_by_name().items()),
        bytes_per_token=footprint.bytes(tokens + 1) - footprint.bytes(tokens),
        fixed_bytes_per_sequence=footprint.bytes(0),
        groups=tuple(
            _group_report(group, tensors, workload)
            for group, tensors in zip(model.groups, with_settings.allocate(model), strict=True)
        ),
        model_type=model.model_type,
        source=model.source,
        num_layers_origin=model.origins.get("num_layers", ""),
        policy=policy,
        other_policies=tuple((words, other) for words, other in others if other != total),
        notes=(*model.notes, *_beyond_the_model(model, tokens)),
    )


def sweep(
    models: Model | Sequence[Model],
    *,
    tokens: ArrayLike,
    sequences: ArrayLike = 1,
    kv_dtype: str | Dtype = "bf16",
    engine: str = "ideal",
    engine_settings: Mapping[str, Any] | None = None,
) -> NDArray[np.int64]:
    """Total bytes at many points at once: `size(...).total_bytes` for each pair of `tokens` and `sequences`.

    tokens, sequences: whole numbers, or arrays of them that broadcast together.
    Returns an int64 array of their common shape; for several models one such array each, stacked: (models, ...).
    Raises InvalidValueError for a value below 1, and where a total would not fit an int64: nothing ever wraps.
    """
    try:
        import numpy as np  # costs more than everything else at start-up, so only who sweeps pays for it
    except ImportError as error:  # numpy is a dependency; somebody removed it
        raise MissingExtraError("a sweep needs numpy", help="pip install numpy") from error
    dtype = kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype)
    with_settings = Engine.of(engine, engine_settings)
    token_counts = _whole_numbers(np, tokens, "tokens")
    sequence_counts = _whole_numbers(np, sequences, "sequences")
    several = [models] if isinstance(models, Model) else models
    shape = np.broadcast_shapes(token_counts.shape, sequence_counts.shape)
    flat_tokens = np.broadcast_to(token_counts, shape).reshape(-1)
    flat_sequences = np.broadcast_to(sequence_counts, shape).reshape(-1)
    totals: NDArray[np.int64] = np.empty((len(several), flat_tokens.size), np.int64)
    for model, total in zip(several, totals, strict=True):
        footprint = Footprint.of(model, with_settings, dtype)
        _refuse_overflow(footprint, token_counts, sequence_counts)
        for start in range(0, flat_tokens.size, POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            np.multiply(footprint.bytes(flat_tokens[part]), flat_sequences[part], out=total[part])
    return totals.reshape(shape if isinstance(models, Model) else (len(several), *shape))


def _refuse_overflow(footprint: Footprint, tokens: NDArray[np.int64], sequences: NDArray[np.int64]) -> None:
    if not (tokens.size and sequences.size):
        return
    # No term falls as either count grows, so the largest total stands at the largest of both, in Python's ints.
    largest = footprint.bytes(int(tokens.max())) * int(sequences.max())
    if largest > INT64_MAX:
        raise InvalidValueError(
            f"a total of {largest:,} bytes does not fit a 64-bit integer",
            help="sweep smaller counts, or call kvcalc.size at that point: it has no limit",
        )


def _whole_numbers(np: Any, values: ArrayLike, field: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or (array.size and array.dtype.kind == "u" and int(array.max()) > INT64_MAX):
        raise InvalidValueError(f"{field} must be whole numbers, not of numpy dtype {array.dtype}", field=field)
    if array.size and int(array.min()) < 1:
        raise InvalidValueError(f"{field} must be at least 1, not {int(array.min())}", field=field)
    if array.size and int(array.max()) > MAX_COUNT:
        raise InvalidValueError(f"{field} must be at most {MAX_COUNT:,}, not {int(array.max()):,}", field=field)
    whole: NDArray[np.int64] = array.astype(np.int64, copy=False)
    return whole


def _group_report(group: LayerGroup, tensors: Iterable[CacheTensor], workload: Workload) -> GroupReport:
    return GroupReport(
        name=group.name,
        attention=group.attention.label,
        layers=group.layers,
        tensors=tuple(_tensor_report(tensor, len(group.layers), workload) for tensor in tensors),
        origins=tuple((name, value, group.origins.get(name, "")) for name, value in facts(group.attention).items()),
    )


def _tensor_report(tensor: CacheTensor, num_layers: int, workload: Workload) -> TensorReport:
    slots = tensor.slot_rule.slots(workload.tokens)
    slot_bytes = tensor.bytes_per_slot(workload.kv_dtype)
    dtype = tensor.stored_as(workload.kv_dtype)
    return TensorReport(
        name=tensor.name,
        dims=tuple((dim.name, dim.size) for dim in tensor.dims),
        dtype=dtype.name,
        element_cost=dtype.cost,
        slots=slots,
        slot_rule=str(tensor.slot_rule),
        bytes_per_slot=slot_bytes,
        bytes=workload.sequences * num_layers * slots * slot_bytes,
    )


def _beyond_the_model(model: Model, tokens: int) -> tuple[str, ...]:
    if model.max_model_len is None or tokens <= model.max_model_len:
        return ()
    return (f"{plural(tokens, 'token')} are more than the model was made for ({model.max_model_len:,})",)
