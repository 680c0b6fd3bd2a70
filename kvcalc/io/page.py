"""The page about deployments: the answers of each, by the functions that the commands on the page call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from kvcalc.answers.curves import Line, growing
from kvcalc.answers.size import sized_and_before
from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.errors import KvcalcError
from kvcalc.fleet.choose import USUAL_NUMBERS, choose
from kvcalc.fleet.curves import LineOnGpus, fitting
from kvcalc.fleet.fit import fitted
from kvcalc.io.offers import all_offers
from kvcalc.io.reproducing import words_of
from kvcalc.methods._entry import entry_of
from kvcalc.parallel import Parallel
from kvcalc.report.page import Page, Part
from kvcalc.report.views import Explanation

if TYPE_CHECKING:
    from kvcalc.fleet.check import Deployment
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.io.reproducing import Words
    from kvcalc.question import Question
    from kvcalc.report.check import CheckReport, Finding
    from kvcalc.report.sheet import Document

MOST_SECTIONS = 50
"""Deployments shown in detail on a page; the others are in its table."""
_BELOW = 4096
_NO_COMMAND = "no single command answers this: options cannot express the deployment; `kvcalc check` has its verdict"


def page_of(deployments: Sequence[Deployment], report: CheckReport, command: str, title: str) -> Page:
    """The page of checked deployments. command: that makes it."""
    judged = _judged(deployments, report.findings)
    details = tuple((finding, tuple(_parts(each))) for each, finding in judged[:MOST_SECTIONS])
    return Page(title, command, report, details, max(0, len(judged) - MOST_SECTIONS))


def _judged(deployments: Sequence[Deployment], findings: Sequence[Finding]) -> list[tuple[Deployment, Finding]]:
    """Each deployment with its verdict, in order; refused ones have none."""
    waiting = list(findings)
    found: list[tuple[Deployment, Finding]] = []
    for each in deployments:
        if waiting and (each.name, each.file, each.line) == (waiting[0].deployment, waiting[0].file, waiting[0].line):
            found.append((each, waiting.pop(0)))
    return found


def _parts(deployment: Deployment) -> Iterator[Part]:
    asked, on = deployment.asked, deployment.on
    words = words_of(deployment, on)
    dtypes = _formats(asked)
    last = max(asked.tokens, asked.model.max_model_len or 0)
    names = [dtype.name for dtype in dtypes]
    if on is not None:
        yield _part(
            "Memory of each GPU",
            "Memory of weights, activations and cache, compared with the total.",
            words and words.fit(asked.tokens, names[0]),
            lambda: fitted(on, deployment.ranks, asked.tokens),
        )
        yield _part(
            "Layouts, best first",
            "Other numbers of GPUs and layouts; those that hold all users on the fewest GPUs come first.",
            words and words.choices(asked.tokens, names[0], USUAL_NUMBERS),
            lambda: _choices(on, asked, words),
        )
        yield _part(
            "Users by context",
            "How many users fit at each context, on the same GPUs.",
            words and words.plot_users(last, names),
            lambda: _users(on, deployment.ranks, dtypes, last),
        )
    yield _part(
        "Bytes by context",
        "Bytes of all sequences' cache at each context, over all GPUs."
        if deployment.ranks.num_ranks > 1
        else "Bytes of all sequences' cache at each context.",
        words and words.plot(last, names),
        lambda: _bytes(deployment, dtypes, last),
    )
    layout = _without_experts(deployment.ranks)
    yield _part(
        "Where the bytes come from",
        "The formula with its numbers, and the source of each factor.",
        words and words.size(asked.tokens, names[0], layout),
        lambda: _explained(deployment, layout),
    )._replace(folded=True)


def _part(title: str, about: str, command: str | None, answer: Callable[[], Document]) -> Part:
    """An answer, or the reason for its absence."""
    remark = "" if command else _NO_COMMAND
    try:
        return Part(title, about, command or "", answer(), remark)
    except KvcalcError as error:
        return Part(title, about, command or "", None, error.what)


def _formats(asked: Question) -> list[Dtype]:
    """The requested format; also fp8 for 16 bits, unless an engine setting decides."""
    usual, fp8 = dtype_named("bf16"), dtype_named("fp8")
    stored = [asked.engine.cache_format(asked.model, dtype) for dtype in (usual, fp8)]
    return [usual, fp8] if asked.kv_dtype == usual and len(set(stored)) > 1 else [asked.kv_dtype]


def _without_experts(ranks: Parallel) -> Parallel | None:
    """The layout as far as it affects the cache; None for one rank."""
    layout = Parallel(ranks.tp, ranks.pp, ranks.dp, ranks.dcp)
    return None if layout == Parallel() else layout


def _choices(on: OnGpus, asked: Question, words: Words | None) -> Document:
    """Layouts, with every published weight format; with given weights, only those."""
    given = [on.weights] if words is None or "--weights" in words.gpu else None
    usual = asked.kv_dtype == dtype_named("bf16")
    return choose(all_offers([on], asked.tokens, given, usual=usual), USUAL_NUMBERS, asked.tokens)


def _users(on: OnGpus, ranks: Parallel, dtypes: Sequence[Dtype], last: int) -> Document:
    asked = on.asked._replace(sequences=1, tokens=1)
    lines = []
    for dtype in dtypes:
        question = asked._replace(kv_dtype=dtype)
        lines.append(LineOnGpus(type(on)(question, on.gpu, on.weights, on.reserve_bytes, on.utilization), ranks))
    return fitting(lines, max(1, last // _BELOW), last)


def _bytes(deployment: Deployment, dtypes: Sequence[Dtype], last: int) -> Document:
    asked = deployment.asked._replace(tokens=1, parallel=None)
    lines = [Line(asked._replace(kv_dtype=dtype)) for dtype in dtypes]
    return growing(lines, max(1, last // _BELOW), last)


def _explained(deployment: Deployment, layout: Parallel | None) -> Document:
    asked = deployment.asked
    methods = tuple(entry_of(applied.name, applied.arguments) for applied in asked.model.methods)
    return Explanation(sized_and_before(asked._replace(parallel=layout)), methods)
