"""Many models, or traces: the best layout of each, here or spread over the workers of an executor."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import NamedTuple

from kvcalc.answers.spread import Redone, spread
from kvcalc.errors import KvcalcError
from kvcalc.fleet.choose import USUAL_NUMBERS, choose, choose_usual
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.replicas import replicas_of
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.parallel import Parallel
from kvcalc.report.choices import ChoicesReport
from kvcalc.report.deployments import Note
from kvcalc.report.fits import Fit, FitsReport
from kvcalc.report.replicas import ReplicasReport


class Job(NamedTuple):
    """A model, and where requests differ in length a workload: what a worker gets.

    trace: the workload by its file, if it has one. tokens: of each user, without a mix. numbers: of GPUs. layout: the
    only one to try, if given. error: why it is refused.
    """

    model: str
    trace: str
    questions: tuple[OnGpus, ...]
    mix: Mix | None = None
    tokens: int = 0
    numbers: tuple[int, ...] | None = None
    layout: Parallel | None = None
    error: KvcalcError | None = None


def fits_of(jobs: Iterable[Job], executor: Executor | None = None) -> FitsReport:
    """The layouts of each, in order; refused ones separately. Raises KvcalcError if all are refused."""
    asked = list(jobs)
    redone = Redone()
    fits: list[Fit] = []
    refused: list[Note] = []
    errors: list[KvcalcError] = []
    for job, outcome in zip(asked, spread(_answered, asked, executor, redone), strict=True):
        if isinstance(outcome, KvcalcError):
            errors.append(outcome)
            refused.append(Note(job.trace or job.model, job.model, outcome.what, outcome.help))
        else:
            fits.append(Fit(job.trace, outcome))
    if errors and not fits:
        raise errors[0]
    return FitsReport(tuple(fits), tuple(refused), redone.notes)


def _answered(job: Job) -> ReplicasReport | ChoicesReport | KvcalcError:
    if job.error is not None:
        return job.error
    try:
        return _answer(job)
    except KvcalcError as error:
        return error


def _answer(job: Job) -> ReplicasReport | ChoicesReport:
    if job.mix is not None:
        return replicas_of(job.questions, job.mix, job.layout, max(job.numbers) if job.numbers else None)
    if job.numbers is None and job.layout is None:
        return choose_usual(job.questions, job.tokens)
    return choose(job.questions, job.numbers or USUAL_NUMBERS, job.tokens, job.layout)
