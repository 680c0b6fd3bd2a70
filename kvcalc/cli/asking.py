"""Converts option values to the library's arguments; each error names its option."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.errors import InvalidValueError
from kvcalc.errors import located as located  # noqa: PLC0414  # re-exported for the commands

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.engines import Engine
    from kvcalc.fleet.weights import Weights
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.io.asked import Door, Terms
    from kvcalc.model import Model
    from kvcalc.model.checkpoint import Inventory
    from kvcalc.parallel import Parallel

_ARGUMENT = "MODEL"


def token_counts(texts: Sequence[str]) -> list[int]:
    """Token counts of all --tokens, each a comma-separated list."""
    from kvcalc.units import parse_token_list

    return [tokens for text in texts for tokens in located("--tokens", parse_token_list, text)]


def usual_token_counts(engine: Engine, model: Model) -> Sequence[int | None]:
    """Default token counts for a model: the usual ones up to its context, and the context itself.

    None (the model's context) for an engine with one context for all models.
    """
    from kvcalc.io.asked import USUAL_TOKENS

    if engine.SHARES_CONTEXT:
        return [None]
    own = model.max_model_len
    return [*(length for length in USUAL_TOKENS if own is None or length < own), *([own] if own else [])]


def device(gpu: str | None, memory: str | None) -> Gpu:
    """The GPU of --gpu and --memory."""
    from kvcalc.fleet.fit import device_asked_for
    from kvcalc.hardware import gpu_named

    option = "--gpu" if memory is None else "--memory"
    return located("--gpu" if gpu else option, gpu_named, located(option, device_asked_for, gpu, memory))


def _door() -> Door:
    """The command line's own."""
    from kvcalc.io.asked import Door

    return Door("--batch", "--dtype", "--engine", "--engine-set", "--attention", "--method", "--mtp", "--draft-model")


def terms(batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None) -> Terms:
    """Terms of --batch, --dtype, --engine and --engine-set."""
    return _door().terms(batch, dtype, engine, settings(engine, engine_set))


def terms_on(
    gpu: str, share: Fraction | None, batch: str, dtype: str, engine: str, engine_set: Sequence[str] | None
) -> Terms:
    """The same, with the engine on a GPU and its share of the memory."""
    return _door().terms_on(gpu, share, batch, dtype, engine, settings(engine, engine_set))


def weights(model: Model, given: str | None, form: str | None) -> Weights:
    """The model's weights from --weights or --weights-dtype, or from other sources (`kvcalc.io.weights`).

    What is not counted from a config.json by arithmetic is counted from its class if transformers is installed.
    """
    from kvcalc.io.weights import find_weights

    option = "--weights-dtype" if form is not None else "--weights"
    try:
        return located(option, find_weights, model, given, form)
    except InvalidValueError as error:
        if error.field != "weights" or given is not None or not model.checkpoint.path:
            raise
        inventory = _counted_here(model)
        if inventory is None:
            raise
    return located(option, find_weights, model, None, form, inventory=inventory)


def served_weights(
    model: Model, given: str | None, form: str | None, engine: Engine, *, reserved: bool = False
) -> Weights:
    """The same as `engine` loads them, with those of another checkpoint that drafts. reserved: by --reserve."""
    from kvcalc.io import weights as of_model

    found = weights(model, given, form)
    try:
        return of_model.served_weights(found, model, engine, reserved=reserved)
    except InvalidValueError as error:
        if error.field != "drafts":
            raise
        help = "include them in --reserve, or remove the drafts"
        raise InvalidValueError(error.what, where="--reserve", help=help) from None


def known_weights(model: Model, given: str | None, form: str | None) -> Weights | None:
    """The same, or None if their size is neither given nor known."""
    try:
        return weights(model, given, form)
    except InvalidValueError as error:
        if error.field != "weights" or given is not None or form is not None:
            raise
        return None


def _counted_here(model: Model) -> Inventory | None:
    """Tensors of a config.json's class; None if transformers is not installed or lacks the class."""
    from importlib.util import find_spec

    if not (find_spec("transformers") and find_spec("torch")):
        return None

    from kvcalc.errors import NotApplicableError

    try:
        return tensors_of_class(model)
    except NotApplicableError:
        return None


def tensors_of_class(model: Model) -> Inventory | None:
    """Tensors of the model's class in transformers, built from its config on the meta device; None without a config."""
    from kvcalc.io.loading import config_values
    from kvcalc.io.weights.inventories import preset_config

    path = model.checkpoint.path
    config = config_values(Path(path)) if path else preset_config(model.checkpoint.preset)
    if config is None:
        return None

    from kvcalc.cli._verifying import needs

    needs("torch", "transformers")

    from kvcalc.verify.transformers.inventory import inventory

    return inventory(config)


def settings(engine: str, engine_set: Sequence[str] | None) -> dict[str, object]:
    """Settings of all --engine-set, typed as the engine's fields are."""
    from kvcalc.engines import Engine

    by_default = located("--engine", Engine.of, engine)
    if not engine_set:
        return {}

    from kvcalc.engines.base.reading import read_settings

    return located("--engine-set", read_settings, type(by_default), engine_set)


def parallel(tp: int, pp: int, dp: int, dcp: int = 1, ep: int = 1) -> Parallel | None:
    """Layout from --tp, --pp, --dp, --dcp and --ep; None for a single rank."""
    if (tp, pp, dp, dcp, ep) == (1, 1, 1, 1, 1):
        return None

    from kvcalc.parallel import Parallel

    more = {"--dcp": dcp, "--ep": ep}
    options = ", ".join(("--tp", "--pp", "--dp", *(option for option, degree in more.items() if degree != 1)))
    return located(options, Parallel, tp, pp, dp, dcp, ep)


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
    engine: Engine | None = None,
    draft: str | None = None,
) -> Model:
    """The model named by the argument, --preset or --model, changed by --mtp, --attention and each --method.

    hub: whether to read it from the hub (--hub). engine: whose settings may name a checkpoint that drafts; draft: that
    checkpoint (--draft-model), in their place.

    Raises InvalidValueError if none or several are named.
    """
    from kvcalc.io.loading import load_named

    given = [(option, name) for option, name in ((_ARGUMENT, named), ("--preset", preset), ("--model", path)) if name]
    if len(given) != 1:
        state = " and ".join(option for option, _ in given) + " each name a model" if given else "no model named"
        raise InvalidValueError(state, help=_name_one(named))
    ((option, name),) = given
    _known_assumption(assume)
    model = located("" if option == _ARGUMENT else option, load_named, name, assume=assume, hub=hub)
    drafting = None
    if engine is not None:
        from kvcalc.io.drafting import Drafting

        drafting = Drafting(engine, draft, hub=hub)
    return _door().changed(model, attention=attention, methods=methods or (), mtp=mtp, drafting=drafting)


def _name_one(named: str | None) -> str:
    if named and named[0].isdigit() and named.rstrip("kKmM").replace("_", "").isdecimal():  # behind --preset
        return f"{named} reads as tokens: write -t {named}"
    return "name one: r1, Qwen/Qwen3-8B, qwen3:8b or path/to/config.json"


def several_models(
    named: str | None,
    preset: str | None,
    path: str | None,
    attention: str | None = None,
    assume: str | None = None,
    *,
    mtp: bool = False,
    hub: bool = False,
    methods: Sequence[str] | None = None,
    engine: Engine | None = None,
    draft: str | None = None,
) -> list[Model]:
    """Models of one argument or option, each as `one_model` has it: several have commas between their names."""
    from kvcalc.io.files import exists

    given = [name for name in (named, preset, path) if name]
    several = len(given) == 1 and "," in given[0] and not exists(Path(given[0]))
    words = list(dict.fromkeys(given[0].split(","))) if several else [None]

    def alone(word: str | None, option: str | None) -> str | None:
        return option if word is None or not option else word

    return [
        one_model(
            alone(word, named),
            alone(word, preset),
            alone(word, path),
            attention,
            assume,
            mtp=mtp,
            hub=hub,
            methods=methods,
            engine=engine,
            draft=draft,
        )
        for word in words
    ]


def all_models(
    models: Sequence[str],
    preset: str | None,
    path: str | None,
    assume: str | None,
    *,
    mtp: bool,
    hub: bool,
    engine: Engine | None = None,
) -> list[Model]:
    """Models named by any number of arguments, or those named by an option; commas in a name as in `several_models`."""
    names: Sequence[str | None] = models or [None]
    return [
        model
        for named in names
        for model in several_models(named, preset, path, None, assume, mtp=mtp, hub=hub, engine=engine)
    ]


def with_attention(model: Model, attention: str) -> Model:
    """The model with the attention given by --attention."""
    return _door().changed(model, attention=attention)


def _known_assumption(assume: str | None) -> None:
    if assume is None:
        return

    from kvcalc.io.hf_config import check_assumption

    located("--assume", check_assumption, assume)
