"""kvcalc's answers to vectors, through the same interface as any other estimator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, KvcalcError, located
from kvcalc.io.vectors import REFUSED
from kvcalc.parallel import Parallel
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.units import shown

_NO_QUESTION = "a question is a JSON object with ask, engine, and config or gguf"
_HELP = "vectors/schema.json describes questions; send one per line"
_DEGREES = {"tp", "pp", "dp", "dcp"}


def answers(lines: Iterable[str]) -> Iterator[str]:
    """A line of JSON per question: numbers, or why it is refused."""
    for line in lines:
        if line.strip():
            yield json.dumps(answered(line), separators=(",", ":"))


def answered(line: str) -> dict[str, Any]:
    """The answer to one question."""
    question: dict[str, Any] | None = None
    try:
        question = _question(line)
        found = _fitted(question) if question["ask"] == "fit" else _sized(question)
    except KvcalcError as error:
        found = {REFUSED: str(error)}
    return {**({"id": question["id"]} if question and "id" in question else {}), **found}


def _question(line: str) -> dict[str, Any]:
    try:
        question = json.loads(line)
    except (ValueError, RecursionError):
        question = None
    if isinstance(question, dict) and {"ask", "engine"} <= question.keys() and {"config", "gguf"} & question.keys():
        return question
    raise InvalidValueError(_NO_QUESTION, help=_HELP)


def _asked(question: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model, and the common arguments of size and fit."""
    from kvcalc.io.loading import load

    version = question.get("version")
    ranks = question.get("parallel") or {}
    if not isinstance(ranks, dict) or not ranks.keys() <= _DEGREES:
        raise InvalidValueError(f"parallel must be an object of tp, pp, dp and dcp, not {shown(ranks)}", help=_HELP)
    named: dict[str, Any] = {
        "engine": f"{question['engine']}@{version}" if version else question["engine"],
        "engine_settings": question.get("settings"),
        "parallel": Parallel(**ranks) if ranks else None,
        "kv_dtype": question.get("kv_dtype"),
    }
    model = load(question.get("config") or question["gguf"])
    if "draft" not in question:
        return model, named
    engine = located("settings", Engine.of, named["engine"], named.pop("engine_settings"))
    return engine.drafted_by(model, load(question["draft"])), {**named, "engine": engine}


def _sized(question: dict[str, Any]) -> dict[str, Any]:
    """Bytes of a cache."""
    from kvcalc.io.api import size

    model, named = _asked(question)
    report = size(model, tokens=question.get("tokens"), sequences=question.get("sequences"), **named)
    most = {"most_rank_bytes": report.most_rank_bytes} if report.per_rank else {}
    return {"total_bytes": report.total_bytes, **most}


def _fitted(question: dict[str, Any]) -> dict[str, Any]:
    """What fits in the memory of a rank."""
    from kvcalc.io.api import fit

    model, named = _asked(question)
    report = fit(model, available_bytes=question.get("available_bytes"), **named)
    names = ("num_blocks", "tokens", "bytes_per_block")
    found = {name: getattr(report, name) for name in names if hasattr(report, name)}
    found |= _pools(report.stages, report.host) if isinstance(report, PoolReport) and report.stages else {}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _pools(stages: Sequence[Sequence[Pool]], host: Sequence[Sequence[Pool]]) -> dict[str, Any]:
    """Blocks of each pool of the first stage, on the device and in host memory."""
    own = stages[0]
    kept = [pool.slots for pool in host[0]] if host else [0] * len(own)
    return {"pools": [[pool.slots, more] for pool, more in zip(own, kept, strict=True)]}
