"""The question of an entry: model, context, sequences, engine and layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvcalc.engines import Engine
from kvcalc.engines.base.devices import known_device
from kvcalc.engines.base.plan import Planner
from kvcalc.engines.base.reading import typed
from kvcalc.engines.base.versions import NEAREST
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.fit import engine_on, layout_of
from kvcalc.fleet.memory import share_of
from kvcalc.io.drafting import Drafting
from kvcalc.io.engine_args import has_draft, served_model
from kvcalc.io.loading import load_named
from kvcalc.io.plans.device import gpu_of
from kvcalc.io.plans.form import WorkloadEntry
from kvcalc.io.plans.row import Row
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import parse_tokens, positive_int, shown

if TYPE_CHECKING:
    from kvcalc.fleet.traffic.mix import Mix

_SLOTS = ("n_seq_max", "num_parallel")
"""Engine settings for the number of sequences that share a context."""
_DEGREES = ("tp", "pp", "dp", "dcp", "ep")


def length_of(row: Row, model: Model) -> int:
    """Tokens of a sequence."""
    tokens = row.take("tokens", parse_tokens, _tokens(row, model))
    return row.take("tokens", positive_int, tokens, "tokens")


def longest_of(row: Row, model: Model, mix: Mix) -> int:
    """Tokens of the longest request of a workload, up to the limit."""
    ends = (row.args.length, model.max_model_len)
    return min([mix.workload.longest, *(end for end in ends if isinstance(end, int))])


def _tokens(row: Row, model: Model) -> int | str:
    """Tokens as given, or from args; else the model's context, which engines serve by default."""
    if row.entry.tokens is not None:
        return row.entry.tokens
    if row.args.length is not None:
        return row.args.length
    own = own_context_of(row, model)
    if own is None:
        raise row.missing("tokens")
    return own


def own_context_of(row: Row, model: Model) -> int | None:
    """Tokens of the engine's default context."""
    return row.take("engine", engine_of(row).serving, sequences_of(row)).own_context(model)


def mix_of(row: Row) -> Mix | None:
    """The workload, if requests differ in length."""
    given = row.entry.workload
    if given is None:
        return None
    if row.entry.tokens is not None:
        what = "tokens and workload are both given"
        raise row.refuse(what, "give only one: a workload already has the lengths of requests", "tokens")
    entry = WorkloadEntry.model_validate({"trace": given}) if isinstance(given, str) else given
    if (entry.trace is None) == (entry.prompt is None):
        both = "given" if entry.trace is not None else "missing"
        raise row.refuse(
            f"a workload has a trace or a prompt, and both are {both}", "give only one of them", "workload"
        )
    return row.once(("workload", repr(entry)), lambda: _read_mix(row, entry))


def _read_mix(row: Row, entry: WorkloadEntry) -> Mix:
    from kvcalc.io.workloads import mix_of, trace_of, workload_of

    try:
        if entry.prompt is None:
            workload = trace_of(row.folder / str(entry.trace), entry.output)
        else:
            workload = workload_of(entry.prompt, entry.output)
        return mix_of(
            workload,
            quantile=entry.quantile,
            shared_prefix=entry.shared_prefix,
            prefixes=entry.prefixes,
            active=entry.active,
        )
    except KvcalcError as error:
        field = getattr(error, "field", "")
        field = field if field in WorkloadEntry.model_fields else ""
        raise error.at(row.document.where((*row.path, "workload", *filter(None, [field])))) from None


def model_of(row: Row) -> Model:
    """The model of the entry, or of its args."""
    entry = row.entry
    if entry.model is None and row.args.model is None:
        raise row.missing("model")
    of, name = ("args", row.args.model) if entry.model is None else ("model", entry.model)
    drafting = _drafting_of(row)
    drafts = None if drafting.named is None else repr(drafting)
    return row.once(
        ("model", of, name, entry.attention, drafts, row.args.length, repr(row.args.overrides)),
        lambda: _read_model(row, of, str(name)),
    )


def _read_model(row: Row, of: str, name: str) -> Model:
    model = row.take(of, load_named, name, row.folder, hub=row.hub)
    model = served_model(model, row.args)
    drafting = _drafting_of(row)
    if drafting.named is not None:
        model = row.take("engine_settings" if row.args.draft is None else "args", drafting.of, model)
    if row.entry.attention is None:
        return model
    return row.take("attention", apply_method, model, row.entry.attention)


def _drafting_of(row: Row) -> Drafting:
    """The draft checkpoint: from args or settings."""
    return Drafting(engine_of(row), row.args.draft if has_draft(row.args) else None, row.folder, row.hub)


def sequences_of(row: Row) -> int:
    """Sequences or users, or an engine setting for them."""
    entry = row.entry
    if entry.sequences is not None and entry.concurrency is not None:
        raise row.refuse(
            "sequences and concurrency are the same field, and both are given", "give only one of them", "concurrency"
        )
    field = "sequences" if entry.concurrency is None else "concurrency"
    number = getattr(entry, field)
    if number is None:
        number = next((row.args.settings[name] for name in _SLOTS if row.args.settings.get(name)), 1)
    return row.take(field, positive_int, number, field)


def says_users(row: Row) -> bool:
    """Whether the entry, or a setting of the engine, gives the number of users."""
    given = (row.entry.sequences, row.entry.concurrency, *(row.args.settings.get(name) for name in _SLOTS))
    return any(each is not None for each in given)


def ranks_of(row: Row) -> Parallel:
    """The layout of both the entry and its args."""
    degrees = dict(row.args.parallel)
    for name in _DEGREES:
        given = getattr(row.entry, name)
        if given is not None and degrees.get(name, given) != given:
            raise row.refuse(f"{name} ({given}) differs from args ({degrees[name]})", "give it in one place", name)
        if given is not None:
            degrees[name] = given
    try:
        ranks = Parallel(**degrees)
    except InvalidValueError as error:
        own = error.field in _DEGREES and getattr(row.entry, error.field) is not None
        field = error.field if own else "args" if row.args.parallel else next(iter(degrees))
        raise error.at(row.where(field)) from None
    if row.entry.gpus is None:
        return ranks
    return row.take("gpus", layout_of, row.entry.gpus, ranks)


def engine_of(row: Row) -> Engine:
    """The engine with the settings of both the entry and its args."""
    entry = row.entry
    name = entry.engine or _engine_of_args(row) or "ideal"
    settings = _settings(row)
    gpu = gpu_of(row)
    key = ("engine", name, repr(settings), gpu and gpu.written, entry.gpu_memory_utilization)
    return row.once(key, lambda: _read_engine(row, name, settings))


def _engine_of_args(row: Row) -> str | None:
    """The engine that args start, in their image's version, or the nearest known one."""
    engine, version = row.args.engine, row.args.version
    return f"{engine}@{NEAREST}" if engine and version else engine


def _read_engine(row: Row, name: str, settings: dict[str, object]) -> Engine:
    entry = row.entry
    default: Engine = row.take("engine", Engine.of, name)
    settings = typed(type(default), settings)
    share = entry.gpu_memory_utilization if isinstance(default, Planner) else None
    given = "args" if entry.args is not None else "engine_settings" if settings else "engine"
    gpu = gpu_of(row)
    if gpu is None:
        return row.take(given, Engine.of, name, settings)
    row.take("memory" if entry.gpu is None else "gpu", known_device, type(default), gpu.written)
    if share is not None:
        row.take("gpu_memory_utilization", share_of, share)
    return row.take(given, engine_on, gpu.written, name, settings, share)


def _settings(row: Row) -> dict[str, object]:
    """Settings of the entry and its args."""
    settings = dict(row.args.settings)
    if row.args.version is not None and row.entry.engine is None:
        settings["version"] = row.args.version
    for name, value in row.entry.engine_settings.items():
        if name in settings and settings[name] != value:
            raise row.refuse(
                f"{name} ({shown(value)}) differs from args ({shown(settings[name])})",
                "give it in one place",
                "engine_settings",
            )
        settings[name] = value
    return settings
