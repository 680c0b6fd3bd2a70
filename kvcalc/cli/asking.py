"""How the values of options become what the library takes, each error under the option that it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

from kvcalc.errors import InvalidValueError, KvcalcError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.cache.dtypes import Dtype
    from kvcalc.engines import Engine
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel
    from kvcalc.question import Question

_ARGUMENT = "MODEL"
Given = ParamSpec("Given")
Result = TypeVar("Result")


def located(option: str, read: Callable[Given, Result], *values: Given.args, **named: Given.kwargs) -> Result:
    """Result of `read`; an error says which option its value came from."""
    try:
        return read(*values, **named)
    except KvcalcError as error:
        raise error.at(option) if option and not error.where else error from None


def token_counts(texts: Sequence[str]) -> list[int]:
    """Token counts of all --tokens, each of which may hold several, separated by commas."""
    from kvcalc.units import parse_token_list

    return [tokens for text in texts for tokens in located("--tokens", parse_token_list, text)]


USUAL_TOKENS = (1024, 8192, 32768, 131072)
"""Lengths that are shown where none is asked for: 1K, 8K, 32K, 128K."""


def usual_token_counts(engine: Engine, model: Model) -> Sequence[int | None]:
    """Lengths to show of a model where none is asked for: the usual ones up to its own context, and that.

    An engine with one context for all makes the model's own (None).
    """
    if engine.SHARES_CONTEXT:
        return [None]
    own = model.max_model_len
    return [*(length for length in USUAL_TOKENS if own is None or length < own), *([own] if own else [])]


class Terms(NamedTuple):
    """A question that has no model yet: users, format and engine, each checked under the option that it came from."""

    sequences: int
    kv_dtype: Dtype
    engine: Engine

    def of(self, model: Model, tokens: int | None, parallel: Parallel | None = None) -> Question:
        """The question of a model; tokens: None for its own context, where the engine makes one."""
        from kvcalc.question import Question

        sequences, kv_dtype, engine = self
        return Question.of(
            model, tokens=tokens, sequences=sequences, kv_dtype=kv_dtype, engine=engine, parallel=parallel
        )


def device(gpu: str | None, memory: str | None) -> Gpu:
    """The GPU of --gpu and --memory."""
    from kvcalc.fleet.fit import device_asked_for
    from kvcalc.hardware import gpu_named

    option = "--gpu" if memory is None else "--memory"
    return located("--gpu" if gpu else option, gpu_named, located(option, device_asked_for, gpu, memory))


def terms(batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None) -> Terms:
    """Terms of --batch, --dtype, --engine and --engine-set."""
    from kvcalc.engines import Engine

    given = settings(engine, engine_set)
    users, kv_dtype = _workload(batch, dtype)
    return Terms(users, kv_dtype, located("--engine-set" if given else "--engine", Engine.of, engine, given))


def terms_on(
    gpu: str, share: Fraction | None, batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None
) -> Terms:
    """The same, with the engine on a GPU, of whose memory it takes a share."""
    from kvcalc.fleet.fit import engine_on

    given = settings(engine, engine_set)
    users, kv_dtype = _workload(batch, dtype)
    option = "--engine-set" if given else "--engine"
    return Terms(users, kv_dtype, located(option, engine_on, gpu, engine, given, share))


def _workload(batch: str, dtype: str) -> tuple[int, Dtype]:
    from kvcalc.cache.dtypes import dtype_named
    from kvcalc.units import parse_tokens

    return located("--batch", parse_tokens, batch, "batch"), located("--dtype", dtype_named, dtype)


def settings(engine: str, engine_set: Sequence[str] | None) -> dict[str, object]:
    """Settings of all --engine-set, typed as the engine's fields are."""
    from kvcalc.engines import Engine

    by_default = located("--engine", Engine.of, engine)
    if not engine_set:
        return {}

    from kvcalc.engines.base.reading import read_settings

    return located("--engine-set", read_settings, type(by_default), engine_set)


def parallel(tp: int, pp: int, dp: int, dcp: int = 1) -> Parallel | None:
    """Layout of --tp, --pp, --dp and --dcp; None for one rank, which needs none."""
    if (tp, pp, dp, dcp) == (1, 1, 1, 1):
        return None

    from kvcalc.parallel import Parallel

    options = "--tp, --pp, --dp" if dcp == 1 else "--tp, --pp, --dp, --dcp"
    return located(options, Parallel, tp, pp, dp, dcp)


def one_model(
    named: str | None,
    preset: str | None,
    path: str | None,
    attention: str | None = None,
    assume: str | None = None,
    *,
    mtp: bool = False,
    hub: bool = False,
    methods: Sequence[str] | None = None,
) -> Model:
    """The model named as an argument, by --preset or by --model, as --mtp, --attention and then each --method want it.

    hub: whether --hub reads it.

    Raises InvalidValueError where none is named, or several are.
    """
    from kvcalc.io.loading import load_named
    from kvcalc.model import with_draft_layers

    given = [(option, name) for option, name in ((_ARGUMENT, named), ("--preset", preset), ("--model", path)) if name]
    if len(given) != 1:
        state = " and ".join(option for option, _ in given) + " each name a model" if given else "no model is named"
        raise InvalidValueError(state, help="name one: r1, Qwen/Qwen3-8B, qwen3:8b, or path/to/config.json")
    ((option, name),) = given
    _known_assumption(assume)
    model = located("" if option == _ARGUMENT else option, load_named, name, assume=assume, hub=hub)
    if mtp:
        model = located("--mtp", with_draft_layers, model)
    for option, specs in (("--attention", () if attention is None else (attention,)), ("--method", methods or ())):
        for spec in specs:
            model = _under(option, model, spec)
    return model


def _under(option: str, model: Model, spec: str) -> Model:
    """The model under a method; loaded only where one is asked for."""
    from kvcalc.methods import apply_method

    return located(option, apply_method, model, spec)


def _known_assumption(assume: str | None) -> None:
    if assume is None:
        return

    from kvcalc.io.hf_config import check_assumption

    located("--assume", check_assumption, assume)
