"""Shared by all tests: the command line run in this process, at a fixed width, without colour."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import settings

from kvcalc.cli import main

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads wait for each other where tests run side by side

settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("long", deadline=None, max_examples=20_000, derandomize=True)
settings.load_profile("default")


class Outcome(NamedTuple):
    """What a command line printed, and its exit code."""

    stdout: str
    stderr: str
    code: int


Cli = Callable[..., Outcome]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="cuda", choices=("cuda", "cpu"), help="where tests marked cuda run; cpu rehearses them"
    )


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `kvcalc` with the given command line in this process."""

    def run(line: str | list[str], columns: int = 80) -> Outcome:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
        capsys.readouterr()
        code = main(shlex.split(line) if isinstance(line, str) else line)
        captured = capsys.readouterr()
        return Outcome(captured.out, captured.err, code)

    return run
