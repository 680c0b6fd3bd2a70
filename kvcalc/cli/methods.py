"""`kvcalc methods`: methods that reduce a cache, and their parameters."""

from __future__ import annotations

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group


def list_methods(*, format: str) -> int:
    """Runs `kvcalc methods list`."""
    check_output_format(format)

    from kvcalc.methods import METHODS
    from kvcalc.methods._entry import entry_of
    from kvcalc.report.methods import MethodList

    show(MethodList(tuple(map(entry_of, METHODS.names()))), format)
    return 0


def show_method(*, name: str, format: str) -> int:
    """Runs `kvcalc methods show`."""
    check_output_format(format)

    from kvcalc.methods._entry import entry_of
    from kvcalc.report.methods import MethodPage

    show(MethodPage(asking.located("NAME", entry_of, name.lower())), format)
    return 0


COMMAND = Group(
    help="Methods that reduce a cache: list them, or show one with its parameters.",
    commands={
        "list": Command(
            help="All methods, with their parameters.",
            epilog="Example: kvcalc methods list",
            takes=(options.FORMAT,),
            run=list_methods,
        ),
        "show": Command(
            help="One method: formula, parameters with their defaults, caveat, source.",
            epilog="Example: kvcalc methods show snapkv",
            takes=(options.METHOD_NAME, options.FORMAT),
            run=show_method,
        ),
    },
)
