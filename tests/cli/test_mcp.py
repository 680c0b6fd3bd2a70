"""`kvcalc mcp`, asked by the SDK's own client over a pipe: tools with schemas, answers as the command line's, errors too."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio
import jsonschema
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from kvcalc.cli import _tools
from kvcalc.cli.commands import command_named

ROOT = Path(__file__).parents[2]
SERVER = StdioServerParameters(command=sys.executable, args=["-m", "kvcalc", "mcp"], cwd=str(ROOT))


def asked(*calls: tuple[str, dict]):
    """The list of tools, and what each call gives, of one server."""

    async def ask():
        async with Client(stdio_client(SERVER)) as client:
            tools = (await client.list_tools()).tools
            return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(ask)


CALLS = {
    "size": {"model": "r1", "tokens": 100_000},
    "compare": {"models": ["llama3-8b", "r1"], "tokens": "4K,32K"},
    "fit": {"model": "r1", "gpu": "h200", "gpus": 8, "tp": 8, "engine": "vllm", "weights": "671GB", "tokens": "128K"},
    "check": {"paths": "examples/plans/prod.yaml"},
    "diff": {"base": "tests/plans/was", "head": "tests/plans/now"},
    "deployments": {"paths": ["tests/data/deployments", "examples/plans"]},
    "explain": {"log": "tests/logs/vllm_error_minimax.log", "model": "minimax-m2.7", "tp": 2},
    "decode": {"model": "qwen3-30b-a3b", "tokens": "32K", "batch": 8, "gpu": "h100"},
    "traffic": {"model": "llama3-8b", "context": "examples/traces/azure.csv", "blocks": 2000},
    "transfer": {
        "model": "r1",
        "tokens": "8K",
        "prefill": "tp=2",
        "decode": "tp=4",
        "link": "400Gb/s",
        "engine": "vllm",
    },
    "weights": {"model": "r1", "tp": 8},
}
LINES = {
    "size": "size r1 -t 100000",
    "compare": "compare llama3-8b r1 -t 4K,32K",
    "fit": "fit r1 --gpu h200 --gpus 8 --tp 8 -e vllm --weights 671GB -t 128K",
    "check": "check examples/plans/prod.yaml",
    "diff": "diff tests/plans/was tests/plans/now",
    "deployments": "deployments tests/data/deployments examples/plans",
    "decode": "decode qwen3-30b-a3b -t 32K -b 8 --gpu h100",
    "traffic": "traffic llama3-8b --context examples/traces/azure.csv --blocks 2000",
    "weights": "weights r1 --tp 8",
    "explain": "explain tests/logs/vllm_error_minimax.log minimax-m2.7 --tp 2",
    "transfer": "transfer r1 -t 8K --from tp=2 --to tp=4 --link 400Gb/s -e vllm",
}
WRONG = {
    "an unknown model": ("size", {"model": "r9", "tokens": 1}, "size r9 -t 1"),
    "an unknown engine": ("size", {"model": "r1", "tokens": 1, "engine": "vlm"}, "size r1 -t 1 -e vlm"),
    "bad tokens": ("size", {"model": "r1", "tokens": "-1"}, "size r1 --tokens=-1"),
    "no file": ("check", {"paths": ["nowhere.yaml"]}, "check nowhere.yaml"),
    "a GPU of two sizes": ("fit", {"model": "r1", "gpu": "a100"}, "fit r1 --gpu a100"),
    "a layout that does not divide": (
        "size",
        {"model": "llama3-8b", "tokens": 1, "tp": 3},
        "size llama3-8b -t 1 --tp 3",
    ),
    "no log": ("explain", {"log": "nothing here"}, "explain 'nothing here'"),
}


@pytest.fixture(scope="module")
def session():
    calls = [*CALLS.items(), *((name, arguments) for name, arguments, _ in WRONG.values())]
    tools, results = asked(*calls)
    return {tool.name: tool for tool in tools}, results


def test_each_tool_has_schemas(session):
    tools, _ = session
    assert list(tools) == list(CALLS) == list(_tools.ANSWERED_BY)
    for name, tool in tools.items():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        jsonschema.Draft202012Validator(tool.input_schema).validate(CALLS[name])
        assert all(rule["description"] for rule in tool.input_schema["properties"].values())
        assert tool.annotations.read_only_hint
        assert "{known}" not in str(tool.input_schema)
    assert tools["size"].input_schema["properties"]["tp"]["type"] == "integer"
    assert tools["check"].input_schema["required"] == ["paths"]


@pytest.mark.parametrize("name", CALLS)
def test_a_tool_answers_as_its_command_does(cli, session, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    tools, results = session
    result = results[list(CALLS).index(name)]
    assert not result.is_error, result.content
    jsonschema.Draft202012Validator(tools[name].output_schema).validate(result.structured_content)
    assert result.content[0].text == cli(LINES[name]).stdout
    printed = cli(f"{LINES[name]} --format json").stdout
    import json

    assert result.structured_content["answers"] == [json.loads(printed)]


@pytest.mark.parametrize("case", WRONG)
def test_an_error_has_the_words_of_the_command_line(cli, session, monkeypatch, case):
    monkeypatch.chdir(ROOT)
    result = session[1][len(CALLS) + list(WRONG).index(case)]
    done = cli(WRONG[case][2])
    assert done.code == 2
    assert result.is_error
    assert result.structured_content is None
    assert result.content[0].text == done.stderr.rstrip("\n")


def test_several_lengths_are_several_answers():
    answered = _tools.call("size", {"model": "r1", "tokens": ["1K", 2048]})
    assert [each["workload"]["tokens"] for each in answered.documents] == [1024, 2048]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("verify", {}, "no tool is called 'verify'"),
        ("size", {"mdoel": "r1"}, "no argument of size is called 'mdoel'\nhelp: did you mean 'model'?"),
        ("fit", {"model": "r1", "gpu": "h200", "on": "ray://x:1"}, "no argument of fit is called 'on'"),
        ("size", {"model": "r1", "verify": True}, "no argument of size is called 'verify'"),
        ("check", {"paths": "x", "update_baseline": True}, "no argument of check is called 'update_baseline'"),
        ("check", {}, "check: paths is missing"),
        ("check", {"paths": "-"}, "paths cannot be -: standard input belongs to the client"),
        ("explain", {"log": "-"}, "log cannot be -: standard input belongs to the client"),
        ("size", {"model": "r1", "tokens": 1, "tp": "8"}, "tp must be a whole number, not '8'"),
        ("size", {"model": "r1", "tokens": 1, "mtp": 1}, "mtp must be true or false, not 1"),
        ("size", {"model": ["r1"], "tokens": 1}, "model must be a string, not ['r1']"),
        ("size", {"model": True, "tokens": 1}, "model must be a string, not True"),
        ("size", {"model": "--help", "tokens": 1}, "no model is called '--help'"),
        ("size", {"model": "\x1b[31m", "tokens": 1}, r"no model is called '\x1b[31m'"),
    ],
)
def test_arguments_that_are_none_are_refused(name, arguments, message):
    answered = _tools.call(name, arguments)
    assert answered.is_error
    assert answered.documents == ()
    assert answered.words.startswith(message) or message in answered.words
    assert not re.search("Traceback|\x1b", answered.words)


def test_null_is_as_if_it_were_not_given():
    assert _tools.call("size", {"model": "r1", "tokens": 10, "engine": None, "tp": None}).words.startswith(
        "deepseek-r1"
    )


def test_each_tool_takes_what_its_command_takes_or_says_why_not():
    for name in _tools.ANSWERED_BY:
        own = {option.name for option in command_named(name).takes}
        taken = {
            "named" if each == "model" and "named" in own else each for each in _tools.input_schema(name)["properties"]
        }
        assert taken <= own
        assert own - taken <= _tools._LEFT_OUT


def test_without_its_library_it_says_what_to_install(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    done = cli("mcp")
    assert (done.code, done.stderr) == (
        2,
        "mcp needs mcp, which is not installed: pip install 'kvcalc[mcp] @ git+https://github.com/kvcalc/kvcalc'\n",
    )
