"""What holds an entry's cache: its device or budget, what else lies there, and the host."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.answers.tiers import USUAL_NODE
from kvcalc.cache.dtypes import dtype_named
from kvcalc.engines import Engine
from kvcalc.engines.base.beside import Beside
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.check import Host, Limit
from kvcalc.fleet.memory import share_of
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.weights import Weights, loaded, on_rank
from kvcalc.io.plans.device import gpu_of
from kvcalc.io.plans.row import Row
from kvcalc.io.weights import find_weights
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.units import parse_bytes, positive_int

_OF_A_GPU = ("gpu", "memory", "gpus", "gpu_memory_utilization", "weights", "weights_dtype", "reserve")


def limit_of(row: Row, engine: Engine, ranks: Parallel, model: Model, tokens: int) -> Limit:
    """The budget, or what a GPU leaves for the cache."""
    entry = row.entry
    if entry.budget is not None:
        for field in _OF_A_GPU:
            if getattr(entry, field) is not None and field != "gpus":
                raise row.refuse(
                    f"{field} and budget cannot both be given", "a budget is what is left for the cache", field
                )
        return Limit.of_budget(row.take("budget", parse_bytes, entry.budget, "budget"))
    gpu = gpu_of(row)
    if gpu is None:
        raise row.refuse(
            "there is neither a budget nor a gpu",
            "add --gpu h100-80gb; a plan with from: may give a budget"
            if row.by_flags
            else "add budget: 80GB, or gpu: h100-80gb with weights: 16GB",
        )
    given = entry.gpu_memory_utilization
    utilization = Fraction(1) if given is None else row.take("gpu_memory_utilization", share_of, given)
    adapters_bytes = adapters_bytes_of(row, engine, model, ranks)
    _check_weighed(row, weights_of(row, model, engine), adapters_bytes)
    of = "memory" if entry.gpu is None else "gpu"
    settled: Engine = row.take(of, engine.settled, model, ranks)
    return row.take(
        of,
        Limit.of_gpu,
        settled,
        gpu,
        utilization,
        max(0, on_rank(weights_of(row, model, engine), model, ranks, settled.sharing) - row.args.offloaded_bytes),
        *_reserve(row, settled, model, ranks, tokens, adapters_bytes or 0),
    )


def adapters_bytes_of(row: Row, engine: Engine, model: Model, ranks: Parallel) -> int | None:
    """Buffers for adapters; None where args load none, where they are not known, and where a reserve has them."""
    adapters = row.args.adapters
    if adapters is None or row.entry.reserve is not None:
        return None
    return adapters.on_rank(weights_of(row, model, engine), model, ranks, engine.sharing)


def _check_weighed(row: Row, weights: Weights, adapters_bytes: int | None) -> None:
    """Raises where args change what a GPU holds beside the cache in a way that the entry does not say.

    Experts are shared by ranks of several replicas where the tensors are known, whose experts are then divided.
    """
    for weighed in row.args.weighed:
        of_ranks = weighed.needs == "ranks" or (weighed.needs == "experts" and not weights.tensors)
        unknown = weighed.needs == "reserve" or (weighed.needs == "adapters" and adapters_bytes is None)
        if of_ranks or (unknown and row.entry.reserve is None):
            adds = "add --reserve" if row.by_flags else "add reserve:"
            asks = "give a budget for the cache" if of_ranks else f"{adds} and their bytes"
            raise row.refuse(f"{weighed.about}: {weighed.why}", f"{asks}, or leave the flag out", "args")


def _reserve(
    row: Row, engine: Engine, model: Model, ranks: Parallel, tokens: int, adapters_bytes: int
) -> tuple[int, str]:
    """What lies beside weights and cache, as it is given or as the engine is estimated to need at most."""
    entry = row.entry
    if entry.reserve is not None:
        return row.take("reserve", parse_bytes, entry.reserve, "reserve"), "reserve"
    found = _beside(row, engine, model, ranks, tokens)
    if found is None:
        return adapters_bytes, "adapters" if adapters_bytes else ""
    too = ", adapters too" if adapters_bytes else ""
    return found.high_bytes + adapters_bytes, f"beside them{too} (estimate, at most; reserve replaces it)"


def _beside(row: Row, engine: Engine, model: Model, ranks: Parallel, tokens: int) -> Beside | None:
    """What lies beside weights and cache, as far as that is estimated; None where it is given, or not known."""
    widths = None if row.entry.reserve is not None else weights_of(row, model, engine).widths
    if widths is None:
        return None
    dtype = row.take("kv_dtype", dtype_named, row.entry.kv_dtype)
    return row.take("gpu", engine.beside, model, dtype, ranks, widths, tokens if tokens > 1 else None)


def weights_of(row: Row, model: Model, engine: Engine) -> Weights:
    """The weights as they are given, or as anything else says (`kvcalc.io.weights`)."""
    entry = row.entry
    given, form = entry.weights, entry.weights_dtype
    of = "memory" if entry.gpu is None else "gpu"
    field = "weights" if given is not None else "weights_dtype" if form is not None else of

    def read() -> Weights:
        try:
            asked = parse_bytes(given, "weights") if isinstance(given, int) else given
            found = find_weights(model, asked, form, row.folder)
        except InvalidValueError as error:
            adds = "--weights" if row.by_flags else "weights:"
            help = f"add {adds} {error.help.removeprefix('write ')}" if given is None else error.help
            raise row.refuse(error.what, help, field) from None
        except KvcalcError as error:
            raise error.at(row.document.where((*row.path, field))) from None
        return loaded(found, row.take(field, engine.served, model))

    return row.once(("weights", id(model), id(engine), given, form), read)


def host_of(row: Row, engine: Engine, ranks: Parallel, model: Model, tokens: int) -> Host:
    """The host's memory of each node, and what is kept there of weights."""
    entry = row.entry
    memory = entry.host_memory
    memory_bytes = None if memory is None else row.take("host_memory", parse_bytes, memory, "host_memory")
    each = entry.gpus_per_node
    per_node = None if each is None else row.take("gpus_per_node", positive_int, each, "gpus_per_node")
    if memory_bytes is not None and per_node is None and ranks.num_ranks > USUAL_NODE:
        raise row.refuse(
            f"{ranks.num_ranks:,} GPUs stand on several nodes, and nothing says on how many",
            "add gpus_per_node: 8",
            "host_memory",
        )
    beside = None if entry.budget is not None else _beside(row, engine.settled(model, ranks), model, ranks, tokens)
    spread_bytes = 0 if beside is None else beside.high_bytes - beside.low_bytes
    return Host(memory_bytes, per_node, row.args.offloaded_bytes, spread_bytes)


def on_gpus_of(row: Row, asked: Question) -> OnGpus | None:
    """The question asked of its GPUs; None for a budget, and where layers lie elsewhere."""
    entry, gpu = row.entry, gpu_of(row)
    if entry.budget is not None or gpu is None or row.args.offloaded_bytes:
        return None
    given = entry.gpu_memory_utilization
    reserve = None if entry.reserve is None else row.take("reserve", parse_bytes, entry.reserve, "reserve")
    weights = weights_of(row, asked.model, asked.engine)
    return OnGpus(asked, gpu, weights, reserve, Fraction(1) if given is None else share_of(given))
