"""What is asked of GPUs of one kind, whatever their number."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from kvcalc.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.fleet.demand import Demand, demand_of
from kvcalc.fleet.memory import Memory, memory_of
from kvcalc.fleet.weights import Weights
from kvcalc.hardware import Gpu
from kvcalc.model import Model
from kvcalc.parallel import Parallel


class Question(NamedTuple):
    """A model, an engine, and GPUs of one kind. weights: of the whole model; reserve_bytes: on each GPU.

    The weights are taken to be shared evenly by the tp x pp ranks of a replica, rounded up.
    """

    model: Model
    engine: Engine
    kv_dtype: Dtype
    gpu: Gpu
    weights: Weights
    reserve_bytes: int
    utilization: Fraction

    def memory(self, parallel: Parallel) -> Memory:
        """Memory of each GPU."""
        weights = -(-self.weights.bytes // (parallel.tp * parallel.pp))
        return memory_of(self.engine, self.gpu, weights, self.reserve_bytes, self.utilization)

    def demand(self, parallel: Parallel) -> Demand:
        """What users need on each rank."""
        return demand_of(self.model, self.engine, self.kv_dtype, parallel)
