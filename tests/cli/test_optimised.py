"""No docstring is data: `python -OO`, which leaves them out, prints the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_options import COMMANDS

from kvcalc.cli.commands import NAMES
from kvcalc.engines import ENGINES
from kvcalc.methods import METHODS

RUN_ALL = """
import contextlib, io, json, sys
import kvcalc
from kvcalc.cli import main
printed = {"docstring": kvcalc.size.__doc__}
for line in json.load(sys.stdin):
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(line.split())
    for stream in streams:
        stream.seek(0)
    printed[line] = [code, *(stream.read() for stream in streams)]
json.dump(printed, sys.stdout)
"""
ASKED = (
    "size --preset r1 --tokens 1000 --explain",
    "size --preset jamba-1.5-mini --tokens 1000 --by-layer",
    "size --preset llama3-8b --tokens 8000 --method snapkv --explain --format json",
    "compare --preset r1 --tokens 1000",
    "compare --preset llama3-8b --tokens 1000 --methods all --explain",
    "plot gpt-oss-20b --tokens 64,1K --format json",
    "fit --preset llama3-8b --engine vllm --gpu h100-80gb --weights 16GB --tokens 8K",
    "weights r1 --tp 8",
    "decode r1 --tokens 8K --batch 4 --gpu h200 --tp 8",
    "transfer r1 --tokens 8K --link 400Gb/s --from tp=4 --to tp=8",
    "check tests/plans/too_large.yaml --format junit",
    "check tests/data/deployments/k8s-deployment-args--equals/chat.yaml --weights 65GB",
    "diff tests/plans/was tests/plans/now",
    "report examples/plans/prod.yaml --format json",
    "deployments tests/data/deployments",
    "check tests/plans/too_large.yaml --format sarif",
    "replay examples/traces/counts.jsonl llama3-8b --blocks 3000 --steps",
    "traffic llama3-8b --blocks 20000 --context p50=1K,max=4K --output 200",
    "verify --preset gpt-oss-20b --tokens 100 --device meta",
    "explain-log tests/logs/vllm_qwen3_14b.log --preset qwen3-14b",
    "explain tests/logs/vllm_error_minimax.log minimax-m2.7 --tp 2",
    "presets list",
    "presets show r1",
    "methods list",
    *(f"methods show {name}" for name in METHODS.names()),
    "engines list",
    *(f"engines show {name}" for name in ENGINES.names()),
    "gpus hopper",
    "gpus h100",
    "schema preset",
    "schema plan",
    "schema size",
    "vectors list",
)
HELP = ("", *NAMES, *COMMANDS)
LINES = (*ASKED, *(f"{command} --help".strip() for command in HELP))


def printed(*options: str) -> dict[str, list]:
    done = subprocess.run(
        [sys.executable, *options, "-c", RUN_ALL],
        input=json.dumps(LINES),
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_every_command_is_asked():
    """All but mcp, which serves until its input ends, and says what the other commands say."""
    assert {line.split()[0] for line in ASKED} == set(NAMES) - {"mcp"}


@pytest.mark.slow
def test_the_output_is_the_same_without_docstrings():
    plain, optimised = printed(), printed("-OO")
    assert plain.pop("docstring") and optimised.pop("docstring") is None
    assert [line for line, (code, output, _) in plain.items() if code not in (0, 1) or not output] == []
    assert [line for line in LINES if optimised[line] != plain[line]] == []
