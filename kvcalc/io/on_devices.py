"""Devices with their terms, and workloads, from Python: the questions of `kvcalc.replicas` and `fits`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from os import PathLike, fspath
from typing import NamedTuple, TypeAlias

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.errors import located
from kvcalc.fleet.fit import device_asked_for
from kvcalc.fleet.memory import share_of
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.weights import Weights
from kvcalc.hardware import gpu_named
from kvcalc.hardware.gpu import Gpu
from kvcalc.io.arguments import Settings, terms_of
from kvcalc.io.asked import Terms
from kvcalc.io.weights import find_weights, served_weights
from kvcalc.io.workloads import Given, mix_of, trace_or_lengths, workload_of
from kvcalc.model import Model

AnyWorkload: TypeAlias = Given | PathLike[str]


def workloads_in(workload: AnyWorkload | Sequence[AnyWorkload] | None) -> list[AnyWorkload]:
    """One workload or several, as a list."""
    if workload is None:
        return []
    return list(workload) if isinstance(workload, list | tuple) else [workload]  # type: ignore[list-item]


class OnDevice(NamedTuple):
    """A device, and the terms on it."""

    card: Gpu
    terms: Terms
    utilization: Fraction


def devices_of(
    gpu: str | Gpu | Sequence[str | Gpu] | None,
    memory: int | str | None,
    users: int | str,
    dtype: str | Dtype | None,
    engine: str,
    engine_settings: Settings,
    utilization: float | Fraction | str | None,
) -> list[OnDevice]:
    """Each device, with the terms on it."""
    share = None if utilization is None else located("utilization", share_of, utilization, "utilization")
    several: Sequence[str | Gpu | None] = [gpu] if gpu is None or isinstance(gpu, str | Gpu) else gpu
    found = []
    for each in several:
        named = each.written if isinstance(each, Gpu) else each
        card = located("gpu" if named else "memory", gpu_named, located("memory", device_asked_for, named, memory))
        terms = terms_of(users, None, dtype, None, engine, engine_settings, on=(card.written, share))
        found.append(OnDevice(card, terms, share or Fraction(1)))
    return found


def questions_on(
    on: Sequence[OnDevice],
    model: Model,
    weights: int | str | Weights | None,
    weights_dtype: str | None,
    reserve_bytes: int | None,
) -> list[OnGpus]:
    """The question for a model on each device, without tokens."""
    whole = located("weights", find_weights, model, weights, weights_dtype)

    def served(engine: Engine) -> Weights:
        return located("reserve", served_weights, whole, model, engine, reserved=reserve_bytes is not None)

    return [
        OnGpus(terms.of(model, 1, None), card, served(terms.engine), reserve_bytes, utilization)
        for card, terms, utilization in on
    ]


def mix_asked(
    workload: Given | PathLike[str],
    output: Given | None,
    quantile: float | str,
    shared_prefix: Given | None,
    prefixes: int,
    active: float | str,
) -> Mix:
    """The workload."""
    path = fspath(workload) if isinstance(workload, PathLike) else workload
    requests = trace_or_lengths(path, output) if isinstance(path, str) else workload_of(path, output)
    return mix_of(requests, quantile=quantile, shared_prefix=shared_prefix, prefixes=prefixes, active=active)
