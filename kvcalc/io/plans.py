"""Capacity-planning files: which model, how much of it, and what there is to hold it.

deployments:
  - name: chat
    model: llama-3.1-8b
    tokens: 128K
    sequences: 2
    gpu: h100-80gb
    gpu_memory_utilization: 0.9
    weights: 16.1GB
    reserve: 2GiB
  - name: reasoning
    model: r1
    tokens: 128K
    sequences: 8
    budget: 80GB
  - name: served
    args: vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --max-model-len 128K
    concurrency: 4
    gpu: h200
    gpus: 8
    weights: 671GB
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.base import split_version
from kvcalc.engines.base.plan import Planner
from kvcalc.engines.base.reading import typed
from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.errors.foreign import listed, quoted
from kvcalc.fleet.check import Deployment, Limit
from kvcalc.fleet.fit import engine_on, layout_of
from kvcalc.fleet.memory import share_of
from kvcalc.fleet.weights import Weights, weights_of
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import Gpu
from kvcalc.hardware.written import with_memory
from kvcalc.io.documents import Document, Keys, parse_yaml
from kvcalc.io.engine_args import Arguments, read_arguments
from kvcalc.io.loading import load_named
from kvcalc.io.texts import Text, text_of, texts_of
from kvcalc.io.weights import read_weights
from kvcalc.io.written import facts_of, in_short
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.check import Written
from kvcalc.units import both_units, parse_bytes, parse_tokens, plural, positive_int, shown

Given = ParamSpec("Given")
Result = TypeVar("Result")
Tokens = Annotated[
    int | str, Field(description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000).")
]
Bytes = Annotated[int | str, Field(description="Bytes: 80GB (10^9 each), 80GiB (2^30 each), or a plain number.")]


_DEPLOYMENTS = re.compile(
    r"""^(?:[ \t]*\{[ \t]*|.*,[ \t]*|[ \t]*(?=["']))?["']?deployments["']?[ \t]*:""", re.MULTILINE
)
"""A plan's list, at the start of a line or in a JSON object."""
_DEGREES = ("tp", "pp", "dp", "dcp")
_OF_A_GPU = ("gpu", "memory", "gpus", "gpu_memory_utilization", "weights", "reserve")


class DeploymentEntry(BaseModel):
    """One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(
        description="Name of the deployment, unique in its file.", min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$"
    )
    model: str | None = Field(
        None,
        description="A preset's name, or the path of a preset YAML or config.json, relative to this file; "
        "if not given, the model that args name.",
    )
    attention: str | None = Field(
        None, description="What if it had this attention: mha, mqa, gqa:8, mla:512+64, mla-naive."
    )
    tokens: Tokens | None = Field(
        None, description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000); or as args say."
    )
    sequences: int | None = Field(None, description="Sequences cached at the same time, 1 if not given.")
    concurrency: int | None = Field(None, description="The same: users at a context of that many tokens.")
    kv_dtype: str = Field("bf16", description="Format of the cache: bf16, fp8, int8, int4 ...")
    engine: str | None = Field(
        None, description="Who allocates the cache, vllm or vllm@0.33: ideal if neither this nor args say."
    )
    engine_settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings, named as that engine names them."
    )
    args: str | None = Field(
        None, description="The engine's own command line: vllm serve MODEL --tensor-parallel-size 8 ..."
    )
    budget: Bytes | None = Field(None, description="Bytes that the cache may take on each GPU.")
    gpu: str | int | None = Field(None, description="GPU that holds the cache, as `kvcalc gpus` names it.")
    memory: Bytes | None = Field(None, description="Memory of any other device, or of the GPU as it is known: 64GB.")
    gpus: int | None = Field(None, description="GPUs in all: tp x pp x dp.")
    tp: int | None = Field(None, description="Tensor-parallel ranks, which share heads.")
    pp: int | None = Field(None, description="Pipeline stages, which share layers.")
    dp: int | None = Field(None, description="Data-parallel replicas, which share sequences.")
    dcp: int | None = Field(None, description="Tensor-parallel ranks that share tokens, where the engine does.")
    gpu_memory_utilization: float | int | None = Field(
        None,
        description="Share of the GPU's memory in use; if not given, the engine's own, or all of it.",
    )
    weights: Bytes | None = Field(
        None,
        description="Bytes of the model's weights, shared evenly by tp x pp GPUs; or the path of what holds them, "
        "safetensors (index, file, folder) or GGUF, relative to this file; else as the model's authors published them.",
    )
    reserve: Bytes | None = Field(None, description="Bytes for activations, graphs and everything else on each GPU.")


class PlanFile(BaseModel):
    """A capacity plan: `kvcalc check` says of each deployment whether its cache fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    deployments: list[DeploymentEntry] = Field(min_length=1, max_length=10_000)


class Read(NamedTuple):
    """What texts hold. passed_over: what was not read, and why, in sentences."""

    deployments: tuple[Deployment, ...]
    passed_over: tuple[str, ...] = ()


def deployments_of(texts: Iterable[Text], *, lenient: bool = False) -> Read:
    """Deployments of all texts, in order.

    lenient: what cannot be read is passed over and said, not raised: it is not what is asked about.
    Raises KvcalcError with file, line and path of what is wrong.
    """
    found: list[Deployment] = []
    passed_over: list[str] = []
    others = 0
    for text in texts:
        try:
            if not text.asked and not _holds_deployments(text):
                others += 1
            else:
                found.extend(read_plan(text))
        except KvcalcError as error:
            if not lenient:
                raise
            passed_over.append(str(error))
    if others:
        passed_over.append(f"{plural(others, 'file')} without deployments")
    return Read(tuple(found), tuple(passed_over))


def _holds_deployments(text: Text) -> bool:
    """Whether a file that was found, not named, is a plan. Raises InvalidFileError for one that was, and is broken."""
    if _DEPLOYMENTS.search(text.text) is None or "{{" in text.text:
        return False
    values = parse_yaml(text.text, text.name).data
    return isinstance(values, Mapping) and isinstance(values.get("deployments"), list)


def load_plan(path: Path) -> list[Deployment]:
    """Deployments of a plan file. Raises KvcalcError with file, line and path of what is wrong."""
    return read_plan(text_of(path))


def read_plan(text: Text) -> list[Deployment]:
    """Deployments of a plan's text. Raises KvcalcError with file, line and path of what is wrong."""
    document = parse_yaml(text.text, text.name)
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise _first(error, document) from None
    names: dict[str, int] = {}
    for index, entry in enumerate(plan.deployments):
        where: Keys = ("deployments", index, "name")
        if entry.name in names:
            first = document.lines[("deployments", names[entry.name], "name")]
            raise InvalidValueError(
                f"the name {quoted(entry.name)} is taken by the deployment on line {first}",
                where=document.where(where),
                help="give each deployment its own name",
            )
        names[entry.name] = index
    known: dict[Hashable, Any] = {}
    return [
        _Row(entry, document, ("deployments", index), text, known).deployment()
        for index, entry in enumerate(plan.deployments)
    ]


class _Row:
    """One entry on its way to a Deployment. known: what other entries of the file have read already."""

    def __init__(
        self, entry: DeploymentEntry, document: Document, path: Keys, text: Text, known: dict[Hashable, Any]
    ) -> None:
        self._entry = entry
        self._document = document
        self._path = path
        self._text = text
        self._known = known
        self._args = Arguments("", None, {}, {}, None, ())
        if entry.args is not None:
            engine = entry.engine and split_version(entry.engine)[0]
            self._args = self._take("args", read_arguments, entry.args, engine)

    def deployment(self) -> Deployment:
        """The entry, read."""
        entry = self._entry
        model = self._model()
        tokens = self._take("tokens", positive_int, self._take("tokens", parse_tokens, self._tokens(model)), "tokens")
        dtype = self._take("kv_dtype", dtype_named, entry.kv_dtype)
        ranks = self._ranks()
        engine = self._engine()
        return Deployment(
            name=entry.name,
            asked=Question(model, tokens, self._sequences(), dtype, engine, ranks),
            limit=self._limit(engine, ranks, model),
            file=self._text.file,
            line=self._document.lines[self._path],
            where=self._document.where(self._path),
            remarks=self._remarks(model),
            written=tuple(self._written()),
        )

    def _model(self) -> Model:
        entry = self._entry
        if entry.model is None and self._args.model is None:
            raise self._missing("model")
        of, name = ("args", self._args.model) if entry.model is None else ("model", entry.model)
        return self._once(("model", of, name, entry.attention), lambda: self._read_model(of, str(name)))

    def _read_model(self, of: str, name: str) -> Model:
        model = self._take(of, load_named, name, self._text.folder)
        if self._entry.attention is None:
            return model
        return self._take("attention", apply_method, model, self._entry.attention)

    def _tokens(self, model: Model) -> int | str:
        """Tokens as they are given, or as args say; else the model's own context, which engines serve by default."""
        if self._entry.tokens is not None:
            return self._entry.tokens
        by_args = self._tokens_of_args()
        if by_args is not None:
            return by_args
        if model.max_model_len is None:
            raise self._missing("tokens")
        return model.max_model_len

    def _tokens_of_args(self) -> int | None:
        by_args = self._args.tokens or self._args.settings.get("max_model_len")
        return None if by_args is None or by_args < 0 else int(by_args)

    def _sequences(self) -> int:
        entry = self._entry
        if entry.sequences is not None and entry.concurrency is not None:
            raise self._refuse(
                "sequences and concurrency are both given, and are the same", "give one of them", "concurrency"
            )
        field = "sequences" if entry.concurrency is None else "concurrency"
        number = getattr(entry, field)
        if number is None:
            number = self._args.settings.get("n_seq_max", 1)
        return self._take(field, positive_int, number, field)

    def _ranks(self) -> Parallel:
        """The layout of both the entry and its args."""
        degrees = dict(self._args.layout)
        for name in _DEGREES:
            given = getattr(self._entry, name)
            if given is not None and degrees.get(name, given) != given:
                raise self._refuse(
                    f"{name} ({given}) is not what args say ({degrees[name]})", "give it in one place", name
                )
            if given is not None:
                degrees[name] = given
        try:
            ranks = Parallel(**degrees)
        except InvalidValueError as error:
            own = error.field in _DEGREES and getattr(self._entry, error.field) is not None
            field = error.field if own else "args" if self._args.layout else next(iter(degrees))
            raise error.at(self._document.where((*self._path, field))) from None
        if self._entry.gpus is None:
            return ranks
        return self._take("gpus", layout_of, self._entry.gpus, ranks)

    def _engine(self) -> Engine:
        entry = self._entry
        name = entry.engine or self._args.engine or "ideal"
        settings = self._settings()
        gpu = self._gpu()
        key = ("engine", name, repr(settings), gpu and gpu.written, entry.gpu_memory_utilization)
        return self._once(key, lambda: self._read_engine(name, settings))

    def _read_engine(self, name: str, settings: dict[str, object]) -> Engine:
        entry = self._entry
        default: Engine = self._take("engine", Engine.of, name)
        settings = typed(type(default), settings)
        share = entry.gpu_memory_utilization if isinstance(default, Planner) else None
        given = "args" if entry.args is not None else "engine_settings" if settings else "engine"
        gpu = self._gpu()
        if gpu is None:
            return self._take(given, Engine.of, name, settings)
        if share is not None:
            self._take("gpu_memory_utilization", share_of, share)
        return self._take(given, engine_on, gpu.written, name, settings, share)

    def _gpu(self) -> Gpu | None:
        """The device of gpu and memory, where either is given."""
        entry = self._entry
        if entry.gpu is None and entry.memory is None:
            return None
        name = None if entry.gpu is None else str(entry.gpu)
        field = "gpu" if entry.memory is None else "memory"
        return self._take("gpu" if name else field, gpu_named, self._take(field, with_memory, name, entry.memory))

    def _settings(self) -> dict[str, object]:
        """Settings of both the entry and its args."""
        settings = dict(self._args.settings)
        for name, value in self._entry.engine_settings.items():
            if name in settings and settings[name] != value:
                raise self._refuse(
                    f"{name} ({shown(value)}) is not what args say ({shown(settings[name])})",
                    "give it in one place",
                    "engine_settings",
                )
            settings[name] = value
        return settings

    def _limit(self, engine: Engine, ranks: Parallel, model: Model) -> Limit:
        entry = self._entry
        if entry.budget is not None:
            for field in _OF_A_GPU:
                if getattr(entry, field) is not None and field != "gpus":
                    raise self._refuse(
                        f"{field} and budget cannot both be given", "a budget is what is left for the cache", field
                    )
            return Limit.of_budget(self._take("budget", parse_bytes, entry.budget, "budget"))
        gpu = self._gpu()
        if gpu is None:
            raise self._refuse(
                "there is neither a budget nor a gpu", "add budget: 80GB, or gpu: h100-80gb with weights: 16GB"
            )
        given = entry.gpu_memory_utilization
        utilization = Fraction(1) if given is None else self._take("gpu_memory_utilization", share_of, given)
        total_bytes = self._weights(model).bytes
        return self._take(
            "memory" if entry.gpu is None else "gpu",
            Limit.of_gpu,
            self._take("memory" if entry.gpu is None else "gpu", engine.settled, model, ranks),
            gpu,
            utilization,
            -(-total_bytes // (ranks.tp * ranks.pp)),
            self._take("reserve", parse_bytes, entry.reserve or 0, "reserve"),
        )

    def _weights(self, model: Model) -> Weights:
        """The weights as they are given, or as the model's authors published them."""
        given = self._entry.weights
        if given is None and model.weights_bytes is None:
            of = "memory" if self._entry.gpu is None else "gpu"
            raise self._refuse(
                f"{of} is given without weights", "add weights: and the bytes of the whole model's weights"
            )
        if given is None:
            return self._take("gpu" if self._entry.gpu is not None else "memory", weights_of, model)
        return self._once(("weights", given), lambda: self._take("weights", read_weights, given, self._text.folder))

    def _written(self) -> Iterator[Written]:
        """The entry's fields as they were written, settings and arguments one by one, and those of its model's file."""
        entry = self._document.data["deployments"][self._path[1]]
        for field, value in entry.items():
            if field not in ("name", "args", "engine_settings"):
                yield self._field(field, value, field)
        for name, value in self._entry.engine_settings.items():
            yield self._field(f"engine_settings.{name}", value, "engine_settings")
        if self._entry.args is not None:
            args = self._args
            said = {"engine": args.engine, "model": args.model, "tokens": args.tokens, **args.layout, **args.settings}
            for name, value in said.items():
                if value is not None:
                    yield self._field(f"args: {name}", value, "args")
        given = self._entry.model
        name, of = (str(self._args.model), "args: model") if given is None else (given, "model")
        yield from self._once(("facts", name), lambda: facts_of(name, self._text.folder, of))

    def _field(self, name: str, value: object, at: str) -> Written:
        return Written(name, in_short(value), self._text.file, self._document.lines.get((*self._path, at), 0))

    def _remarks(self, model: Model) -> tuple[str, ...]:
        found = []
        if self._args.unknown:
            found.append(f"arguments that are not known here and do not speak of memory: {listed(self._args.unknown)}")
        if self._entry.tokens is None and self._tokens_of_args() is None:
            found.append(f"no tokens are given: the model's own context of {model.max_model_len:,} is taken")
        gpu = None if self._entry.budget is not None else self._gpu()
        if gpu is not None:
            found.extend(gpu.remarks())
        if gpu is not None and self._entry.weights is None:
            weights = self._weights(model)
            found.append(f"weights of {both_units(weights.bytes)}, {weights.source}")
        return tuple(found)

    def _take(self, field: str, read: Callable[Given, Result], *values: Given.args, **named: Given.kwargs) -> Result:
        """Result of `read`, its errors located at the field."""
        try:
            return read(*values, **named)
        except KvcalcError as error:
            raise error.at(self._document.where((*self._path, field))) from None

    def _once(self, key: Hashable, read: Callable[[], Result]) -> Result:
        """Result of `read`, which entries that ask for the same share."""
        if key not in self._known:
            self._known[key] = read()
        found: Result = self._known[key]
        return found

    def _missing(self, name: str) -> InvalidValueError:
        return self._refuse(f"{name} is missing", f"add {name}; `kvcalc schema plan` lists all")

    def _refuse(self, what: str, help: str, field: str | None = None) -> InvalidValueError:
        return InvalidValueError(
            what, where=self._document.where((*self._path, field) if field else self._path), help=help
        )


def _first(error: ValidationError, document: Document) -> KvcalcError:
    """The first of pydantic's errors in the project's words."""
    found = error.errors()[0]
    path = tuple(step for step in found["loc"] if step not in ("int", "str", "float"))  # arms of a union, not keys
    where = document.where(path)
    name = str(path[-1]) if path else document.name
    match found["type"]:
        case "extra_forbidden":
            known = DeploymentEntry.model_fields if len(path) > 1 else PlanFile.model_fields
            return UnknownNameError.among("field of a plan", name, known).at(where)
        case "missing":
            holder = document.where(path[:-1])
            return InvalidValueError(
                f"{name} is missing", where=holder, help=f"add {name}; `kvcalc schema plan` lists all"
            )
        case "model_type" | "model_attributes_type":
            what = "must be a mapping of names to values"
        case "too_long":
            return InvalidValueError(
                f"{name} has {len(found['input']):,} entries, and {found['ctx']['max_length']:,} would be many",
                where=where,
                help="write several files",
            )
        case "too_short" | "list_type":
            what = "must be a list of deployments"
        case _:
            what = found["msg"].replace("Input should be", "must be")
    return InvalidValueError(
        f"{name} {what}, not {shown(found['input'])}", where=where, help="`kvcalc schema plan` describes the file"
    )


def load_plans(paths: Sequence[Path]) -> Read:
    """Deployments of several plan files and folders, in order. Raises InvalidFileError where there are none."""
    read = deployments_of(texts_of(paths))
    if not read.deployments:
        raise InvalidFileError(
            f"holds no deployments ({'; '.join(read.passed_over) or 'no YAML and no JSON file is in it'})",
            where=", ".join(map(str, paths)),
            help="name a plan; `kvcalc schema plan` describes one",
        )
    return read
