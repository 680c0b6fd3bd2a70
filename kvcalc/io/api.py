"""The Python API: each function takes its command's arguments, or Python objects for them, and returns its document.

    kvcalc.size("r1", tokens="128K", dtype="fp8", batch=8)

Values are parsed as on the command line (`arguments`, `asked`); errors name the argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeAlias, overload

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, KvcalcError, located
from kvcalc.hardware.gpu import Gpu
from kvcalc.io.arguments import (
    AnyModel,
    Settings,
    Specs,
    are_several,
    bytes_of,
    bytes_of_stages,
    counts,
    length_of,
    lengths,
    model_of,
    models_in,
    one_length,
    one_or_several,
    ranks_of,
    settings_of,
    terms_of,
    used,
)
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from kvcalc.engines.base.plan import Fitted
    from kvcalc.fleet.weights import Weights
    from kvcalc.io.asked import Terms
    from kvcalc.io.workloads import Given
    from kvcalc.report.check import CheckReport
    from kvcalc.report.comparison import Comparison
    from kvcalc.report.curves import CurvesReport
    from kvcalc.report.decode import DecodeReport
    from kvcalc.report.deployments import DeploymentsReport
    from kvcalc.report.diff import DiffReport
    from kvcalc.report.fits import FitsReport
    from kvcalc.report.gallery import Gallery
    from kvcalc.report.gpu_fit import GpuFit
    from kvcalc.report.log import LogReport
    from kvcalc.report.method_comparison import MethodComparison
    from kvcalc.report.replays import ReplaysReport
    from kvcalc.report.replicas import ReplicasReport
    from kvcalc.report.size import Report
    from kvcalc.report.traffic import TrafficReport
    from kvcalc.report.transfer import TransferReport

PlanFile: TypeAlias = "str | PathLike[str] | Mapping[str, object]"


def size(
    model: AnyModel,
    *,
    tokens: int | str | None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    attention: str | None = None,
    method: Specs = (),
    assume: str | None = None,
    mtp: bool = False,
    draft_model: AnyModel | None = None,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
) -> Report:
    """Size of a model's cache with `batch` sequences of `tokens` cached tokens each, in exact bytes.

    model: a Model, or what `load` takes: `r1`, `Qwen/Qwen3-8B`, `qwen3:8b`, a path, a mapping. tokens: 131072, `128K`
    (131,072) or `128k` (128,000); in an engine with one context for all sequences, such as llama_cpp, of the whole
    context, by default the model's. batch: default 1. dtype: default bf16; bfloat16 is the same. engine: `vllm`,
    `vllm@0.25.1`, `llama.cpp`; engine_settings: by the engine's own names. parallel, or tp, pp, dp and dcp: layout of
    the ranks, which the report then lists.
    attention: `mqa`, `gqa:8`, `mla:512+64`; method: `snapkv:window_size=64`, or several, in order. assume, mtp: as for
    `load`. draft_model: drafts in the engine, if its settings (vLLM's `speculative`) do not name one. sequences,
    kv_dtype: aliases of batch and dtype.
    Raises InvalidValueError, UnknownNameError, NotApplicableError for what an engine or a method refuses.
    """
    from kvcalc.answers.size import sized_and_before

    terms = terms_of(batch, sequences, dtype, kv_dtype, engine, engine_settings)
    ranks = ranks_of(parallel, tp, pp, dp, dcp)
    chosen = model_of(model, attention, method, assume, mtp=mtp, hub=hub, engine=terms.engine, draft_model=draft_model)
    return sized_and_before(terms.of(chosen, length_of(tokens, chosen, terms.engine), ranks))


def sweep(
    models: AnyModel | Sequence[AnyModel],
    *,
    tokens: ArrayLike,
    batch: ArrayLike | None = None,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    sequences: ArrayLike | None = None,
    kv_dtype: str | Dtype | None = None,
    executor: Executor | None = None,
) -> NDArray[np.int64]:
    """Total bytes at many points: `size(...).total_bytes` for each pair of `tokens` and `batch`.

    tokens, batch: whole numbers, or arrays of them that broadcast together; tokens also as `1K,32K` or a list of such
    texts. Returns an int64 array of their common shape; for several models stacked: (models, ...).
    executor: of concurrent.futures, or `kvcalc.on_ray(address)`; its workers compute the points in parts. The rest is
    as for `size`. Raises InvalidValueError for a value below 1, and if a total would not fit an int64: nothing ever
    wraps.
    """
    from kvcalc.answers.sweep import sweep as swept

    terms = terms_of(None, None, dtype, kv_dtype, engine, engine_settings)
    used("batch", batch, "sequences", sequences)
    users = sequences if batch is None else batch
    one = not are_several(models)
    chosen = [model_of(each, None, (), None) for each in models_in(models)]
    return swept(
        chosen[0] if one else chosen,
        tokens=counts(tokens),
        sequences=1 if users is None else users,
        kv_dtype=terms.kv_dtype,
        engine=terms.engine,
        executor=executor,
    )


def fit(
    model: AnyModel,
    *,
    engine: str | Engine = "vllm",
    available_bytes: int | str | Sequence[int | str] | None = None,
    weights_bytes: int | str | None = None,
    other_bytes: int | str = 0,
    dtype: str | Dtype | None = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    engine_settings: Settings = None,
    attention: str | None = None,
    method: Specs = (),
    assume: str | None = None,
    mtp: bool = False,
    draft_model: AnyModel | None = None,
    hub: bool = False,
    kv_dtype: str | Dtype | None = None,
) -> Fitted:
    """How many blocks, tokens and requests fit, as the engine itself would report.

    available_bytes: left for the cache on each rank, or on a rank of each pipeline stage: bytes, or `40GiB`.
    weights_bytes, other_bytes: if that is not given: weights of one rank, and everything else (activations, CUDA
    graphs); the cache gets the rest of the engine's share of the GPU's memory. dtype: of the model or the cache, if the
    engine only needs its size. The rest is as for `size`. Raises NotApplicableError with the engine's message for what
    it refuses; InvalidValueError, UnknownNameError.
    """
    from kvcalc.answers.planned import fit as planned

    terms = terms_of(None, None, dtype, kv_dtype, engine, engine_settings)
    return planned(
        model_of(model, attention, method, assume, mtp=mtp, hub=hub, engine=terms.engine, draft_model=draft_model),
        engine=terms.engine,
        available_bytes=bytes_of_stages(available_bytes),
        weights_bytes=None if weights_bytes is None else bytes_of("weights_bytes", weights_bytes),
        other_bytes=bytes_of("other_bytes", other_bytes),
        kv_dtype=terms.kv_dtype,
        parallel=ranks_of(parallel, tp, pp, dp, dcp),
    )


def fit_gpus(
    model: AnyModel,
    *,
    gpu: str | Gpu | None = None,
    memory: int | str | None = None,
    weights: int | str | PathLike[str] | Weights | None = None,
    weights_dtype: str | None = None,
    reserve: int | str | None = None,
    gpus: int | None = None,
    tokens: int | str | None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "ideal",
    engine_settings: Settings = None,
    utilization: float | Fraction | str | None = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    ep: int | None = None,
    attention: str | None = None,
    method: Specs = (),
    assume: str | None = None,
    mtp: bool = False,
    draft_model: AnyModel | None = None,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
    weights_bytes: int | Weights | None = None,
    reserve_bytes: int | None = None,
    num_gpus: int | None = None,
) -> GpuFit:
    """How much of a model's cache fits on GPUs next to its weights: contexts, users, the fewest GPUs.

    gpu: a name listed by `kvcalc gpus`, the driver's name, or one of `kvcalc.gpus()`; `auto` for this machine's.
    memory: bytes, or `64GB`, of an unlisted device, or to override the GPU's. gpus: total; default: one per rank.
    weights: of the whole model, `671GB`, `70B x 4.5bit` or the path of safetensors or GGUF; default: the model's own
    files, as published, or counted tensor by tensor; weights_dtype: size them in this format. reserve: on each GPU, for
    activations, CUDA graphs and the rest; default: an estimate for the engine, whose upper end is used, with the lower
    end in `GpuFit.at_best`. utilization: share of the GPU's memory to use; default: the engine's, or all. tokens:
    context of each user, if any; in an engine with one context for all, the whole context; batch: users. weights_bytes,
    reserve_bytes, num_gpus: aliases of weights, reserve and gpus. The rest is as for `size`. Returns a GpuFit of exact
    ints. Raises InvalidValueError, UnknownNameError, and NotApplicableError for what an engine refuses.
    """
    from kvcalc.fleet.fit import device_asked_for, fitted, layout_of
    from kvcalc.fleet.memory import share_of
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.hardware import gpu_named
    from kvcalc.io.weights import find_weights, served_weights

    named = gpu.written if isinstance(gpu, Gpu) else gpu
    card = located("gpu" if named else "memory", gpu_named, located("memory", device_asked_for, named, memory))
    share = None if utilization is None else located("utilization", share_of, utilization, "utilization")
    terms = terms_of(batch, sequences, dtype, kv_dtype, engine, engine_settings, on=(card.written, share))
    used("gpus", gpus, "num_gpus", num_gpus)
    ranks = layout_of(num_gpus if gpus is None else gpus, ranks_of(parallel, tp, pp, dp, dcp, ep))
    weighed_as = used("weights", weights, "weights_bytes", weights_bytes)
    weighed = weights_bytes if weights is None else weights
    reserved_as = used("reserve", reserve, "reserve_bytes", reserve_bytes)
    reserve_given = reserve_bytes if reserve is None else reserve
    reserved = None if reserve_given is None else bytes_of(reserved_as, reserve_given)
    chosen = model_of(model, attention, method, assume, mtp=mtp, hub=hub, engine=terms.engine, draft_model=draft_model)
    given = fspath(weighed) if isinstance(weighed, PathLike) else weighed
    whole = located(weighed_as, find_weights, chosen, given, weights_dtype)
    whole = located(reserved_as, served_weights, whole, chosen, terms.engine, reserved=reserved is not None)
    asked = None if tokens is None else one_length(tokens)
    question = terms.of(chosen, asked or 1, ranks)
    return fitted(OnGpus(question, card, whole, reserved, share or Fraction(1)), ranks, asked)


def transfer(
    model: AnyModel,
    *,
    tokens: int | str | None = None,
    prefill: str | Parallel = "tp=1",
    decode: str | Parallel = "tp=1",
    link: str | None = None,
    in_flight: int = 1,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    method: Specs = (),
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
    kv_dtype: str | Dtype | None = None,
) -> TransferReport:
    """Bytes of one request's cache sent from prefill to decode, by pair of ranks, and the time on a link.

    prefill, decode: their layouts: `tp=8,pp=2`, or a Parallel. link: rate of each GPU's link, `400Gb/s` or `50GB/s`.
    in_flight: requests that arrive at the same time. tokens: default: the model's context. The rest is as for `size`.
    Raises InvalidValueError, UnknownNameError, and NotApplicableError for layouts that store a layer differently.
    """
    from kvcalc.fleet.transfer import transfer as transferred
    from kvcalc.io.asked import layout_written
    from kvcalc.units import parse_rate, positive_int

    terms = terms_of(None, None, dtype, kv_dtype, engine, engine_settings)
    chosen = model_of(model, None, method, assume, mtp=mtp, hub=hub, engine=terms.engine)
    asked = chosen.max_model_len if tokens is None else one_length(tokens)
    length = length_of(asked, chosen, terms.engine)
    return transferred(
        terms.of(chosen, length),
        prefill=prefill if isinstance(prefill, Parallel) else located("prefill", layout_written, prefill),
        decode=decode if isinstance(decode, Parallel) else located("decode", layout_written, decode),
        link_bytes_per_second=None if link is None else located("link", parse_rate, link, "link"),
        in_flight=positive_int(in_flight, "in_flight"),
    )


def decode(
    model: AnyModel,
    *,
    tokens: int | str | None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "ideal",
    engine_settings: Settings = None,
    gpu: str | Gpu | None = None,
    bandwidth: str | None = None,
    quest: str | None = None,
    weights: int | str | PathLike[str] | Weights | None = None,
    weights_dtype: str | None = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    ep: int | None = None,
    attention: str | None = None,
    method: Specs = (),
    assume: str | None = None,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
) -> DecodeReport:
    """Bytes of cache and weights that one decode step reads, and the time floor set by memory bandwidth.

    batch: sequences decoded in one step, each with `tokens` cached tokens (default: the model's context). gpu: for its
    bandwidth; bandwidth: overrides it, `3350GB/s`. weights: as for `fit_gpus`; not counted unless known tensor by
    tensor. quest: page selection, `token_budget=1024`. The rest is as for `size`. Seconds are a floor; for routed
    experts there is also an estimate. Raises InvalidValueError, UnknownNameError, NotApplicableError.
    """
    from kvcalc.answers.decode import Quest
    from kvcalc.fleet.decode import decode_step
    from kvcalc.fleet.weights import loaded
    from kvcalc.hardware import gpu_named
    from kvcalc.io.asked import bandwidth_of
    from kvcalc.io.weights import find_weights

    named = gpu.written if isinstance(gpu, Gpu) else gpu
    on = None if named is None or engine == "ideal" else (located("gpu", gpu_named, named).written, None)
    terms = terms_of(batch, sequences, dtype, kv_dtype, engine, engine_settings, on=on)
    device, rate = located("bandwidth" if bandwidth else "gpu", bandwidth_of, named, bandwidth)
    chosen = model_of(model, attention, method, assume, hub=hub, engine=terms.engine)
    length = length_of(chosen.max_model_len if tokens is None else one_length(tokens), chosen, terms.engine)
    given = fspath(weights) if isinstance(weights, PathLike) else weights
    try:
        whole = loaded(located("weights", find_weights, chosen, given, weights_dtype), terms.engine.served(chosen))
    except InvalidValueError as error:
        if error.field != "weights" or given is not None or weights_dtype is not None:
            raise
        whole = None
    ranks = ranks_of(parallel, tp, pp, dp, None, ep)
    pages = None if quest is None else located("quest", Quest.of, quest)
    return decode_step(terms.of(chosen, length, ranks), whole, device, rate, pages)


def replicas(
    model: AnyModel,
    *,
    users: int | str,
    workload: Given | PathLike[str],
    gpu: str | Gpu | Sequence[str | Gpu] | None = None,
    output: Given | None = None,
    quantile: float | str = 99,
    shared_prefix: Given | None = None,
    prefixes: int = 1,
    active: float | str = 100,
    memory: int | str | None = None,
    weights: int | str | PathLike[str] | Weights | None = None,
    weights_dtype: str | None = None,
    reserve: int | str | None = None,
    gpus: int | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "vllm",
    engine_settings: Settings = None,
    utilization: float | Fraction | str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dcp: int | None = None,
    executor: Executor | None = None,
) -> ReplicasReport:
    """How many replicas of which layout serve users whose requests differ in length, fewest GPUs first.

    workload: a trace's path, `p50=1K,p95=8K,max=32K`, `1K:50,8K:30`, a histogram {1024: 50, 8192: 30}; output:
    generated tokens, in the same forms except the path. quantile: required percentage of the time without preemption;
    shared_prefix, prefixes, active: as for `kvcalc traffic`. gpu: one or several candidates. gpus: number available.
    tp, pp, dcp: of a replica; default: all common layouts. executor: its workers evaluate one layout each. The rest is
    as for `fit_gpus`. Raises InvalidValueError, UnknownNameError, and NotApplicableError for what an engine refuses.
    """
    from kvcalc.fleet.replicas import replicas_of
    from kvcalc.io.on_devices import devices_of, mix_asked, questions_on

    mix = mix_asked(workload, output, quantile, shared_prefix, prefixes, active)
    on = devices_of(gpu, memory, users, dtype, engine, engine_settings, utilization)
    reserved = None if reserve is None else bytes_of("reserve", reserve)
    given = fspath(weights) if isinstance(weights, PathLike) else weights
    chosen = model_of(model, None, (), None, engine=on[0].terms.engine)
    questions = questions_on(on, chosen, given, weights_dtype, reserved)
    return replicas_of(questions, mix, ranks_of(None, tp, pp, None, dcp), gpus, executor)


def fits(
    models: AnyModel | Sequence[AnyModel],
    *,
    users: int | str,
    gpu: str | Gpu | Sequence[str | Gpu] | None = None,
    tokens: int | str | None = None,
    workload: Given | PathLike[str] | Sequence[Given | PathLike[str]] | None = None,
    output: Given | None = None,
    quantile: float | str = 99,
    shared_prefix: Given | None = None,
    prefixes: int = 1,
    active: float | str = 100,
    memory: int | str | None = None,
    weights_dtype: str | None = None,
    reserve: int | str | None = None,
    gpus: int | Sequence[int] | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "vllm",
    engine_settings: Settings = None,
    utilization: float | Fraction | str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    executor: Executor | None = None,
) -> FitsReport:
    """The layouts of each model that hold `users`, best first; for requests of different lengths, with each workload.

    tokens: context of each user; default: the model's. workload: instead of tokens, as for `replicas`, or a list. gpus:
    numbers of GPUs to try. dtype: of the cache; by default 8 bits are tried as well. executor: of concurrent.futures,
    or `kvcalc.on_ray(address)`; its workers get one model and workload each. Raises KvcalcError if nothing can be
    answered; otherwise `FitsReport.refused` lists failures.
    """
    from kvcalc.fleet.fits import Job, fits_of
    from kvcalc.io.offers import all_offers
    from kvcalc.io.on_devices import devices_of, mix_asked, questions_on, workloads_in

    listed = workloads_in(workload)
    if listed and tokens is not None:
        raise InvalidValueError(
            "a workload already has the lengths of requests", field="tokens", help="pass only one of them"
        )
    mixes = [(each, mix_asked(each, output, quantile, shared_prefix, prefixes, active)) for each in listed]
    on = devices_of(gpu, memory, users, dtype, engine, engine_settings, utilization)
    reserved = None if reserve is None else bytes_of("reserve", reserve)
    layout = ranks_of(None, tp, pp, dp, dcp)
    numbers = None if gpus is None else (gpus,) if isinstance(gpus, int) else tuple(gpus)

    def jobs(model: AnyModel) -> Iterator[Job]:
        chosen = model_of(model, None, (), None, engine=on[0].terms.engine)
        try:
            questions = questions_on(on, chosen, None, weights_dtype, reserved)
            if not mixes:
                length = length_of(chosen.max_model_len if tokens is None else tokens, chosen, on[0].terms.engine)
                whole = [questions[0].weights] if weights_dtype else None
                questions = all_offers(questions, length or 1, whole, usual=dtype is None)
                yield Job(chosen.name, "", tuple(questions), None, length or 1, numbers, layout)
        except KvcalcError as error:
            yield Job(chosen.name, "", (), error=error)
            return
        for each, mix in mixes:
            trace = str(fspath(each)) if isinstance(each, PathLike) else each if isinstance(each, str) else ""
            yield Job(chosen.name, trace, tuple(questions), mix, 0, numbers, layout)

    return fits_of((job for model in models_in(models) for job in jobs(model)), executor)


def traffic(
    model: AnyModel,
    *,
    context: Given | PathLike[str],
    output: Given | None = None,
    quantile: float | str = 99,
    shared_prefix: Given | None = None,
    prefixes: int = 1,
    active: float | str = 100,
    blocks: int | str | None = None,
    available_bytes: int | str | None = None,
    gpu: str | Gpu | None = None,
    memory: int | str | None = None,
    weights: int | str | PathLike[str] | Weights | None = None,
    reserve: int | str | None = None,
    utilization: float | Fraction | str | None = None,
    tp: int | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "vllm",
    engine_settings: Settings = None,
    scheduler: Settings = None,
    kv_dtype: str | Dtype | None = None,
) -> TrafficReport:
    """Users that fit in a pool if their requests differ in length: a distribution instead of one number.

    context: prompt lengths, as `workload` of `replicas`; output: generated tokens. quantile: required percentage of the
    time without preemption. shared_prefix, prefixes: common first tokens of a group's prompts, and the number of
    groups. active: percentage of users with a running request. The pool: blocks, available_bytes of a rank, or gpu with
    weights. scheduler: settings of the engine's scheduler, such as max_num_seqs. Raises InvalidValueError,
    UnknownNameError, and NotApplicableError for what an engine refuses.
    """
    from kvcalc.fleet.traffic.served import users_served
    from kvcalc.io.on_devices import mix_asked
    from kvcalc.io.servings import PoolTerms, servings_of

    mix = mix_asked(context, output, quantile, shared_prefix, prefixes, active)
    used("dtype", dtype, "kv_dtype", kv_dtype)
    terms = PoolTerms(
        engine=engine,
        engine_settings=engine_settings,
        scheduler=scheduler,
        dtype=kv_dtype if dtype is None else dtype,
        layout=ranks_of(None, tp, None, None, None),
        blocks=blocks,
        available_bytes=available_bytes,
        gpu=gpu,
        memory=memory,
        weights=weights,
        reserve=reserve,
        utilization=utilization,
    )
    (asked,) = servings_of([model_of(model, None, (), None)], terms)
    return users_served(asked, mix)


def replays(
    models: AnyModel | Sequence[AnyModel],
    traces: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    blocks: int | str | None = None,
    available_bytes: int | str | None = None,
    gpu: str | Gpu | None = None,
    memory: int | str | None = None,
    weights: int | str | PathLike[str] | Weights | None = None,
    reserve: int | str | None = None,
    utilization: float | Fraction | str | None = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    dtype: str | Dtype | None = None,
    engine: str = "vllm",
    engine_settings: Settings = None,
    scheduler: Settings = None,
    step_seconds: float | Fraction | str | None = None,
    curve: bool = False,
    executor: Executor | None = None,
    kv_dtype: str | Dtype | None = None,
) -> ReplaysReport:
    """Replays each trace with each model on the engine's scheduler, as `kvcalc.replay` does, one row each.

    traces: paths of CSV or JSON lines, folders of them, or patterns. The pool is as for `traffic`. step_seconds:
    duration of a step, for traces with times; "floor": as fast as the GPU's bandwidth allows. executor: of
    concurrent.futures, or `kvcalc.on_ray(address)`; its workers get the traces.
    Raises KvcalcError if nothing can be replayed; otherwise `ReplaysReport.refused` lists failures.
    """
    from kvcalc.io.replays import replays as replayed
    from kvcalc.io.replays import trace_paths
    from kvcalc.io.servings import PoolTerms, servings_of

    several = [traces] if isinstance(traces, str | PathLike) else traces
    used("dtype", dtype, "kv_dtype", kv_dtype)
    terms = PoolTerms(
        engine=engine,
        engine_settings=engine_settings,
        scheduler=scheduler,
        dtype=kv_dtype if dtype is None else dtype,
        layout=ranks_of(parallel, tp, None, None, None),
        blocks=blocks,
        available_bytes=available_bytes,
        gpu=gpu,
        memory=memory,
        weights=weights,
        reserve=reserve,
        utilization=utilization,
    )
    servings = servings_of([model_of(each, None, (), None) for each in models_in(models)], terms, step_seconds)
    paths = trace_paths([fspath(each) for each in several])
    return replayed(paths, servings, curve=curve, executor=executor)


@overload
def compare(
    models: AnyModel | Sequence[AnyModel],
    *,
    tokens: int | str | Sequence[int | str] | None = None,
    attention: str | None = None,
    variants: Specs | None = None,
    methods: None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
) -> Comparison: ...
@overload
def compare(
    models: AnyModel | Sequence[AnyModel],
    *,
    tokens: int | str | Sequence[int | str] | None = None,
    attention: str | None = None,
    variants: None = None,
    methods: Specs,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
) -> MethodComparison: ...
def compare(
    models: AnyModel | Sequence[AnyModel],
    *,
    tokens: int | str | Sequence[int | str] | None = None,
    attention: str | None = None,
    variants: Specs | None = None,
    methods: Specs | None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | None = None,
    engine: str | Engine = "ideal",
    engine_settings: Settings = None,
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | None = None,
) -> Comparison | MethodComparison:
    """Several models side by side; or one model with other attention, or under methods.

    models: one, or a list of them, each as for `size`. tokens: one count or several: `1K,32K` or a list; default: 1K,
    8K, 32K and 128K, up to the models' contexts. variants: `mha,gqa:8` or a list; default: the usual ones. methods:
    `all`, or `snapkv,kivi:bits=2`, or a list. attention: variants of a single model; with several models or methods,
    the attention of all. The rest is as for `size`. Variants that do not apply are in `left_out`, with the reason.
    Raises InvalidValueError and UnknownNameError, also for a named variant or method.
    """
    from kvcalc.answers.compare import compare as compared
    from kvcalc.io.asked import usual_lengths

    terms = terms_of(batch, sequences, dtype, kv_dtype, engine, engine_settings)
    asked = None if tokens is None else lengths(tokens)
    given = models_in(models)
    if attention is not None and variants is not None:
        raise InvalidValueError(
            "attention and variants both select the attention to compare",
            field="attention",
            help="pass only one of them",
        )
    of_all = attention if methods or len(given) > 1 else None
    chosen = _several(given, of_all, assume, mtp=mtp, hub=hub)
    token_counts = asked or usual_lengths(chosen)
    questions = [terms.of(each, token_counts[0]) for each in chosen]
    place = "methods" if methods else "variants" if variants is not None else ""
    if attention is not None and of_all is None:
        variants, place = attention, "attention"
    return located(place, compared, questions, token_counts, variants=variants, methods=methods)


def _several(
    models: Sequence[AnyModel], attention: str | None, assume: str | None, *, mtp: bool, hub: bool
) -> list[Model]:
    """The requested models, at least one."""
    if not models:
        raise InvalidValueError("no model named", field="models", help="name one: 'r1', or ['r1', 'llama3-70b']")
    return [model_of(each, attention, (), assume, mtp=mtp, hub=hub) for each in models]


def plot(
    models: AnyModel | Sequence[AnyModel],
    *,
    tokens: int | str | Sequence[int | str] | None = None,
    methods: Specs | None = None,
    batch: int | str | None = None,
    dtype: str | Dtype | Sequence[str | Dtype] | None = None,
    engine: str | Engine | Sequence[str | Engine] = "ideal",
    engine_settings: Settings = None,
    gpu: str | Gpu | Sequence[str | Gpu] | None = None,
    memory: int | str | None = None,
    max_users: bool = False,
    weights: int | str | PathLike[str] | Weights | None = None,
    weights_dtype: str | None = None,
    reserve: int | str | None = None,
    utilization: float | Fraction | str | None = None,
    parallel: Parallel | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    ep: int | None = None,
    linear: bool = False,
    assume: str | None = None,
    mtp: bool = False,
    hub: bool = False,
    sequences: int | str | None = None,
    kv_dtype: str | Dtype | Sequence[str | Dtype] | None = None,
) -> CurvesReport:
    """Curves over the context: bytes of models, engines, versions, formats and methods, or users that fit (max_users).

    A notebook draws them; `charts()` has them as values, `to_frame()` and `to_dict()` every point. tokens: the last
    length, or the first and the last: `1K,128K`; default: the model's context. methods: `snapkv,kivi` or a list; dtype,
    engine and gpu: one or several, `bf16,fp8` or a list. gpu: draws its memory as a line; with max_users, holds the
    users. linear: linear axes instead of log2. The rest is as for `fit_gpus`. Raises InvalidValueError,
    UnknownNameError, and NotApplicableError if engines refuse all of them.
    """
    from kvcalc.fleet.fit import device_asked_for
    from kvcalc.fleet.memory import share_of
    from kvcalc.hardware import gpu_named
    from kvcalc.io.plots import Names, Room, Wanted, curves_of, of_all
    from kvcalc.io.weights import find_weights
    from kvcalc.methods import specs_in

    layout = ranks_of(parallel, tp, pp, dp, dcp, ep)
    on_gpus = {"weights": weights, "weights_dtype": weights_dtype, "reserve": reserve, "utilization": utilization}
    unused = [name for name, value in {**on_gpus, "parallel": layout}.items() if value is not None and not max_users]
    if unused:
        raise InvalidValueError(
            f"the bytes of a cache do not depend on {unused[0]}", field=unused[0], help="add max_users=True"
        )
    share = None if utilization is None else located("utilization", share_of, utilization, "utilization")

    def device(each: str | Gpu | None) -> Gpu:
        named = each.written if isinstance(each, Gpu) else each
        return located("gpu" if named else "memory", gpu_named, located("memory", device_asked_for, named, memory))

    def terms(card: Gpu | None, form: str | Dtype | None, name: str | Engine) -> Terms:
        on = None if card is None else (card.written, share)
        return terms_of(batch, sequences, form, None, name, engine_settings, on)

    def weighed(model: Model) -> Weights:
        given = fspath(weights) if isinstance(weights, PathLike) else weights
        return located("weights", find_weights, model, given, weights_dtype)

    used("dtype", dtype, "kv_dtype", kv_dtype)
    wanted = gpu is not None or memory is not None or max_users
    cards = [device(each) for each in one_or_several(gpu)] if wanted else []
    names = Names("tokens", "methods", "engine_settings")
    formats = one_or_several(kv_dtype if dtype is None else dtype)
    engines = one_or_several(engine)
    asked = of_all(engines, formats, cards if max_users else (), terms, engine_settings, names)
    chosen = _several(models_in(models), None, assume, mtp=mtp, hub=hub)
    specs = specs_in(methods) if isinstance(methods, str) else methods or ()
    between = [] if tokens is None else lengths(tokens)
    reserved = None if reserve is None else bytes_of("reserve", reserve)
    room = Room(weighed, reserved, share, layout) if max_users else None
    return curves_of(Wanted(chosen, asked, specs, between, linear, cards, room), names)


def check(
    paths: PlanFile | Iterable[PlanFile],
    *,
    variables: Sequence[str] = (),
    hub: bool = False,
    gpu: str | None = None,
    memory: int | str | None = None,
    budget: int | str | None = None,
    weights: int | str | None = None,
    reserve: int | str | None = None,
    tokens: int | str | None = None,
    batch: int | str | None = None,
) -> CheckReport:
    """Whether each deployment fits its budget or GPU, and what would fit.

    paths: of plans, manifests, compose files, scripts or folders; a plan as a mapping (`kvcalc schema plan` describes
    it), one deployment of it, or several of these. variables: `NAME=VALUE` for variables that files use but do not set.
    gpu, memory, budget (bytes for the cache on each GPU), weights, reserve, tokens, batch: for deployments whose files
    do not set them. hub: read models from the Hugging Face Hub. Raises KvcalcError if nothing can be checked, with file
    and line; otherwise `CheckReport.refused` lists failures.
    """
    from kvcalc.fleet.check import check as checked
    from kvcalc.io.checking import Given, to_check
    from kvcalc.io.documents import Document
    from kvcalc.io.plans import parse_plan

    deployments = []
    files = []
    for plan in _listed(paths):
        if isinstance(plan, Mapping):
            whole = plan if _is_plan(plan) else {"deployments": [dict(plan)]}
            deployments += parse_plan(Document("plan", dict(whole)), hub=hub)
        else:
            files.append(fspath(plan))
    if not files:
        return checked(deployments)
    given = Given.of(
        variables,
        hub=hub,
        gpu=gpu,
        memory=memory,
        budget=budget,
        weights=weights,
        reserve=reserve,
        tokens=tokens,
        batch=batch,
    )
    asked = to_check(files, given)
    report = checked((*deployments, *asked.deployments), asked.refused, asked.skipped)
    if not report.findings and report.refused:
        raise report.refused[0].error()
    return report


def deployments(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]], *, variables: Sequence[str] = ()
) -> DeploymentsReport:
    """What manifests, compose files, Helm values, scripts and units start; sizes nothing.

    paths, variables: as for `check`; `refused` has what the files do not determine. Raises InvalidFileError for a path
    that does not exist.
    """
    from kvcalc.io.deployments import read_deployments
    from kvcalc.io.deployments.given import variables_of
    from kvcalc.io.deployments.skipping import report_of
    from kvcalc.io.deployments.sources import found, opener

    named = [paths] if isinstance(paths, str | PathLike) else paths
    given = located("variables", variables_of, variables)
    files = found([fspath(path) for path in named])
    return report_of(files, read_deployments(files.sources, given, opener))


def diff(
    base: str | PathLike[str],
    head: str | PathLike[str] | None = None,
    paths: Sequence[str | PathLike[str]] = (),
    *,
    variables: Sequence[str] = (),
    hub: bool = False,
    gpu: str | None = None,
    memory: int | str | None = None,
    budget: int | str | None = None,
    weights: int | str | None = None,
    reserve: int | str | None = None,
    tokens: int | str | None = None,
    batch: int | str | None = None,
    max_growth: str | None = None,
) -> DiffReport:
    """Effect of a change on the cache of each deployment: bytes, users, context, and the field responsible.

    base, head: files, folders, or git revisions (`main`, `main..HEAD`); without head a revision is compared with the
    working tree. paths: for revisions, only these files and folders. max_growth: largest allowed, such as 10%;
    `DiffReport.fails` tells whether any deployment grew by more, or no longer fits. The rest is as for `check`. Raises
    KvcalcError for anything but files and revisions, and if nothing can be checked.
    """
    from kvcalc.io.checking import Given
    from kvcalc.io.differences import differences
    from kvcalc.units import parse_percent

    agreed = None if max_growth is None else located("max_growth", parse_percent, max_growth, "max_growth")
    given = Given.of(
        variables,
        hub=hub,
        gpu=gpu,
        memory=memory,
        budget=budget,
        weights=weights,
        reserve=reserve,
        tokens=tokens,
        batch=batch,
    )
    return differences(fspath(base), None if head is None else fspath(head), [fspath(p) for p in paths], given, agreed)


def explain(
    log: str | PathLike[str],
    model: AnyModel | None = None,
    *,
    engine: str | None = None,
    engine_settings: Settings = None,
    tp: int | None = None,
    pp: int | None = None,
    gpu: str | None = None,
    weights: int | str | None = None,
    reserve: int | str | None = None,
    assume: str | None = None,
    mtp: bool = False,
    draft_model: str | None = None,
    hub: bool = False,
) -> LogReport:
    """Whether the prediction agrees with an engine's start-up log, its start-up error or its running server.

    log: a path, the pasted text, or an address such as http://127.0.0.1:8000, the only host contacted. model: if the
    log does not name it. engine: that wrote it, if not detected, and its version; engine_settings, tp, pp, gpu: over
    those of the log. weights, reserve: to derive vLLM's cache memory.
    Raises InvalidFileError if nothing reports a cache, UnreachableError, InvalidValueError, UnknownNameError.
    """
    from kvcalc.engines.base import split_version
    from kvcalc.fleet.explain import explain as explained
    from kvcalc.hardware import gpu_named
    from kvcalc.io.said import drafted_as_said, model_or_answer, read_said
    from kvcalc.io.weights import read_weights

    name, version = split_version(engine or "")
    reading, where = located("log", read_said, fspath(log), name or None)
    if model is None:
        found = located("mtp" if mtp else "", model_or_answer, reading, where, mtp=mtp)
        if not isinstance(found, Model):
            return found
        served = found
    else:
        served = model_of(model, None, (), assume, mtp=mtp, hub=hub)
    settings = settings_of(reading.engine, engine_settings)
    settings |= {"version": version} if version else {}
    settings |= {"gpu": located("gpu", gpu_named, gpu).written} if gpu else {}
    of_draft = "draft_model" if draft_model else "engine_settings"
    served = located(of_draft, drafted_as_said, served, reading, settings, draft_model, hub=hub)
    if weights is not None:
        weights_bytes = located("weights", read_weights, weights).bytes
        reading = reading._replace(weights_bytes=weights_bytes, reserve_bytes=bytes_of("reserve", reserve))
    ranks = {name: number for name, number in (("tp", tp), ("pp", pp)) if number is not None}
    return located("engine_settings", explained, served, reading, file=where, settings=settings, ranks=ranks)


def presets(words: Specs = (), kind: str | None = None) -> Gallery:
    """Shipped models, all or those that match every word in name, alias, model_type or source.

    kind: of attention, `mla` or `gated-deltanet`; only models with such layers. Raises UnknownNameError for an unknown
    kind, and if no model matches.
    """
    from kvcalc.io.gallery import attention_kind, gallery

    return gallery(words, None if kind is None else located("kind", attention_kind, kind))


def _listed(plans: PlanFile | Iterable[PlanFile]) -> list[PlanFile]:
    """One plan or several, as a list. Raises InvalidValueError for anything else."""
    alone = isinstance(plans, str | PathLike | Mapping) or not isinstance(plans, Iterable)
    listed: list[PlanFile] = [plans] if alone else list(plans)  # type: ignore[list-item, arg-type]
    for plan in listed:
        if not isinstance(plan, str | PathLike | Mapping):
            what = f"a plan is a path or a mapping, not {shown(plan)}"
            raise InvalidValueError(what, field="plans", help="`kvcalc schema plan` describes the mapping")
    return listed


def _is_plan(values: Mapping[str, object]) -> bool:
    """Whether a mapping is a plan, rather than a single deployment."""
    return "deployments" in values or not ("name" in values or "model" in values)
