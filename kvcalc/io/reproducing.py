"""Command lines for the question of a deployment.

A command is shown only if its options, parsed again, give the same question: the same model, engine, settings and
weights. Otherwise (layers moved to a CPU) there is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from shlex import join
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.engines import Engine
from kvcalc.errors import KvcalcError
from kvcalc.io.asked import Door
from kvcalc.io.drafting import Drafting
from kvcalc.io.loading import load_named
from kvcalc.io.weights import find_weights, served_weights
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.units import exact_bytes

if TYPE_CHECKING:
    from kvcalc.fleet.check import Deployment
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.weights import Weights
    from kvcalc.model import Model

_DOOR = Door("--batch", "--dtype", "--engine", "--engine-set", "--attention", "--method", "--mtp", "--draft-model")
_GPU = "gpu"


class Words(NamedTuple):
    """Options equivalent to a deployment. gpu: those about devices; empty if it names no device."""

    model: tuple[str, ...]
    engine: tuple[str, ...]
    workload: tuple[str, ...]
    gpu: tuple[str, ...] = ()
    gpu_setting: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()

    def size(self, tokens: int, dtype: str, parallel: Parallel | None) -> str:
        """`kvcalc size`, explained."""
        return _line(
            "size",
            *self.model,
            *("--tokens", str(tokens)),
            *_dtype(dtype),
            *self.workload,
            *self.engine,
            *self.gpu_setting,
            *_ranks(parallel),
            "--explain",
        )

    def fit(self, tokens: int, dtype: str) -> str:
        """`kvcalc fit` on the layout of the deployment."""
        return _line("fit", *self._on_gpus(tokens, dtype), *(self.ranks or ("--gpus", "1")))

    def choices(self, tokens: int, dtype: str, numbers: Sequence[int]) -> str:
        """`kvcalc fit` of several numbers of GPUs."""
        return _line("fit", *self._on_gpus(tokens, dtype), "--gpus", ",".join(map(str, numbers)))

    def _on_gpus(self, tokens: int, dtype: str) -> tuple[str, ...]:
        asked = ("--tokens", str(tokens), *_dtype(dtype), *self.workload)
        return (*self.model, *self.gpu, *asked, *self.engine)

    def plot(self, last: int, dtypes: Sequence[str]) -> str:
        """`kvcalc plot` of bytes."""
        asked = (*("--tokens", str(last)), *_dtype(",".join(dtypes)), *self.workload)
        return _line("plot", *self.model, *asked, *self.engine, *self.gpu_setting)

    def plot_users(self, last: int, dtypes: Sequence[str]) -> str:
        """`kvcalc plot --max-users`."""
        asked = ("--max-users", *("--tokens", str(last)), *_dtype(",".join(dtypes)))
        return _line("plot", *self.model, *asked, *self.gpu, *self.engine, *self.ranks)


def _line(*words: str) -> str:
    return f"kvcalc {join(words)}"


def _dtype(dtype: str) -> tuple[str, ...]:
    return () if dtype == "bf16" else ("--dtype", dtype)


def _ranks(parallel: Parallel | None) -> tuple[str, ...]:
    """`--tp 8 --pp 2`, omitting degrees of 1."""
    if parallel is None:
        return ()
    degrees = {"tp": parallel.tp, "pp": parallel.pp, "dp": parallel.dp, "dcp": parallel.dcp}
    return tuple(word for name, degree in degrees.items() if degree != 1 for word in (f"--{name}", str(degree)))


def words_of(deployment: Deployment, on: OnGpus | None) -> Words | None:
    """The options of a deployment; None if options cannot express it."""
    asked = deployment.asked
    try:
        model = _model(deployment)
        engine, gpu_setting = _engine(asked.engine)
    except KvcalcError:
        return None
    if model is None or engine is None:
        return None
    workload = () if asked.sequences == 1 else ("--batch", str(asked.sequences))
    words = Words(model, engine, workload, gpu_setting=gpu_setting)
    if on is None:
        return words
    gpu = _gpu(on, [each.value for each in deployment.written if each.field == "weights"])
    if gpu is None or not _is_same_on(on, engine):
        return None
    ranks = deployment.ranks
    ep = ("--ep", str(ranks.ep)) if ranks.ep != 1 else ()
    return words._replace(gpu=gpu, ranks=(*_ranks(ranks), *ep))


def _model(deployment: Deployment) -> tuple[str, ...] | None:
    """The model by a name that loads the same one, with its changes."""
    model = deployment.asked.model
    changes: list[str] = []
    for applied in model.methods:
        arguments = ",".join(f"{name}={value}" for name, value in applied.arguments.items())
        changes += ["--method", f"{applied.name}:{arguments}" if arguments else applied.name]
    for name in _names(deployment):
        try:
            again = _DOOR.changed(load_named(name), methods=changes[1::2], drafting=Drafting(deployment.asked.engine))
        except KvcalcError:
            continue
        if _is_same(again, model):
            return (name, *changes)
    return None


def _is_same(again: Model, model: Model) -> bool:
    """Whether two models are the same for every engine, which reads more than the layers."""
    read = (model.published, model.older_readings)
    return again == model and (again.published, again.older_readings) == read


def _names(deployment: Deployment) -> Iterator[str]:
    """Names that may load the model."""
    model = deployment.asked.model
    yield model.name
    if model.checkpoint.path:
        yield os.path.normpath(model.checkpoint.path)
        yield model.checkpoint.path
    yield from (each.value for each in deployment.written if each.field.rpartition(": ")[2] == "model")


def _engine(engine: Engine) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Options of the engine and its settings; and the setting for its GPU, for commands without --gpu."""
    own = engine.settings_by_name()
    version = getattr(engine, "version", "")
    name = f"{engine.name}@{version}" if version else engine.name
    usual = Engine.of(name).settings_by_name()
    settings = {key: value for key, value in own.items() if value != usual.get(key) and key != _GPU}
    given = {key: _text(value) for key, value in settings.items()}
    gpu = {_GPU: str(own[_GPU])} if own.get(_GPU) is not None else {}
    if _DOOR.terms("1", "bf16", name, {**given, **gpu}).engine != engine:
        return None, ()
    words = [word for key, value in given.items() for word in ("--engine-set", f"{key}={value}")]
    engine_words = () if name == "ideal" else ("--engine", name)
    return (*engine_words, *words), tuple(word for key in gpu for word in ("--engine-set", f"{key}={gpu[key]}"))


def _text(value: object) -> str:
    """A setting as written on a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _gpu(on: OnGpus, written: Sequence[str]) -> tuple[str, ...] | None:
    """Options of the device, its share, the weights and other memory. written: how weights are given."""
    words = ["--gpu", on.gpu.written or on.gpu.name]
    if on.utilization != 1:
        words += ["--utilization", str(float(on.utilization))]
    if on.reserve_bytes is not None:
        words += ["--reserve", exact_bytes(on.reserve_bytes)]
    for given in (None, exact_bytes(on.weights.bytes), *written):
        if _weights(on.asked, given) == on.weights:
            return (*words, *(("--weights", given) if given else ()))
    return None


def _weights(asked: Question, given: str | None) -> Weights | None:
    """The weights that a command line would find; None if none."""
    try:
        return served_weights(find_weights(asked.model, given, None), asked.model, asked.engine)
    except KvcalcError:
        return None


def _is_same_on(on: OnGpus, engine: Sequence[str]) -> bool:
    """Whether the options give the deployment's engine on its device."""
    name = engine[1] if engine[:1] == ("--engine",) else "ideal"
    pairs = [word.partition("=") for word in engine if "=" in word]
    settings: dict[str, object] = {key: value for key, _, value in pairs}
    share = None if on.utilization == 1 else Fraction(on.utilization)
    try:
        terms = _DOOR.terms_on(on.gpu.written or on.gpu.name, share, "1", "bf16", name, settings)
    except KvcalcError:
        return False
    return terms.engine == on.asked.engine
