"""The loop of a replay: adds requests as they arrive and counts the results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NamedTuple

from kvcalc.engines.base.tally import Tally
from kvcalc.engines.base.traffic import Request, Scheduler
from kvcalc.report.replay import Step, Totals

_TOLD_EVERY = 256


class Outcome(NamedTuple):
    """The result of a replay."""

    steps: tuple[Step, ...]
    hits: Mapping[Hashable, int]
    totals: Totals
    used: Mapping[int, int]
    waits: Mapping[int, int]
    spans: Mapping[int, int]


def counted(scheduler: Scheduler, requests: Iterator[Request], progress: Callable[[int], None] | None) -> Outcome:
    """From event to event if the scheduler can, else step by step; keeps no steps."""
    events = scheduler.by_events()
    if events is None:
        return _stepped(scheduler, requests, progress, kept=None)
    events.run(requests, progress=progress)
    return _outcome((), events.hits, events.tally)


def stepped(scheduler: Scheduler, requests: Iterator[Request], progress: Callable[[int], None] | None) -> Outcome:
    """Step by step; keeps every step."""
    return _stepped(scheduler, requests, progress, kept=[])


def _stepped(
    scheduler: Scheduler,
    requests: Iterator[Request],
    progress: Callable[[int], None] | None,
    kept: list[Step] | None,
) -> Outcome:
    tally = Tally()
    hits: dict[Hashable, int] = {}
    arrived: dict[Hashable, int] = {}
    coming = next(requests, None)
    number = 0
    while scheduler.busy or coming is not None:
        if not scheduler.busy and coming is not None:
            number = max(number, coming.arrival_step)
        while coming is not None and coming.arrival_step <= number:
            scheduler.add(coming)
            arrived[coming.id] = coming.arrival_step
            _arrives(tally, coming, scheduler.max_model_len)
            if progress is not None and not tally.requests % _TOLD_EVERY:
                progress(tally.requests)
            coming = next(requests, None)
        step = scheduler.step(number, counts_groups=kept is not None)
        for admission in scheduler.admissions:
            first = admission.id not in hits
            tally.admitted(admission.hit_tokens, number - arrived[admission.id], first=first)
            hits.setdefault(admission.id, admission.hit_tokens)
        scheduler.admissions.clear()
        _count(tally, step, arrived)
        if kept is not None:
            kept.append(step)
        number += 1
        if coming is None and scheduler.stuck and scheduler.busy and step.waiting:
            tally.stalled = True
            break
    tally.last_step = max(0, number - 1)
    return _outcome(tuple(kept or ()), hits, tally)


def _arrives(tally: Tally, request: Request, longest: int) -> None:
    prompt = request.prompt_tokens
    tally.requests += 1
    tally.prompt_tokens += prompt
    tally.output_tokens += min(request.output_tokens, longest - prompt)


def _count(tally: Tally, step: Step, arrived: Mapping[Hashable, int]) -> None:
    tally.turns(1, step.used_blocks, step.running, step.waiting)
    tally.preemptions += len(step.preempted)
    tally.evicted_blocks += step.evicted_blocks
    tally.scheduled_tokens += step.scheduled_tokens
    tally.finished += len(step.finished)
    for ended in step.finished:
        tally.spans[step.step - arrived[ended]] += 1


def _outcome(steps: tuple[Step, ...], hits: Mapping[Hashable, int], tally: Tally) -> Outcome:
    totals = Totals(
        requests=tally.requests,
        finished=tally.finished,
        steps=tally.steps,
        last_step=tally.last_step,
        prompt_tokens=tally.prompt_tokens,
        output_tokens=tally.output_tokens,
        scheduled_tokens=tally.scheduled_tokens,
        admissions=tally.admissions,
        preemptions=tally.preemptions,
        hit_tokens_first=tally.hit_tokens_first,
        hit_tokens_all=tally.hit_tokens_all,
        evicted_cached_blocks=tally.evicted_blocks,
        peak_used=max(tally.used, default=0),
        sum_used=sum(used * steps for used, steps in tally.used.items()),
        peak_running=tally.peak_running,
        running_steps=tally.running_steps,
        peak_waiting=tally.peak_waiting,
        waiting_steps=tally.waiting_steps,
        stalled=tally.stalled,
    )
    return Outcome(steps, hits, totals, tally.used, tally.waits, tally.spans)
