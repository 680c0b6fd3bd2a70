"""The commands, each a file that is imported on demand and ends with its `COMMAND`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

from kvcalc.cli.options import Option

NAMES = (
    *("size", "compare", "plot", "fit", "weights", "decode", "transfer", "check", "diff", "report", "deployments"),
    *("replay", "traffic", "verify", "explain", "explain-log", "presets", "methods", "engines", "gpus", "schema"),
    *("vectors", "mcp"),
)
"""Files of this folder that are commands, in the order of help, with - for _."""


class Command(NamedTuple):
    """A command: its help, options and function.

    takes: rows of `options.py` in the order of help; arguments are positional in this order.
    run: takes each by its name and returns the exit code.
    """

    help: str
    epilog: str
    takes: tuple[Option, ...]
    run: Callable[..., int]


class Group(NamedTuple):
    """Commands under one name, as `presets list`."""

    help: str
    commands: Mapping[str, Command]


def command_named(name: str) -> Command | Group:
    """The command of one of NAMES."""
    command: Command | Group = import_module(f"kvcalc.cli.{name.replace('-', '_')}").COMMAND
    return command
