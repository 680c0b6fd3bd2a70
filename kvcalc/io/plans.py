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

from collections.abc import Callable, Hashable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvcalc.answers.tiers import USUAL_NODE
from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.base import split_version
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.plan import Planner
from kvcalc.engines.base.reading import typed
from kvcalc.engines.base.versions import NEAREST
from kvcalc.errors import InvalidValueError, KvcalcError, UnknownNameError
from kvcalc.errors.foreign import quoted
from kvcalc.fleet.check import Deployment, Host, Limit
from kvcalc.fleet.fit import engine_on, layout_of
from kvcalc.fleet.memory import share_of
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import Weights, loaded, on_rank
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import Gpu
from kvcalc.hardware.written import with_memory
from kvcalc.io.documents import Document, Keys, path_text, read_yaml
from kvcalc.io.engine_args import Command, could_be_secret, drafted, has_draft, read_arguments, served_model
from kvcalc.io.loading import load_named
from kvcalc.io.weights import find_weights
from kvcalc.io.written import facts_of, in_short, written_of
from kvcalc.methods import apply_method
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.check import Written
from kvcalc.units import both_units, parse_bytes, parse_tokens, positive_int, shown

if TYPE_CHECKING:
    from kvcalc.fleet.traffic.mix import Mix

Given = ParamSpec("Given")
Result = TypeVar("Result")
Tokens = Annotated[
    int | str, Field(description="Tokens of one sequence: 131072, 128K (= 131,072) or 128k (= 128,000).")
]
Bytes = Annotated[int | str, Field(description="Bytes: 80GB (10^9 each), 80GiB (2^30 each), or a plain number.")]


_NO_COMMAND = Command("", "", None, None, None, {}, {}, {})
_SLOTS = ("n_seq_max", "num_parallel")
"""Settings of engines that say how many sequences share a context."""
_DEGREES = ("tp", "pp", "dp", "dcp", "ep")
_OF_A_GPU = ("gpu", "memory", "gpus", "gpu_memory_utilization", "weights", "weights_dtype", "reserve")


Lengths = Annotated[
    int | str | dict[int | str, int | str],
    Field(description="8K, p50=1K,p95=8K,max=32K, or a histogram: {1K: 50, 8K: 30} (tokens: weight)."),
]


class WorkloadEntry(BaseModel):
    """Requests that differ in length: `trace`, or `prompt` and `output`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trace: str | None = Field(
        None, description="File of requests, CSV or JSON lines, as kvcalc replay reads them, relative to this one."
    )
    prompt: Lengths | None = Field(None, description="How long prompts are.")
    output: Lengths | None = Field(
        None, description="How long what is generated is; if not given, users just hold their contexts."
    )
    quantile: float | int | str = Field(99, description="Percent of the time in which nothing may be preempted.")
    shared_prefix: Lengths | None = Field(
        None, description="Tokens that prompts begin with; or by groups of users: {2K: 60, 8K: 30, 0: 10}."
    )
    prefixes: int = Field(1, description="How many different prefixes of each length there are.")
    active: float | int | str = Field(
        100, description="Percent of the time that a user's request runs; in the rest its session is idle, and cached."
    )


class DeploymentEntry(BaseModel):
    """One deployment: a model, a workload, and either `budget` or `gpu` (or `memory`) with `weights`."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

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
    workload: str | WorkloadEntry | None = Field(
        None, description="Requests that differ in length, in place of tokens: a trace's path, or what they are like."
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
    args: str | list[str] | None = Field(
        None,
        description="The engine's own command line: vllm serve MODEL --tensor-parallel-size 8 ..., or a list of words.",
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="A file that starts it, relative to this one: manifest, compose file, values, script, unit; "
        "of several engines in it the one of this name.",
    )
    budget: Bytes | None = Field(None, description="Bytes that the cache may take on each GPU.")
    gpu: str | int | None = Field(None, description="GPU that holds the cache, as `kvcalc gpus` names it.")
    memory: Bytes | None = Field(None, description="Memory of any other device, or of the GPU as it is known: 64GB.")
    gpus: int | None = Field(None, description="GPUs in all: tp x pp x dp.")
    tp: int | None = Field(None, description="Tensor-parallel ranks, which share heads.")
    pp: int | None = Field(None, description="Pipeline stages, which share layers.")
    dp: int | None = Field(None, description="Data-parallel replicas, which share sequences.")
    dcp: int | None = Field(None, description="Tensor-parallel ranks that share tokens, where the engine does.")
    ep: int | None = Field(None, description="Ranks that share routed experts, of all replicas; as tp if not given.")
    gpu_memory_utilization: float | int | None = Field(
        None,
        description="Share of the GPU's memory in use; if not given, the engine's own, or all of it.",
    )
    weights: Bytes | None = Field(
        None,
        description="Bytes of the model's weights, `70B x 4.5bit`, or the path of what holds them, safetensors (index, "
        "file, folder) or GGUF, relative to this file; default: the model's own files, as published, or counted.",
    )
    weights_dtype: str | None = Field(None, description="Count the weights in this format: fp8, int4, q4_k_m ...")
    reserve: Bytes | None = Field(None, description="Bytes for activations, graphs and everything else on each GPU.")
    host_memory: Bytes | None = Field(
        None, description="Memory of each node's host for caches that engines keep there, HiCache's or offloaded ones."
    )
    gpus_per_node: int | None = Field(
        None, description="GPUs of a node; if not given, all of the deployment, which are then at most 8."
    )


class PlanFile(BaseModel):
    """A capacity plan: `kvcalc check` says of each deployment whether its cache fits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    deployments: list[DeploymentEntry] = Field(min_length=1, max_length=10_000)


def load_plan(path: Path, *, hub: bool = False) -> list[Deployment]:
    """Deployments of a plan file. hub: their models are read from the Hub.

    Raises KvcalcError with file, line and path of what is wrong.
    """
    return parse_plan(read_yaml(path), path, hub=hub)


def parse_plan(
    document: Document, path: Path | None = None, *, hub: bool = False, known: dict[Hashable, Any] | None = None
) -> list[Deployment]:
    """Deployments of a plan's values; paths in it are relative to its file, or to where this runs.

    known: what other plans have read already, and what this one reads.
    """
    try:
        plan = PlanFile.model_validate(document.data)
    except ValidationError as error:
        raise _first(error, document) from None
    names: dict[str, int] = {}
    for index, entry in enumerate(plan.deployments):
        where: Keys = ("deployments", index, "name")
        if entry.name in names:
            first: Keys = ("deployments", names[entry.name])
            line = document.lines.get((*first, "name"))
            taken_by = f"the deployment on line {line}" if line else path_text(first)
            raise InvalidValueError(
                f"the name {quoted(entry.name)} is taken by {taken_by}",
                where=document.where(where),
                help="give each deployment its own name",
            )
        names[entry.name] = index
    known = {} if known is None else known
    return [
        _Row(entry, document, ("deployments", index), path, known, hub=hub).deployment()
        for index, entry in enumerate(plan.deployments)
    ]


def deployment_of(
    entry: DeploymentEntry, command: Command, where: str, folder: Path, known: dict[Hashable, Any], *, hub: bool = False
) -> Deployment:
    """A deployment that a file starts, with what is added to it. where: FILE:LINE. Raises KvcalcError."""
    file, _, line = where.rpartition(":")
    document = Document(file, None, {(): int(line)})
    return _Row(entry, document, (), folder / Path(file).name, known, command, hub=hub).deployment()


class _Row:
    """One entry on its way to a Deployment. known: what other entries have read already; command: what starts it."""

    def __init__(  # noqa: PLR0913  # where it stands, and what is known already
        self,
        entry: DeploymentEntry,
        document: Document,
        path: Keys,
        file: Path | None,
        known: dict[Hashable, Any],
        command: Command | None = None,
        *,
        hub: bool = False,
    ) -> None:
        self._entry = entry
        self._document = document
        self._path = path
        self._file = "" if file is None else str(file)
        self._folder = Path() if file is None else file.parent
        self._known = known
        self._hub = hub
        self._args = command or _NO_COMMAND
        self._by_flags = command is not None
        if entry.from_ is not None:
            self._entry, self._args = self._take("from", self._started, entry)
        elif entry.args is not None:
            engine = entry.engine and split_version(entry.engine)[0]
            words = entry.args if isinstance(entry.args, str) else tuple(entry.args)
            self._args = self._take("args", read_arguments, words, engine, self._folder)
        self._draft: Model | None = None
        if has_draft(self._args):
            self._draft = self._take("args", load_named, str(self._args.draft), self._folder)
            self._args = self._take("args", drafted, self._args, self._draft)

    def _started(self, entry: DeploymentEntry) -> tuple[DeploymentEntry, Command]:
        """The entry with what the file says that it refers to."""
        from kvcalc.io.deployments.referring import referred

        if entry.args is not None:
            raise self._refuse("from and args are both given, and both say what is started", "give one of them", "args")
        found = self._once(
            ("from", entry.from_, entry.name), lambda: referred(self._folder, entry.from_ or "", entry.name)
        )
        deployed, command = found
        more = {"model": entry.model or deployed.model}
        if entry.gpu is None and entry.memory is None and entry.budget is None:
            more["gpu"] = deployed.gpu
        return entry.model_copy(update=more), command

    def deployment(self) -> Deployment:
        """The entry, read."""
        entry = self._entry
        model = self._model()
        mix = self._mix()
        tokens = self._longest(model, mix) if mix else self._length(model)
        dtype = self._take("kv_dtype", dtype_named, entry.kv_dtype)
        ranks = self._ranks()
        engine = self._engine()
        asked = Question(model, tokens, self._sequences(), dtype, engine, ranks)
        return Deployment(
            name=entry.name,
            asked=asked,
            limit=self._limit(engine, ranks, model, tokens),
            file=self._document.name if self._file else "",
            line=self._document.lines.get(self._path, 0),
            where=self._document.where(self._path),
            remarks=self._remarks(model, engine, ranks),
            written=tuple(self._written()),
            mix=mix,
            mix_where=self._document.where((*self._path, "workload")) if mix else "",
            host=self._host(engine, ranks, model, tokens),
            on=self._on_gpus(asked),
        )

    def _on_gpus(self, asked: Question) -> OnGpus | None:
        """The question asked of its GPUs; None for a budget, and where layers lie elsewhere."""
        entry, gpu = self._entry, self._gpu()
        if entry.budget is not None or gpu is None or self._args.offloaded_bytes:
            return None
        given = entry.gpu_memory_utilization
        reserve = None if entry.reserve is None else self._take("reserve", parse_bytes, entry.reserve, "reserve")
        weights = self._weights(asked.model, asked.engine)
        return OnGpus(asked, gpu, weights, reserve, Fraction(1) if given is None else share_of(given))

    def _length(self, model: Model) -> int:
        tokens = self._take("tokens", parse_tokens, self._tokens(model))
        return self._take("tokens", positive_int, tokens, "tokens")

    def _longest(self, model: Model, mix: Mix) -> int:
        """Tokens of the longest request of a workload, as far as it goes."""
        ends = (self._args.length, model.max_model_len)
        return min([mix.workload.longest, *(end for end in ends if isinstance(end, int))])

    def _mix(self) -> Mix | None:
        """What users do, where their requests differ in length."""
        given = self._entry.workload
        if given is None:
            return None
        if self._entry.tokens is not None:
            what = "tokens and workload are both given"
            raise self._refuse(what, "give one of them: a workload says how long requests are", "tokens")
        entry = WorkloadEntry.model_validate({"trace": given}) if isinstance(given, str) else given
        if (entry.trace is None) == (entry.prompt is None):
            both = "given" if entry.trace is not None else "missing"
            raise self._refuse(f"trace and prompt of a workload are both {both}", "give one of them", "workload")
        return self._once(("workload", repr(entry)), lambda: self._read_mix(entry))

    def _read_mix(self, entry: WorkloadEntry) -> Mix:
        from kvcalc.io.workloads import mix_of, trace_of, workload_of

        try:
            if entry.prompt is None:
                workload = trace_of(self._folder / str(entry.trace), entry.output)
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
            raise error.at(self._document.where((*self._path, "workload", *filter(None, [field])))) from None

    def _host(self, engine: Engine, ranks: Parallel, model: Model, tokens: int) -> Host:
        """The host's memory of each node, and what is kept there of weights."""
        entry = self._entry
        memory = entry.host_memory
        memory_bytes = None if memory is None else self._take("host_memory", parse_bytes, memory, "host_memory")
        each = entry.gpus_per_node
        per_node = None if each is None else self._take("gpus_per_node", positive_int, each, "gpus_per_node")
        if memory_bytes is not None and per_node is None and ranks.num_ranks > USUAL_NODE:
            raise self._refuse(
                f"{ranks.num_ranks:,} GPUs stand on several nodes, and nothing says on how many",
                "add gpus_per_node: 8",
                "host_memory",
            )
        beside = None if entry.budget is not None else self._beside(engine.settled(model, ranks), model, ranks, tokens)
        spread_bytes = 0 if beside is None else beside.high_bytes - beside.low_bytes
        return Host(memory_bytes, per_node, self._args.offloaded_bytes, spread_bytes)

    def _model(self) -> Model:
        entry = self._entry
        if entry.model is None and self._args.model is None:
            raise self._missing("model")
        of, name = ("args", self._args.model) if entry.model is None else ("model", entry.model)
        return self._once(
            ("model", of, name, entry.attention, self._args.draft, self._args.length, repr(self._args.overrides)),
            lambda: self._read_model(of, str(name)),
        )

    def _read_model(self, of: str, name: str) -> Model:
        model = self._take(of, load_named, name, self._folder, hub=self._hub)
        model = served_model(model, self._args, self._draft)
        if self._entry.attention is None:
            return model
        return self._take("attention", apply_method, model, self._entry.attention)

    def _tokens(self, model: Model) -> int | str:
        """Tokens as they are given, or as args say; else the model's own context, which engines serve by default."""
        if self._entry.tokens is not None:
            return self._entry.tokens
        if self._args.length is not None:
            return self._args.length
        own = self._own_context(model)
        if own is None:
            raise self._missing("tokens")
        return own

    def _own_context(self, model: Model) -> int | None:
        """Tokens of the context that the engine makes where nothing says how long."""
        return self._take("engine", self._engine().serving, self._sequences()).own_context(model)

    def _sequences(self) -> int:
        entry = self._entry
        if entry.sequences is not None and entry.concurrency is not None:
            raise self._refuse(
                "sequences and concurrency are both given, and are the same", "give one of them", "concurrency"
            )
        field = "sequences" if entry.concurrency is None else "concurrency"
        number = getattr(entry, field)
        if number is None:
            number = next((self._args.settings[name] for name in _SLOTS if self._args.settings.get(name)), 1)
        return self._take(field, positive_int, number, field)

    def _ranks(self) -> Parallel:
        """The layout of both the entry and its args."""
        degrees = dict(self._args.parallel)
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
            field = error.field if own else "args" if self._args.parallel else next(iter(degrees))
            raise error.at(self._document.where((*self._path, field))) from None
        if self._entry.gpus is None:
            return ranks
        return self._take("gpus", layout_of, self._entry.gpus, ranks)

    def _engine(self) -> Engine:
        entry = self._entry
        name = entry.engine or self._engine_of_args() or "ideal"
        settings = self._settings()
        gpu = self._gpu()
        key = ("engine", name, repr(settings), gpu and gpu.written, entry.gpu_memory_utilization)
        return self._once(key, lambda: self._read_engine(name, settings))

    def _engine_of_args(self) -> str | None:
        """The engine that args start, in the version of their image, or the nearest that is known."""
        engine, version = self._args.engine, self._args.version
        return f"{engine}@{NEAREST}" if engine and version else engine

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
        if self._args.version is not None and self._entry.engine is None:
            settings["version"] = self._args.version
        for name, value in self._entry.engine_settings.items():
            if name in settings and settings[name] != value:
                raise self._refuse(
                    f"{name} ({shown(value)}) is not what args say ({shown(settings[name])})",
                    "give it in one place",
                    "engine_settings",
                )
            settings[name] = value
        return settings

    def _limit(self, engine: Engine, ranks: Parallel, model: Model, tokens: int) -> Limit:
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
                "there is neither a budget nor a gpu",
                "add --gpu h100-80gb; a plan with from: may give a budget"
                if self._by_flags
                else "add budget: 80GB, or gpu: h100-80gb with weights: 16GB",
            )
        given = entry.gpu_memory_utilization
        utilization = Fraction(1) if given is None else self._take("gpu_memory_utilization", share_of, given)
        adapters_bytes = self._adapters(engine, model, ranks)
        self._check_weighed(self._weights(model, engine), adapters_bytes)
        of = "memory" if entry.gpu is None else "gpu"
        settled: Engine = self._take(of, engine.settled, model, ranks)
        return self._take(
            of,
            Limit.of_gpu,
            settled,
            gpu,
            utilization,
            max(0, on_rank(self._weights(model, engine), model, ranks, settled.sharing) - self._args.offloaded_bytes),
            *self._reserve(settled, model, ranks, tokens, adapters_bytes or 0),
        )

    def _adapters(self, engine: Engine, model: Model, ranks: Parallel) -> int | None:
        """Buffers for adapters; None where args load none, where they are not known, and where a reserve has them."""
        adapters = self._args.adapters
        if adapters is None or self._entry.reserve is not None:
            return None
        return adapters.on_rank(self._weights(model, engine), model, ranks, engine.sharing)

    def _check_weighed(self, weights: Weights, adapters_bytes: int | None) -> None:
        """Raises where args change what a GPU holds beside the cache in a way that the entry does not say.

        Experts are shared by ranks of several replicas where the tensors are known, whose experts are then divided.
        """
        for weighed in self._args.weighed:
            of_ranks = weighed.needs == "ranks" or (weighed.needs == "experts" and not weights.tensors)
            unknown = weighed.needs == "reserve" or (weighed.needs == "adapters" and adapters_bytes is None)
            if of_ranks or (unknown and self._entry.reserve is None):
                adds = "add --reserve" if self._by_flags else "add reserve:"
                asks = "give a budget for the cache" if of_ranks else f"{adds} and their bytes"
                raise self._refuse(f"{weighed.about}: {weighed.why}", f"{asks}, or leave the flag out", "args")

    def _reserve(
        self, engine: Engine, model: Model, ranks: Parallel, tokens: int, adapters_bytes: int
    ) -> tuple[int, str]:
        """What lies beside weights and cache, as it is given or as the engine is estimated to need at most."""
        entry = self._entry
        if entry.reserve is not None:
            return self._take("reserve", parse_bytes, entry.reserve, "reserve"), "reserve"
        found = self._beside(engine, model, ranks, tokens)
        if found is None:
            return adapters_bytes, "adapters" if adapters_bytes else ""
        too = ", adapters too" if adapters_bytes else ""
        return found.high_bytes + adapters_bytes, f"beside them{too} (estimate, at most; reserve replaces it)"

    def _beside(self, engine: Engine, model: Model, ranks: Parallel, tokens: int) -> Beside | None:
        """What lies beside weights and cache, as far as that is estimated; None where it is given, or not known."""
        widths = None if self._entry.reserve is not None else self._weights(model, engine).widths
        if widths is None:
            return None
        dtype = self._take("kv_dtype", dtype_named, self._entry.kv_dtype)
        return self._take("gpu", engine.beside, model, dtype, ranks, widths, tokens if tokens > 1 else None)

    def _weights(self, model: Model, engine: Engine) -> Weights:
        """The weights as they are given, or as anything else says (`kvcalc.io.weights`)."""
        entry = self._entry
        given, form = entry.weights, entry.weights_dtype
        of = "memory" if entry.gpu is None else "gpu"
        field = "weights" if given is not None else "weights_dtype" if form is not None else of

        def read() -> Weights:
            try:
                asked = parse_bytes(given, "weights") if isinstance(given, int) else given
                found = find_weights(model, asked, form, self._folder)
            except InvalidValueError as error:
                adds = "--weights" if self._by_flags else "weights:"
                help = f"add {adds} {error.help.removeprefix('write ')}" if given is None else error.help
                raise self._refuse(error.what, help, field) from None
            except KvcalcError as error:
                raise error.at(self._document.where((*self._path, field))) from None
            return loaded(found, self._take(field, engine.served, model))

        return self._once(("weights", id(model), id(engine), given, form), read)

    def _written(self) -> Iterator[Written]:
        """The fields that decide, as they were written: the entry's, those of what starts it, and its model's file."""
        entry = {name: value for name, value in self._entry if name in self._entry.model_fields_set}
        for field, value in entry.items():
            if field not in ("name", "args", "engine_settings") and value is not None:
                at = field.removesuffix("_")
                yield self._field(at, value, at)
        for name, value in self._entry.engine_settings.items():
            yield self._field(f"engine_settings.{name}", value, "engine_settings")
        of = "from" if self._entry.from_ else "args"
        for name, value in written_of(self._args).items():
            yield self._field(name if self._by_flags else f"{of}: {name}", value, of)
        given = self._entry.model
        name, of = (str(self._args.model or ""), f"{of}: model") if given is None else (given, "model")
        yield from self._once(("facts", name), lambda: facts_of(name, self._folder, of))

    def _field(self, name: str, value: object, at: str) -> Written:
        lines = self._document.lines
        line = lines.get((*self._path, at), lines.get(self._path, 0))
        return Written(name, in_short(value), self._document.name if self._file else "", line)

    def _remarks(self, model: Model, engine: Engine, ranks: Parallel) -> tuple[str, ...]:
        found = [f"{said.about}: {said.why}" for said in self._args.told]
        if self._entry.tokens is None and self._entry.workload is None and self._args.length is None:
            own = self._own_context(model)
            whose = "the model" if own == model.max_model_len else self._engine().TITLE
            found.append(f"no tokens are given: {whose}'s own context of {own:,} is taken")
        gpu = None if self._entry.budget is not None else self._gpu()
        if gpu is not None:
            found.extend(gpu.remarks())
        if gpu is not None:
            found.extend(self._weights(model, engine).words())
            if (adapters_bytes := self._adapters(engine, model, ranks)) is not None:
                found.append(f"{both_units(adapters_bytes)} of each GPU are kept for {self._args.adapters}")
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


_ARMS = ("int", "str", "float", WorkloadEntry.__name__)
"""Arms of a union in the place of an error, which are no keys."""


def _first(error: ValidationError, document: Document) -> KvcalcError:
    """The first of pydantic's errors in the project's words."""
    found = error.errors()[0]
    in_workload = (each for each in error.errors() if WorkloadEntry.__name__ in each["loc"][:-1])
    found = next((each for each in in_workload if each["loc"][:3] == found["loc"][:3]), found)
    *above, last = found["loc"] or ("",)
    path = tuple(step for step in above if step not in _ARMS and "[" not in str(step))
    is_key = found["type"] in ("extra_forbidden", "missing")  # which may be spelled as anything
    path = (*path, last) if last != "" and (is_key or (last not in _ARMS and "[" not in str(last))) else path
    where = document.where(path)
    name = str(path[-1]) if path else document.name
    match found["type"]:
        case "extra_forbidden":
            of = WorkloadEntry if "workload" in path[:-1] else DeploymentEntry if len(path) > 1 else PlanFile
            known = [field.alias or name for name, field in of.model_fields.items()]
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
        f"{name} {what}, not {_shown(found['input'])}", where=where, help="`kvcalc schema plan` describes the file"
    )


def _shown(value: object) -> str:
    """A value of the wrong type as a message may quote it: words of lists and mappings are not."""
    if isinstance(value, list | dict) and any(mark in repr(value) for mark in "'\""):
        return "a list" if isinstance(value, list) else "a mapping"
    return "a word that is not shown" if could_be_secret(str(value)) else shown(value)
