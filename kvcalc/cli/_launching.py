"""`--as`: the command or manifest that starts the engine in a layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import show_text
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.parallel import Parallel
    from kvcalc.report.choices import ChoicesReport
    from kvcalc.report.gpu_fit import GpuFit
    from kvcalc.report.sheet import Cell

_SERVER_DEFAULTS = {"llama-server": ("defaults=server",)}


def engine_of(launch: str, engine: str, engine_set: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The engine that --as starts, with its settings.

    Raises InvalidValueError if --engine names another one.
    """
    from kvcalc.engines.base import split_version
    from kvcalc.errors import UnknownNameError
    from kvcalc.io.launching import FORMS, SERVERS

    if launch not in FORMS:
        raise UnknownNameError.among("launch format", launch, FORMS).at("--as")
    server = SERVERS.get(launch)
    if server is None or split_version(engine)[0] == server:
        return engine, [*_SERVER_DEFAULTS.get(launch, ()), *engine_set]
    if engine != options.ENGINE.default:
        raise InvalidValueError(
            f"--as {launch} conflicts with --engine {engine}",
            where="--as",
            help=f"remove --engine, or use --engine {server}",
        )
    return server, [*_SERVER_DEFAULTS.get(launch, ()), *engine_set]


def show_best(report: ChoicesReport, offers: Sequence[OnGpus], launch: str) -> None:
    """The best layout, as it would be started."""
    from kvcalc.fleet.choose import question_of
    from kvcalc.parallel import Parallel
    from kvcalc.report.choices import between

    best = report.choices[0]
    users = between(best.max_sequences, best.max_sequences_at_best)
    _show(
        question_of(best, offers), Parallel(**dict(best.degrees)), report.tokens, launch, users, estimate=best.estimate
    )


def show_one(one: GpuFit, question: OnGpus, ranks: Parallel, launch: str) -> None:
    """The given layout, as it would be started; for the longest request unless a context is given."""
    from kvcalc.report.choices import between

    tokens = one.tokens or one.max_context
    if not tokens:
        raise InvalidValueError("no context given", where="--tokens", help="pass the tokens of each user: --tokens 32K")
    users = one.sequences if one.tokens is None else one.max_sequences
    most = users if one.tokens is None or one.at_best is None else one.at_best.max_sequences
    _show(question, ranks, tokens, launch, between(users, most), estimate=one.estimate)


def _show(question: OnGpus, ranks: Parallel, tokens: int, launch: str, users: Cell, *, estimate: bool) -> None:
    from kvcalc.io.launching import launch_of, said_of
    from kvcalc.units import count

    many = count(users) if isinstance(users, int) else str(users)
    says = said_of(question, ranks, many, tokens, estimate=estimate)
    written = asking.located("--as", launch_of, question, ranks, tokens, launch, (says,))
    show_text(written.written(launch))
