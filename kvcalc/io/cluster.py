"""An existing Ray cluster as an executor of concurrent.futures.

Ray retries a task if its worker is lost; tasks it gives up are run locally, with a note (`kvcalc.answers.spread`). The
workers need the same version of kvcalc.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib import import_module
from typing import Any

from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.errors.extras import install
from kvcalc.units import shown

_EXAMPLE = "pass ray://host:10001, host:6379, or auto for this machine's cluster"
_TOKENS = "if the cluster needs a token: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
"""Required by default since Ray 2.60. Source: Ray, _private/authentication/authentication_token_setup.py."""


class RayExecutor(Executor):
    """Tasks of a Ray cluster. ray: the module, connected."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._tasks: dict[Callable[..., Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A task of the cluster."""
        if fn not in self._tasks:
            self._tasks[fn] = self._ray.remote(fn)
        found: Future[Any] = self._tasks[fn].remote(*args, **kwargs).future()
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnects from the cluster, which keeps running."""
        del wait, cancel_futures
        self._ray.shutdown()


def on_ray(address: str) -> RayExecutor:
    """The cluster at an address: `ray://host:10001`, `host:6379`, or `auto`. Use it in a `with` statement.

    Raises NotApplicableError without the package ray, InvalidValueError if no cluster answers.
    """
    if not isinstance(address, str) or not address.strip():
        raise InvalidValueError(f"not the address of a Ray cluster: {shown(address)}", field="on", help=_EXAMPLE)
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise NotApplicableError("running on a Ray cluster needs the package ray", help=install("ray")) from None
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False, ignore_reinit_error=True)
    except Exception as error:
        raise InvalidValueError(
            f"no Ray cluster answers at {shown(address)} ({type(error).__name__})",
            field="on",
            help=f"{_EXAMPLE}; {_TOKENS}",
        ) from None
    executor = RayExecutor(ray)
    _check_workers(executor, address)
    return executor


def _check_workers(executor: RayExecutor, address: str) -> None:
    """Raises InvalidValueError if workers lack kvcalc or have another version: everything would run locally."""
    try:
        theirs = executor.submit(_own_version).result()
    except Exception as error:
        theirs = f"none that can be imported ({type(error).__name__})"
    if theirs != _own_version():
        executor.shutdown()
        raise InvalidValueError(
            f"workers of {shown(address)} have kvcalc {theirs}, and this machine has {_own_version()}",
            field="on",
            help="install the same kvcalc version on all machines of the cluster",
        )


def _own_version() -> str:
    from kvcalc import __version__

    return __version__
