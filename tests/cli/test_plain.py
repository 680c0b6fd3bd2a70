"""A plain command line is read without typer, and as typer reads it; any other is left to typer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_architecture import loaded_by
from test_options import COMMANDS

from kvcalc.cli import application, plain
from kvcalc.cli.commands import Command, Group, command_named
from kvcalc.cli.options import COUNT, FLAG, TEXTS, Option
from kvcalc.errors import KvcalcError

Call = tuple[Callable[..., int], dict[str, object]]


def by_typer(line: list[str]) -> Call | None:
    """The function that typer calls, and with what; None where it calls none."""
    calls: list[Call] = []

    def noted(command: Command | Group) -> Command | Group:
        if isinstance(command, Group):
            return command._replace(commands={name: noted(each) for name, each in command.commands.items()})
        return command._replace(run=lambda **given: calls.append((command.run, given)))

    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(KvcalcError),
        mock.patch.object(application, "command_named", lambda name: noted(command_named(name))),
    ):
        application.run_line(line)
    return calls[0] if calls else None


def by_plain(line: list[str]) -> Call | None:
    call = plain.read(line)
    return None if call is None else (call[0].run, call[1])


def exactly(call: Call | None) -> object:
    """A call with the types of its values: 1 is not True here."""
    return call and (call[0], {name: (type(value), value) for name, value in call[1].items()})


# Lines ----------------------------------------------------------------------------------------------------------------

TEXTS_GIVEN = st.sampled_from(["r1", "1", "", "a=b", "=", "128K", "1,2", "a b", "x-y", "%", "ä", "a/b.yaml"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
).filter(lambda text: not text.startswith("-"))
COUNTS_GIVEN = st.integers(0, 10**9 - 1).map(str) | st.sampled_from(["007", "0"])
DOUBTFUL = st.sampled_from(
    [
        *("-", "--", "--=", "-x", "--x=1", "-h", "--help", "--version", "siz", "size", "list", "\x00"),
        *("--tokens", "--toke", "--tokens=", "-t5", "-t=5", "-pr1", "--mtp=1"),
        *("-1", "+1", " 1", "1_0", "1.0", "\u0663", "9" * 20, "9" * 5000),
    ]
)


def values_of(option: Option) -> st.SearchStrategy[str]:
    return COUNTS_GIVEN if option.kind == COUNT else TEXTS_GIVEN


@st.composite
def written(draw, option: Option) -> list[str]:
    """One time that an option stands in a line."""
    if not option.flags:
        return [draw(TEXTS_GIVEN)]
    flag = draw(st.sampled_from(option.flags))
    if option.kind == FLAG:
        return [flag]
    value = draw(values_of(option))
    return [f"{flag}={value}"] if flag.startswith("--") and draw(st.booleans()) else [flag, value]


@st.composite
def plain_lines(draw) -> list[str]:
    """A command with some of its options in any order, each as often as it may be given."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    parts = []
    for option in COMMANDS[name].takes:
        most = 3 if option.kind == TEXTS else 1
        parts += draw(st.lists(written(option), min_size=option.required, max_size=most))
    return [*name.split(), *(word for part in draw(st.permutations(parts)) for word in part)]


@st.composite
def spoiled_lines(draw) -> list[str]:
    """A plain line with words added, lost, doubled or moved."""
    line = draw(plain_lines())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(line)))
        match draw(st.sampled_from(["add", "lose", "double", "move"])):
            case "add":
                line.insert(place, draw(DOUBTFUL))
            case "lose":
                del line[place : place + 1]
            case "double":
                line[place:place] = line[place - 1 : place + 1]
            case "move":
                line = line[place:] + line[:place]
    return line


# Both readers ---------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(plain_lines())
def test_a_plain_line_is_read_and_as_typer_reads_it(line):
    assert by_plain(line) is not None
    assert exactly(by_plain(line)) == exactly(by_typer(line))


def agree(line: list[str]) -> bool:
    """Whether the plain reader leaves a line to typer, or reads it alike."""
    read = exactly(by_plain(line))
    return read is None or read == exactly(by_typer(line))


@settings(max_examples=400)
@given(spoiled_lines())
@example([])
@example(["presets"])
@example(["compare", "--", "r1", "--tokens", "1"])
def test_a_spoiled_line_is_read_as_typer_reads_it_or_left_to_typer(line):
    assert agree(line)


MISREADINGS = {
    "the last of two values": ("_value", lambda option, texts: texts[-1] if texts else option.default, "-p r1 -p x"),
    "a flag with a value": ("FLAG", "no kind", "--mtp r1"),
    "a word that no argument takes": ("_arguments", lambda options, words: {}, "r1"),
    "a number as text": ("_count", str, "--tp 2"),
}


@pytest.mark.parametrize("case", MISREADINGS)
def test_a_misreading_is_noticed(monkeypatch, case):
    name, wrong, words = MISREADINGS[case]
    line = ["size", *words.split()]
    assert agree(line)
    monkeypatch.setattr(plain, name, wrong)
    assert not agree(line)


NOT_PLAIN = (
    *("", "siz", "--help", "size --help", "size --tok 1", "size -t", "size -t1", "size -t -p", "size -- -t 1"),
    *("size --mtp=1", "size -p a -p b", "size --tp x", "presets", "presets lst", "schema", "schema plan x", "check"),
)


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_typer(line):
    assert plain.read(line.split()) is None


def test_a_plain_line_runs_without_typer():
    size = "import kvcalc.cli; kvcalc.cli.main('size -p r1 -t 1 --format={}'.split())"
    assert not loaded_by(size.format("json")) & {"typer", "click"}
    assert "typer" in loaded_by(size.format("json --tok 1"))
