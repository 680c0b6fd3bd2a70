"""The workload that options ask for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from kvcalc.cli import asking
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from kvcalc.fleet.traffic.mix import Mix


def mix_asked_for(
    lengths: str,
    output: str | None,
    quantile: str,
    shared_prefix: str | None,
    prefixes: int,
    active: str,
    option: str = "--tokens",
) -> Mix:
    """The workload given by its options; each error names its option."""
    from kvcalc.io.workloads import mix_of, trace_or_lengths

    try:
        workload = trace_or_lengths(lengths, output)
        return mix_of(workload, quantile=quantile, shared_prefix=shared_prefix, prefixes=prefixes, active=active)
    except InvalidValueError as error:
        raise at_option(error, option) from None


def at_option(error: InvalidValueError, option: str = "--tokens") -> InvalidValueError:
    """The error, naming the option that its value came from. option: the one with prompt lengths."""
    places = {**_OPTIONS, "prompt": option}
    return error.at(places[error.field]) if error.field in places and not error.where else error


_OPTIONS = {
    **{"output": "--output", "quantile": "--quantile", "active": "--active"},
    **{"shared_prefix": "--shared-prefix", "prefixes": "--prefixes"},
}
"""Options by the names of their values in the library."""


def workers(on: str | None) -> AbstractContextManager[Executor | None]:
    """The cluster named by --on, open while in use; None without one."""
    if on is None:
        return nullcontext()
    from kvcalc.io.cluster import on_ray

    return asking.located("--on", on_ray, on)
