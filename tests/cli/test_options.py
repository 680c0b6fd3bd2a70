"""The table of options: what it says of each row, `run` takes; and one value is never taken for another."""

from __future__ import annotations

import inspect

import pytest

from kvcalc.cli._added import AddedOptions
from kvcalc.cli._pool import PoolOptions
from kvcalc.cli.commands import NAMES, Command, command_named
from kvcalc.cli.options import COUNT, FLAG, TEXT, TEXTS


def commands() -> dict[str, Command]:
    """Every command by its whole name."""
    named = {}
    for name in NAMES:
        command = command_named(name)
        if isinstance(command, Command):
            named[name] = command
        else:
            named |= {f"{name} {below}": each for below, each in command.commands.items()}
    return named


COMMANDS = commands()
TYPES = {TEXT: "str", COUNT: "int", FLAG: "bool", TEXTS: "Sequence[str]"}


def wanted(command: Command) -> dict[str, str]:
    """The parameters that `run` has to have, by what its rows say; those that it takes as one come last."""
    rows = sorted(command.takes, key=lambda option: option.name in taken_as_one(command))
    return {
        option.name: TYPES[option.kind]
        + (" | None" if option.kind in (TEXT, COUNT) and option.default is None and not option.required else "")
        for option in rows
    }


AS_ONE = {
    f"Unpack[{group.__name__}]": {name: each.__forward_arg__ for name, each in group.__annotations__.items()}
    for group in (AddedOptions, PoolOptions)
}


def taken_as_one(command: Command) -> dict[str, str]:
    parameters = inspect.signature(command.run).parameters.values()
    return next((AS_ONE[each.annotation] for each in parameters if each.annotation in AS_ONE), {})


def taken(command: Command) -> dict[str, str]:
    found = {name: each.annotation for name, each in inspect.signature(command.run).parameters.items()}
    own = {name: annotation for name, annotation in found.items() if annotation not in AS_ONE}
    return {**own, **taken_as_one(command)}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_what_its_rows_say(name):
    assert list(taken(COMMANDS[name]).items()) == list(wanted(COMMANDS[name]).items())


def test_a_row_that_a_command_does_not_take_is_noticed():
    size = COMMANDS["size"]
    for takes in (size.takes[1:], (size.takes[0]._replace(kind=COUNT), *size.takes[1:]), size.takes[::-1]):
        assert list(taken(size).items()) != list(wanted(size._replace(takes=takes)).items())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_of_a_command_are_written_alike(name):
    flags = [flag for option in COMMANDS[name].takes for flag in option.flags]
    assert len(set(flags)) == len(flags)
    assert all(flag.startswith("--") or (len(flag) == 2 and flag[0] == "-") for flag in flags)


ONCE = [
    (name, option)
    for name, command in COMMANDS.items()
    for option in command.takes
    if option.flags and option.kind in (TEXT, COUNT)
]


@pytest.mark.parametrize(("name", "option"), ONCE, ids=[f"{name} {option.name}" for name, option in ONCE])
def test_an_option_of_one_value_is_refused_twice(cli, name, option):
    given = [word for flag in (option.flags[0], option.flags[-1]) for word in (flag, "1")]
    required = [
        word
        for other in COMMANDS[name].takes
        if other.required and other is not option
        for word in [*other.flags[:1], "1"]
    ]
    outcome = cli([*name.split(), *required, *given])
    flags = " / ".join(map(repr, option.flags))
    assert outcome == (
        "",
        f"kvcalc {name}: option {flags} is given twice: '1' and '1'\nhelp: give it once; see `kvcalc {name} --help`\n",
        2,
    )


def test_what_may_be_given_several_times_is_taken_whole(cli):
    line = "size -p gpt-oss-20b -f csv -t 1K -t 2K"
    assert cli(line).stdout == cli("size -p gpt-oss-20b -f csv -t 1K,2K").stdout
    assert cli("size -p gpt-oss-20b -t 1K --mtp --mtp") == cli("size -p gpt-oss-20b -t 1K --mtp")


@pytest.mark.parametrize("text", ["x", "1.5", "", "\x1b[2J", "9" * 5000])
def test_a_count_that_is_no_number_is_refused(cli, text):
    outcome = cli(["size", "-p", "r1", "-t", "1", "--tp", text])
    assert outcome.stdout == ""
    assert outcome.code == 2
    what, help = outcome.stderr.splitlines()
    assert what.startswith(f"--tp: must be a whole number, not {text[:9]!r}"[:40])
    assert help == "help: for example --tp 8"
