"""`kvcalc fit` of several models, or of several traces: the questions of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.cli import asking, options
from kvcalc.cli._mix import at_option, mix_asked_for, workers
from kvcalc.cli._output import check_output_format, show
from kvcalc.errors import InvalidValueError, KvcalcError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.fleet.fits import Job
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.traffic.mix import Mix
    from kvcalc.fleet.weights import Weights
    from kvcalc.hardware.gpu import Gpu
    from kvcalc.io.asked import Terms
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel

TOO_LARGE, REFUSED = 1, 2


class Asked(NamedTuple):
    """A workload. trace: its file, where several are named."""

    mix: Mix
    trace: str = ""


class GpuTerms(NamedTuple):
    """What a fit is asked under, whatever the model: devices with the terms on each, and weights as options give them.

    forms: of the weights; None for their own. eights: whether a cache of 8 bits is tried, too.
    """

    cards: tuple[Gpu, ...]
    terms: tuple[Terms, ...]
    weights: str | None
    forms: tuple[str | None, ...]
    reserve_bytes: int | None
    utilization: Fraction
    eights: bool

    @property
    def are_several(self) -> bool:
        """Whether there is more than one device, or format of the weights."""
        return len(self.cards) > 1 or len(self.forms) > 1

    def asked_of(self, model: Model, tokens: int | None, layout: Parallel | None) -> tuple[list[OnGpus], list[Weights]]:
        """The question of each device, with the first of the weights, and all of them."""
        from kvcalc.fleet.on_gpus import OnGpus

        engine = self.terms[0].engine
        reserved = self.reserve_bytes is not None
        whole = [asking.served_weights(model, self.weights, form, engine, reserved=reserved) for form in self.forms]
        questions = [
            OnGpus(each.of(model, tokens or 1, layout), card, whole[0], self.reserve_bytes, self.utilization)
            for each, card in zip(self.terms, self.cards, strict=True)
        ]
        return questions, whole


def gpu_terms(
    gpu: str | None,
    memory: str | None,
    weights: str | None,
    weights_dtype: str | None,
    reserve: str | None,
    utilization: str | None,
    dtype: str | None,
    batch: str,
    engine: str,
    engine_set: Sequence[str],
) -> GpuTerms:
    """Terms by the options of `kvcalc fit`, each error under its option."""
    from fractions import Fraction

    from kvcalc.fleet.memory import share_of
    from kvcalc.units import parse_bytes

    cards = tuple(asking.device(name, memory) for name in (gpu.split(",") if gpu else [None]))
    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    stored = dtype or str(options.DTYPE.default)
    terms = tuple(asking.terms_on(card.written, share, batch, stored, engine, engine_set) for card in cards)
    forms = tuple(weights_dtype.split(",")) if weights_dtype else (None,)
    reserve_bytes = None if reserve is None else asking.located("--reserve", parse_bytes, reserve, "reserve")
    return GpuTerms(cards, terms, weights, forms, reserve_bytes, share or Fraction(1), dtype is None)


def alone(given: Mapping[str, object]) -> None:
    """Raises InvalidValueError for an option that is of one model and one workload."""
    for option, value in given.items():
        if value:
            raise InvalidValueError(
                "this option is for one model and one workload", where=option, help="remove it, or name one model"
            )


def mixes_of(
    workload: str, output: str | None, quantile: str, shared_prefix: str | None, prefixes: int, active: str
) -> list[Asked]:
    """The workload, or one for each trace of a folder or a pattern."""
    from glob import has_magic
    from pathlib import Path

    from kvcalc.io.files import is_file, is_folder
    from kvcalc.io.replays import trace_paths

    terms = (output, quantile, shared_prefix, prefixes, active, "--workload")
    several = is_folder(Path(workload)) or (has_magic(workload) and not is_file(Path(workload)))
    if not several:
        return [Asked(mix_asked_for(workload, *terms))]
    paths = asking.located("--workload", trace_paths, [workload])
    return [Asked(mix_asked_for(str(path), *terms), str(path)) for path in paths]


def fits(
    models: Sequence[Model],
    mixes: Sequence[Asked],
    given: GpuTerms,
    tokens: int | None,
    numbers: Sequence[int] | None,
    layout: Parallel | None,
    on: str | None,
    format: str,
) -> int:
    """Shows the best layout of every model with every workload; the exit code."""
    check_output_format(format)
    from kvcalc.fleet.fits import fits_of

    jobs = _jobs(models, mixes, given, tokens, None if numbers is None else tuple(numbers), layout)
    try:
        with workers(on) as executor:
            report = fits_of(jobs, executor)
    except InvalidValueError as error:
        raise at_option(error, "--workload") from None
    show(report, format)
    return REFUSED if report.refused else 0 if report.all_fit else TOO_LARGE


def _jobs(
    models: Sequence[Model],
    mixes: Sequence[Asked],
    given: GpuTerms,
    tokens: int | None,
    numbers: tuple[int, ...] | None,
    layout: Parallel | None,
) -> Iterator[Job]:
    """Every model with every workload; one that cannot be asked says why."""
    from kvcalc.fleet.fits import Job

    for model in models:
        try:
            questions, weights = given.asked_of(model, tokens, layout)
            offers, length = (questions, 0) if mixes else _offers(model, questions, weights, given, tokens)
        except KvcalcError as error:
            yield Job(model.name, "", (), error=error)
            continue
        if not mixes:
            yield Job(model.name, "", tuple(offers), None, length, numbers, layout)
        for mix, trace in mixes:
            yield Job(model.name, trace, tuple(offers), mix, length, numbers, layout)


def _offers(
    model: Model, questions: Sequence[OnGpus], weights: Sequence[Weights], given: GpuTerms, tokens: int | None
) -> tuple[list[OnGpus], int]:
    """Every device and format, and the length of each user's context."""
    from kvcalc.io.offers import all_offers

    length = tokens or model.max_model_len
    if length is None:
        raise InvalidValueError("no context given", where="--tokens", help="pass the tokens of each user: --tokens 32K")
    formats = weights if given.weights or given.forms != (None,) else None
    return all_offers(questions, length, formats, usual=given.eights), length
