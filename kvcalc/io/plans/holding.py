"""The memory for an entry's cache: its device or budget, other memory there, and the host."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property

from kvcalc.answers.tiers import USUAL_NODE
from kvcalc.engines import Engine
from kvcalc.engines.base.beside import Beside
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.check import Host, Limit
from kvcalc.fleet.memory import share_of
from kvcalc.fleet.on_gpus import OnGpus, check_shared
from kvcalc.fleet.weights import Weights, on_rank
from kvcalc.hardware.gpu import Gpu
from kvcalc.io.plans.device import gpu_of
from kvcalc.io.plans.row import Row
from kvcalc.io.weights import find_weights, served_weights
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.units import parse_bytes, positive_int

_OF_A_GPU = ("gpu", "memory", "gpus", "gpu_memory_utilization", "weights", "weights_dtype", "reserve")


class Holding:
    """The memory for an entry's question. Everything is read lazily, and once."""

    def __init__(self, row: Row, asked: Question) -> None:
        self._row, self._entry = row, row.entry
        self._asked, self._model, self._engine = asked, asked.model, asked.engine
        self._ranks = asked.parallel or Parallel()

    @cached_property
    def gpu(self) -> Gpu | None:
        """The device; None for a budget, and if none is named."""
        return None if self._entry.budget is not None else gpu_of(self._row)

    @cached_property
    def weights(self) -> Weights:
        """The weights as given, or from other sources (`kvcalc.io.weights`)."""
        given, form = self._entry.weights, self._entry.weights_dtype
        return self._row.once(("weights", id(self._model), id(self._engine), given, form), self._read_weights)

    @cached_property
    def adapters_bytes(self) -> int | None:
        """Buffers for adapters; None if args load none, if they are unknown, and if a reserve includes them."""
        adapters = self._row.args.adapters
        if adapters is None or self._entry.reserve is not None:
            return None
        return adapters.on_rank(self.weights, self._model, self._ranks, self._engine.sharing)

    def limit(self) -> Limit:
        """The budget, or a GPU's memory left for the cache."""
        row, entry = self._row, self._entry
        if entry.budget is not None:
            return self._budget(entry.budget)
        if self.gpu is None:
            raise row.refuse(
                "neither budget nor gpu is given",
                "add --gpu h100-80gb, or --budget 40GiB for only the cache"
                if row.by_flags
                else "add budget: 80GB, or gpu: h100-80gb with weights: 16GB",
            )
        utilization = row.take("gpu_memory_utilization", self._utilization)
        self._check_weighed()
        row.take(self._of, check_shared, self._engine, self.gpu, self._ranks)
        sharing = self._settled.sharing
        weights_bytes = on_rank(self.weights, self._model, self._ranks, sharing) - row.args.offloaded_bytes
        return row.take(
            self._of, Limit.of_gpu, self._settled, self.gpu, utilization, max(0, weights_bytes), *self._reserve()
        )

    def host(self) -> Host:
        """Host memory of each node, and the weights kept there."""
        row, entry = self._row, self._entry
        memory = entry.host_memory
        memory_bytes = None if memory is None else row.take("host_memory", parse_bytes, memory, "host_memory")
        each = entry.gpus_per_node
        per_node = None if each is None else row.take("gpus_per_node", positive_int, each, "gpus_per_node")
        if memory_bytes is not None and per_node is None and self._ranks.num_ranks > USUAL_NODE:
            raise row.refuse(
                f"{self._ranks.num_ranks:,} GPUs need several nodes, and gpus_per_node is missing",
                "add gpus_per_node: 8",
                "host_memory",
            )
        beside = None if entry.budget is not None else self._beside
        spread_bytes = 0 if beside is None else beside.high_bytes - beside.low_bytes
        return Host(memory_bytes, per_node, row.args.offloaded_bytes, spread_bytes)

    def on_gpus(self) -> OnGpus | None:
        """The question for its GPUs; None for a budget, and if layers are elsewhere."""
        if self.gpu is None or self._row.args.offloaded_bytes:
            return None
        return OnGpus(self._asked, self.gpu, self.weights, self._given_reserve, self._utilization())

    def _budget(self, budget: int | str) -> Limit:
        for field in _OF_A_GPU:
            if getattr(self._entry, field) is not None and field != "gpus":
                raise self._row.refuse(
                    f"{field} and budget cannot both be given", "a budget is the memory left for the cache", field
                )
        return Limit.of_budget(self._row.take("budget", parse_bytes, budget, "budget"))

    def _utilization(self) -> Fraction:
        given = self._entry.gpu_memory_utilization
        return Fraction(1) if given is None else share_of(given)

    @property
    def _of(self) -> str:
        """The field of the device."""
        return "memory" if self._entry.gpu is None else "gpu"

    @cached_property
    def _settled(self) -> Engine:
        """The engine with settings resolved for its ranks."""
        engine, model, ranks = self._engine, self._model, self._ranks
        key = ("settled", id(engine), id(model), ranks)
        return self._row.once(key, lambda: self._row.take(self._of, engine.settled, model, ranks))

    @cached_property
    def _given_reserve(self) -> int | None:
        given = self._entry.reserve
        return None if given is None else self._row.take("reserve", parse_bytes, given, "reserve")

    @cached_property
    def _beside(self) -> Beside | None:
        """Other memory besides weights and cache, if it is estimated; None if it is given or unknown."""
        widths = None if self._given_reserve is not None else self.weights.widths
        if widths is None:
            return None
        asked = self._asked
        tokens = asked.tokens if asked.tokens > 1 else None
        return self._row.take("gpu", self._settled.beside, self._model, asked.kv_dtype, self._ranks, widths, tokens)

    def _reserve(self) -> tuple[int, str]:
        """Other memory besides weights and cache, as given or as the upper estimate for the engine."""
        if self._given_reserve is not None:
            return self._given_reserve, "reserve"
        adapters_bytes = self.adapters_bytes or 0
        if self._beside is None:
            return adapters_bytes, "adapters" if adapters_bytes else ""
        too = "including adapters" if adapters_bytes else ""
        words = f"other memory{too} (estimate, at most; reserve replaces it)"
        return self._beside.high_bytes + adapters_bytes, words

    def _check_weighed(self) -> None:
        """Raises if args change a GPU's other memory and the entry does not account for it.

        Experts may be divided across replicas if the tensors are known.
        """
        row = self._row
        for weighed in row.args.weighed:
            of_ranks = weighed.needs == "ranks" or (weighed.needs == "experts" and not self.weights.tensors)
            unknown = weighed.needs == "reserve" or (weighed.needs == "adapters" and self.adapters_bytes is None)
            if of_ranks or (unknown and self._entry.reserve is None):
                adds = "add --reserve" if row.by_flags else "add reserve:"
                asks = "give a budget for the cache" if of_ranks else f"{adds} and their bytes"
                raise row.refuse(f"{weighed.about}: {weighed.why}", f"{asks}, or remove the flag", "args")

    def _read_weights(self) -> Weights:
        row, entry = self._row, self._entry
        given, form = entry.weights, entry.weights_dtype
        field = "weights" if given is not None else "weights_dtype" if form is not None else self._of
        try:
            asked = parse_bytes(given, "weights") if isinstance(given, int) else given
            found = find_weights(self._model, asked, form, row.folder)
        except InvalidValueError as error:
            adds = "--weights" if row.by_flags else "weights:"
            help = f"add {adds} {error.help.removeprefix('write ')}" if given is None else error.help
            raise row.refuse(error.what, help, field) from None
        except KvcalcError as error:
            raise error.at(row.where(field)) from None
        row.take(field, self._engine.served, self._model)
        reserved = entry.reserve is not None
        try:
            return served_weights(found, self._model, self._engine, row.folder, reserved=reserved)
        except InvalidValueError as error:
            adds = "--reserve" if row.by_flags else "reserve"
            raise row.refuse(error.what, f"include them in {adds}, or remove the drafts", "args") from None
