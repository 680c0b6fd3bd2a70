"""Runs a command that answers vectors: one question per line on its standard input, one answer per line of output.

The command may answer line by line or all at the end; it may die, hang, or print invalid answers. In any case it is
ended with kvcalc, and each vector has an outcome.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import visible
from kvcalc.io.vectors import REFUSED, Vector
from kvcalc.report.vectors import AGREED, DISAGREED, REFUSES, UNANSWERED, Outcome

_MOST_LINE = 2**20
"""Longest answer in characters: some hundred are usual."""
_WAITING = 256
"""Answers that may wait to be read; a command with endless output blocks there."""
_TAIL = 20
_SHOWN = 200
_END = None


def run(command: Sequence[str], vectors: Sequence[Vector], *, seconds: float) -> list[Outcome]:
    """A command's answer to each vector. seconds: timeout per answer.

    Raises InvalidValueError if the command cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        what = f"{visible(command[0], _SHOWN)} cannot be started: {getattr(error, 'strerror', None) or error}"
        help = "name a program on the PATH or by its path: 'python3 estimator.py'"
        raise InvalidValueError(what, field="command", help=help) from None
    with contextlib.closing(_Answers(process, vectors, seconds)) as answers:
        return [_judged(vector, *answers.next(vector)) for vector in vectors]


class _Answers:
    """A running command, and its output."""

    def __init__(self, process: subprocess.Popen[bytes], vectors: Sequence[Vector], seconds: float) -> None:
        self.process, self.seconds, self.ended = process, seconds, ""
        self.lines: Queue[bytes | None] = Queue(_WAITING)
        self.errors: deque[bytes] = deque(maxlen=_TAIL)
        assert process.stdin and process.stdout and process.stderr
        works: tuple[tuple[Any, ...], ...] = (
            (_ask, process.stdin, vectors),
            (_read, process.stdout, self.lines.put),
            (_read, process.stderr, self.errors.append),
        )
        self.threads = [Thread(target=work, args=values, daemon=True) for work, *values in works]
        for thread in self.threads:
            thread.start()

    def next(self, vector: Vector) -> tuple[dict[str, Any] | None, str]:
        """The next answer, or the reason for its absence."""
        if self.ended:
            return None, self.ended
        try:
            line = self.lines.get(timeout=self.seconds)
        except Empty:
            self.ended = f"no answer in {self.seconds:g} seconds (does it flush each line?)"
            return None, self.ended
        if line is _END:
            self.ended = self._how_it_ended()
            return None, self.ended
        return _parsed(line, vector)

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.threads[-1].join(1)
        said = next((text for line in reversed(self.errors) if (text := _text(line))), "")
        code = self.process.returncode
        how = "closed its output" if code is None else f"ended with exit code {code}"
        return f"the command {how}{': ' if said else ''}{visible(said, _SHOWN)}"

    def close(self) -> None:
        """Ends the command and its children."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        while any(thread.is_alive() for thread in self.threads):
            with contextlib.suppress(Empty):
                self.lines.get(timeout=0.01)  # a blocked reader continues to the end
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                assert stream
                stream.close()


def _ask(stream: IO[bytes], vectors: Sequence[Vector]) -> None:
    """Writes all questions, until the command ends."""
    with contextlib.suppress(OSError, ValueError):
        for vector in vectors:
            stream.write(vector.asked.encode() + b"\n")
            stream.flush()
        stream.close()


def _read(stream: IO[bytes], put: Any) -> None:
    """Passes on each line, and finally the end."""
    for line in _lines(stream):
        put(line)
    put(_END)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines; overlong ones in pieces."""
    while line := stream.readline(_MOST_LINE):
        yield line


def _text(line: bytes | None) -> str:
    return (line or b"").decode("utf-8", "replace").strip()


def _parsed(line: bytes, vector: Vector) -> tuple[dict[str, Any] | None, str]:
    """An answer, or why a line is invalid."""
    text = _text(line)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return None, f"not a JSON object: {visible(text, _SHOWN)}"
    if answer.get("id", vector.id) != vector.id:
        return None, f"an answer to {visible(str(answer['id']), _SHOWN)}: answers come in the order of the questions"
    return answer, ""


def _judged(vector: Vector, answer: dict[str, Any] | None, why: str) -> Outcome:
    """The outcome of a vector."""
    if answer is None:
        return Outcome(vector.id, vector.engine, vector.version, UNANSWERED, why)
    refused = answer.get(REFUSED)
    if vector.answer.get(REFUSED):
        verdict = AGREED if refused else DISAGREED
        said = "" if refused else f"{vector.engine} refuses this; answered {_shown(answer)}"
        return Outcome(vector.id, vector.engine, vector.version, verdict, said)
    if refused:
        return Outcome(vector.id, vector.engine, vector.version, REFUSES, visible(str(refused), _SHOWN))
    wrong = [
        f"{name} measured {_shown(value)}, answered {_shown(answer[name]) if name in answer else 'nothing'}"
        for name, value in vector.answer.items()
        if not _equal(answer.get(name), value)
    ]
    return Outcome(vector.id, vector.engine, vector.version, DISAGREED if wrong else AGREED, "; ".join(wrong))


def _equal(answered: object, measured: object) -> bool:
    """Whether two values are equal numbers, or lists of them; true is not 1."""
    if isinstance(measured, list):
        same = isinstance(answered, list) and len(answered) == len(measured)
        return same and all(map(_equal, answered, measured))  # type: ignore[call-overload]
    return not isinstance(answered, bool) and answered == measured


def _shown(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)
    return visible(text, _SHOWN)
