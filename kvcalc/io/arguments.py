"""Parsing of the Python API's arguments: texts as people write them, or Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from kvcalc.cache.dtypes import BF16, Dtype
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, located
from kvcalc.io.asked import Door, Terms
from kvcalc.io.drafting import Drafting
from kvcalc.io.loading import load
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import parse_bytes, parse_token_list, parse_tokens, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


Value = TypeVar("Value")
AnyModel: TypeAlias = "Model | str | PathLike[str] | Mapping[str, object]"
"""A model, or anything that `kvcalc.load` accepts: a name, a path, or a mapping."""
Settings: TypeAlias = "Mapping[str, object] | None"
Specs: TypeAlias = "str | Sequence[str]"
"""One method, or several."""
_DOOR = Door("batch", "dtype", "engine", "engine_settings", "attention", "method", "mtp", "draft_model")


def used(name: str, value: object, other: str, given: object) -> str:
    """The value of an argument with two names. Raises InvalidValueError if both are given."""
    if value is not None and given is not None:
        raise InvalidValueError(
            f"{name} ({shown(value)}) and {other} ({shown(given)}) are the same argument, and both are given",
            field=name,
            help=f"pass only {name}",
        )
    return name if given is None else other


def terms_of(
    batch: int | str | None,
    sequences: int | str | None,
    dtype: str | Dtype | None,
    kv_dtype: str | Dtype | None,
    engine: str | Engine,
    settings: Settings,
    on: tuple[str, Fraction | None] | None = None,
) -> Terms:
    """The terms of a question. on: a GPU, and the engine's share of its memory."""
    door = _DOOR._replace(
        batch=used("batch", batch, "sequences", sequences), dtype=used("dtype", dtype, "kv_dtype", kv_dtype)
    )
    users = sequences if batch is None else batch
    cache_format = kv_dtype if dtype is None else dtype
    users, cache_format = 1 if users is None else users, BF16 if cache_format is None else cache_format
    if on is None:
        return door.terms(users, cache_format, engine, settings)
    if isinstance(engine, Engine):
        raise InvalidValueError(
            f"engine must be a name, since its GPU is a separate argument, not {shown(engine)}",
            field="engine",
            help="for example engine='vllm@0.33'",
        )
    return door.terms_on(*on, users, cache_format, engine, settings)


def model_of(
    model: AnyModel,
    attention: str | None,
    method: Specs,
    assume: str | None,
    *,
    mtp: bool = False,
    hub: bool = False,
    engine: Engine | None = None,
    draft_model: AnyModel | None = None,
) -> Model:
    """The requested model, with draft layers, other attention and methods applied.

    engine: its settings may name a draft checkpoint; draft_model: overrides it.
    """
    if not isinstance(model, Model):
        model = located("model", load, model, assume=assume, hub=hub)
    elif assume is not None:
        raise InvalidValueError(
            f"assume does not apply to a loaded Model ({model.name})",
            field="assume",
            help="pass assume to kvcalc.load, or the config.json instead of the Model",
        )
    if not isinstance(method, str | Sequence):
        raise InvalidValueError(
            f"method must be a text or a list of texts, not {shown(method)}",
            field="method",
            help="for example 'snapkv'",
        )
    methods = [method] if isinstance(method, str) else method
    drafting = None if engine is None else _drafting(engine, draft_model, hub=hub)
    return _DOOR.changed(model, attention=attention, methods=methods, mtp=mtp, drafting=drafting)


def _drafting(engine: Engine, draft_model: AnyModel | None, *, hub: bool) -> Drafting:
    if draft_model is None or isinstance(draft_model, Model):
        return Drafting(engine, draft_model, hub=hub)
    return Drafting(engine, located("draft_model", load, draft_model, hub=hub))


def ranks_of(
    parallel: Parallel | None,
    tp: int | None,
    pp: int | None,
    dp: int | None,
    dcp: int | None,
    ep: int | None = None,
) -> Parallel | None:
    """Layout of the ranks; None for a single rank."""
    degrees = {name: n for name, n in (("tp", tp), ("pp", pp), ("dp", dp), ("dcp", dcp), ("ep", ep)) if n is not None}
    if parallel is None:
        ranks = Parallel(**degrees)
        return None if ranks == Parallel() else ranks
    if not isinstance(parallel, Parallel):
        raise InvalidValueError(
            f"parallel must be a Parallel, not {shown(parallel)}",
            field="parallel",
            help="for example kvcalc.Parallel(tp=8), or only tp=8",
        )
    if degrees:
        name, number = next(iter(degrees.items()))
        raise InvalidValueError(
            f"parallel ({parallel}) and {name} ({shown(number)}) both set the layout",
            field=name,
            help="pass only one of them",
        )
    return parallel


def settings_of(engine: str, settings: Settings) -> dict[str, Any]:
    """Settings of an engine, typed as its fields."""
    return dict(_DOOR.typed(engine, settings) or {})


def length_of(tokens: object, model: Model, engine: Engine) -> int | None:
    """The requested token count; None for the engine's own context."""
    if tokens is not None:
        return one_length(tokens)
    if engine.SHARES_CONTEXT:
        return None
    own = f"tokens={model.max_model_len}, the model's context" if model.max_model_len else "tokens='128K'"
    raise InvalidValueError("no tokens given", field="tokens", help=f"pass {own}")


def one_length(tokens: Any) -> int:
    """One token count. Raises InvalidValueError for several."""
    if isinstance(tokens, Iterable) and not isinstance(tokens, str) and getattr(tokens, "ndim", True):
        raise InvalidValueError(
            f"tokens must be one number, not {shown(tokens)}",
            field="tokens",
            help="kvcalc.sweep(model, tokens=[1024, 8192]) and kvcalc.compare accept several",
        )
    return parse_tokens(tokens)


def lengths(tokens: object) -> list[int]:
    """One or several token counts, as text or list."""
    found: list[int] = []
    each: Any
    for each in [tokens] if isinstance(tokens, str) or not isinstance(tokens, Iterable) else tokens:
        found += parse_token_list(each) if isinstance(each, str) else [parse_tokens(each)]
    if not found:
        raise InvalidValueError("no tokens given", field="tokens", help="pass some: tokens=[1024, 8192]")
    return found


def counts(tokens: ArrayLike) -> ArrayLike:
    """Token counts for an array, some of which may be texts."""
    if isinstance(tokens, str):
        counts = parse_token_list(tokens)
        return counts if len(counts) > 1 else counts[0]
    if isinstance(tokens, list | tuple) and any(isinstance(each, str) for each in tokens):
        return lengths(tokens)
    return tokens


def bytes_of(name: str, value: int | str | None) -> int:
    """A number of bytes, or a text with unit; 0 if not given."""
    if value is None:
        return 0
    if type(value) is int and value >= 0:
        return value
    return parse_bytes(value, name)


def bytes_of_stages(available: int | str | Sequence[int | str] | None) -> int | Sequence[int] | None:
    """Bytes of every rank, or of a rank of each pipeline stage."""
    if isinstance(available, str):
        return bytes_of("available_bytes", available)
    if isinstance(available, Sequence):
        return [bytes_of("available_bytes", each) if isinstance(each, str) else each for each in available]
    return available


def are_several(models: AnyModel | Sequence[AnyModel]) -> bool:
    """Whether it is a list of models, rather than the name of one."""
    return not isinstance(models, Model | str | PathLike | Mapping) and isinstance(models, Iterable)


def one_or_several(values: Any) -> Sequence[Any]:
    """One or several values as a list, from `bf16,fp8` or a list."""
    if isinstance(values, str):
        return [each.strip() for each in values.split(",")]
    return list(values) if isinstance(values, list | tuple) else [values]


def models_in(models: AnyModel | Sequence[AnyModel]) -> Sequence[AnyModel]:
    """One model or several, as a list."""
    listed: list[AnyModel] = list(models) if are_several(models) else [models]  # type: ignore[list-item, arg-type]
    return listed
