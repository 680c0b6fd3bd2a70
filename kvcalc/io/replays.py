"""Many traces, each for one or several models, locally or on the workers of an executor.

A worker may not have the file, so it gets the packed trace itself; the amount in flight is bounded, and the result is a
trace's summary, without its steps and requests.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from kvcalc.answers.spread import Redone, spread
from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError
from kvcalc.fleet.replay import replay
from kvcalc.fleet.replay.serving import Serving
from kvcalc.io.files import exists, is_folder, mounted, opened
from kvcalc.io.traces import read_trace
from kvcalc.report.deployments import Note
from kvcalc.report.replay import Replayed
from kvcalc.report.replays import ReplaysReport, Run

_UNDER_WAY_BYTES = 256 << 20
"""Packed traces in flight at a time."""
_LEAST_BYTES = 4 << 20
"""Minimum size counted per trace, so that at most 64 are in flight."""
_MOST_READ = 1 << 20
_SUFFIXES = (".csv", ".jsonl")


class _Part(NamedTuple):
    """A trace for a model. packed: the trace itself, for a worker that may not have the file."""

    path: Path
    packed: bytes | None
    serving: Serving
    curve: bool


def trace_paths(texts: Sequence[str]) -> list[Path]:
    """Files of paths and patterns; of a folder, its CSV and JSON lines. Each once, in order.

    Raises InvalidValueError without any, and InvalidFileError for a pattern or a folder without any.
    """
    if not texts:
        raise InvalidValueError("no trace named", help="name one: trace.csv, traces/, or 'traces/*.jsonl'")
    return list(dict.fromkeys(path for text in texts for path in _paths(text)))


def _paths(text: str) -> list[Path]:
    path = Path(text)
    if is_folder(path):
        found = sorted(each for each in path.iterdir() if each.suffix.lower() in _SUFFIXES)
    elif has_magic(text) and not exists(path):
        found = sorted(map(Path, glob(text, recursive=True)))  # noqa: PTH207  # Path.glob takes no absolute one
    else:
        return [path]
    if not found:
        raise InvalidFileError("no trace found", where=text, help="name CSV or JSON lines: 'traces/*.jsonl'")
    return found


def replays(
    traces: Sequence[Path],
    servings: Sequence[Serving],
    *,
    curve: bool = False,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplaysReport:
    """Each trace for each model, refused ones separately. progress: called with the replays done, and all.

    Raises KvcalcError if none can be replayed.
    """
    redone = Redone()
    runs: list[Run] = []
    refused: list[Note] = []
    errors: list[KvcalcError] = []
    parts = _parts(traces, servings, curve=curve, packed=executor is not None)
    done = spread(_replayed, parts, executor, redone, under_way=_UNDER_WAY_BYTES, cost=_cost)
    for place, (trace, outcome) in enumerate(zip(_each(traces, servings), done, strict=True), 1):
        if isinstance(outcome, KvcalcError):
            errors.append(outcome)
            refused.append(Note.of(outcome, str(trace)))
        else:
            runs.append(Run(str(trace), outcome))
        if progress is not None:
            progress(place, len(traces) * len(servings))
    if not runs and errors:
        raise errors[0]
    return ReplaysReport(tuple(runs), tuple(refused), redone.notes)


def _each(traces: Sequence[Path], servings: Sequence[Serving]) -> Iterator[Path]:
    return (trace for trace in traces for _ in servings)


def _parts(
    traces: Sequence[Path],
    servings: Sequence[Serving],
    *,
    curve: bool,
    packed: bool,
) -> Iterator[_Part]:
    for path in traces:
        trace = _packed(path) if packed else None
        for serving in servings:
            yield _Part(path, trace, serving, curve)


def _packed(path: Path) -> bytes | None:
    """The trace, to be sent; None if it cannot be read, which its reader reports."""
    packer = zlib.compressobj(1)
    try:
        with opened(path) as file:
            whole = [packer.compress(part) for part in iter(lambda: file.read(_MOST_READ), b"")]
    except KvcalcError:
        return None
    return b"".join((*whole, packer.flush()))


def _cost(part: _Part) -> int:
    return max(_LEAST_BYTES, len(part.packed or b""))


def _replayed(part: _Part) -> Replayed | KvcalcError:
    """The result of a trace, or why it is refused."""
    try:
        if part.packed is None:
            return _come_to(part)
        with mounted(str(part.path), _Sent(part.packed)):
            return _come_to(part)
    except KvcalcError as error:
        return error


def _come_to(part: _Part) -> Replayed:
    return replay(
        part.serving.model,
        read_trace(part.path, part.serving.step_seconds),
        **part.serving.settings,
        every_step=False,
        curve=part.curve,
    ).summary


class _Sent:
    """A trace that was sent, instead of its file."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def kind(self, path: str) -> int:
        """A file."""
        del path
        return stat.S_IFREG

    def content(self, path: str) -> bytes:
        """The trace."""
        del path
        return zlib.decompress(self._packed)
