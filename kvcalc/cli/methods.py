"""`kvcalc methods`: what reduces a cache, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Rational
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group

if TYPE_CHECKING:
    from kvcalc.report.methods import MethodEntry


def list_methods(*, format: str) -> int:
    """Runs `kvcalc methods list`."""
    check_output_format(format)

    from kvcalc.methods import METHODS
    from kvcalc.report.methods import MethodList

    show(MethodList(tuple(map(entry_of, METHODS.names()))), format)
    return 0


def show_method(*, name: str, format: str) -> int:
    """Runs `kvcalc methods show`."""
    check_output_format(format)

    from kvcalc.report.methods import MethodPage

    show(MethodPage(asking.located("NAME", entry_of, name.lower())), format)
    return 0


def entry_of(name: str, arguments: Mapping[str, object] | None = None) -> MethodEntry:
    """A method with its parameters: their defaults, or what they were given."""
    from kvcalc.methods import METHODS, parameters
    from kvcalc.report.methods import MethodEntry

    method = METHODS.module(name)
    traits = method.TRAITS._asdict()
    values = {key: _in_words(value) for key, value in (arguments or parameters(method.apply)).items()}
    shown = {name: value for name, value in traits.items() if name != "parse"}
    return MethodEntry(name, **{**shown, "parameters": values}, meanings=traits["parameters"])


def _in_words(default: object) -> str:
    """A default as users write it."""
    if default is ...:
        return "must be given"
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return "+".join(map(str, default))
    if isinstance(default, Rational) and not isinstance(default, int):
        return f"{float(default):g}"
    return str(default).lower() if isinstance(default, bool) else str(default)


COMMAND = Group(
    help="Methods that reduce a cache: list them, or show one with its parameters.",
    commands={
        "list": Command(
            help="Every method, with what it asks for.",
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
