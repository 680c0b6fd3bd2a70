"""Bytes of a model's cache over arrays of points: exact in int64, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from kvcalc.answers.spread import Redone, spread
from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError
from kvcalc.model import Model
from kvcalc.units import MAX_COUNT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

INT64_MAX = 2**63 - 1
POINTS_OF_A_PART = 2**18
"""Points per part for a worker: 2 MiB of tokens, and as much in return."""
POINTS_AT_ONCE = 2**14
"""Points per batch: few enough that intermediate arrays stay in the CPU's cache."""
_HELP = f"pass whole numbers from 1 to {MAX_COUNT:,}, for example a numpy array of int64"


def sweep(  # noqa: PLR0913  # what is asked, and of whom
    models: Model | Sequence[Model],
    *,
    tokens: ArrayLike,
    sequences: ArrayLike = 1,
    kv_dtype: str | Dtype = "bf16",
    engine: str | Engine = "ideal",
    engine_settings: Mapping[str, object] | None = None,
    executor: Executor | None = None,
) -> NDArray[np.int64]:
    """Total bytes at many points: `size(...).total_bytes` for each pair of `tokens` and `sequences`.

    tokens, sequences: whole numbers, or arrays of them that broadcast together. Returns an int64 array of their common
    shape; for several models stacked: (models, ...).
    executor: whose workers do it, in parts of POINTS_OF_A_PART; a RuntimeWarning says which parts they failed at.
    Raises InvalidValueError for a value below 1, and if a total would not fit an int64: nothing ever wraps.
    """
    import numpy as np  # takes longer to import than all of kvcalc, so only sweeps import it

    dtype = kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype)
    with_settings = engine if isinstance(engine, Engine) else Engine.of(engine, engine_settings)
    several = [models] if isinstance(models, Model) else models
    token_counts, most_tokens = _whole_numbers(tokens, "tokens")
    sequence_counts, most_sequences = _whole_numbers(sequences, "sequences")
    try:
        one_batch = sequence_counts.ndim == 0
        shape = token_counts.shape if one_batch else np.broadcast_shapes(token_counts.shape, sequence_counts.shape)
    except ValueError:
        raise InvalidValueError(
            f"tokens of shape {token_counts.shape} and sequences of shape {sequence_counts.shape} do not broadcast",
            help="pass equal shapes, or an axis of length 1 in one of them",
        ) from None
    if with_settings.SHARES_CONTEXT:
        each = [([model], with_settings, dtype, token_counts, sequence_counts) for model in several]
        redone = Redone()
        shared = np.concatenate([*spread(_shared_contexts, each, executor, redone)])
        redone.warn()
        return shared[0] if isinstance(models, Model) else shared
    footprints = [with_settings.footprint(model, dtype) for model in several]
    for longest in filter(None, (with_settings.longest(model, dtype) for model in several)):
        longest.check(most_tokens)
    _check_largest(footprints, most_tokens, most_sequences)
    flat_tokens = token_counts.reshape(-1) if token_counts.shape == shape else _spread(token_counts, shape)
    # A single batch size stays a scalar, which numpy broadcasts.
    flat_sequences = sequence_counts if sequence_counts.ndim == 0 else _spread(sequence_counts, shape)
    totals: NDArray[np.int64] = np.empty((len(footprints), flat_tokens.size), np.int64)
    if executor is not None:
        _sweep_on(executor, footprints, flat_tokens, flat_sequences, totals)
        return totals.reshape(shape if isinstance(models, Model) else (len(footprints), *shape))
    for footprint, total in zip(footprints, totals, strict=True):
        for start in range(0, flat_tokens.size, POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            batch = flat_sequences[part] if flat_sequences.ndim else flat_sequences
            np.multiply(footprint.bytes(flat_tokens[part]), batch, out=total[part])
    return totals.reshape(shape if isinstance(models, Model) else (len(footprints), *shape))


def _sweep_on(
    executor: Executor,
    footprints: Sequence[Footprint],
    tokens: NDArray[np.int64],
    sequences: NDArray[np.int64],
    totals: NDArray[np.int64],
) -> None:
    """Totals computed by workers, by model and part."""
    places = [
        (row, slice(start, start + POINTS_OF_A_PART))
        for row in range(len(footprints))
        for start in range(0, tokens.size, POINTS_OF_A_PART)
    ]
    parts = ((footprints[row], tokens[part], sequences[part] if sequences.ndim else sequences) for row, part in places)
    redone = Redone()
    for (row, part), found in zip(places, spread(_totals, parts, executor, redone), strict=True):
        totals[row, part] = found
    redone.warn()


def _totals(part: tuple[Footprint, NDArray[np.int64], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Totals of one part."""
    import numpy as np

    footprint, tokens, sequences = part
    found: NDArray[np.int64] = np.empty(tokens.size, np.int64)
    for start in range(0, tokens.size, POINTS_AT_ONCE):
        within = slice(start, start + POINTS_AT_ONCE)
        batch = sequences[within] if sequences.ndim else sequences
        np.multiply(footprint.bytes(tokens[within]), batch, out=found[within])
    return found


def _shared_contexts(
    part: tuple[Sequence[Model], Engine, Dtype, NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Totals of contexts shared by all sequences: (models, ...); one footprint per number of sequences."""
    import numpy as np

    models, engine, kv_dtype, tokens, sequences = part
    tokens, sequences = np.broadcast_arrays(tokens, sequences)
    totals: NDArray[np.int64] = np.empty((len(models), *tokens.shape), np.int64)
    for number in np.unique(sequences).tolist():
        footprints = [engine.serving(number).footprint(model, kv_dtype) for model in models]
        at = sequences == number
        _check_largest(footprints, int(tokens[at].max()), 1)
        for footprint, total in zip(footprints, totals, strict=True):
            total[at] = footprint.bytes(tokens[at])
    return totals


def _check_largest(footprints: Sequence[Footprint], tokens: int, sequences: int) -> None:
    """Raises InvalidValueError if a total may not fit an int64.

    The maximum of a sequence up to its length bounds every total, computed in Python ints.
    """
    largest = max((footprint.most(tokens) * sequences for footprint in footprints), default=0)
    if largest > INT64_MAX:
        raise InvalidValueError(
            f"a total of {largest:,} bytes does not fit a 64-bit integer",
            help="sweep smaller counts, or call kvcalc.size for that point: it has no limit",
        )


def _spread(array: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    import numpy as np

    return np.broadcast_to(array, shape).reshape(-1)


def _whole_numbers(values: ArrayLike, field: str) -> tuple[NDArray[np.int64], int]:
    """`values` as int64, and the largest of them (0 if empty)."""
    import numpy as np

    if type(values) is int and 0 < values <= MAX_COUNT:
        return np.array(values, np.int64), values
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise InvalidValueError(
            f"{field} must be an array of whole numbers: {error}", field=field, help=_HELP
        ) from None
    if array.dtype.kind not in "iu":
        raise InvalidValueError(
            f"{field} must be whole numbers, not of numpy dtype {array.dtype}", field=field, help=_HELP
        )
    if not array.size:
        return array.astype(np.int64), 0
    least, most = int(array.min()), int(array.max())
    if least < 1:
        raise InvalidValueError(f"{field} must be at least 1, not {least}", field=field, help=_HELP)
    if most > MAX_COUNT:
        raise InvalidValueError(f"{field} must be at most {MAX_COUNT:,}, not {most:,}", field=field, help=_HELP)
    return array.astype(np.int64, copy=False), most
